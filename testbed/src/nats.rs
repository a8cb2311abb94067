//! A NATS server with JetStream.

pub mod operator;

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{Client, ConnectOptions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use self::operator::Operator;
use crate::binaries::Binary;
use crate::certificates::{Authority, Shown, write_secret};
use crate::component::{Component, Home, Ready, Setup};
use crate::ports::Port;
use crate::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

/// What differs from a plain server, which takes anybody, in clear.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// Who may connect; empty means everybody.
    pub users: Vec<NatsUser>,
    /// Who may connect by signing with the key of one of these, as the server knows them (`U…`). [`Nats::client`]
    /// cannot, so that a test that needs it names users too.
    pub nkeys: Vec<String>,
    /// What everybody must present instead; the server takes no users beside it.
    pub token: Option<String>,
    /// Who signs for those who may connect; the server takes nobody else.
    pub operator: Option<Arc<Operator>>,
    /// The JetStream domain of the server.
    pub domain: Option<String>,
    /// Serve TLS, with a certificate of [`Nats::ca_path`].
    pub tls: bool,
    /// Take only clients with a certificate of [`Nats::authority`]. Implies `tls`.
    pub client_certificates: bool,
    /// Which certificate the server shows.
    pub shown: Shown,
    /// The largest message, in bytes; the server's default is 1 MiB.
    pub max_payload: Option<usize>,
}

/// Somebody who may connect.
#[derive(Clone, Debug)]
pub struct NatsUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The subjects it may publish to, wildcards allowed; `None` means any. JetStream needs `$JS.API.>` for its own.
    pub publish: Option<Vec<String>>,
}

/// One server with JetStream, its streams in its folder.
#[derive(Debug)]
pub struct Nats {
    component: Component,
    options: NatsOptions,
    /// What it was started with.
    config: Value,
    tls: Option<Tls>,
}

/// What a server with TLS, and its clients, need.
#[derive(Debug)]
struct Tls {
    authority: Authority,
    ca: PathBuf,
    /// A client's certificate and key.
    client: [PathBuf; 2],
}

// === impl Nats ===

impl Nats {
    /// Starts a plain one that goes away with the returned value.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Home::Temporary, NatsOptions::default()).await
    }

    /// Starts one in `home`.
    pub async fn start_with(home: &Home, options: NatsOptions) -> Result<Self> {
        let (mut tls, mut started) = (None, Value::Null);
        let component = Component::start(Binary::NatsServer, home, |folder| {
            let (port, monitor) = (Port::reserve()?, Port::reserve()?);
            let mut config = config(&options);
            config["listen"] = json!(format!("127.0.0.1:{}", port.number()));
            config["http"] = json!(format!("127.0.0.1:{}", monitor.number()));
            config["jetstream"] = json!({ "store_dir": folder.join("jetstream") });
            if let Some(domain) = &options.domain {
                config["jetstream"]["domain"] = json!(domain);
            }
            if options.tls || options.client_certificates {
                let (files, section) = Tls::create(folder, &options)?;
                config["tls"] = section;
                tls = Some(files);
            }
            let file = write(folder, &config)?;
            started = config;
            let ready = Ready::Http { port: monitor.number(), path: "/healthz" };
            let arguments = vec!["--config".to_owned(), file.display().to_string()];
            Ok(Setup { program: None, arguments, ports: vec![port, monitor], ready })
        });
        let component = component.await.context("start NATS")?;
        Ok(Self { component, options, config: started, tls })
    }

    /// From now on `user` has this password. The server ends the connections that were made with the old one.
    pub async fn set_password(&mut self, user: &str, password: &str) -> Result<()> {
        let known = self.options.users.iter_mut().find(|known| known.name == user);
        password.clone_into(&mut known.with_context(|| format!("there is no user {user}"))?.password);
        self.config["authorization"] = config(&self.options)["authorization"].take();
        write(self.component.folder(), &self.config)?;
        self.component.signal(Signal::SIGHUP)?;
        let welcome = || async {
            let options = self.options_for(user);
            options.connect(self.url()).await
        };
        eventually(SOON, "the password is the new one", welcome).await.map(drop)
    }

    /// Where clients connect: `nats://` or, with TLS, `tls://`, without credentials.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.port(0))
    }

    /// The certificate authority to trust, in PEM; `None` without TLS.
    pub fn ca_path(&self) -> Option<&PathBuf> {
        self.tls.as_ref().map(|tls| &tls.ca)
    }

    /// The same, for certificates of clients.
    pub fn authority(&self) -> Option<&Authority> {
        self.tls.as_ref().map(|tls| &tls.authority)
    }

    /// A client, with a certificate where one is demanded, and as the first user if there are users. It belongs to the
    /// present runtime, so each test makes its own.
    pub async fn client(&self) -> Result<Client> {
        let mut connect = ConnectOptions::new();
        if let Some(NatsUser { name, password, .. }) = self.options.users.first() {
            connect = connect.user_and_password(name.clone(), password.clone());
        } else if let Some(token) = &self.options.token {
            connect = ConnectOptions::with_token(token.clone());
        } else if let Some(operator) = &self.options.operator {
            connect = ConnectOptions::with_credentials(&operator.user()?)?;
        }
        let connect = self.encrypted(connect);
        connect.connect(self.url()).await.context("connect to the testbed's NATS")
    }

    /// How a user connects.
    fn options_for(&self, user: &str) -> ConnectOptions {
        let known = self.options.users.iter().find(|known| known.name == user);
        let password = known.map_or_else(String::new, |known| known.password.clone());
        self.encrypted(ConnectOptions::with_user_and_password(user.to_owned(), password))
    }

    fn encrypted(&self, mut connect: ConnectOptions) -> ConnectOptions {
        if let Some(Tls { ca, client: [certificate, key], .. }) = &self.tls {
            connect = connect.add_root_certificates(ca.clone());
            if self.options.client_certificates {
                connect = connect.add_client_certificate(certificate.clone(), key.clone());
            }
        }
        connect
    }
}

impl Deref for Nats {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.component
    }
}

impl DerefMut for Nats {
    fn deref_mut(&mut self) -> &mut Component {
        &mut self.component
    }
}

// === impl NatsUser ===

impl NatsUser {
    /// Somebody who may publish and subscribe to everything.
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), publish: None }
    }

    /// The same, but publishing only to `subjects`.
    #[must_use]
    pub fn publishing_only(mut self, subjects: &[&str]) -> Self {
        self.publish = Some(subjects.iter().map(|&subject| subject.to_owned()).collect());
        self
    }
}

// === impl Tls ===

impl Tls {
    /// Files in `folder`, and what the server's configuration says of them.
    fn create(folder: &Path, options: &NatsOptions) -> Result<(Self, Value)> {
        let authority = Authority::new("tidings-testbed-nats").context("create the certificate authority")?;
        let [ca, certificate, key, client_certificate, client_key] =
            ["ca.crt", "tls.crt", "tls.key", "client.crt", "client.key"].map(|name| folder.join(name));
        fs::write(&ca, authority.certificate())?;
        authority.server_showing(options.shown)?.write(&certificate, &key)?;
        authority.client("testbed", None)?.write(&client_certificate, &client_key)?;
        let mut section = json!({ "cert_file": certificate, "key_file": key });
        if options.client_certificates {
            section["ca_file"] = json!(ca);
            section["verify"] = json!(true);
        }
        Ok((Self { authority, ca, client: [client_certificate, client_key] }, section))
    }
}

/// The server's own format takes JSON.
fn write(folder: &Path, config: &Value) -> Result<PathBuf> {
    let file = folder.join("nats.conf");
    write_secret(&file, &format!("{config:#}\n"))?;
    Ok(file)
}

fn config(options: &NatsOptions) -> Value {
    let NatsOptions {
        users,
        nkeys,
        token,
        operator,
        domain: _,
        tls: _,
        client_certificates: _,
        shown: _,
        max_payload,
    } = options;
    let mut config = json!({ "server_name": "testbed" });
    if let Some(operator) = operator {
        operator.configure(&mut config);
    }
    if let Some(bytes) = max_payload {
        config["max_payload"] = json!(bytes);
    }
    if let Some(token) = token {
        config["authorization"] = json!({ "token": token });
    }
    if !users.is_empty() || !nkeys.is_empty() {
        let user = |NatsUser { name, password, publish }: &NatsUser| {
            let mut user = json!({ "user": name, "password": password });
            if let Some(subjects) = publish {
                user["permissions"] = json!({ "publish": { "allow": subjects } });
            }
            user
        };
        let nkeys = nkeys.iter().map(|key| json!({ "nkey": key }));
        config["authorization"] = json!({ "users": users.iter().map(user).chain(nkeys).collect::<Vec<_>>() });
    }
    config
}
