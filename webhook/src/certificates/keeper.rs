//! Does what [`step`] says: reads and writes the Secret, and shows certificates. Or shows those in a folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use rustls::pki_types::CertificateDer;
use tidings_config::process::webhook::Certificates;
use tokio::sync::watch;

use super::authority::{self, Authority};
use super::serving::{self, Shown};
use super::store::{self, Written};
use super::{Action, AuthorityState, ServingState, State, Times, files, step, wake};
use crate::admin::Readiness;
use crate::clock::unix_seconds;
use crate::metrics::Metrics;
use crate::objects::is_older;
use tidings_config::chain::chain;

/// Between two looks at files.
const LOOK: Duration = Duration::from_secs(1);
/// Before the API server is asked again that did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the certificate of this process.
pub(crate) struct Keeper {
    pub(crate) client: kube::Client,
    pub(crate) settings: Certificates,
    pub(crate) namespace: String,
    /// What the API server calls us.
    pub(crate) names: Vec<String>,
    pub(crate) shown: Arc<Shown>,
    /// What API servers are to trust, as PEM; nothing while that is not ours to say.
    pub(crate) bundle: watch::Sender<Option<String>>,
    /// What they trust.
    pub(crate) trust: watch::Receiver<Vec<CertificateDer<'static>>>,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
}

/// What is known of the Secret.
#[derive(Default)]
struct Kept {
    secret: Option<Secret>,
    authorities: Vec<Authority>,
    /// They are not in the Secret any more: somebody deleted or emptied it.
    lost: bool,
    serving: Option<ServingState>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("unable to write the Secret with the authorities")]
    Write(#[source] Box<kube::Error>),
    #[error(transparent)]
    Certificate(#[from] authority::Error),
    #[error("unable to show a certificate")]
    Show(#[from] serving::Error),
}

type Events = BoxStream<'static, Result<watcher::Event<Secret>, watcher::Error>>;

// === impl Keeper ===

impl Keeper {
    /// Never comes back.
    pub(crate) async fn run(self) {
        match self.settings.files.clone() {
            Some(folder) => self.follow(&folder).await,
            None => self.keep().await,
        }
    }

    /// Shows what is in the folder, whenever that changes.
    async fn follow(self, folder: &Path) {
        let mut last = None;
        let mut complained = false;
        loop {
            let shown = files::read(folder).map_err(|error| chain(&error)).and_then(|files| {
                if last.as_ref() == Some(&files) {
                    return Ok(None);
                }
                let signed = files.signed().map_err(|error| chain(&error))?;
                let ends = signed.ends;
                self.shown.show(signed).map_err(|error| chain(&error))?;
                last = Some(files);
                Ok(Some(ends))
            });
            match shown {
                Ok(Some(ends)) => {
                    self.metrics.expiry("serving", ends);
                    self.readiness.set();
                    tracing::info!(folder = %folder.display(), ends, "showing the certificate of the folder");
                    complained = false;
                }
                Ok(None) => complained = false,
                // Somebody may be in the middle of writing it.
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        let folder = folder.display();
                        tracing::warn!(%folder, error, "unable to show the certificate of the folder; trying again");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps authorities of our own.
    async fn keep(mut self) {
        let Certificates { files: _, secret: name, authority_lifetime, lifetime, overlap } =
            self.settings.clone();
        let times = Times {
            authority: authority_lifetime.get().as_secs(),
            serving: lifetime.get().as_secs(),
            overlap: overlap.get().as_secs(),
        };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events: Events = watcher(secrets.clone(), only).default_backoff().boxed();
        let mut kept = Kept::default();
        kept.first(&mut events).await;
        loop {
            let mut rest = Duration::from_secs(wake(unix_seconds(), &times, &self.state(&kept)))
                .saturating_sub(Duration::from_secs(unix_seconds()));
            loop {
                let now = unix_seconds();
                let actions = step(now, &times, &self.state(&kept));
                if actions.is_empty() && !kept.lost {
                    break;
                }
                if let Err(error) = self.act(&secrets, &name, now, &times, &mut kept, actions).await {
                    tracing::warn!(error = chain(&error), "unable to keep the certificates; trying again");
                    rest = AGAIN;
                    break;
                }
                rest = Duration::from_secs(wake(now, &times, &self.state(&kept)).saturating_sub(now));
            }
            self.publish(&kept);
            tokio::select! {
                event = events.next() => kept.take(event),
                _ = self.trust.changed() => {}
                () = tokio::time::sleep(rest.max(Duration::from_millis(100))) => {}
            }
        }
    }

    fn state(&self, kept: &Kept) -> State {
        let trusted: BTreeSet<String> = self.trust.borrow().iter().map(|der| id(der)).collect();
        let authorities = kept.authorities.iter().filter_map(|authority| {
            let (id, ends) = (id(&authority.der().ok()?), authority.ends().ok()?);
            Some(AuthorityState { id, ends, known_since: authority.known_since })
        });
        State { authorities: authorities.collect(), serving: kept.serving.clone(), trusted }
    }

    /// Changes the Secret as a whole, and only then shows what is signed by what is in it.
    async fn act(
        &self,
        secrets: &Api<Secret>,
        name: &str,
        now: u64,
        times: &Times,
        kept: &mut Kept,
        actions: Vec<Action>,
    ) -> Result<(), Error> {
        let mut authorities = kept.authorities.clone();
        let is = |authority: &Authority, wanted: &str| authority.der().is_ok_and(|der| id(&der) == wanted);
        let mut sign = None;
        for action in actions {
            match action {
                Action::Drop(ended) => authorities.retain(|authority| !is(authority, &ended)),
                Action::Make => {
                    authorities.push(Authority::make("tidings-webhook-ca", now, times.authority)?);
                }
                Action::Note(known) => {
                    let known = authorities.iter_mut().filter(|authority| is(authority, &known));
                    known.for_each(|authority| authority.known_since = Some(now));
                }
                Action::Sign(by) => sign = authorities.iter().find(|authority| is(authority, &by)).cloned(),
            }
        }
        if kept.lost || authorities != kept.authorities {
            match store::write(secrets, name, kept.secret.as_ref(), &authorities).await {
                Ok(Written::Stored(secret)) => {
                    tracing::info!(count = authorities.len(), "the authorities are stored");
                    *kept = Kept {
                        secret: Some(*secret),
                        authorities,
                        lost: false,
                        serving: kept.serving.take(),
                    };
                }
                Ok(Written::Outdated) => {
                    let present =
                        secrets.get_opt(name).await.map_err(|error| Error::Write(Box::new(error)))?;
                    kept.replace(present);
                    return Ok(());
                }
                Err(error) => return Err(Error::Write(Box::new(error))),
            }
        }
        if let Some(authority) = sign {
            let signed = authority.sign(&self.names, now, times.serving)?;
            let (begins, ends) = (signed.begins, signed.ends);
            self.shown.show(signed)?;
            kept.serving = Some(ServingState { signer: id(&authority.der()?), begins, ends });
            self.metrics.expiry("serving", ends);
            self.readiness.set();
            tracing::info!(ends, "showing a new certificate");
        }
        Ok(())
    }

    /// Says what is to be trusted.
    fn publish(&self, kept: &Kept) {
        if let Some(ends) = kept.authorities.last().and_then(|authority| authority.ends().ok()) {
            self.metrics.expiry("authority", ends);
        }
        // Before there is one, what is in the configuration is better than nothing.
        if kept.authorities.is_empty() {
            return;
        }
        let bundle: String =
            kept.authorities.iter().map(|authority| authority.certificate.as_str()).collect();
        self.bundle.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&*bundle);
            *known = Some(bundle);
            changed
        });
    }
}

/// Tells certificates apart.
fn id(der: &CertificateDer<'_>) -> String {
    use std::fmt::Write as _;
    // The whole certificate: it is short, and nothing is to be mistaken for another.
    der.iter().fold(String::with_capacity(2 * der.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// === impl Kept ===

impl Kept {
    /// Waits until it is known whether there is a Secret.
    async fn first(&mut self, events: &mut Events) {
        loop {
            match events.next().await {
                Some(Ok(watcher::Event::InitDone)) => return,
                event => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Option<Result<watcher::Event<Secret>, watcher::Error>>) {
        match event {
            Some(Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret))) => {
                self.replace(Some(secret));
            }
            Some(Ok(watcher::Event::Delete(_))) => self.replace(None),
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) | None => {}
            Some(Err(error)) => tracing::warn!(
                error = chain(&error),
                help = "the webhook needs get, list and watch on its Secret, and create and update",
                "unable to watch the Secret with the authorities; trying again"
            ),
        }
    }

    fn replace(&mut self, secret: Option<Secret>) {
        if let (Some(known), Some(told)) = (&self.secret, &secret)
            && is_older(&told.metadata, &known.metadata)
        {
            // The watch tells late what was written by ourselves.
            return;
        }
        let stored = secret.as_ref().map(store::read).unwrap_or_default();
        // What is known is not forgotten because somebody emptied the Secret: it is trusted, and signed what is shown.
        self.lost = stored.is_empty() && !self.authorities.is_empty();
        if !self.lost {
            self.authorities = stored;
        }
        self.secret = secret;
    }
}
