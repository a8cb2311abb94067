//! Where the dead letters of a Subscription lie, and where they go: read from the cluster once, with the rights of whoever
//! asks.
//!
//! Before: bridge/src/redrive.rs
//! Next: sinks/src/letters.rs

use kube::Api;
use tidings_config::field_error::FieldErrors;
use tidings_config::sink::SinkReference;
use tidings_config::sink::valid::{ValidAddress, ValidConnection, ValidSink, Via};
use tidings_crds::sink::Sink;
use tidings_crds::subscription::Subscription;
use tidings_crds::validate::{ValidSubscription, validate};
use tidings_sinks::decode::Recipient;
use tidings_sinks::letters::{self, Letters, Reader};
use tidings_sinks::sink::NotReady;
use tidings_sinks::{Connection, SinkContext, Target};

use crate::secrets;

/// A Subscription with dead letters.
pub struct Place {
    client: kube::Client,
    valid: ValidSubscription,
    dead_letter: ValidSink,
}

/// Why there is nothing to read from, or nobody to send to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server does not give it.
    #[error("failed to read the {kind} {name}")]
    Read {
        /// `Subscription` or `Sink`.
        kind: &'static str,
        /// `namespace/name`.
        name: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is none of that name.
    #[error("there is no {0} {1}")]
    NotFound(&'static str, String),
    /// It is not valid.
    #[error("the {0} {1} is not valid: {mistakes}", mistakes = lines(.2))]
    Invalid(&'static str, String, FieldErrors),
    /// It has no dead letters.
    #[error(
        "the Subscription {0} has no dead letters: it does not say where they would go (spec.delivery.deadLetter)"
    )]
    NoDeadLetters(String),
    /// Nothing is to be sent to it.
    #[error(
        "the Subscription {0} is suspended (spec.suspend), so it is sent nothing; --dry-run shows what there is"
    )]
    Suspended(String),
    /// The place of the dead letters cannot be used.
    #[error("failed to open the dead letters: {0}")]
    Letters(NotReady),
    /// The sink cannot be used.
    #[error("failed to use the sink: {0}")]
    Sink(NotReady),
}

// === impl Place ===

impl Place {
    /// The Subscription `namespace/name`.
    pub async fn of(client: kube::Client, namespace: &str, name: &str) -> Result<Self, Error> {
        let full = format!("{namespace}/{name}");
        let api = Api::<Subscription>::namespaced(client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|source| Error::Read {
            kind: "Subscription",
            name: full.clone(),
            source: source.into(),
        })?;
        let found = found.ok_or_else(|| Error::NotFound("Subscription", full.clone()))?;
        let valid =
            validate(&found).map_err(|errors| Error::Invalid("Subscription", full.clone(), errors))?;
        let dead_letter = valid.dead_letter.clone().ok_or(Error::NoDeadLetters(full))?;
        Ok(Self { client, valid, dead_letter })
    }

    /// Whose Events the dead letters were.
    pub fn recipient(&self) -> Recipient {
        let route = &self.valid.route;
        let kinds = route.selections.keys().cloned().collect();
        Recipient { subscription: route.subscription.clone(), uid: route.uid.clone(), kinds }
    }

    /// The dead letters. What `reader` says of whose they are is set here.
    pub async fn letters(&self, reader: Reader) -> Result<Box<dyn Letters>, Error> {
        let reader = Reader { subscription: self.valid.route.subscription.to_string(), ..reader };
        let (connection, address, context) = self.described(&self.dead_letter, Error::Letters).await?;
        letters::open(connection, address, context, &reader).await.map_err(Error::Letters)
    }

    /// The sink, which is ready.
    pub async fn target(&self) -> Result<Target, Error> {
        if self.valid.suspend {
            return Err(Error::Suspended(self.valid.route.subscription.to_string()));
        }
        let (connection, address, context) = self.described(&self.valid.sink, Error::Sink).await?;
        let target = Connection::open(connection, context).target(&address, self.valid.mode);
        let target = target.map_err(Error::Sink)?;
        target.sink.check().await.map_err(Error::Sink)?;
        Ok(target)
    }

    /// What is needed to connect. (Which namespaces a Sink lets in is the bridge's affair: who may read a Sink and its Secrets
    /// needs nobody's leave.)
    async fn described(
        &self,
        sink: &ValidSink,
        wrong: fn(NotReady) -> Error,
    ) -> Result<(ValidConnection, ValidAddress, SinkContext), Error> {
        let own = self.valid.namespace();
        let (connection, namespace) = match &sink.via {
            Via::Inline(connection) => (connection.clone(), own),
            Via::Sink(reference) => {
                (self.sink(reference).await?, reference.namespace.as_deref().unwrap_or(own))
            }
        };
        let address = sink.address.clone().unwrap_or_else(|| connection.default_address());
        let secrets = secrets::read_once(&self.client, namespace, &connection.secrets()).await;
        let owner = self.valid.route.subscription.to_string();
        Ok((connection, address, SinkContext { secrets: secrets.map_err(wrong)?, owner }))
    }

    async fn sink(&self, reference: &SinkReference) -> Result<ValidConnection, Error> {
        let SinkReference { namespace, name } = reference;
        let namespace = namespace.as_deref().unwrap_or(self.valid.namespace());
        let full = format!("{namespace}/{name}");
        let api = Api::<Sink>::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|source| Error::Read {
            kind: "Sink",
            name: full.clone(),
            source: source.into(),
        })?;
        let found = found.ok_or_else(|| Error::NotFound("Sink", full.clone()))?;
        found.spec.connection.validate("spec").map_err(|errors| Error::Invalid("Sink", full, errors))
    }
}

fn lines(mistakes: &FieldErrors) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
