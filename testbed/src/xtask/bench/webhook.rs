//! What the webhook takes to answer, asked as the API server does: over HTTPS on connections that stay, at a steady rate,
//! whatever the answers take. Beside the same questions about something that needs no look: what TLS, HTTP and JSON take.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use super::meter::Meter;
use crate::control_plane::ControlPlane;
use crate::folder::Folder;
use crate::ports::Port;
use crate::process::{Lifetime, Process, Program};
use crate::tidings::{PROGRAM, Profile, build};
use crate::wait::eventually;
use crate::xtask::report::{Goal, Row, publish};
use crate::{http as plain, kubectl};

const SCENARIO: &str = "webhook";
const START: Duration = Duration::from_secs(30);
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Of an answer, at this share of them.
const GOAL_MILLIS: f64 = 5.0;

#[derive(Debug, Args)]
pub(super) struct Webhook {
    /// Admissions a second
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long each variant is measured, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Connections that the questions are spread over
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Write the figures there too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is asked.
#[derive(Clone, Copy)]
enum Variant {
    /// About a deletion, which is always accepted.
    Bare,
    /// About a Subscription with three mistakes.
    Broken,
    /// About a good one, by somebody whose rights are remembered.
    Good,
    /// About a good one, each by somebody else: the API server is asked about the rights.
    Strangers,
}

/// A running webhook in a cluster of its own.
struct Stage {
    process: Process,
    bundle: Vec<u8>,
    port: Port,
    _folder: Folder,
    _control_plane: ControlPlane,
}

pub(super) async fn run(Webhook { rate, seconds, connections, json }: Webhook) -> Result<ExitCode> {
    ensure!(rate > 0 && connections > 0 && seconds > 0, "rate, seconds and connections are at least 1");
    let stage = Stage::start(&build(Profile::Release)?).await?;
    let mut rows = Vec::new();
    for variant in [Variant::Bare, Variant::Broken, Variant::Good, Variant::Strangers] {
        eprintln!("{}", variant.name());
        // Strangers do not come by the hundred, and each costs the API server two questions.
        let rate = if matches!(variant, Variant::Strangers) { (rate / 10).max(1) } else { rate };
        stage.load(variant, rate, WARM_UP, connections).await?;
        let meter = Meter::start(stage.process.id().pid)?;
        let mut took =
            stage.load(variant, rate, Duration::from_secs(u64::from(seconds)), connections).await?;
        let stretch = meter.stop(took.len() as u64)?;
        took.sort_unstable();
        let mut row = |metric: &str, value: f64, unit: &str, goal: Option<Goal>| {
            rows.push(Row::new(SCENARIO, variant.name(), metric, value, unit, goal));
        };
        row("admissions", stretch.per_second(), "1/s", None);
        row("p50", quantile(&took, 50.0), "ms", None);
        row("p99", quantile(&took, 99.0), "ms", variant.goal());
        row("p99.9", quantile(&took, 99.9), "ms", None);
        row("CPU per admission", stretch.micros_per_event(), "µs", None);
        row("memory, most", super::mebibytes(stretch.peak), "MiB", None);
    }
    println!();
    publish(&rows, json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

// === impl Stage ===

impl Stage {
    async fn start(program: &Path) -> Result<Self> {
        let control_plane = ControlPlane::start().await?;
        let kubeconfig = control_plane.kubeconfig();
        let definitions =
            std::process::Command::new(program).arg("crds").output().context("print the CRDs")?;
        kubectl::apply(kubeconfig, "default", &String::from_utf8(definitions.stdout)?)?;
        kubectl::apply(kubeconfig, "default", &rights())?;
        let (port, admin, folder) = (Port::reserve()?, Port::reserve()?, Folder::temporary("webhook")?);
        let address = format!("127.0.0.1:{}", port.number());
        let program = Program {
            path: "/usr/bin/env".into(),
            arguments: vec![
                // Not a setting of the webhook, which refuses what it does not know.
                format!("--unset={PROGRAM}"),
                format!("KUBECONFIG={}", kubeconfig.display()),
                program.display().to_string(),
                "webhook".to_owned(),
                format!("--address={address}"),
                format!("--url=https://{address}"),
                format!("--admin-address=127.0.0.1:{}", admin.number()),
                "--namespace=kube-system".to_owned(),
            ],
            folder: folder.path().to_owned(),
            log: folder.path().join("webhook.log"),
        };
        let process = Process::spawn(&program, Lifetime::Owner)?;
        let ready = eventually(START, "a ready webhook", || plain::get(admin.number(), "/readyz")).await;
        ready.with_context(|| std::fs::read_to_string(&program.log).unwrap_or_default())?;
        let configurations = Api::<ValidatingWebhookConfiguration>::all(control_plane.client().await?);
        let bundle = eventually(START, "a caBundle", || async {
            let configuration = configurations.get("tidings-webhook").await?;
            let webhook = configuration.webhooks.unwrap_or_default().into_iter().next();
            let bundle = webhook.and_then(|webhook| webhook.client_config.ca_bundle);
            anyhow::Ok(bundle.context("there is none")?.0)
        });
        let bundle = bundle.await?;
        Ok(Self { process, bundle, port, _folder: folder, _control_plane: control_plane })
    }

    /// Asks at this rate for this long; how long each answer took since it was due, in nanoseconds.
    async fn load(&self, variant: Variant, rate: u32, time: Duration, connections: u32) -> Result<Vec<u64>> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(self.connect().await?);
        }
        let total = u32::try_from(u128::from(rate) * time.as_millis() / 1000)?;
        let start = Instant::now();
        let asking = (0..connections).zip(senders).map(|(first, mut sender)| {
            tokio::spawn(async move {
                let mut took = Vec::new();
                for number in (first..total).step_by(connections as usize) {
                    let due = start + Duration::from_secs(1) * number / rate;
                    sleep_until(due).await;
                    variant.check(&ask(&mut sender, variant.question(number)).await?)?;
                    took.push(u64::try_from(due.elapsed().as_nanos())?);
                }
                anyhow::Ok(took)
            })
        });
        let asked = futures::future::try_join_all(asking).await?;
        Ok(asked.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.bundle) {
            roots.add(certificate?)?;
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST)));
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, question: Bytes) -> Result<Value> {
    let request = Request::post("/validate?timeout=5s")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Full::new(question))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
}

// === impl Variant ===

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "a deletion, not looked at",
            Self::Broken => "three mistakes",
            Self::Good => "good, rights remembered",
            Self::Strangers => "good, rights asked",
        }
    }

    fn goal(self) -> Option<Goal> {
        match self {
            Self::Bare | Self::Strangers => None,
            Self::Broken | Self::Good => Some(Goal::AtMost(GOAL_MILLIS)),
        }
    }

    fn question(self, number: u32) -> Bytes {
        let user = if matches!(self, Self::Strangers) { format!("user-{number}") } else { "user".to_owned() };
        let source =
            |version: &str| json!({"apiVersion": version, "kind": "ConfigMap", "namespaces": {"all": true}});
        let (sources, age) = match self {
            Self::Broken => (json!([source("a..b/v1"), source("v1"), source("v2")]), "0s"),
            _ => (json!([source("v1")]), "24h"),
        };
        let object = json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription",
            "metadata": {"name": "orders", "namespace": "shop", "labels": {"filling": "x".repeat(700)}},
            "spec": {
                "sources": sources, "delivery": {"maxAge": age},
                "sink": {"nats": {"servers": ["nats://nats:4222"], "subject": "shop.{kind}.{name}"}},
            },
        });
        let deletion = matches!(self, Self::Bare);
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": format!("00000000-0000-0000-0000-{number:012}"),
                "kind": {"group": "tidings.dev", "version": "v1alpha1", "kind": "Subscription"},
                "resource": {"group": "tidings.dev", "version": "v1alpha1", "resource": "subscriptions"},
                "name": "orders", "namespace": "shop",
                "operation": if deletion { "DELETE" } else { "CREATE" },
                "userInfo": {"username": user, "groups": ["system:masters", "system:authenticated"]},
                "object": object, "dryRun": false,
            },
        });
        review.to_string().into()
    }

    /// An answer that is wrong is not measured.
    fn check(self, answer: &Value) -> Result<()> {
        let expected = !matches!(self, Self::Broken);
        ensure!(answer["response"]["allowed"] == expected, "{}: a wrong answer: {answer}", self.name());
        Ok(())
    }
}

/// That the service account of the Subscriptions may read what they read.
fn rights() -> String {
    let group = "rbac.authorization.k8s.io";
    let name = json!({"name": "reads-config-maps"});
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": name,
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": name,
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "reads-config-maps"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "shop"}],
    });
    format!("{role}\n---\n{binding}\n")
}

/// What this share of sorted nanoseconds does not exceed, in milliseconds.
fn quantile(sorted: &[u64], percent: f64) -> f64 {
    let nanos = super::account::quantile(sorted, percent / 100.0);
    super::number(nanos) / 1e6
}
