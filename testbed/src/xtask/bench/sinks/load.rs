//! The ceiling: who sends messages of the same size as fast as the broker takes them, as a process of its own. Of Kafka it is
//! the load tool that comes with it; of the others the shortest loop with the client library that the bridge has too, with as
//! much under way at once, and the same word of the broker awaited for each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use bytes::Bytes;
use clap::Args;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::{BasicProperties, Confirmation};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::broker::Broker;
use crate::certificates::write_secret;
use crate::folder::Folder;
use crate::process::Program;
use crate::rabbitmq::connect;
use crate::receiver::Kind;
use crate::replay::write_todos;
use crate::usage::Usage;
use crate::xtask::bench::own_binary;
use crate::xtask::bench::progress::run_to_end;

/// Connections to a receiver of HTTP, each with one request under way: as many as the bridge has.
const CONNECTIONS: u64 = 64;
/// Different payloads, unless they are large.
const PAYLOADS: u64 = 2000;
/// What all of them may have.
const PAYLOAD_BYTES: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(in crate::xtask::bench) struct LoadArguments {
    /// What to do, as JSON
    file: PathBuf,
}

/// Who sends.
pub(super) enum Load {
    /// This program.
    Own(Target),
    /// Kafka's own.
    Kafka { place: String, settings: Vec<(&'static str, String)> },
}

/// How to come in, and where to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// With credentials where they belong into it.
    pub(super) url: String,
    pub(super) place: String,
    /// And the password; of HTTP, the token.
    pub(super) user: Option<(String, String)>,
    /// The authority to trust, in PEM; without it there is no TLS.
    pub(super) ca: Option<String>,
}

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    target: Target,
    /// A payload in each line.
    payloads: PathBuf,
    events: u64,
    /// Unacknowledged at once.
    window: usize,
}

/// How it went.
pub(super) struct Ceiling {
    pub(super) per_second: f64,
    /// Of who sends, all of its life.
    pub(super) cpu: Duration,
    /// Of the broker; of HTTP there is none.
    pub(super) broker: Option<Duration>,
}

// === impl Load ===

impl Load {
    /// Sends `events` messages of `bytes` each, at most `window` of them unacknowledged.
    pub(super) async fn run(
        self,
        broker: &Broker,
        events: u64,
        bytes: u64,
        window: usize,
    ) -> Result<Ceiling> {
        let folder = Folder::temporary("load")?;
        let payloads = folder.path().join("payloads");
        write_todos(&payloads, PAYLOADS.min(PAYLOAD_BYTES / bytes.max(1)), usize::try_from(bytes)?)?;
        let cpu = |pid: Option<u32>| pid.map(|pid| Usage::of(pid).map(|usage| usage.cpu)).transpose();
        let before = cpu(broker.pid())?;
        let program = match (self, broker) {
            (Self::Kafka { place, settings }, Broker::Kafka(kafka)) => {
                kafka.kafka().load_program(&place, events, &payloads, &settings, folder.path())?
            }
            (Self::Own(target), _) => own_program(folder.path(), &Job { target, payloads, events, window })?,
            (Self::Kafka { .. }, _) => anyhow::bail!("only Kafka has a load tool"),
        };
        let (output, used) = run_to_end(&program).await?;
        let after = cpu(broker.pid())?;
        let per_second = rate(&output, events).with_context(|| format!("the load tool said:\n{output}"))?;
        let broker = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Ceiling { per_second, cpu: used, broker })
    }
}

fn own_program(folder: &Path, job: &Job) -> Result<Program> {
    let file = folder.join("job.json");
    write_secret(&file, &serde_json::to_string(job)?)?;
    let arguments = ["bench".to_owned(), "load".to_owned(), file.display().to_string()].into();
    Ok(Program { path: own_binary()?, arguments, folder: folder.to_owned(), log: folder.join("load.log") })
}

/// In the last line of what Kafka's tool says, and of what ours does.
pub(super) fn rate(output: &str, events: u64) -> Result<f64> {
    let last = output.lines().rev().find(|line| line.contains("records/sec")).context("no figures")?;
    let (count, rest) = last.split_once(" records sent, ").context("no count")?;
    ensure!(count.trim().parse() == Ok(events), "not all were sent");
    Ok(rest.split(' ').next().unwrap_or_default().parse()?)
}

/// What `bench load` does.
pub(in crate::xtask::bench) async fn run(LoadArguments { file }: LoadArguments) -> Result<ExitCode> {
    let job: Job = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let payloads = std::fs::read_to_string(&job.payloads)?;
    let payloads: Vec<_> = payloads.lines().map(|line| Bytes::from(line.to_owned())).collect();
    ensure!(!payloads.is_empty(), "there is nothing to send");
    let elapsed = match job.target.kind {
        Kind::Nats => nats(&job, &payloads).await?,
        Kind::Rabbitmq => rabbitmq(&job, &payloads).await?,
        Kind::Http => http(&job, &payloads).await?,
        Kind::Kafka => anyhow::bail!("Kafka has a tool of its own"),
    };
    let rate = super::super::per_second(job.events, elapsed);
    println!("{} records sent, {rate:.1} records/sec", job.events);
    Ok(ExitCode::SUCCESS)
}

async fn nats(Job { target, events, window, .. }: &Job, payloads: &[Bytes]) -> Result<Duration> {
    let mut options = async_nats::ConnectOptions::new();
    if let Some((user, password)) = &target.user {
        options = options.user_and_password(user.clone(), password.clone());
    }
    let folder = Folder::temporary("load")?;
    if let Some(ca) = &target.ca {
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, ca)?;
        options = options.add_root_certificates(file);
    }
    let context = jetstream::new(options.connect(&target.url).await?);
    let began = Instant::now();
    stream::iter(payloads.iter().cycle().zip(0..*events))
        .map(|(payload, number)| {
            let subject = format!("{}.{}", target.place, number % 10_000);
            let publish = context.publish(subject, payload.clone());
            async move {
                publish.await?.await?;
                Ok::<_, anyhow::Error>(())
            }
        })
        .buffer_unordered(*window)
        .try_collect::<()>()
        .await?;
    Ok(began.elapsed())
}

async fn rabbitmq(Job { target, events, window, .. }: &Job, payloads: &[Bytes]) -> Result<Duration> {
    let tls = OwnedTLSConfig { identity: None, cert_chain: target.ca.clone() };
    let connection = connect(&target.url, tls).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let began = Instant::now();
    stream::iter(payloads.iter().cycle().zip(0..*events))
        .map(|(payload, _)| async {
            // Persistent, as the bridge's.
            let properties = BasicProperties::default().with_delivery_mode(2);
            let (exchange, key) = (target.place.as_str().into(), "load".into());
            let options = BasicPublishOptions::default();
            let confirm = channel.basic_publish(exchange, key, options, payload, properties).await?.await?;
            ensure!(matches!(confirm, Confirmation::Ack(_)), "the broker answers {confirm:?}");
            Ok(())
        })
        .buffer_unordered(*window)
        .try_collect::<()>()
        .await?;
    Ok(began.elapsed())
}

async fn http(Job { target, events, .. }: &Job, payloads: &[Bytes]) -> Result<Duration> {
    let connections = (0..CONNECTIONS).map(|_| connect_http(target));
    let connections = futures::future::try_join_all(connections).await?;
    let began = Instant::now();
    let sent = connections.into_iter().zip(0..).map(|(mut connection, number)| {
        let request = http::Request::post(&target.url);
        let request = match &target.user {
            None => request,
            Some((_, token)) => request.header("authorization", format!("Bearer {token}")),
        };
        let request = request.header("host", "127.0.0.1").body(()).map(http::Request::into_parts);
        let numbers = (number..*events).step_by(usize::try_from(CONNECTIONS).unwrap_or(1));
        async move {
            let (head, ()) = request?;
            for (_, payload) in numbers.zip(payloads.iter().cycle()) {
                let request = http::Request::from_parts(head.clone(), Full::new(payload.clone()));
                connection.ready().await?;
                let response = connection.send_request(request).await?;
                ensure!(response.status().is_success(), "the receiver answers {}", response.status());
                response.into_body().collect().await?;
            }
            Ok(())
        }
    });
    futures::future::try_join_all(sent).await?;
    Ok(began.elapsed())
}

async fn connect_http(target: &Target) -> Result<SendRequest<Full<Bytes>>> {
    let url: Url = target.url.parse()?;
    let port = url.port().context("no port")?;
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let Some(ca) = &target.ca else {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        return Ok(sender);
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1")?;
    let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
