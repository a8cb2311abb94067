//! A mistake in something a person wrote, with the place where it is.

use std::fmt;

/// One mistake: where, and what is wrong. Validators return all of them, never just the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The path of the field as it is written, e.g. `spec.sink.nats.servers[0]`.
    pub path: String,
    /// What is wrong and what would be right: lower case, no full stop.
    pub problem: String,
}

/// The errors of a validation, in the order of the fields.
pub type FieldErrors = Vec<FieldError>;

/// The longest that is told of one mistake, in bytes: what somebody wrote may be repeated in it, and may be of any length.
const MAX_PROBLEM: usize = 1024;

impl FieldError {
    /// `problem` at `path`. What is absurdly long of it is left out, in the middle.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: shortened(problem.into()) }
    }

    /// The same mistake seen from one level up: `prefix` is put before the path.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        Self { path: format!("{prefix}.{}", self.path), ..self }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// Both ends say more than the middle: what was written, and what is wrong with it.
fn shortened(text: String) -> String {
    if text.len() <= MAX_PROBLEM {
        return text;
    }
    let start = text.floor_char_boundary(MAX_PROBLEM / 2);
    let end = text.ceil_char_boundary(text.len() - MAX_PROBLEM / 2);
    format!("{}…{}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wrote_at_length_is_not_repeated_at_length() {
        let problem = format!("{:?} is not a kind", "ü".repeat(5_000_000));
        let error = FieldError::new("spec.kind", problem);
        assert!(error.problem.len() <= MAX_PROBLEM + '…'.len_utf8(), "{}", error.problem.len());
        assert!(error.problem.starts_with("\"ü") && error.problem.ends_with("ü\" is not a kind"), "{error}");
        assert_eq!(FieldError::new("a", "is needed").to_string(), "a: is needed");
    }
}
