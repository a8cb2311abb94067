//! A Kafka broker: one process that is its own controller, with a listener for every way to come in.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::net::TcpStream;

use crate::binaries::Binary;
use crate::certificates::{Authority, Shown};
use crate::component::{Component, Home, Ready, Setup};
use crate::ports::Port;
use crate::proxy::{Link, Proxy};
use crate::tokens::{Issuer, TokenEndpoint};

mod config;
mod tools;
mod topics;

pub use topics::Record;

/// What differs from a broker that only takes anybody, in clear or by TLS.
#[derive(Clone, Debug, Default)]
pub struct KafkaOptions {
    /// Who there is. The same name and password hold for PLAIN, SCRAM-SHA-512 and the [token endpoint](Kafka::tokens); a
    /// certificate's common name is a user too.
    pub users: Vec<KafkaUser>,
    /// Which certificate the TLS listeners show.
    pub shown: Shown,
    /// More lines of `server.properties`; they replace ours.
    pub properties: Vec<(String, String)>,
}

/// Somebody who may come in.
#[derive(Clone, Debug)]
pub struct KafkaUser {
    /// The name.
    pub name: String,
    /// The password; neither quotes nor backslashes.
    pub password: String,
    /// The topics it may write to, and nothing else; `None` means it may do everything.
    pub write: Option<Vec<String>>,
}

/// A way to come in. Where nobody is asked who he is, everybody may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// In clear.
    Plain,
    /// TLS.
    Tls,
    /// TLS, and the client shows a certificate of [`Kafka::authority`] with the user as its common name.
    MutualTls,
    /// SASL in clear: PLAIN, SCRAM-SHA-512 or OAUTHBEARER.
    Sasl,
    /// The same through TLS.
    SaslTls,
    /// Like the first, through a network that is there only while [`Kafka::proxy`] is.
    Proxied,
    /// Like [`Listener::SaslTls`], through such a network ([`Kafka::proxy_of`]).
    ProxiedSaslTls,
}

/// One broker, its records in its folder.
#[derive(Debug)]
pub struct Kafka {
    component: Component,
    users: Vec<KafkaUser>,
    authority: Authority,
    issuer: Issuer,
}

/// For one answer of a broker that is there.
const ANSWER: Duration = Duration::from_secs(3);

// === impl Kafka ===

impl Kafka {
    /// Starts one without users that goes away with the returned value.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Home::Temporary, KafkaOptions::default()).await
    }

    /// Starts one in `home`.
    pub async fn start_with(home: &Home, options: KafkaOptions) -> Result<Self> {
        let authority =
            Authority::new("tidings-testbed-kafka").context("create the certificate authority")?;
        let issuer = Issuer::new()?;
        let jars = Binary::Kafka.path()?;
        let component = Component::start(Binary::Kafka, home, |folder| {
            let ports = (0..config::PORTS).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
            config::write(folder, &ports, &options, &authority, &issuer)?;
            let plain = ports.first().context("no port")?.number();
            Ok(Setup {
                program: Some("/bin/sh".into()),
                arguments: config::command(&jars, &options.users),
                ports,
                ready: Ready::Kafka { port: plain },
            })
        });
        let component = component.await.context("start Kafka")?;
        let kafka = Self { component, users: options.users, authority, issuer };
        kafka.grant().await.context("give Kafka's users their rights")?;
        Ok(kafka)
    }

    /// Host and port where clients come to a listener.
    pub fn address(&self, listener: Listener) -> String {
        format!("127.0.0.1:{}", self.port(listener.told()))
    }

    /// The network before [`Listener::Proxied`]. Brokers tell clients where to connect, so it has a place of its own, and
    /// there is one at a time.
    pub async fn proxy(&self, link: Link) -> Result<Proxy> {
        self.proxy_of(Listener::Proxied, link).await
    }

    /// The network before one of those that have one.
    pub async fn proxy_of(&self, listener: Listener, link: Link) -> Result<Proxy> {
        let upstream = format!("127.0.0.1:{}", self.port(listener as usize));
        Proxy::start_on(self.port(listener.told()), upstream, link).await
    }

    /// Who signs the certificates of the broker, and those of clients that it takes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Who signs the tokens that it takes.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// An endpoint that gives the users tokens, with the name as client id and the password as its secret. It lives no
    /// longer than the present runtime.
    pub async fn tokens(&self) -> Result<TokenEndpoint> {
        let clients = self.users.iter().map(|user| (user.name.clone(), user.password.clone()));
        TokenEndpoint::start(self.issuer.clone(), clients.collect()).await
    }

    /// How librdkafka gets to a listener. What the listener asks for besides, a certificate or a login, is for the
    /// caller to add.
    pub fn client(&self, listener: Listener) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address(listener));
        config.set("security.protocol", listener.protocol());
        if listener.is_encrypted() {
            config.set("ssl.ca.pem", self.authority.certificate());
        }
        config
    }
}

impl Deref for Kafka {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.component
    }
}

impl DerefMut for Kafka {
    fn deref_mut(&mut self) -> &mut Component {
        &mut self.component
    }
}

// === impl KafkaUser ===

impl KafkaUser {
    /// Somebody who may do everything.
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), write: None }
    }

    /// The same, but only writing to `topics`, which need not be there yet.
    #[must_use]
    pub fn writing_only(mut self, topics: &[&str]) -> Self {
        self.write = Some(topics.iter().map(|&topic| topic.to_owned()).collect());
        self
    }
}

// === impl Listener ===

impl Listener {
    /// In the order of their ports.
    const ALL: [Self; 7] = [
        Self::Plain,
        Self::Tls,
        Self::MutualTls,
        Self::Sasl,
        Self::SaslTls,
        Self::Proxied,
        Self::ProxiedSaslTls,
    ];

    /// Which of the ports clients are told: the network's, where there is one.
    fn told(self) -> usize {
        match self {
            Self::Proxied => config::PROXY,
            Self::ProxiedSaslTls => config::PROXY + 1,
            _ => self as usize,
        }
    }

    /// As clients and brokers call it.
    fn protocol(self) -> &'static str {
        match self {
            Self::Plain | Self::Proxied => "PLAINTEXT",
            Self::Tls | Self::MutualTls => "SSL",
            Self::Sasl => "SASL_PLAINTEXT",
            Self::SaslTls | Self::ProxiedSaslTls => "SASL_SSL",
        }
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::MutualTls | Self::SaslTls | Self::ProxiedSaslTls)
    }
}

/// Whether the broker on `port` answers, and knows of a broker that works: itself.
pub(crate) async fn answers(port: u16) -> Result<()> {
    // A client of Kafka would go on trying for long, and this is asked often.
    drop(TcpStream::connect(("127.0.0.1", port)).await?);
    let ask = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(None, ANSWER)?;
        if metadata.brokers().is_empty() {
            bail!("no broker is registered yet");
        }
        Ok(())
    };
    tokio::task::spawn_blocking(ask).await?
}
