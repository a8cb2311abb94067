//! Connections to brokers: one for each Sink, shared by the Subscriptions that name it, and one for each Subscription that
//! has its own. They follow when a Sink is edited or a Secret changes: the new connection takes the place of the old one,
//! and what was under way on that is sent again where it has to be.
//!
//! Before: bridge/src/subscriptions.rs
//! Next: bridge/src/secrets.rs

mod namespaces;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_config::field_error::FieldErrors;
use tidings_config::process::BridgeSettings;
use tidings_config::secret::Secrets;
use tidings_config::sink::SinkReference;
use tidings_config::sink::valid::{ValidConnection, ValidSink, Via};
use tidings_crds::sink::{AllowedNamespaces, From, SinkSpec, ValidSinkSpec};
use tidings_crds::validate::ValidSubscription;
use tidings_sinks::sink::NotReady;
use tidings_sinks::{Connection, SinkContext, Target};
use tokio::task::JoinHandle;

use self::namespaces::Namespaces;
use crate::deliver::Targets;
use crate::secrets::{SecretReader, Wanted, is_passing};
use crate::status;

/// Between two looks at a connection.
const CHECK: Duration = Duration::from_secs(5);

/// All connections.
pub(crate) struct Connections {
    secrets: SecretReader,
    namespaces: Namespaces,
    /// Nothing before they were listed.
    sinks: Option<BTreeMap<SinkName, Described>>,
    open: BTreeMap<Owner, Open>,
    serial: u64,
    /// What the operator allows: topics of Kafka that are missing are created.
    create_topics: bool,
    /// HTTP goes only to public addresses.
    http_public_only: bool,
}

/// Namespace and name of a Sink.
pub(crate) type SinkName = (String, String);

/// What a Sink says of itself.
struct Described {
    valid: Result<ValidConnection, FieldErrors>,
    allowed: AllowedNamespaces,
}

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Sink(SinkName),
    /// Of a Subscription with this uid.
    Subscription(Arc<str>),
    /// The same, for its dead letters.
    DeadLetters(Arc<str>),
}

/// A connection, and what it was made of.
struct Open {
    valid: ValidConnection,
    secrets: Secrets,
    connection: Connection,
    /// Tells it from the ones before.
    serial: u64,
    /// Of a Sink; a Subscription's own is looked at by its lane.
    health: Option<Health>,
}

/// How a connection is, looked at again and again.
struct Health {
    last: Arc<Mutex<Option<Result<(), NotReady>>>>,
    task: JoinHandle<()>,
}

/// What the targets of a Subscription are made of: as long as it stays the same, so may they.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bases {
    main: Basis,
    dead_letters: Option<Basis>,
}

/// What one of them is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Basis {
    /// The connection with this number.
    Connection(u64),
    /// There is none.
    Nothing(NotReady),
}

// === impl Connections ===

impl Connections {
    /// None yet.
    pub(crate) fn new(client: kube::Client, settings: &BridgeSettings) -> Self {
        Self {
            create_topics: settings.create_topics,
            http_public_only: settings.http_public_only,
            secrets: SecretReader::start(client.clone()),
            namespaces: Namespaces::new(client),
            sinks: None,
            open: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Comes back when something is known that may make other connections of what there is.
    pub(crate) async fn changed(&self) {
        tokio::select! {
            () = self.secrets.changed() => {}
            () = self.namespaces.changed() => {}
        }
    }

    /// These Sinks exist.
    pub(crate) fn describe(
        &mut self,
        sinks: impl IntoIterator<Item = (SinkName, Result<SinkSpec, FieldErrors>)>,
    ) {
        let described = |spec: Result<SinkSpec, FieldErrors>| match spec {
            Ok(spec) => match spec.validate() {
                Ok(ValidSinkSpec { connection, allowed }) => Described { valid: Ok(connection), allowed },
                Err(mistakes) => Described { valid: Err(mistakes), allowed: AllowedNamespaces::default() },
            },
            Err(mistakes) => Described { valid: Err(mistakes), allowed: AllowedNamespaces::default() },
        };
        let sinks: BTreeMap<_, _> = sinks.into_iter().map(|(name, spec)| (name, described(spec))).collect();
        self.namespaces.want(sinks.values().any(|sink| sink.allowed.from == From::Selector));
        self.sinks = Some(sinks);
    }

    /// What the targets of a Subscription are to be made of.
    pub(crate) fn bases(&mut self, valid: &ValidSubscription) -> Bases {
        let main = self.basis(valid, &valid.sink, Owner::Subscription);
        let dead_letters = valid.dead_letter.as_ref();
        let dead_letters = dead_letters.map(|sink| self.basis(valid, sink, Owner::DeadLetters));
        Bases { main, dead_letters }
    }

    /// What a Subscription sends by. Where it cannot, a target says why.
    pub(crate) fn targets(&mut self, valid: &ValidSubscription) -> Targets {
        let main = self.target(valid, &valid.sink, Owner::Subscription);
        let dead_letters = valid.dead_letter.as_ref();
        let dead_letters = dead_letters.map(|sink| self.target(valid, sink, Owner::DeadLetters));
        Targets { main, dead_letters, name: valid.sink_name().into() }
    }

    fn basis(&mut self, valid: &ValidSubscription, sink: &ValidSink, own: fn(Arc<str>) -> Owner) -> Basis {
        match self.connection(valid, sink, own) {
            Ok(open) => Basis::Connection(open.serial),
            Err(not_ready) => Basis::Nothing(not_ready),
        }
    }

    fn target(&mut self, valid: &ValidSubscription, sink: &ValidSink, own: fn(Arc<str>) -> Owner) -> Target {
        let create_topics = self.create_topics;
        let target = self.connection(valid, sink, own).and_then(|open| {
            let address = sink.address.clone().unwrap_or_else(|| open.valid.default_address());
            open.connection.target(&address.within(create_topics), valid.mode)
        });
        target.unwrap_or_else(Target::unusable)
    }

    /// Keeps a connection to each Sink, also where nobody names it: its status says whether it works. Says how that is.
    pub(crate) fn check(&mut self, sink: &SinkName) -> (Option<String>, Option<Result<(), NotReady>>) {
        let described = self.sinks.as_ref().and_then(|sinks| sinks.get(sink));
        let Some(Described { valid, .. }) = described else { return (None, None) };
        let valid = match valid {
            Ok(valid) => valid.clone(),
            Err(mistakes) => return (None, Some(Err(invalid(mistakes)))),
        };
        let broker = valid.summary();
        let health = match self.open(Owner::Sink(sink.clone()), &sink.0, None, &valid) {
            Ok(open) => open.health.as_ref().and_then(Health::last),
            Err(not_ready) => Some(Err(not_ready)),
        };
        (Some(broker), health)
    }

    /// Ends the connections that nobody can use any more: these Subscriptions are served.
    pub(crate) fn retain<'a>(&mut self, served: impl IntoIterator<Item = &'a ValidSubscription>) {
        let mut inline = BTreeMap::new();
        for valid in served {
            let uid = &valid.route.uid;
            let sinks = [
                (Owner::Subscription(uid.clone()), Some(&valid.sink)),
                (Owner::DeadLetters(uid.clone()), valid.dead_letter.as_ref()),
            ];
            for (owner, sink) in sinks {
                if let Some(Via::Inline(connection)) = sink.map(|sink| &sink.via) {
                    inline.insert(owner, (valid, connection));
                }
            }
        }
        let sinks = &self.sinks;
        self.open.retain(|owner, _| match owner {
            Owner::Sink(name) => {
                let sink = sinks.as_ref().and_then(|sinks| sinks.get(name));
                sink.is_some_and(|sink| sink.valid.is_ok())
            }
            owner => inline.contains_key(owner),
        });
        let mut wanted = BTreeSet::new();
        let mut want = |namespace: &str, account: Option<&str>, connection: &ValidConnection| {
            wanted.extend(connection.secrets().into_iter().map(|key| Wanted {
                namespace: namespace.to_owned(),
                name: key.name,
                account: account.map(str::to_owned),
            }));
        };
        for ((namespace, _), sink) in sinks.iter().flatten() {
            if let Ok(connection) = &sink.valid {
                want(namespace, None, connection);
            }
        }
        for (valid, connection) in inline.values() {
            want(valid.namespace(), Some(&valid.service_account), connection);
        }
        self.secrets.retain(&wanted);
    }

    /// The connection to `sink`, which is `own` if it is no Sink's.
    fn connection(
        &mut self,
        valid: &ValidSubscription,
        sink: &ValidSink,
        own: fn(Arc<str>) -> Owner,
    ) -> Result<&Open, NotReady> {
        let namespace = valid.namespace();
        match &sink.via {
            Via::Inline(connection) => {
                let owner = own(valid.route.uid.clone());
                self.open(owner, namespace, Some(&valid.service_account), connection)
            }
            Via::Sink(SinkReference { namespace: of, name }) => {
                let of = of.as_deref().unwrap_or(namespace);
                let name = (of.to_owned(), name.clone());
                let Some(sinks) = &self.sinks else {
                    return Err(NotReady::new("SinkPending", "the Sinks are being read"));
                };
                let sink = sinks.get(&name).filter(|sink| self.allows(sink, of, namespace));
                // Nobody learns which Sinks there are in a namespace that does not let them in.
                let sink = sink.ok_or_else(|| not_found(&name, namespace))?;
                let connection = sink.valid.clone().map_err(|mistakes| invalid(&mistakes))?;
                self.open(Owner::Sink(name), of, None, &connection)
            }
        }
    }

    /// Whether Subscriptions of `namespace` may name a Sink that is in `of`.
    fn allows(&self, sink: &Described, of: &str, namespace: &str) -> bool {
        of == namespace
            || match sink.allowed.from {
                From::Same => false,
                From::All => true,
                From::Selector => sink
                    .allowed
                    .selector
                    .as_ref()
                    .is_some_and(|selector| self.namespaces.matches(namespace, selector)),
            }
    }

    /// The connection of `owner`: the one there is, if it is made of the same.
    fn open(
        &mut self,
        owner: Owner,
        namespace: &str,
        account: Option<&str>,
        valid: &ValidConnection,
    ) -> Result<&Open, NotReady> {
        let secrets = self.secrets.get(namespace, account, &valid.secrets());
        let before = self.open.get(&owner).filter(|open| open.valid == *valid);
        let same = match (&secrets, before) {
            (Ok(secrets), Some(open)) => open.secrets == *secrets,
            (Err(not_ready), Some(_)) => is_passing(not_ready),
            (_, None) => false,
        };
        if !same {
            self.open.remove(&owner);
            let secrets = secrets?;
            let name = match &owner {
                Owner::Sink((namespace, name)) => format!("{namespace}/{name}"),
                Owner::Subscription(uid) => format!("{namespace}/{uid}"),
                Owner::DeadLetters(uid) => format!("{namespace}/{uid}/deadletters"),
            };
            let context = SinkContext { secrets: secrets.clone(), owner: name };
            let allowed = valid.clone().within(self.http_public_only);
            let connection = Connection::open(allowed, context);
            self.serial += 1;
            let health = matches!(owner, Owner::Sink(_)).then(|| Health::watch(connection.clone()));
            let open = Open { valid: valid.clone(), secrets, connection, serial: self.serial, health };
            self.open.insert(owner.clone(), open);
        }
        self.open.get(&owner).ok_or_else(|| NotReady::new("Unreachable", "the connection is being made"))
    }
}

// === impl Health ===

impl Health {
    fn watch(connection: Connection) -> Self {
        let last = Arc::new(Mutex::new(None));
        let noted = last.clone();
        let task = tokio::spawn(async move {
            loop {
                let checked = connection.check().await;
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
                tokio::time::sleep(CHECK).await;
            }
        });
        Self { last, task }
    }

    fn last(&self) -> Option<Result<(), NotReady>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn not_found((of, name): &SinkName, namespace: &str) -> NotReady {
    let message = if of == namespace {
        format!("there is no Sink {of}/{name}")
    } else {
        format!(
            "there is no Sink {of}/{name} that lets the namespace {namespace} in (spec.allowedNamespaces)"
        )
    };
    NotReady::new("SinkNotFound", message)
}

fn invalid(mistakes: &FieldErrors) -> NotReady {
    NotReady::new("Invalid", status::lines(mistakes))
}
