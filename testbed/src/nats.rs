//! A NATS server with JetStream.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use anyhow::{Context, Result};
use async_nats::{Client, ConnectOptions};
use serde_json::{Value, json};

use crate::binaries::Binary;
use crate::certificates::{Authority, write_secret};
use crate::component::{Component, Home, Ready, Setup};
use crate::ports::Port;

/// What differs from a plain server, which takes anybody, in clear.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    /// Who may connect; empty means everybody.
    pub users: Vec<NatsUser>,
    /// Serve TLS, with a certificate of [`Nats::ca_path`].
    pub tls: bool,
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
    ca: Option<PathBuf>,
}

// === impl Nats ===

impl Nats {
    /// Starts a plain one that goes away with the returned value.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Home::Temporary, NatsOptions::default()).await
    }

    /// Starts one in `home`.
    pub async fn start_with(home: &Home, options: NatsOptions) -> Result<Self> {
        let mut ca = None;
        let component = Component::start(Binary::NatsServer, home, |folder| {
            let (port, monitor) = (Port::reserve()?, Port::reserve()?);
            let mut config = config(&options);
            config["listen"] = json!(format!("127.0.0.1:{}", port.number()));
            config["http"] = json!(format!("127.0.0.1:{}", monitor.number()));
            config["jetstream"] = json!({ "store_dir": folder.join("jetstream") });
            if options.tls {
                let authority =
                    Authority::new("tidings-testbed-nats").context("create the certificate authority")?;
                let [ca_path, certificate, key] =
                    ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.join(name));
                fs::write(&ca_path, authority.certificate())?;
                authority.server()?.write(&certificate, &key)?;
                config["tls"] = json!({ "cert_file": certificate, "key_file": key });
                ca = Some(ca_path);
            }
            // The server's own format takes JSON.
            let file = folder.join("nats.conf");
            write_secret(&file, &format!("{config:#}\n"))?;
            let ready = Ready::Http { port: monitor.number(), path: "/healthz" };
            let arguments = vec!["--config".to_owned(), file.display().to_string()];
            Ok(Setup { arguments, ports: vec![port, monitor], ready })
        });
        let component = component.await.context("start NATS")?;
        Ok(Self { component, options, ca })
    }

    /// Where clients connect: `nats://` or, with TLS, `tls://`, without credentials.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.port(0))
    }

    /// The certificate authority to trust, in PEM; `None` without TLS.
    pub fn ca_path(&self) -> Option<&PathBuf> {
        self.ca.as_ref()
    }

    /// A client, as the first user if there are users. It belongs to the present runtime, so each test makes its own.
    pub async fn client(&self) -> Result<Client> {
        let mut connect = ConnectOptions::new();
        if let Some(NatsUser { name, password, .. }) = self.options.users.first() {
            connect = connect.user_and_password(name.clone(), password.clone());
        }
        if let Some(ca) = &self.ca {
            connect = connect.add_root_certificates(ca.clone());
        }
        connect.connect(self.url()).await.context("connect to the testbed's NATS")
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

fn config(options: &NatsOptions) -> Value {
    let NatsOptions { users, tls: _, max_payload } = options;
    let mut config = json!({ "server_name": "testbed" });
    if let Some(bytes) = max_payload {
        config["max_payload"] = json!(bytes);
    }
    if !users.is_empty() {
        let user = |NatsUser { name, password, publish }: &NatsUser| {
            let mut user = json!({ "user": name, "password": password });
            if let Some(subjects) = publish {
                user["permissions"] = json!({ "publish": { "allow": subjects } });
            }
            user
        };
        config["authorization"] = json!({ "users": users.iter().map(user).collect::<Vec<_>>() });
    }
    config
}
