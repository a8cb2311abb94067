//! The truth: every version that was ever committed, also those that a rewind took out of history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

/// The kinds there are, in groups of their own, both namespaced.
pub(crate) const KINDS: [Kind; 2] = [
    Kind { group: "k8sasbackend.com", name: "Todo", plural: "todos" },
    Kind { group: "notes.example.com", name: "Note", plural: "notes" },
];
pub(crate) const NAMESPACES: [&str; 3] = ["farm", "shop", "yard"];
pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One kind, of version `v1`.
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) plural: &'static str,
}

/// One committed version of an object.
#[derive(Debug)]
pub(crate) struct Version {
    /// Index in [`KINDS`].
    pub(crate) kind: usize,
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    /// `namespace/name`.
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) revision: u64,
    pub(crate) generation: u64,
    /// The first of its life.
    pub(crate) created: bool,
    /// The last of its life: the content before, with the revision of the deletion.
    pub(crate) deleted: bool,
    pub(crate) text: Bytes,
}

/// All objects, with one revision for all of them.
pub(crate) struct Etcd {
    pub(crate) revision: u64,
    /// Reads below this are refused.
    pub(crate) compacted: u64,
    pub(crate) objects: BTreeMap<(usize, String), Arc<Version>>,
    /// The history that led here, in order.
    pub(crate) log: Vec<Arc<Version>>,
    /// The histories that were given up, whole, oldest first.
    archives: Vec<Vec<Arc<Version>>>,
    index: BTreeMap<(String, u64), Vec<Arc<Version>>>,
    /// Lives that ended, by deletion or by a rewind.
    gone: BTreeSet<String>,
    lives: u64,
}

// === impl Etcd ===

impl Etcd {
    pub(crate) fn new() -> Self {
        Self {
            revision: 100,
            compacted: 0,
            objects: BTreeMap::new(),
            log: Vec::new(),
            archives: Vec::new(),
            index: BTreeMap::new(),
            gone: BTreeSet::new(),
            lives: 0,
        }
    }

    /// Creates or updates an object.
    pub(crate) fn put(
        &mut self,
        kind: usize,
        namespace: &'static str,
        name: &'static str,
        spec: &str,
    ) -> Arc<Version> {
        self.revision += 1;
        let key = format!("{namespace}/{name}");
        let (uid, generation, created) = if let Some(object) = self.objects.get(&(kind, key.clone())) {
            (object.uid.clone(), object.generation + 1, false)
        } else {
            self.lives += 1;
            (format!("00000000-0000-4000-8000-{:012}", self.lives), 1, true)
        };
        let (revision, deleted) = (self.revision, false);
        // A history that was given up has other contents under the same numbers.
        let spec = format!("{spec} {}", self.archives.len());
        let text = text(kind, namespace, name, &uid, revision, generation, &spec);
        self.commit(Version { kind, namespace, name, key, uid, revision, generation, created, deleted, text })
    }

    /// Deletes an object, if it is there.
    pub(crate) fn delete(&mut self, kind: usize, key: &str) -> Option<Arc<Version>> {
        let object = self.objects.get(&(kind, key.to_owned()))?.clone();
        self.revision += 1;
        let (before, after) = (object.revision, self.revision);
        let text = String::from_utf8_lossy(&object.text);
        let text = text.replace(
            &format!("\"resourceVersion\":\"{before}\""),
            &format!("\"resourceVersion\":\"{after}\""),
        );
        self.gone.insert(object.uid.clone());
        Some(self.commit(Version {
            kind,
            namespace: object.namespace,
            name: object.name,
            key: object.key.clone(),
            uid: object.uid.clone(),
            revision: after,
            generation: object.generation,
            created: false,
            deleted: true,
            text: text.into(),
        }))
    }

    /// Back to the state at `revision`, from which history goes on.
    pub(crate) fn rewind(&mut self, revision: u64) {
        self.archives.push(self.log.clone());
        self.log.retain(|version| version.revision <= revision);
        let before = std::mem::take(&mut self.objects);
        for version in &self.log {
            let place = (version.kind, version.key.clone());
            if version.deleted {
                self.objects.remove(&place);
            } else {
                self.objects.insert(place, version.clone());
            }
        }
        for (place, version) in before {
            if self.objects.get(&place).is_none_or(|now| now.uid != version.uid) {
                self.gone.insert(version.uid.clone());
            }
        }
        self.revision = revision;
        self.compacted = self.compacted.min(revision);
    }

    /// The objects of a kind at an earlier revision, by key.
    pub(crate) fn at(&self, kind: usize, revision: u64) -> BTreeMap<String, Arc<Version>> {
        let mut objects = BTreeMap::new();
        for version in self.log.iter().filter(|version| version.kind == kind) {
            if version.revision > revision {
                break;
            }
            if version.deleted {
                objects.remove(&version.key);
            } else {
                objects.insert(version.key.clone(), version.clone());
            }
        }
        objects
    }

    /// The versions of this life with this revision: one per history that has it.
    pub(crate) fn find(&self, uid: &str, revision: u64) -> &[Arc<Version>] {
        self.index.get(&(uid.to_owned(), revision)).map_or(&[], Vec::as_slice)
    }

    /// Whether this life ever ended.
    pub(crate) fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }

    /// Every history there was, the present one first.
    pub(crate) fn histories(&self) -> impl Iterator<Item = &Vec<Arc<Version>>> {
        std::iter::once(&self.log).chain(self.archives.iter().rev())
    }

    /// How often history went back.
    pub(crate) fn rewinds(&self) -> usize {
        self.archives.len()
    }

    fn commit(&mut self, version: Version) -> Arc<Version> {
        let version = Arc::new(version);
        let place = (version.kind, version.key.clone());
        if version.deleted {
            self.objects.remove(&place);
        } else {
            self.objects.insert(place, version.clone());
        }
        self.index.entry((version.uid.clone(), version.revision)).or_default().push(version.clone());
        self.log.push(version.clone());
        version
    }
}

/// An object as the API server writes custom resources: keys sorted. It holds nothing the bridge would cut out, so
/// an Event has to carry exactly these bytes.
fn text(
    kind: usize,
    namespace: &str,
    name: &str,
    uid: &str,
    revision: u64,
    generation: u64,
    spec: &str,
) -> Bytes {
    let Kind { group, name: kind, .. } = &KINDS[kind];
    format!(
        "{{\"apiVersion\":\"{group}/v1\",\"kind\":\"{kind}\",\"metadata\":{{\
         \"creationTimestamp\":\"2026-11-21T10:00:00Z\",\"generation\":{generation},\"name\":\"{name}\",\
         \"namespace\":\"{namespace}\",\"resourceVersion\":\"{revision}\",\"uid\":\"{uid}\"}},\
         \"spec\":{{\"message\":\"{spec}\"}}}}"
    )
    .into()
}
