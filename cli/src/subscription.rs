//! `tidings subscription`: how one is doing, and the way out for objects whose Events a broker refuses.
//!
//! What is ordered stands at the Subscription, as an annotation, and the bridge does it: so it takes no more than the right
//! to edit that Subscription, and works from anywhere.

mod status;

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use tidings_crds::subscription::Subscription;
use tidings_crds::subscription::orders::{self, RETRY, SKIP};
use tidings_crds::subscription::status::BlockedKey;
use tokio::time::Instant;

use crate::args::{NamedSubscription, SubscriptionArgs, SubscriptionCommand};
use crate::cluster::Cluster;
use crate::{output, shutdown};

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(500);
/// After this it is said that the bridge is waited for.
const WORD: Duration = Duration::from_secs(2);
/// Somebody else may edit the Subscription at the same time.
const ATTEMPTS: u32 = 5;

/// A Subscription in the cluster.
struct Place {
    api: Api<Subscription>,
    name: String,
    patience: Duration,
}

pub(crate) fn run(args: SubscriptionArgs) -> Result<()> {
    shutdown::run(async {
        match args.command {
            SubscriptionCommand::Status(args) => status::run(args).await,
            SubscriptionCommand::Retry { subscription, key } => {
                retry(&Place::of(subscription).await?, key.as_deref()).await
            }
            SubscriptionCommand::Skip { subscription, key } => {
                skip(&Place::of(subscription).await?, &key).await
            }
        }
    })
}

/// Has the bridge try what is blocked again, and says what came of it.
async fn retry(place: &Place, key: Option<&str>) -> Result<()> {
    let subscription = place.get().await?;
    let blocked = blocked(&subscription);
    if blocked.is_empty() && key.is_none() {
        return output::print(b"nothing is blocked\n");
    }
    if let Some(key) = key {
        find(&subscription, key)?;
    }
    let rejected = |subscription: &Subscription| {
        let counts = subscription.status.as_ref().and_then(|status| status.counts.as_ref());
        counts.map_or(0, |counts| counts.rejected)
    };
    let before = rejected(&subscription);
    let token = Timestamp::now().to_string();
    let order = match key {
        Some(key) => format!("{token} {key}"),
        None => token,
    };
    place.annotate(RETRY, |_| order.clone()).await?;
    let meant: Vec<_> =
        blocked.into_iter().filter(|blocked| key.is_none_or(|key| blocked.key == key)).collect();
    let still_there = |now: &Subscription, was: &BlockedKey| {
        self::blocked(now)
            .into_iter()
            .find(|blocked| (&blocked.key, &blocked.event) == (&was.key, &was.event))
    };
    let now = place
        .until("tries again", |now| {
            rejected(now) > before || meant.iter().all(|was| still_there(now, was).is_none())
        })
        .await?;
    let mut text = String::new();
    let mut refused = 0;
    for was in &meant {
        if let Some(blocked) = still_there(&now, was) {
            refused += 1;
            text += &format!("{}: refused again: {}\n", blocked.key, blocked.reason);
        } else {
            text += &format!("{}: goes on\n", was.key);
        }
    }
    output::print(text.as_bytes())?;
    if refused > 0 {
        bail!("{refused} of {} are refused again", meant.len());
    }
    Ok(())
}

/// Has the bridge leave out the Event that blocks `key`.
async fn skip(place: &Place, key: &str) -> Result<()> {
    let BlockedKey { event, reason, .. } = find(&place.get().await?, key)?;
    if event.is_empty() {
        bail!("the bridge does not say which event blocks {key}: it is older than this command");
    }
    place.annotate(SKIP, |subscription| orders::skip_also(subscription.annotations(), &event)).await?;
    let gone = |now: &Subscription| {
        blocked(now).iter().all(|blocked| (&*blocked.key, &blocked.event) != (key, &event))
    };
    let now = place.until("leaves it out", gone).await?;
    let mut text = format!("{key}: left out the event {event} ({reason})\n");
    if let Some(next) = blocked(&now).iter().find(|blocked| blocked.key == key) {
        text += &format!("{key}: the next one is refused too: {}\n", next.reason);
    }
    output::print(text.as_bytes())
}

// === impl Place ===

impl Place {
    async fn of(named: NamedSubscription) -> Result<Self> {
        let NamedSubscription { name, namespace, timeout, cluster } = named;
        let cluster = Cluster::connect(&cluster).await?;
        cluster.check().await?;
        let namespace = namespace.unwrap_or_else(|| cluster.namespace.clone());
        let api = Api::namespaced(cluster.client, &namespace);
        Ok(Self { api, name, patience: Duration::from_secs(timeout) })
    }

    async fn get(&self) -> Result<Subscription> {
        let found = self.api.get_opt(&self.name).await.context("failed to read the Subscription")?;
        let namespace = self.api.namespace().unwrap_or_default();
        found.with_context(|| format!("there is no Subscription {namespace}/{}", self.name))
    }

    /// Writes an annotation that is made from what the Subscription is then.
    async fn annotate(&self, name: &str, value: impl Fn(&Subscription) -> String) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let present = self.get().await?;
            let patch = Patch::Merge(serde_json::json!({"metadata": {
                "resourceVersion": present.resource_version(),
                "annotations": {name: value(&present)},
            }}));
            match self.api.patch(&self.name, &PatchParams::default(), &patch).await {
                // Somebody else was faster.
                Err(kube::Error::Api(answer)) if answer.code == 409 => {}
                answer => return answer.map(drop).context("failed to write the order to the Subscription"),
            }
        }
        bail!("the Subscription is edited again and again by somebody else")
    }

    /// Waits until the status says so, and says what is waited for.
    async fn until(&self, what: &str, is: impl Fn(&Subscription) -> bool) -> Result<Subscription> {
        let (started, mut said) = (Instant::now(), false);
        loop {
            let now = self.get().await?;
            if is(&now) {
                return Ok(now);
            }
            if started.elapsed() >= self.patience {
                bail!(
                    "within {} s nothing says that the bridge {what}; the order stands, and is carried out as soon as it \
                     runs",
                    self.patience.as_secs()
                );
            }
            if !said && started.elapsed() >= WORD {
                said = true;
                // Nobody is left to be told of a failure to tell.
                let _ = writeln!(io::stderr(), "waiting until the bridge {what}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn blocked(subscription: &Subscription) -> Vec<BlockedKey> {
    subscription.status.as_ref().map(|status| status.blocked.clone()).unwrap_or_default()
}

/// What blocks `key`, or which keys are blocked.
fn find(subscription: &Subscription, key: &str) -> Result<BlockedKey> {
    let blocked = blocked(subscription);
    if let Some(found) = blocked.iter().find(|blocked| blocked.key == key) {
        return Ok(found.clone());
    }
    if blocked.is_empty() {
        bail!("{key} is not blocked; nothing is");
    }
    let count = subscription.status.as_ref().and_then(|status| status.blocked_keys).unwrap_or_default();
    let keys: Vec<_> = blocked.iter().map(|blocked| blocked.key.as_str()).collect();
    bail!(
        "{key} is not among the blocked ones that status lists ({} of {count}): {}",
        keys.len(),
        keys.join(", ")
    )
}
