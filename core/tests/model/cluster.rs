//! A cluster as the API server shows it: a history of one resource, numbered together with others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::selection::Labels;
use tidings_core::watch::backfill::Answer;

/// The names there are: two namespaces with three objects each.
pub(crate) fn key(index: usize) -> ObjectKey {
    ObjectKey::new(Some(if index < 3 { "shop" } else { "farm" }), ["a", "b", "c"][index % 3])
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) deleted: bool,
    pub(crate) object: Arc<Object>,
}

impl Event {
    pub(crate) fn version(&self) -> u64 {
        self.object.meta.resource_version.0
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    /// The newest version of anything.
    pub(crate) version: u64,
    pub(crate) history: Vec<Event>,
    /// A watch from before this version is answered with 410.
    pub(crate) oldest: u64,
    /// A read of a version before this one is answered with 410.
    pub(crate) compacted: u64,
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Object>>,
    lives: u64,
    /// Versions after this one were made after the last rewind.
    branch: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { version: 1, ..Self::default() }
    }

    pub(crate) fn write(&mut self, key: &ObjectKey) {
        let labels = self.objects.get(key).map(|object| object.meta.labels.clone()).unwrap_or_default();
        self.put(key, labels);
    }

    /// Writes it with another label than it has.
    pub(crate) fn relabel(&mut self, key: &ObjectKey) {
        let red = Labels::from_json(r#"{"color":"red"}"#);
        let is_red = self.objects.get(key).is_some_and(|object| object.meta.labels == red);
        self.put(key, if is_red { Labels::default() } else { red });
    }

    fn put(&mut self, key: &ObjectKey, labels: Labels) {
        self.version += 1;
        let (uid, generation) = if let Some(object) = self.objects.get(key) {
            (object.meta.uid.clone(), object.meta.generation.unwrap_or_default() + 1)
        } else {
            self.lives += 1;
            (Uid::new(&format!("life-{}", self.lives)), 1)
        };
        let object = self.object(key, uid, generation, labels);
        self.objects.insert(key.clone(), object.clone());
        self.history.push(Event { deleted: false, object });
    }

    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.remove(key) else { return };
        self.version += 1;
        let generation = object.meta.generation.unwrap_or_default();
        let object = self.object(key, object.meta.uid.clone(), generation, object.meta.labels.clone());
        self.history.push(Event { deleted: true, object });
    }

    /// Back to an earlier state, from which history goes on.
    pub(crate) fn rewind(&mut self, by: u64) {
        self.version = self.version.saturating_sub(by).max(1);
        let version = self.version;
        self.history.retain(|event| event.version() <= version);
        self.objects.clear();
        for event in &self.history {
            let key = event.object.meta.key.clone();
            if event.deleted {
                self.objects.remove(&key);
            } else {
                self.objects.insert(key, event.object.clone());
            }
        }
        self.oldest = self.oldest.min(version);
        self.compacted = self.compacted.min(version);
        self.branch += 1;
    }

    /// What an exact read of one name says. `died`: what is read ended at that version, and says so.
    pub(crate) fn read(&self, key: &ObjectKey, at: ResourceVersion, died: Option<ResourceVersion>) -> Answer {
        if at.0 < self.compacted {
            return Answer::Compacted;
        }
        let until = self.history.iter().take_while(|event| event.version() <= at.0);
        match until.filter(|event| event.object.meta.key == *key).last() {
            Some(Event { deleted: false, object }) => {
                let mut object = Object::clone(object);
                object.meta.resource_version = died.unwrap_or(object.meta.resource_version);
                Answer::Present(Arc::new(object))
            }
            _ => Answer::Absent,
        }
    }

    fn object(&self, key: &ObjectKey, uid: Uid, generation: u64, labels: Labels) -> Arc<Object> {
        let meta = Meta {
            generation: Some(generation),
            labels,
            ..Meta::new(key.clone(), uid, ResourceVersion(self.version))
        };
        // The body tells versions of the same number apart that were made before and after a rewind.
        let body = Bytes::from(format!("{{\"branch\":{}}}", self.branch));
        Arc::new(Object { meta, body })
    }
}
