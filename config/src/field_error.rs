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

impl FieldError {
    /// `problem` at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
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
