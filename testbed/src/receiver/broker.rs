//! One running broker of any kind, with places in it and ways to them. What can be done to it is in `faults.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream;
use futures::StreamExt as _;
use serde_json::json;

use super::ear::{Ear, Log};
use super::http::Endpoint;
use super::way::{Way, key};
use super::{Kind, Security, amqp, kafka};
use crate::certificates::{Authority, Shown};
use crate::component::Home;
use crate::consumer::Received;
use crate::kafka::{Kafka, KafkaOptions, KafkaUser, Listener};
use crate::nats::{Nats, NatsOptions, NatsUser};
use crate::proxy::{Link, Proxy};
use crate::rabbitmq::{Rabbitmq, RabbitmqOptions, RabbitmqUser};

/// Who may do everything, where credentials are asked for.
pub const USER: &str = "ann";
/// Whose password is changed, where that is tried.
pub const TURNER: &str = "tom";
/// Who may come in, and not send to any place.
pub const GUEST: &str = "bob";
/// The largest message that any place of RabbitMQ takes: the node has one limit for all. A multiple of what is ordinary.
pub const LARGEST: usize = 200_000;

/// Shorter than any outage, so that JetStream hides no repeat: correctness must not rest on it.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);
/// For an application to hear what its broker holds.
const PATIENCE: Duration = Duration::from_mins(1);

/// One running broker.
pub struct Broker(pub(super) Server);

#[allow(clippy::large_enum_variant, reason = "there is one of each kind")]
pub(super) enum Server {
    /// In clear and, where wanted, another one with TLS and users.
    Nats {
        plain: Nats,
        secured: Option<Nats>,
    },
    Kafka(Kafka),
    Rabbitmq(Rabbitmq),
    Http(Endpoint),
}

/// What is asked for beside a broker that takes everybody, in clear.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerOptions {
    /// A way in by TLS and with credentials.
    pub secured: bool,
    /// Which certificate it shows there.
    pub shown: Shown,
}

// === impl Broker ===

impl Broker {
    /// Starts one that takes everybody, in clear (RabbitMQ: `guest`).
    pub async fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, BrokerOptions::default()).await
    }

    /// Starts one.
    pub async fn start_with(kind: Kind, options: BrokerOptions) -> Result<Self> {
        let BrokerOptions { secured, shown } = options;
        let home = Home::Temporary;
        Ok(Self(match kind {
            Kind::Nats => {
                let users = ["testbed", USER, TURNER].map(|name| NatsUser::new(name, password(name)));
                let guest = NatsUser::new(GUEST, password(GUEST)).publishing_only(&["$JS.API.>", "_INBOX.>"]);
                let with_tls = NatsOptions {
                    users: users.into_iter().chain([guest]).collect(),
                    client_certificates: true,
                    shown,
                    ..NatsOptions::default()
                };
                let plain = Nats::start().await?;
                let secured = if secured { Some(Nats::start_with(&home, with_tls).await?) } else { None };
                Server::Nats { plain, secured }
            }
            Kind::Kafka => {
                let users = [USER, TURNER].map(|name| KafkaUser::new(name, password(name)));
                let guest = KafkaUser::new(GUEST, password(GUEST)).writing_only(&["somewhere-else"]);
                let users = users.into_iter().chain([guest]).filter(|_| secured).collect();
                let options = KafkaOptions { users, shown, ..KafkaOptions::default() };
                Server::Kafka(Kafka::start_with(&home, options).await?)
            }
            Kind::Rabbitmq => {
                let users = [USER, TURNER].map(|name| RabbitmqUser::new(name, password(name)));
                let guest = RabbitmqUser::new(GUEST, password(GUEST)).publishing_only(&["somewhere-else"]);
                let users = [RabbitmqUser::new("guest", "guest")].into_iter().chain(users).chain([guest]);
                let settings = vec![("max_message_size".to_owned(), LARGEST.to_string())];
                let users = users.take(if secured { usize::MAX } else { 1 }).collect();
                let settings = if secured { settings } else { Vec::new() };
                let options = RabbitmqOptions { users, shown, settings, ..RabbitmqOptions::default() };
                Server::Rabbitmq(Rabbitmq::start_with(&home, options).await?)
            }
            Kind::Http => {
                let endpoint = Endpoint::start(shown).await?;
                for (user, may_post) in [(USER, true), (TURNER, true), (GUEST, false)] {
                    endpoint.set_user(user, password(user), may_post);
                }
                Server::Http(endpoint)
            }
        }))
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self.0 {
            Server::Nats { .. } => Kind::Nats,
            Server::Kafka(_) => Kind::Kafka,
            Server::Rabbitmq(_) => Kind::Rabbitmq,
            Server::Http(_) => Kind::Http,
        }
    }

    /// Makes `place` in it: the stream, topic, exchange with a queue, or path. It takes no message of more than `largest`
    /// bytes (RabbitMQ: than [`LARGEST`]).
    pub async fn create(&self, security: Security, place: &str, largest: Option<usize>) -> Result<()> {
        match &self.0 {
            Server::Nats { .. } => {
                let config = jetstream::stream::Config {
                    name: place.to_owned(),
                    subjects: vec![format!("{place}.>")],
                    max_message_size: largest.map(i32::try_from).transpose()?.unwrap_or(-1),
                    duplicate_window: DUPLICATE_WINDOW,
                    ..jetstream::stream::Config::default()
                };
                let client = self.nats(security)?.client().await?;
                jetstream::new(client).create_stream(config).await.context("create the stream").map(drop)
            }
            Server::Kafka(kafka) => {
                let largest = largest.map(|bytes| bytes.to_string());
                let settings = largest.iter().map(|bytes| ("max.message.bytes", bytes.as_str()));
                kafka.create_topic(place, 3, &settings.collect::<Vec<_>>()).await
            }
            Server::Rabbitmq(rabbitmq) => amqp::declare(&rabbitmq.client().await?, place).await,
            Server::Http(endpoint) => {
                endpoint.create(place, largest);
                Ok(())
            }
        }
    }

    /// Hears everything that arrives at `place`, which is there.
    pub async fn listen(&self, security: Security, place: &str) -> Result<Ear> {
        Ok(match &self.0 {
            Server::Nats { .. } => Ear::of_stream(self.nats(security)?.client().await?, place.to_owned()),
            Server::Kafka(kafka) => {
                let log = Arc::<Log>::default();
                let reader = kafka::listen(kafka.client(Listener::Plain), place, log.clone()).await?;
                Ear::new(log, Some(reader))
            }
            Server::Rabbitmq(rabbitmq) => {
                let log = Arc::<Log>::default();
                let reader = tokio::spawn(amqp::listen(rabbitmq.url(), place.to_owned(), log.clone()));
                Ear::new(log, Some(reader))
            }
            Server::Http(endpoint) => endpoint.listen(place),
        })
    }

    /// Waits until `ear` has heard what the broker held at `place` before `last`, which was the last that was sent there.
    pub async fn told(&self, ear: &Ear, place: &str, last: impl Fn(&Received) -> bool) -> Result<()> {
        let held = match &self.0 {
            // Each of its partitions is in order, and they are not among each other.
            Server::Kafka(kafka) => kafka::count(kafka.client(Listener::Plain), place).await?,
            Server::Nats { .. } | Server::Rabbitmq(_) | Server::Http(_) => 0,
        };
        let heard = async {
            let mut events = ear.events();
            let (mut count, mut is_last) = (0, false);
            while count < held || !is_last {
                let Some(event) = events.next().await else { return };
                count += 1;
                is_last |= last(&event);
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.with_context(|| format!("hear everything of {place}"))
    }

    /// Its log, where it has one.
    pub fn log(&self) -> Option<&Path> {
        match &self.0 {
            Server::Nats { plain, .. } => Some(plain.log()),
            Server::Kafka(kafka) => Some(kafka.log()),
            Server::Rabbitmq(rabbitmq) => Some(rabbitmq.log()),
            Server::Http(_) => None,
        }
    }

    /// A network before it that can be made bad. For Kafka, which tells clients where to connect, there is one at a time
    /// of each security.
    pub async fn proxy(&self, security: Security) -> Result<Proxy> {
        match &self.0 {
            Server::Kafka(kafka) => kafka.proxy_of(listener(security, true), Link::GOOD).await,
            _ => Proxy::start(self.address(security)?, Link::GOOD).await,
        }
    }

    /// How `user` sends to `place`, through `proxy` if there is one.
    pub fn way(&self, security: Security, user: &str, place: &str, proxy: Option<&Proxy>) -> Result<Way> {
        let own = match &self.0 {
            Server::Kafka(kafka) => kafka.address(listener(security, proxy.is_some())),
            _ => self.address(security)?,
        };
        let address = proxy.map_or(own, |proxy| proxy.address().to_owned());
        let mut credentials = BTreeMap::new();
        let (mut connection, behind) = match &self.0 {
            Server::Nats { .. } => {
                let scheme = if security == Security::Plain { "nats" } else { "tls" };
                let subject = format!("{place}.{{namespace}}.{{name}}.{{change}}");
                (json!({ "servers": [format!("{scheme}://{address}")] }), json!({ "subject": subject }))
            }
            Server::Kafka(_) => (json!({ "brokers": [address] }), json!({ "topic": place })),
            Server::Rabbitmq(_) => {
                let scheme = if security == Security::Plain { "amqp" } else { "amqps" };
                let routing_key = "{namespace}.{name}.{change}";
                let behind = json!({ "exchange": place, "routingKey": routing_key });
                (json!({ "servers": [format!("{scheme}://{address}")] }), behind)
            }
            Server::Http(_) => {
                let scheme = if security == Security::Plain { "http" } else { "https" };
                let path = format!("/{place}/{{namespace}}/{{name}}");
                (json!({ "url": format!("{scheme}://{address}/"), "timeout": "3s" }), json!({ "path": path }))
            }
        };
        let password_of = |user: &str| json!({ "user": user, "passwordSecretRef": key("password") });
        if security == Security::Secured {
            credentials.insert("ca", self.authority()?.certificate().to_owned());
            credentials.insert("password", password(user).to_owned());
            connection["tls"] = json!({ "caSecretRef": key("ca") });
            match &self.0 {
                Server::Kafka(_) => connection["sasl"] = json!({ "scramSha512": password_of(user) }),
                _ => connection["auth"] = password_of(user),
            }
            // The others ask for no certificate beside a password.
            if let Server::Nats { .. } | Server::Rabbitmq(_) = &self.0 {
                let identity = self.authority()?.client(user, None)?;
                connection["tls"]["certificateSecretName"] = json!(super::way::SECRET);
                credentials.insert("tls.crt", identity.certificate);
                credentials.insert("tls.key", identity.key);
            }
        } else if let Server::Rabbitmq(_) = &self.0 {
            // Without a way to take anybody.
            let user = if user == USER { "guest" } else { user };
            credentials.insert("password", password(user).to_owned());
            connection["auth"] = password_of(user);
        }
        Ok(Way { kind: self.kind(), connection, address: behind, credentials })
    }

    /// What clients show and trust is signed by it.
    fn authority(&self) -> Result<&Authority> {
        Ok(match &self.0 {
            Server::Nats { .. } => {
                self.nats(Security::Secured)?.authority().context("the server has no TLS")?
            }
            Server::Kafka(kafka) => kafka.authority(),
            Server::Rabbitmq(rabbitmq) => rabbitmq.authority(),
            Server::Http(endpoint) => &endpoint.authority,
        })
    }

    /// Host and port.
    fn address(&self, security: Security) -> Result<String> {
        Ok(match &self.0 {
            Server::Nats { .. } => {
                let url = self.nats(security)?.url();
                url.split_once("://")
                    .map(|(_, address)| address.to_owned())
                    .context("a URL without scheme")?
            }
            Server::Kafka(kafka) => kafka.address(listener(security, false)),
            Server::Rabbitmq(rabbitmq) if security == Security::Plain => rabbitmq.address(),
            Server::Rabbitmq(rabbitmq) => rabbitmq.tls_address(),
            Server::Http(endpoint) => endpoint.address(security),
        })
    }

    /// Where clients of the kind connect.
    pub(super) fn url(&self, security: Security) -> Result<String> {
        match &self.0 {
            Server::Nats { .. } => Ok(self.nats(security)?.url()),
            Server::Rabbitmq(rabbitmq) => Ok(rabbitmq.url()),
            Server::Kafka(_) | Server::Http(_) => self.address(security),
        }
    }

    fn nats(&self, security: Security) -> Result<&Nats> {
        match (&self.0, security) {
            (Server::Nats { plain, .. }, Security::Plain) => Ok(plain),
            (Server::Nats { secured: Some(secured), .. }, Security::Secured) => Ok(secured),
            _ => anyhow::bail!("there is no such server of NATS"),
        }
    }
}

/// The password of a user to begin with: long enough to be found wherever it does not belong.
pub fn password(user: &str) -> &'static str {
    match user {
        USER => "a-password-of-ann-b7Qx",
        TURNER => "a-password-of-tom-k2Vd",
        GUEST => "a-password-of-bob-w9Ls",
        "guest" => "guest",
        _ => "a-password-of-others-m4Ty",
    }
}

fn listener(security: Security, proxied: bool) -> Listener {
    match (security, proxied) {
        (Security::Plain, false) => Listener::Plain,
        (Security::Plain, true) => Listener::Proxied,
        (Security::Secured, false) => Listener::SaslTls,
        (Security::Secured, true) => Listener::ProxiedSaslTls,
    }
}
