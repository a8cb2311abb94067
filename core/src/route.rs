//! Which Subscriptions a Change goes to.
//!
//! Before: core/src/watch.rs
//! Next: core/src/event.rs

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::change::ChangeKinds;
use crate::filter::Filter;
use crate::selection::Selection;

/// A resource as the API server serves it: group, version and the plural name in the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    /// `k8sasbackend.com`; empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Todo`.
    pub kind: String,
    /// `todos`.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// A kind as people name it in `apiVersion` and `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// `k8sasbackend.com`; empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Todo`.
    pub kind: String,
}

/// A Subscription after validation: immutable, what the bridge works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `namespace/name` of the Subscription.
    pub subscription: Arc<str>,
    /// Its uid: a Subscription that was deleted and created again starts anew.
    pub uid: Arc<str>,
    /// Its `metadata.generation`.
    pub generation: u64,
    /// What it selects, per kind.
    pub selections: BTreeMap<Kind, Selection>,
    /// The kinds of Change it wants to hear of.
    pub on: ChangeKinds,
    /// Which of those.
    pub filter: Arc<Filter>,
}

// === impl Resource ===

impl Resource {
    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind people know it by.
    pub fn to_kind(&self) -> Kind {
        Kind { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }
}

/// `todos.v1.k8sasbackend.com`, as `kubectl` spells a fully qualified resource; `pods.v1` in the core group.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.plural, self.version)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

// === impl Kind ===

impl Kind {
    /// From `apiVersion` and `kind`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// `Todo (k8sasbackend.com/v1)`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.api_version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_resources_read_as_kubectl_spells_them() {
        let kind = Kind::new("k8sasbackend.com/v1", "Todo");
        assert_eq!(kind.to_string(), "Todo (k8sasbackend.com/v1)");
        assert_eq!(Kind::new("v1", "Pod").api_version(), "v1");
        let resource = Resource {
            group: "k8sasbackend.com".into(),
            version: "v1".into(),
            kind: "Todo".into(),
            plural: "todos".into(),
            namespaced: true,
        };
        assert_eq!(resource.to_string(), "todos.v1.k8sasbackend.com");
        assert_eq!(resource.to_kind(), kind);
    }
}
