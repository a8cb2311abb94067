//! The table: each mistake, what it is called, and how it is made and put right.

use anyhow::Result;
use serde_json::{Value, json};
use tidings_testbed::certificates::{Authority, Shown};
use tidings_testbed::ports::Port;
use tidings_testbed::receiver::broker::{Broker, BrokerOptions, GUEST, USER};
use tidings_testbed::receiver::way::{SECRET, Way};
use tidings_testbed::receiver::{Kind, Security};

use crate::trial::{COMPANY, ORDERS, Trial};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    Address,
    Credentials,
    ExpiredCertificate,
    UntrustedAuthority,
    HostName,
    Target,
    Queue,
    Permission,
    SecretKey,
    Secret,
}

/// What is said of it.
pub(crate) struct Expected {
    pub(crate) reason: &'static str,
    names: Names,
}

/// What is to be put right.
#[derive(Clone, Copy, Debug)]
enum Names {
    /// The server.
    Server,
    /// The stream, topic, exchange or path.
    Place,
    /// The Secret.
    Secret,
}

/// A mistake that is ready to be made.
pub(crate) struct Prepared {
    pub(crate) wrong: Way,
    right: Way,
    /// Another broker, or a port where none is.
    _elsewhere: Option<Elsewhere>,
}

enum Elsewhere {
    Nobody(#[allow(dead_code, reason = "nobody else gets it")] Port),
    Broker(#[allow(dead_code, reason = "it runs as long")] Box<Broker>),
}

/// What no broker knows.
const WRONG: &str = "a-wrong-password-h3Zq";

// === impl Mistake ===

impl Mistake {
    pub(crate) const ALL: [Self; 10] = [
        Self::ExpiredCertificate,
        Self::HostName,
        Self::Address,
        Self::Credentials,
        Self::UntrustedAuthority,
        Self::Target,
        Self::Queue,
        Self::Permission,
        Self::SecretKey,
        Self::Secret,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Address => "a_wrong_address",
            Self::Credentials => "refused_credentials",
            Self::ExpiredCertificate => "an_expired_certificate",
            Self::UntrustedAuthority => "an_untrusted_authority",
            Self::HostName => "a_wrong_host_name",
            Self::Target => "a_missing_target",
            Self::Queue => "a_missing_queue",
            Self::Permission => "a_missing_permission",
            Self::SecretKey => "a_secret_without_the_key",
            Self::Secret => "no_such_secret",
        }
    }

    /// What is said of it, or why there is no such mistake.
    pub(crate) fn expected(self, kind: Kind) -> Result<Expected, &'static str> {
        let of = |reason, names| Ok(Expected { reason, names });
        match self {
            Self::Address => of("Unreachable", Names::Server),
            Self::Credentials => of("Unauthorized", Names::Server),
            Self::ExpiredCertificate => of("CertificateExpired", Names::Server),
            Self::UntrustedAuthority => of("CertificateUntrusted", Names::Server),
            Self::HostName => of("WrongHostName", Names::Server),
            Self::Target => match kind {
                Kind::Nats => of("StreamNotFound", Names::Place),
                Kind::Kafka => of("TopicNotFound", Names::Place),
                Kind::Rabbitmq => of("ExchangeNotFound", Names::Place),
                Kind::Http => of("NotFound", Names::Server),
            },
            Self::Queue => match kind {
                Kind::Rabbitmq => of("Unroutable", Names::Place),
                Kind::Nats | Kind::Kafka | Kind::Http => Err("nothing stands behind the place"),
            },
            Self::Permission => match kind {
                Kind::Nats | Kind::Kafka | Kind::Rabbitmq => of("PermissionDenied", Names::Place),
                Kind::Http => of("PermissionDenied", Names::Server),
            },
            Self::SecretKey => of("SecretKeyNotFound", Names::Secret),
            Self::Secret => of("SecretNotFound", Names::Secret),
        }
    }

    /// Gets everything ready but for the mistake.
    pub(crate) async fn make(self, trial: &mut Trial<'static>) -> Result<Prepared> {
        if self != Self::Target {
            trial.create(None).await?;
        }
        let right = trial.way(USER)?;
        let mut wrong = right.clone();
        let mut elsewhere = None;
        match self {
            Self::Address => {
                let port = Port::reserve()?;
                move_to(&mut wrong, &format!("127.0.0.1:{}", port.number()));
                elsewhere = Some(Elsewhere::Nobody(port));
            }
            Self::Credentials => drop(wrong.credentials.insert("password", WRONG.to_owned())),
            Self::ExpiredCertificate => {
                let broker = showing(trial.kind, Shown::Expired).await?;
                wrong = broker.way(Security::Secured, USER, &trial.place, None)?;
                elsewhere = Some(Elsewhere::Broker(Box::new(broker)));
            }
            Self::HostName => {
                let broker = showing(trial.kind, Shown::OtherHost).await?;
                wrong = broker.way(Security::Secured, USER, &trial.place, None)?;
                elsewhere = Some(Elsewhere::Broker(Box::new(broker)));
            }
            Self::UntrustedAuthority => {
                let stranger = Authority::new("somebody else")?;
                wrong.credentials.insert("ca", stranger.certificate().to_owned());
            }
            Self::Target => {}
            // Every node has one like this, and nobody has bound a queue to it.
            Self::Queue => wrong.address["exchange"] = json!("amq.headers"),
            Self::Permission => wrong = trial.way(GUEST)?,
            Self::SecretKey => drop(wrong.credentials.remove("password")),
            Self::Secret => wrong.credentials.clear(),
        }
        Ok(Prepared { wrong, right, _elsewhere: elsewhere })
    }

    /// Does what a person would.
    pub(crate) async fn put_right(self, trial: &mut Trial<'static>, prepared: &Prepared) -> Result<()> {
        let right = &prepared.right;
        match self {
            Self::Address => trial.edit_sink(right).await,
            Self::ExpiredCertificate | Self::HostName | Self::Permission => {
                trial.put_secret(right).await?;
                trial.edit_sink(right).await
            }
            Self::Credentials | Self::UntrustedAuthority | Self::SecretKey | Self::Secret => {
                trial.put_secret(right).await
            }
            Self::Target => trial.create(None).await,
            Self::Queue => {
                trial.stage.edit(ORDERS, json!({ "sink": right.by_sink(COMPANY) })).await;
                Ok(())
            }
        }
    }
}

// === impl Expected ===

impl Expected {
    /// What the words of the condition have to contain.
    pub(crate) fn named(&self, trial: &Trial<'_>, prepared: &Prepared) -> String {
        match self.names {
            Names::Server => address_of(&prepared.wrong),
            Names::Place => match prepared.wrong.address["exchange"].as_str() {
                Some(exchange) => exchange.to_owned(),
                None => trial.place.clone(),
            },
            Names::Secret => format!("{}/{SECRET}", trial.stage.namespace),
        }
    }
}

/// A broker whose certificate is not good.
async fn showing(kind: Kind, shown: Shown) -> Result<Broker> {
    Broker::start_with(kind, BrokerOptions { secured: true, shown }).await
}

/// Makes the connection lead to this host and port.
fn move_to(way: &mut Way, address: &str) {
    let before = address_of(way);
    let text = way.connection.to_string().replace(&before, address);
    way.connection = text.parse::<Value>().expect("an address is replaced by another");
}

/// Host and port of the only server.
fn address_of(way: &Way) -> String {
    let settings = &way.connection;
    let server = [&settings["servers"][0], &settings["brokers"][0], &settings["url"]];
    let server = server.iter().find_map(|server| server.as_str()).unwrap_or_default();
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    address.trim_end_matches('/').to_owned()
}
