//! A Subscription, what it selects, and what it is owed.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use tidings_core::change::ChangeKinds;
use tidings_core::route::{Kind, Route};
use tidings_core::selection::{Namespaces, Selection};

use crate::coverage::{Owed, selected};
use crate::etcd::{KINDS, NAMESPACES};

/// A Subscription as its owner wrote it.
pub(crate) struct Subscription {
    pub(crate) uid: Arc<str>,
    pub(crate) name: String,
    pub(crate) generation: u64,
    pub(crate) selections: BTreeMap<usize, Namespaces>,
    pub(crate) owed: Vec<Owed>,
    /// Kinds it followed and left, in this process: joining them again cannot be told from having them.
    pub(crate) left: Vec<usize>,
}

// === impl Subscription ===

impl Subscription {
    /// Which Events are owed after an edit: in what was and is selected, without a break.
    pub(crate) fn owe(&mut self) {
        let before = std::mem::take(&mut self.owed);
        for kind in self.selections.keys() {
            let steady = selected(|namespace| self.selects(*kind, namespace));
            let owed = match before.iter().find(|owed| owed.kind == *kind) {
                None => Owed { kind: *kind, joined: None, seen_joined: false, steady },
                Some(owed) => {
                    let steady = steady.into_iter().filter(|namespace| owed.steady.contains(namespace));
                    Owed { steady: steady.collect(), ..owed.clone() }
                }
            };
            self.owed.push(owed);
        }
    }

    pub(crate) fn selects(&self, kind: usize, namespace: &str) -> bool {
        match self.selections.get(&kind) {
            Some(Namespaces::All) => true,
            Some(Namespaces::Only(names)) => names.contains(namespace),
            None => false,
        }
    }

    pub(crate) fn route(&self) -> Route {
        let selections = self.selections.iter().map(|(kind, namespaces)| {
            let kind = Kind::new(&format!("{}/v1", KINDS[*kind].group), KINDS[*kind].name);
            (kind, Selection::of(namespaces.clone()))
        });
        Route {
            subscription: self.name.as_str().into(),
            filter: Arc::default(),
            uid: self.uid.clone(),
            generation: self.generation,
            selections: selections.collect(),
            on: ChangeKinds::ALL,
        }
    }
}

impl std::fmt::Display for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} generation {} {:?}", self.uid, self.generation, self.selections)
    }
}

/// Something to select: mostly of the first kind.
pub(crate) fn selections(rng: &mut Rng) -> BTreeMap<usize, Namespaces> {
    let mut namespaces = || {
        let mut only = NAMESPACES.into_iter().filter(|_| rng.bool()).map(ToOwned::to_owned).peekable();
        if only.peek().is_none() { Namespaces::All } else { Namespaces::Only(only.collect()) }
    };
    let both = [(0, namespaces()), (1, namespaces())];
    let which = rng.u32(0..6);
    both.into_iter()
        .filter(|(kind, _)| which > 1 && *kind == 0 || which == 0 && *kind == 1 || which == 1 || which == 5)
        .collect()
}
