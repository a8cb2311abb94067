//! Which objects are members of a Subscription: they enter it, change in it, leave it or die in it.
//!
//! Before: core/src/route.rs
//! Next: core/src/watch.rs

mod labels;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use self::labels::listed;
pub use self::labels::{LabelSelector, Labels, Operator, Requirement};
use crate::object::{Meta, ObjectKey};

/// Which objects of one kind are members of a Subscription: those that any of its scopes holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Selection {
    /// Sorted, and no two with the same names and labels, so that equal selections are equal.
    scopes: Vec<Scope>,
}

/// What one source selects: the objects for which all of it is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// Their names; any where there is nothing.
    pub names: Option<BTreeSet<String>>,
    /// Their labels, which change while they live.
    pub labels: LabelSelector,
    /// Their namespaces.
    pub namespaces: Namespaces,
}

/// A set of namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Namespaces {
    /// Every namespace.
    All,
    /// Just these. Cluster-scoped objects are selected whatever stands here.
    Only(BTreeSet<String>),
}

/// How a Selection is stored. The first three are what it was before there were names and labels.
#[derive(Serialize, Deserialize)]
enum Stored {
    All,
    Only(BTreeSet<String>),
    Nothing,
    Scopes(Vec<Scope>),
}

// === impl Selection ===

impl Selection {
    /// No object of the kind: it is not selected any more.
    pub const NOTHING: Self = Self { scopes: Vec::new() };

    /// Every object of the kind.
    pub fn all() -> Self {
        Self::of(Namespaces::All)
    }

    /// Every object in these namespaces.
    pub fn of(namespaces: Namespaces) -> Self {
        Scope::of(namespaces).into()
    }

    /// Its scopes: a member is in one of them.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Whether this version of the object is a member.
    pub fn selects(&self, meta: &Meta) -> bool {
        self.scopes.iter().any(|scope| scope.holds(&meta.key) && scope.labels.matches(&meta.labels))
    }

    /// Whether some version of an object of this name can be a member.
    pub fn may_select(&self, key: &ObjectKey) -> bool {
        self.scopes.iter().any(|scope| scope.holds(key))
    }

    /// Whether every version of an object of this name is a member.
    pub fn always_selects(&self, key: &ObjectKey) -> bool {
        self.scopes.iter().any(|scope| scope.holds(key) && scope.labels.is_empty())
    }

    /// Whether labels decide who is a member.
    pub fn has_labels(&self) -> bool {
        self.scopes.iter().any(|scope| !scope.labels.is_empty())
    }

    /// What either selects: two sources of one kind in one Subscription are one Selection.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        for scope in other.scopes {
            let same = |own: &&mut Scope| (&own.names, &own.labels) == (&scope.names, &scope.labels);
            match self.scopes.iter_mut().find(same) {
                Some(own) => own.namespaces.extend(scope.namespaces),
                None => self.scopes.push(scope),
            }
        }
        self.scopes.sort();
        self
    }
}

impl From<Scope> for Selection {
    fn from(scope: Scope) -> Self {
        Self { scopes: vec![scope] }
    }
}

impl From<Stored> for Selection {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::All => Self::all(),
            Stored::Only(names) => Self::of(Namespaces::Only(names)),
            Stored::Nothing => Self::NOTHING,
            Stored::Scopes(scopes) => Self { scopes },
        }
    }
}

impl From<Selection> for Stored {
    fn from(Selection { mut scopes }: Selection) -> Self {
        match scopes.pop() {
            None => Self::Nothing,
            Some(Scope { names: None, labels, namespaces }) if scopes.is_empty() && labels.is_empty() => {
                match namespaces {
                    Namespaces::All => Self::All,
                    Namespaces::Only(names) => Self::Only(names),
                }
            }
            Some(last) => {
                scopes.push(last);
                Self::Scopes(scopes)
            }
        }
    }
}

// === impl Scope ===

impl Scope {
    /// Every object in these namespaces.
    pub fn of(namespaces: Namespaces) -> Self {
        Self { names: None, labels: LabelSelector::default(), namespaces }
    }

    /// Whether objects of this name are in it, as far as their labels are not asked for.
    fn holds(&self, key: &ObjectKey) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(key.name()))
            && match &self.namespaces {
                Namespaces::All => true,
                // What lives in no namespace is not kept out by their names.
                Namespaces::Only(names) => key.namespace().is_none_or(|namespace| names.contains(namespace)),
            }
    }

    /// Why this version of the object is not in it: nothing if it is.
    pub fn misses(&self, meta: &Meta) -> Vec<String> {
        let mut misses = Vec::new();
        if let Namespaces::Only(names) = &self.namespaces
            && let Some(namespace) = meta.key.namespace().filter(|namespace| !names.contains(*namespace))
        {
            misses.push(format!("its namespace is {namespace}"));
        }
        if self.names.as_ref().is_some_and(|names| !names.contains(meta.key.name())) {
            misses.push(format!("its name is {}", meta.key.name()));
        }
        misses.extend(self.labels.misses(&meta.labels).map(|(requirement, value)| match value {
            Some(value) => format!("{requirement}, and it is {value:?}"),
            None => format!("{requirement}, and it is not there"),
        }));
        misses
    }
}

/// As people would say it: `every namespace, label tier is gold`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespaces {
            Namespaces::All => f.write_str("every namespace")?,
            Namespaces::Only(names) if names.len() == 1 => write!(f, "namespace {}", listed(names))?,
            Namespaces::Only(names) => write!(f, "namespaces {}", listed(names))?,
        }
        if let Some(names) = &self.names {
            write!(f, ", names {}", listed(names))?;
        }
        self.labels.requirements().try_for_each(|requirement| write!(f, ", {requirement}"))
    }
}

// === impl Namespaces ===

impl Namespaces {
    fn extend(&mut self, other: Self) {
        match (self, other) {
            (Self::All, _) => {}
            (Self::Only(own), Self::Only(other)) => own.extend(other),
            (own @ Self::Only(_), Self::All) => *own = Self::All,
        }
    }
}

#[cfg(test)]
#[path = "selection/tests.rs"]
mod tests;
