//! Keeps the `ValidatingWebhookConfiguration` as it has to be: made, repaired as soon as somebody edits it, and with the failure
//! policy that fits.
//!
//! All replicas do this. They want the same, but for what their own probes find; so that two that disagree do not chase each
//! other, nobody repeats at once what was undone.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tidings_config::process::webhook::{FailurePolicy, WebhookSettings};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::probe::{certificates, probe};
use super::{Policy, Wanted, differences};
use crate::metrics::Metrics;
use crate::objects::is_older;
use tidings_config::chain::chain;

/// For an answer to a probe.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a probe that failed, before it is made once more: a connection may be lost without anything being wrong.
const ONCE_MORE: Duration = Duration::from_millis(200);
/// Before the same is written again that somebody has undone.
const REST: Duration = Duration::from_secs(1);
/// After a failure to write.
const AGAIN: Duration = Duration::from_secs(1);
/// At the end: how often it is looked for another replica that answers, and how often it is tried to write.
const TRIES: usize = 5;
/// What API servers take to notice, at the end.
const NOTICED: Duration = Duration::from_millis(500);

/// Keeps one configuration.
pub(crate) struct Controller {
    api: Api<ValidatingWebhookConfiguration>,
    wanted: Wanted,
    setting: FailurePolicy,
    probe_interval: Duration,
    /// What API servers are to trust; nothing while that is not known.
    bundles: watch::Receiver<Option<String>>,
    /// That is ours to say.
    own_authority: bool,
    /// What they are told to trust.
    trusted: watch::Sender<Vec<CertificateDer<'static>>>,
    replica: Arc<str>,
    metrics: Metrics,
    present: Option<ValidatingWebhookConfiguration>,
    /// It is known whether there is one.
    listed: bool,
    /// What the last probe found, and with which bundle.
    found: Option<(Option<Vec<u8>>, Policy)>,
    /// What was written last, and when.
    written: Option<(ValidatingWebhook, Instant)>,
    complained: bool,
}

type Events = BoxStream<'static, Result<watcher::Event<ValidatingWebhookConfiguration>, watcher::Error>>;

// === impl Controller ===

impl Controller {
    pub(crate) fn new(
        client: kube::Client,
        wanted: Wanted,
        settings: &WebhookSettings,
        bundles: watch::Receiver<Option<String>>,
        trusted: watch::Sender<Vec<CertificateDer<'static>>>,
        replica: Arc<str>,
        metrics: Metrics,
    ) -> Self {
        Self {
            api: Api::all(client),
            wanted,
            setting: settings.failure_policy,
            probe_interval: settings.probe_interval.get(),
            bundles,
            own_authority: settings.certificates.files.is_none(),
            trusted,
            replica,
            metrics,
            present: None,
            listed: false,
            found: None,
            written: None,
            complained: false,
        }
    }

    /// Keeps it until `leaving`, and then makes sure that nobody is refused because we are gone.
    pub(crate) async fn run(mut self, leaving: CancellationToken) {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.wanted.name));
        let mut events: Events = watcher(self.api.clone(), only).default_backoff().boxed();
        let mut looks = tokio::time::interval(self.probe_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = None;
        loop {
            tokio::select! {
                event = events.next() => self.take(event),
                Ok(()) = self.bundles.changed() => {}
                _ = looks.tick() => self.found = None,
                () = sleep_until(again) => {}
                () = leaving.cancelled() => break,
            }
            let kept = tokio::select! {
                kept = self.keep() => kept,
                () = leaving.cancelled() => break,
            };
            again = match kept {
                Ok(again) => {
                    self.complained = false;
                    again
                }
                Err(error) => {
                    self.complain(&error);
                    Some(Instant::now() + AGAIN)
                }
            };
        }
        match self.leave().await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("nobody else answers: the API server accepts unasked from now on");
                tokio::time::sleep(NOTICED).await;
            }
            Err(error) => tracing::warn!(error = chain(&error), "the failure policy is left as it is"),
        }
    }

    /// Makes the configuration what it has to be. Says when to come back, if that is not to be done at once.
    async fn keep(&mut self) -> Result<Option<Instant>, kube::Error> {
        if !self.listed {
            return Ok(None);
        }
        let bundle = if self.own_authority {
            let bundle = self.bundles.borrow_and_update().clone();
            // There is none yet.
            let Some(bundle) = bundle else { return Ok(None) };
            Some(bundle.into_bytes())
        } else {
            self.present.as_ref().and_then(bundle_of)
        };
        let policy = self.policy(bundle.as_deref()).await;
        let wanted = self.wanted.webhook(bundle, policy);
        let differing = match &self.present {
            Some(present) => differences(present.webhooks.as_deref().unwrap_or_default(), &wanted),
            None => vec!["webhooks"],
        };
        if differing.is_empty() {
            self.metrics.failure_policy(policy == Policy::Fail);
            return Ok(None);
        }
        if let Some((last, at)) = &self.written
            && *last == wanted
        {
            // What only differs in the policy was most likely written by another replica, after a look of its own.
            let rest = if differing == ["failurePolicy"] { self.probe_interval } else { REST };
            if at.elapsed() < rest {
                return Ok(Some(*at + rest));
            }
        }
        self.write(wanted, &differing).await?;
        self.metrics.failure_policy(policy == Policy::Fail);
        Ok(None)
    }

    /// What the API server should do while it gets no answer: what was found last, if that was found with this bundle.
    async fn policy(&mut self, bundle: Option<&[u8]>) -> Policy {
        if self.setting == FailurePolicy::Ignore {
            return Policy::Ignore;
        }
        if let Some((with, policy)) = &self.found
            && with.as_deref() == bundle
        {
            return *policy;
        }
        let mut answer = probe(self.wanted.endpoint(), bundle, PATIENCE).await;
        if answer.is_err() {
            tokio::time::sleep(ONCE_MORE).await;
            answer = probe(self.wanted.endpoint(), bundle, PATIENCE).await;
        }
        let policy = match answer {
            Ok(_) => Policy::Fail,
            Err(error) => {
                self.metrics.probe_failures.inc();
                tracing::warn!(
                    error = chain(&error),
                    "the API server cannot reach the webhook, and accepts unasked meanwhile"
                );
                Policy::Ignore
            }
        };
        self.found = Some((bundle.map(<[u8]>::to_vec), policy));
        policy
    }

    /// Writes `wanted` in the place of what is known to be there.
    async fn write(
        &mut self,
        wanted: ValidatingWebhook,
        differing: &[&'static str],
    ) -> Result<(), kube::Error> {
        let policy = wanted.failure_policy.clone();
        let result = match &self.present {
            None => {
                let configuration = ValidatingWebhookConfiguration {
                    metadata: ObjectMeta { name: Some(self.wanted.name.clone()), ..ObjectMeta::default() },
                    webhooks: Some(vec![wanted.clone()]),
                };
                self.api.create(&PostParams::default(), &configuration).await
            }
            Some(present) => {
                // Only this version is to be changed: of two who write at once one has to look again.
                let version = present.metadata.resource_version.as_deref();
                let patch = json!({"metadata": {"resourceVersion": version}, "webhooks": [wanted]});
                self.api.patch(&self.wanted.name, &PatchParams::default(), &Patch::Merge(patch)).await
            }
        };
        let present = result?;
        let name = &self.wanted.name;
        tracing::info!(name, fields = ?differing, ?policy, "wrote the ValidatingWebhookConfiguration");
        for field in differing {
            self.metrics.repair(field);
        }
        self.written = Some((wanted, Instant::now()));
        self.know(Some(present));
        Ok(())
    }

    /// If nobody else answers the API server, it is told to accept unasked. Says whether it was.
    async fn leave(&mut self) -> Result<bool, kube::Error> {
        for _ in 0..TRIES {
            self.know(self.api.get_opt(&self.wanted.name).await?);
            let Some(present) = &self.present else { return Ok(false) };
            let refuses = present.webhooks.iter().flatten().any(|webhook| {
                webhook.name == super::NAME && webhook.failure_policy.as_deref() == Some(Policy::Fail.name())
            });
            if !refuses || self.others_answer().await {
                return Ok(false);
            }
            let wanted = self.wanted.webhook(bundle_of(present), Policy::Ignore);
            match self.write(wanted, &["failurePolicy"]).await {
                Ok(()) => return Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    async fn others_answer(&self) -> bool {
        let bundle = self.present.as_ref().and_then(bundle_of);
        for _ in 0..TRIES {
            if probe(self.wanted.endpoint(), bundle.as_deref(), PATIENCE)
                .await
                .is_ok_and(|who| *who != *self.replica)
            {
                return true;
            }
        }
        false
    }

    fn take(
        &mut self,
        event: Option<Result<watcher::Event<ValidatingWebhookConfiguration>, watcher::Error>>,
    ) {
        match event {
            Some(Ok(watcher::Event::Apply(told) | watcher::Event::InitApply(told))) => {
                if !self.present.as_ref().is_some_and(|known| is_older(&told.metadata, &known.metadata)) {
                    self.know(Some(told));
                }
            }
            Some(Ok(watcher::Event::Delete(_))) => self.know(None),
            Some(Ok(watcher::Event::InitDone)) => self.listed = true,
            Some(Ok(watcher::Event::Init)) | None => {}
            Some(Err(error)) => tracing::warn!(
                error = chain(&error),
                help = "the webhook needs get, list, watch, create and patch on its ValidatingWebhookConfiguration",
                "unable to watch the ValidatingWebhookConfiguration; trying again"
            ),
        }
    }

    /// From now on this is known to be there.
    fn know(&mut self, present: Option<ValidatingWebhookConfiguration>) {
        let bundle = present.as_ref().and_then(bundle_of).unwrap_or_default();
        self.trusted.send_replace(certificates(&bundle));
        self.present = present;
    }

    /// The same is said once.
    fn complain(&mut self, error: &kube::Error) {
        // Somebody else wrote it, and the watch will say so.
        let raced = matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
        if !raced && !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(
                error = chain(error),
                help = "the webhook needs create and patch on its ValidatingWebhookConfiguration",
                "unable to write the ValidatingWebhookConfiguration; trying again"
            );
        }
    }
}

/// The `caBundle` in a configuration.
fn bundle_of(configuration: &ValidatingWebhookConfiguration) -> Option<Vec<u8>> {
    let [webhook] = configuration.webhooks.as_deref()? else { return None };
    webhook.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.clone())
}

/// Never, without a moment.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
