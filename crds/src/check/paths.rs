//! Paths of which something is said already. Looked up by what they begin with: in a file there may be any number of mistakes.

use std::collections::BTreeSet;

use tidings_config::field_error::FieldError;

/// A set of paths.
pub(super) struct Paths(BTreeSet<String>);

// === impl Paths ===

impl Paths {
    /// The paths of these.
    pub(super) fn of<'a>(errors: impl IntoIterator<Item = &'a FieldError>) -> Self {
        Self(errors.into_iter().map(|error| error.path.clone()).collect())
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// Whether one of them is `path`, or is in it.
    pub(super) fn reach_into(&self, path: &str) -> bool {
        let begins =
            |start: String| self.0.range(start.clone()..).next().is_some_and(|next| next.starts_with(&start));
        self.contains(path) || begins(format!("{path}.")) || begins(format!("{path}["))
    }

    /// Whether one of them is `path`, or `path` is in it.
    pub(super) fn hold(&self, path: &str) -> bool {
        let mut parents = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]);
        self.contains(path) || parents.any(|parent| self.contains(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_what_it_begins_with_and_not_in_what_only_looks_like_it() {
        let paths = Paths::of(&[FieldError::new("spec.on[1]", ""), FieldError::new("spec.on-x", "")]);
        for path in ["spec", "spec.on", "spec.on[1]"] {
            assert!(paths.reach_into(path), "{path}");
        }
        for path in ["spec.o", "spec.on[1].a", "spec.on[11]"] {
            assert!(!paths.reach_into(path), "{path}");
        }
        for path in ["spec.on[1]", "spec.on[1].a", "spec.on-x[0]"] {
            assert!(paths.hold(path), "{path}");
        }
        for path in ["spec.on", "spec.on[10]", "spec"] {
            assert!(!paths.hold(path), "{path}");
        }
    }
}
