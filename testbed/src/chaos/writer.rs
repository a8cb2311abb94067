//! A writer of random changes that knows in the end what each of its requests did.
//!
//! Its names are its own, so whatever is found under one of them after a request that got no answer was made by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

use super::record::{Confirmed, Record, What};
use crate::wait::eventually;

/// How long the API server may be away.
const PATIENCE: Duration = Duration::from_secs(90);
/// Of so many changes, one is of a large object.
const LARGE_ONE_IN: usize = 100;
const LARGE: usize = 40_000;

/// Changes objects, one request after another.
pub struct Writer {
    client: Client,
    resource: ApiResource,
    names: Vec<(String, String)>,
    objects: BTreeMap<(String, String), DynamicObject>,
    record: Arc<Record>,
    random: fastrand::Rng,
    changes: u64,
}

/// Writers that are at work.
pub struct Working {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Writer>>>,
}

// === impl Writer ===

impl Writer {
    /// A writer of objects of `resource` under these names (namespace and name), which must be nobody else's.
    pub fn new(
        client: Client,
        resource: ApiResource,
        names: Vec<(String, String)>,
        record: Arc<Record>,
        random: fastrand::Rng,
    ) -> Self {
        Self { client, resource, names, objects: BTreeMap::new(), record, random, changes: 0 }
    }

    /// From now on its choices follow from `random`.
    pub fn reseed(&mut self, random: fastrand::Rng) {
        self.random = random;
    }

    /// Makes one change to some object: low names often, so that there are hot ones. An error is a contradiction: a
    /// request without an answer is none.
    pub async fn change(&mut self) -> Result<()> {
        let index = self.random.usize(..self.names.len()).min(self.random.usize(..self.names.len()));
        let name = self.names.get(index).cloned().context("a writer has no names")?;
        if !self.objects.contains_key(&name) {
            return self.create(&name).await;
        }
        match self.random.u8(..10) {
            0 => self.delete(&name).await,
            1 => {
                self.delete(&name).await?;
                self.create(&name).await
            }
            _ => self.update(&name).await,
        }
    }

    /// Creates or updates the object that is first among its names, and answers the version.
    pub async fn mark(&mut self) -> Result<u64> {
        let name = self.names.first().cloned().context("a writer has no names")?;
        let before = self.version_of(&name);
        loop {
            if self.objects.contains_key(&name) {
                self.update(&name).await?;
            } else {
                self.create(&name).await?;
            }
            match self.version_of(&name) {
                Some(version) if before != Some(version) => return Ok(version),
                // It found out that somebody removed it.
                _ => {}
            }
        }
    }

    fn version_of(&self, name: &(String, String)) -> Option<u64> {
        self.objects.get(name).and_then(version)
    }

    async fn create(&mut self, name: &(String, String)) -> Result<()> {
        if self.objects.contains_key(name) {
            return Ok(());
        }
        let mut object = DynamicObject::new(&name.1, &self.resource).within(&name.0);
        self.fill(&mut object, true);
        let created = self.api(name).create(&PostParams::default(), &object).await;
        self.learn(name, created.map(Some)).await
    }

    /// A new spec or, sometimes, only new metadata, which makes no new generation.
    async fn update(&mut self, name: &(String, String)) -> Result<()> {
        let Some(mut object) = self.objects.get(name).cloned() else { return Ok(()) };
        let spec = self.random.u8(..5) > 0;
        self.fill(&mut object, spec);
        let updated = self.api(name).replace(&name.1, &PostParams::default(), &object).await;
        self.learn(name, updated.map(Some)).await
    }

    async fn delete(&mut self, name: &(String, String)) -> Result<()> {
        let Some(object) = self.objects.get(name) else { return Ok(()) };
        let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = self.api(name).delete(&name.1, &params).await;
        self.learn(name, deleted.map(|_| None)).await
    }

    /// Records what is under the name now; when the request failed, whatever that means, it is looked up.
    async fn learn(
        &mut self,
        name: &(String, String),
        answer: kube::Result<Option<DynamicObject>>,
    ) -> Result<()> {
        let found = if let Ok(answer) = answer {
            answer
        } else {
            let api = self.api(name);
            eventually(PATIENCE, "an API server that answers", || api.get_opt(&name.1)).await?
        };
        self.found(name, found)
    }

    /// Records what somebody else did to its objects, as the removal of their kind does: `objects` are all that exist.
    pub fn review(&mut self, objects: &[DynamicObject]) -> Result<()> {
        for name in self.names.clone() {
            let is_it = |object: &&DynamicObject| {
                object.namespace().as_deref() == Some(&*name.0) && object.name_any() == name.1
            };
            self.found(&name, objects.iter().find(is_it).cloned())?;
        }
        Ok(())
    }

    /// Records what is under the name now.
    fn found(&mut self, name: &(String, String), found: Option<DynamicObject>) -> Result<()> {
        let key = format!("{}/{}", name.0, name.1);
        let record = |object: &DynamicObject, what| -> Result<()> {
            let uid = object.uid().context("an object without uid")?;
            self.record.add(Confirmed { key: key.clone(), uid, what });
            Ok(())
        };
        let before = self.objects.get(name);
        if let Some(before) = before
            && found.as_ref().is_none_or(|found| found.uid() != before.uid())
        {
            record(before, What::Ended)?;
        }
        if let Some(found) = &found {
            let version = version(found).context("an object without version")?;
            let known = before.filter(|before| before.uid() == found.uid()).and_then(self::version);
            ensure!(known <= Some(version), "{key} went back from {known:?} to {version}");
            if known != Some(version) {
                record(found, What::Version(version))?;
            }
        }
        match found {
            Some(found) => drop(self.objects.insert(name.clone(), found)),
            None => drop(self.objects.remove(name)),
        }
        Ok(())
    }

    fn fill(&mut self, object: &mut DynamicObject, spec: bool) {
        self.changes += 1;
        object.annotations_mut().insert("tidings.dev/change".to_owned(), self.changes.to_string());
        if spec {
            let large = self.random.usize(..LARGE_ONE_IN) == 0;
            let message = "change it ".repeat(if large { LARGE / 10 } else { self.random.usize(1..40) });
            object.data["spec"] = json!({"when": "2026-12-24T18:00:00Z", "message": message});
        }
    }

    fn api(&self, name: &(String, String)) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &name.0, &self.resource)
    }
}

// === impl Working ===

impl Working {
    /// Sets them to work at the same time.
    pub fn start(writers: Vec<Writer>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = writers.into_iter().map(|mut writer| {
            let stop = stop.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    writer.change().await?;
                }
                Ok(writer)
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// Lets each finish what it is at, and answers them.
    pub async fn stop(self) -> Result<Vec<Writer>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut writers = Vec::new();
        for task in self.tasks {
            writers.push(task.await.context("a writer panicked")??);
        }
        Ok(writers)
    }
}

fn version(object: &DynamicObject) -> Option<u64> {
    object.resource_version()?.parse().ok()
}
