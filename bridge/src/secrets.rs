//! The Secrets that connections name: read when they are first wanted, and again and again, so that a connection follows
//! when one changes. Only those that are named are read, one by one: the bridge needs `get`, never `list` or `watch`.
//!
//! Whoever names a Secret in a Subscription of their own must be allowed to read it: it is asked each time whether the
//! Subscription's service account may. (Who writes a Sink is looked at when it is written.)
//!
//! Before: bridge/src/connections.rs

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use tidings_config::secret::{SecretKeyRef, SecretValue, Secrets};
use tidings_sinks::sink::NotReady;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use tidings_config::chain::chain;

/// Between two readings of a Secret.
const AGAIN: Duration = Duration::from_secs(4);
/// For an answer of the API server.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many are read at once.
const AT_ONCE: usize = 8;

/// A Secret, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// The namespace it is in.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The service account in that namespace with whose rights it is read; nobody's for a Sink.
    pub(crate) account: Option<String>,
}

/// Reads Secrets in the background.
pub(crate) struct SecretReader {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    read: Mutex<BTreeMap<Wanted, Read>>,
    /// Something is wanted that was not read yet.
    wanted: Notify,
    /// Something else was read than before.
    changed: Notify,
}

/// What is known of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    /// Nothing yet.
    Not,
    /// What is in it.
    Found(BTreeMap<String, SecretValue>),
    /// Why it cannot be used: there is none, or it may not be read.
    Denied(NotReady),
    /// It could not be read, and nothing is known of it.
    Failed(NotReady),
}

// === impl SecretReader ===

impl SecretReader {
    pub(crate) fn start(client: kube::Client) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(shared.clone().run(client));
        Self { shared, task }
    }

    /// The values of `keys`, or why they cannot be had (yet); with `account`, as far as it may read them.
    pub(crate) fn get(
        &self,
        namespace: &str,
        account: Option<&str>,
        keys: &[SecretKeyRef],
    ) -> Result<Secrets, NotReady> {
        let mut read = self.shared.lock();
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let wanted = Wanted {
                namespace: namespace.to_owned(),
                name: key.name.clone(),
                account: account.map(str::to_owned),
            };
            let found = read.entry(wanted).or_insert_with(|| {
                self.shared.wanted.notify_one();
                Read::Not
            });
            match found {
                Read::Not => return Err(NotReady::new(PENDING, "its Secrets are being read")),
                Read::Denied(not_ready) | Read::Failed(not_ready) => return Err(not_ready.clone()),
                Read::Found(data) => values.push((key.clone(), value(data, namespace, key)?)),
            }
        }
        Ok(Secrets::new(values))
    }

    /// Only these are read from now on.
    pub(crate) fn retain(&self, wanted: &BTreeSet<Wanted>) {
        self.shared.lock().retain(|secret, _| wanted.contains(secret));
    }

    /// Comes back when another thing is known of one of them.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Drop for SecretReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The values of `keys`, read now with the rights of whose client it is.
pub(crate) async fn read_once(
    client: &kube::Client,
    namespace: &str,
    keys: &[SecretKeyRef],
) -> Result<Secrets, NotReady> {
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let wanted = Wanted { namespace: namespace.to_owned(), name: key.name.clone(), account: None };
        match read(client, &wanted, "you").await {
            Read::Found(data) => values.push((key.clone(), value(&data, namespace, key)?)),
            Read::Denied(not_ready) | Read::Failed(not_ready) => return Err(not_ready),
            Read::Not => {}
        }
    }
    Ok(Secrets::new(values))
}

/// What is under a key of a Secret with this data.
fn value(
    data: &BTreeMap<String, SecretValue>,
    namespace: &str,
    key: &SecretKeyRef,
) -> Result<SecretValue, NotReady> {
    data.get(&key.key).cloned().ok_or_else(|| {
        let message = format!("the Secret {namespace}/{} has no key {:?}", key.name, key.key);
        NotReady::new("SecretKeyNotFound", message)
    })
}

/// The reason of a Secret that was not read yet.
const PENDING: &str = "SecretPending";
/// The reason of one that could not be read.
const UNREADABLE: &str = "SecretUnreadable";

/// Whether it is only a matter of time, or of the API server, until there is an answer: what was known stays in use.
pub(crate) fn is_passing(not_ready: &NotReady) -> bool {
    [PENDING, UNREADABLE].contains(&&*not_ready.reason)
}

// === impl Shared ===

impl Shared {
    async fn run(self: Arc<Self>, client: kube::Client) {
        loop {
            let wanted: Vec<_> = self.lock().keys().cloned().collect();
            let reads = stream::iter(wanted).map(|wanted| async {
                let found = read(&client, &wanted, "the bridge").await;
                (wanted, found)
            });
            let reads: Vec<_> = reads.buffer_unordered(AT_ONCE).collect().await;
            for (wanted, found) in reads {
                self.note(&wanted, found);
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn note(&self, wanted: &Wanted, found: Read) {
        let mut read = self.lock();
        // Nobody may want it any more.
        let Some(before) = read.get_mut(wanted) else { return };
        // An API server that does not answer says nothing about a Secret.
        if *before == found || matches!((&*before, &found), (Read::Found(_), Read::Failed(_))) {
            return;
        }
        if let Read::Denied(not_ready) | Read::Failed(not_ready) = &found {
            let Wanted { namespace, name, .. } = wanted;
            let NotReady { reason, message } = not_ready;
            tracing::warn!(secret = format!("{namespace}/{name}"), %reason, %message, "unable to use a Secret");
        }
        *before = found;
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Wanted, Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a Secret; `who` reads it, for people.
async fn read(client: &kube::Client, wanted: &Wanted, who: &str) -> Read {
    let reading = async {
        if let Some(account) = &wanted.account
            && let Some(denied) = denied(client, wanted, account).await?
        {
            return Ok(Read::Denied(denied));
        }
        let Wanted { namespace, name, .. } = wanted;
        let Some(secret) = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await? else {
            let message = format!("there is no Secret {namespace}/{name}");
            return Ok(Read::Denied(NotReady::new("SecretNotFound", message)));
        };
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(Read::Found(data.map(|(key, value)| (key, SecretValue::new(value.0))).collect()))
    };
    let Wanted { namespace, name, .. } = wanted;
    let problem = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(found)) => return found,
        Ok(Err(kube::Error::Api(answer))) if answer.code == 403 => {
            let message = format!(
                "{who} may not read the Secret {namespace}/{name}: `get` on it is needed ({})",
                answer.message
            );
            return Read::Denied(NotReady::new("SecretForbidden", message));
        }
        Ok(Err(error)) => chain(&error),
        Err(_elapsed) => "the API server does not answer".to_owned(),
    };
    Read::Failed(NotReady::new(
        UNREADABLE,
        format!("the Secret {namespace}/{name} cannot be read: {problem}"),
    ))
}

/// Why the service account may not read it, if it may not.
async fn denied(
    client: &kube::Client,
    wanted: &Wanted,
    account: &str,
) -> Result<Option<NotReady>, kube::Error> {
    let Wanted { namespace, name, .. } = wanted;
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{namespace}:{account}")),
        groups: Some(vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ]),
        resource_attributes: Some(ResourceAttributes {
            namespace: Some(namespace.clone()),
            verb: Some("get".to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("secrets".to_owned()),
            name: Some(name.clone()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let review =
        Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    let allowed = review.status.is_some_and(|status| status.allowed);
    Ok((!allowed).then(|| {
        let message = format!(
            "the service account {namespace}/{account} may not `get` the Secret {name}: give it that right, or name \
             another one in spec.serviceAccountName"
        );
        NotReady::new("SecretForbidden", message)
    }))
}
