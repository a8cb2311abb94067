//! What a case looks at: what arrived, what the bridge counts, and the rules that hold in the end.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use tidings_testbed::chaos::check::{Checker, Findings, Round, Suffered};
use tidings_testbed::chaos::record::{Confirmed, What};
use tidings_testbed::consumer::Received;
use tidings_testbed::receiver::ear::Ear;
use tidings_testbed::wait::eventually;

use super::Trial;
use crate::support::SOON;

impl Trial<'_> {
    /// Everything that was heard so far, in order.
    pub(crate) fn heard(&self) -> Vec<Received> {
        self.ear.as_ref().map(Ear::heard).unwrap_or_default()
    }

    /// Waits until this version was heard.
    pub(crate) async fn hears(&self, version: u64) -> Result<Value> {
        let version = version.to_string();
        eventually(SOON, &format!("version {version} is heard"), || async {
            let heard = self.heard();
            let of = |data: &Value| data["metadata"]["resourceVersion"].as_str() == Some(&version);
            let found = heard.into_iter().map(|event| event.data).find(of);
            found.with_context(|| "it was not".to_owned())
        })
        .await
    }

    /// What the metrics of the bridge say of the Subscription.
    pub(crate) async fn counts(&self, metric: &str) -> Result<u64> {
        let prefix = format!("tidings_{metric}{{namespace=\"{}\",", self.stage.namespace);
        let metrics = self.bridge.metrics().await?;
        let line = metrics.lines().find(|line| line.starts_with(&prefix));
        let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| format!("no {metric}"))?;
        value.parse().with_context(|| format!("{metric} is {value}"))
    }

    /// Waits until so many attempts are under way.
    pub(crate) async fn under_way(&self, at_least: u64) -> Result<()> {
        eventually(SOON, &format!("{at_least} attempts under way"), || async {
            let mut ended = 0;
            for metric in ["acked_total", "retried_total", "rejected_total"] {
                ended += self.counts(metric).await?;
            }
            let sent = self.counts("sent_total").await?;
            ensure!(sent >= ended + at_least, "{sent} were sent, {ended} have ended");
            Ok(())
        })
        .await
    }

    /// Waits until the broker has said that it holds so many Events.
    pub(crate) async fn acked(&self, events: u64) -> Result<()> {
        eventually(SOON, &format!("{events} acknowledgements"), || async {
            let acked = self.counts("acked_total").await?;
            ensure!(acked >= events, "there are {acked}");
            Ok(())
        })
        .await
    }

    /// Waits until some attempt has failed.
    pub(crate) async fn retried(&self) -> Result<()> {
        eventually(SOON, "an attempt that failed", || async {
            ensure!(self.counts("retried_total").await? > 0, "there is none");
            Ok(())
        })
        .await
    }

    /// Waits until the application holds what the API server does, all of it was told in order, nothing else, and nothing
    /// under two names.
    pub(crate) async fn agrees(&self) -> Result<()> {
        self.agrees_but(None).await?;
        self.delivers().await
    }

    /// The same, while nobody says how it goes.
    pub(crate) async fn agrees_with_what_was_written(&self) -> Result<()> {
        self.agrees_but(None).await
    }

    /// The same, but for the object `name`, of which nothing may be known.
    pub(crate) async fn agrees_but(&self, name: Option<&str>) -> Result<()> {
        let left_out = name.map(|name| self.key(name));
        eventually(SOON, "the same on both sides", || async {
            self.confirmed.lock().await.extend(self.record.take());
            let confirmed = self.confirmed.lock().await;
            let told = |confirmed: &&Confirmed| {
                let excused =
                    matches!(confirmed.what, What::Version(version) if self.excused.contains(&version));
                !excused && Some(&confirmed.key) != left_out.as_ref()
            };
            let confirmed: Vec<_> = confirmed.iter().filter(told).cloned().collect();
            let mut held = self.held().await?;
            let mut events = self.heard();
            if let Some(key) = &left_out {
                held.remove(key);
                events.retain(|event| event.attribute("subject") != key);
            }
            let round =
                Round { confirmed: &confirmed, events: &events, held: &held, suffered: Suffered::default() };
            let Findings { lost, wrong, .. } = Checker::default().check(&round);
            ensure!(lost.is_empty() && wrong.is_empty(), "lost {lost:#?}, wrong {wrong:#?}");
            same_under_one_id(&events)
        })
        .await
    }

    /// The Todos that the API server holds, by key.
    async fn held(&self) -> Result<BTreeMap<String, Value>> {
        let list = self.stage.todos().list(&ListParams::default()).await?;
        let of = |todo: &DynamicObject| Ok((self.key(&todo.name_any()), serde_json::to_value(todo)?));
        list.items.iter().map(of).collect()
    }
}

/// Events with one id have one content.
fn same_under_one_id(events: &[Received]) -> Result<()> {
    let mut known: BTreeMap<&str, &Value> = BTreeMap::new();
    for event in events {
        let id = event.attribute("id");
        let first = known.entry(id).or_insert(&event.data);
        ensure!(**first == event.data, "id {id} is {first} and {}", event.data);
    }
    Ok(())
}
