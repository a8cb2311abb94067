//! A RabbitMQ node: the machine's program, with folders, ports, users and an Erlang port mapper of its own.

use std::ops::{Deref, DerefMut};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lapin::tcp::OwnedTLSConfig;
use lapin::{Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::binaries::Binary;
use crate::certificates::{Authority, Shown};
use crate::component::{Component, Home, Ready, Setup};
use crate::folder::Folder;
use crate::ports::Port;
use crate::process::{Lifetime, Process, Program};
use crate::wait::eventually;

mod config;

use config::{COOKIE, NODE};

/// What differs from a node that takes `guest` with the password `guest`, in clear or by TLS.
#[derive(Clone, Debug, Default)]
pub struct RabbitmqOptions {
    /// Who may come in: with the password, or by TLS with a certificate of [`Rabbitmq::authority`] that has the name as its
    /// common name (SASL EXTERNAL). Empty means `guest`.
    pub users: Vec<RabbitmqUser>,
    /// Take only clients with a certificate on the TLS listener.
    pub client_certificates: bool,
    /// Which certificate the TLS listener shows.
    pub shown: Shown,
    /// More lines of `rabbitmq.conf`.
    pub settings: Vec<(String, String)>,
}

/// Somebody who may come in.
#[derive(Clone, Debug)]
pub struct RabbitmqUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The exchanges it may publish to, and nothing else; `None` means it may do everything.
    pub publish: Option<Vec<String>>,
}

/// One node, its queues in its folder.
#[derive(Debug)]
pub struct Rabbitmq {
    component: Component,
    users: Vec<RabbitmqUser>,
    authority: Authority,
    mapper: Mapper,
}

/// Tells Erlang nodes where others are. With one of our own, no other node of the machine is touched, and none is left
/// behind.
#[derive(Debug)]
struct Mapper {
    _process: Process,
    port: Port,
    // Last, so that the process is gone when the folder is removed.
    _folder: Folder,
}

const SOON: Duration = Duration::from_secs(30);

// === impl Rabbitmq ===

impl Rabbitmq {
    /// Starts one with `guest` that goes away with the returned value.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Home::Temporary, RabbitmqOptions::default()).await
    }

    /// Starts one in `home`.
    pub async fn start_with(home: &Home, mut options: RabbitmqOptions) -> Result<Self> {
        if options.users.is_empty() {
            options.users.push(RabbitmqUser::new("guest", "guest"));
        }
        let authority =
            Authority::new("tidings-testbed-rabbitmq").context("create the certificate authority")?;
        let program = Binary::Rabbitmq.ensure_async().await?;
        let mapper = Mapper::start(home).await.context("start Erlang's port mapper")?;
        let component = Component::start(Binary::Rabbitmq, home, |folder| {
            let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
            let [plain, tls, distribution] = ports.each_ref().map(Port::number);
            config::write(folder, [plain, tls], &options, &authority)?;
            let mut arguments = config::environment(folder, mapper.port.number(), distribution);
            arguments.push(program.display().to_string());
            let ready = Ready::Amqp { port: plain };
            // It is a script that becomes the Erlang machine, so that signals reach all of it.
            Ok(Setup { program: Some("/usr/bin/env".into()), arguments, ports: ports.into(), ready })
        });
        let component = component.await.context("start RabbitMQ")?;
        Ok(Self { component, users: options.users, authority, mapper })
    }

    /// Host and port that take AMQP in clear.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port(0))
    }

    /// Host and port that take AMQP through TLS.
    pub fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.port(1))
    }

    /// Who signs the node's certificate, and those of clients that it takes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where the first user connects in clear, with the credentials.
    pub fn url(&self) -> String {
        let (name, password) = self.users.first().map_or(("", ""), |user| (&user.name, &user.password));
        format!("amqp://{name}:{password}@{}/%2f", self.address())
    }

    /// A connection in clear as the first user. It belongs to the present runtime, so each test makes its own.
    pub async fn client(&self) -> Result<Connection> {
        connect(&self.url(), OwnedTLSConfig::default()).await.context("connect to the testbed's RabbitMQ")
    }

    /// Raises the memory alarm, which blocks every connection that publishes, or ends it. A restart ends it too.
    pub async fn set_memory_alarm(&self, raised: bool) -> Result<()> {
        let watermark = if raised { "0.0" } else { "0.4" };
        self.evaluate(&format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark})")).await?;
        let check = || async {
            let alarms = self.evaluate("rabbit_alarm:get_alarms()").await?;
            ensure!(alarms.contains("memory") == raised, "the alarms are {alarms}");
            Ok(())
        };
        eventually(SOON, "the alarm is as it was set", check).await
    }

    /// From now on `user` has this password; connections that stand go on.
    pub async fn set_password(&self, user: &str, password: &str) -> Result<()> {
        let call = "rabbit_auth_backend_internal:change_password";
        let answer =
            self.evaluate(&format!("{call}(<<{user:?}>>, <<{password:?}>>, <<\"testbed\">>)")).await?;
        ensure!(answer == "ok", "the password was not changed: {answer}");
        Ok(())
    }

    /// What an Erlang expression answers in the node, as Erlang prints it.
    pub async fn evaluate(&self, expression: &str) -> Result<String> {
        let mut command = Command::new("erl_call");
        command
            .args(["-c", COOKIE, "-n", NODE, "-e"])
            .env("ERL_EPMD_PORT", self.mapper.port.number().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("run erl_call, which comes with Erlang")?;
        let mut input = child.stdin.take().context("erl_call has no stdin")?;
        input.write_all(format!("{expression}.\n").as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await.context("wait for erl_call")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = text.trim().strip_prefix("{ok, ").and_then(|text| text.strip_suffix('}'));
        let Some(value) = value else {
            bail!("{expression} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        Ok(value.to_owned())
    }
}

impl Deref for Rabbitmq {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.component
    }
}

impl DerefMut for Rabbitmq {
    fn deref_mut(&mut self) -> &mut Component {
        &mut self.component
    }
}

// === impl RabbitmqUser ===

impl RabbitmqUser {
    /// Somebody who may do everything.
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), publish: None }
    }

    /// The same, but only publishing to `exchanges`.
    #[must_use]
    pub fn publishing_only(mut self, exchanges: &[&str]) -> Self {
        self.publish = Some(exchanges.iter().map(|&exchange| exchange.to_owned()).collect());
        self
    }
}

// === impl Mapper ===

impl Mapper {
    async fn start(home: &Home) -> Result<Self> {
        let (folder, lifetime) = match home {
            Home::Temporary => (Folder::temporary("epmd")?, Lifetime::Owner),
            Home::Detached(folder) => (Folder::permanent(folder.join("epmd"))?, Lifetime::Detached),
        };
        let port = Port::reserve()?;
        let number = port.number();
        let program = Program {
            path: "epmd".into(),
            arguments: ["-port", &number.to_string(), "-address", "127.0.0.1"].map(str::to_owned).into(),
            folder: folder.path().to_owned(),
            log: folder.path().join("log"),
        };
        let process = Process::spawn(&program, lifetime)?;
        let listens = || TcpStream::connect(("127.0.0.1", number));
        eventually(SOON, "it listens", listens).await?;
        Ok(Self { _process: process, port, _folder: folder })
    }
}

/// A connection that is not made again when it breaks.
pub async fn connect(url: &str, tls: OwnedTLSConfig) -> Result<Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    Ok(Connection::connect_with_config(url, ConnectionProperties::default(), tls, runtime).await?)
}

/// Whether the server on `port` greets who speaks AMQP, which it does when it has started in full.
pub(crate) async fn answers(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let kind = stream.read_u8().await?;
    // A method, and the only one that can come is connection.start.
    ensure!(kind == 1, "the server answers AMQP's header with {kind}");
    Ok(())
}
