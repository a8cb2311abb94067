//! `up`, `down`, `status`, `env`: components for working by hand, which outlive the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::table;
use crate::api_server;
use crate::binaries::{self, Binary};
use crate::cache;
use crate::component::{Component, Home};
use crate::control_plane::ControlPlane;
use crate::folder::kill_inside;
use crate::kafka::{Kafka, KafkaOptions, Listener};
use crate::nats::{Nats, NatsOptions};
use crate::process::{Process, ProcessId};
use crate::rabbitmq::{Rabbitmq, RabbitmqOptions};

#[derive(Debug, Args)]
pub(super) struct Up {
    /// Use the cluster of this file and start no Kubernetes of our own
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Start Kafka too (half a gigabyte)
    #[arg(long)]
    kafka: bool,
    /// Start RabbitMQ too
    #[arg(long)]
    rabbitmq: bool,
}

/// What is up, as it is kept between commands.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    kubeconfig: PathBuf,
    nats_url: String,
    /// Bootstrap servers.
    kafka: Option<String>,
    rabbitmq_url: Option<String>,
    components: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    version: String,
    address: String,
    process: ProcessId,
    log: PathBuf,
    /// Unix time in seconds.
    started: u64,
}

const STOP_PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn up(Up { kubeconfig, kafka, rabbitmq }: Up) -> Result<ExitCode> {
    let folder = folder()?;
    let _lock = lock()?;
    if let Some(state) = State::load()? {
        let ended: Vec<_> = state.components.iter().filter(|entry| !entry.process.is_running()).collect();
        if let Some(entry) = ended.first() {
            bail!(
                "{} was up and has ended (its log: {}): `cargo xtask down` first",
                entry.name,
                entry.log.display()
            );
        }
        if (kafka && state.kafka.is_none()) || (rabbitmq && state.rabbitmq_url.is_none()) {
            bail!("it is up without that broker: `cargo xtask down` first");
        }
        println!("up already:");
        return state.print();
    }
    // Left by an `up` that was interrupted.
    clear(&folder)?;

    let kubeconfig = match kubeconfig {
        Some(file) => Some(existing(&file).await?),
        None => None,
    };
    binaries::ensure_usual()?;
    let state = match start(&folder, kubeconfig, kafka, rabbitmq).await {
        Ok(state) => state,
        Err(error) => {
            clear(&folder)?;
            return Err(error);
        }
    };
    state.save()?;
    state.print()?;
    println!("\nuse it:   eval \"$(cargo xtask env)\"\nstop it:  cargo xtask down");
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn down() -> Result<ExitCode> {
    let folder = folder()?;
    let _lock = lock()?;
    let state = State::load()?;
    if state.is_none() {
        println!("nothing is up");
    }
    // The API server before its etcd.
    for Entry { name, process, .. } in state.iter().flat_map(|state| state.components.iter().rev()) {
        let Some(mut process) = Process::find(*process) else {
            println!("{name} had ended");
            continue;
        };
        let politely = process.stop(STOP_PATIENCE).await?;
        println!("{name} {}", if politely { "stopped" } else { "did not stop and was killed" });
    }
    clear(&folder)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails when something that was started does not run any more.
pub(super) fn status() -> Result<ExitCode> {
    if let Some(state) = State::load()? {
        return state.print();
    }
    println!("nothing is up; start it with `cargo xtask up`");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn env() -> Result<ExitCode> {
    let State { kubeconfig, nats_url, kafka, rabbitmq_url, components: _ } =
        State::load()?.context("nothing is up; start it with `cargo xtask up`")?;
    let kubectl = Binary::Kubectl.path()?;
    let programs = kubectl.parent().context("kubectl has no folder")?;
    println!("export KUBECONFIG={}", quoted(&kubeconfig.display().to_string()));
    println!("export NATS_URL={}", quoted(&nats_url));
    if let Some(servers) = kafka {
        println!("export KAFKA_BOOTSTRAP_SERVERS={}", quoted(&servers));
    }
    if let Some(url) = rabbitmq_url {
        println!("export AMQP_URL={}", quoted(&url));
    }
    println!("export PATH={}:\"$PATH\"", quoted(&programs.display().to_string()));
    Ok(ExitCode::SUCCESS)
}

// === impl State ===

impl State {
    fn file() -> Result<PathBuf> {
        Ok(folder()?.join("state.json"))
    }

    fn load() -> Result<Option<Self>> {
        let file = Self::file()?;
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let state = serde_json::from_slice(&text);
        state
            .map(Some)
            .with_context(|| format!("understand {} (of another version? then remove it)", file.display()))
    }

    fn save(&self) -> Result<()> {
        let file = Self::file()?;
        fs::write(&file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("write {}", file.display()))
    }

    fn print(&self) -> Result<ExitCode> {
        let now = unix_now()?;
        let mut code = ExitCode::SUCCESS;
        let rows = self.components.iter().map(|entry| {
            let Entry { name, version, address, process, log, started } = entry;
            let (pid, uptime) = if process.is_running() {
                (process.pid.to_string(), duration(now.saturating_sub(*started)))
            } else {
                code = ExitCode::FAILURE;
                ("-".to_owned(), format!("ended; see {}", log.display()))
            };
            [name.clone(), version.clone(), pid, address.clone(), uptime]
        });
        let rows: Vec<_> = rows.collect();
        table::print(["component", "version", "pid", "address", "up"], &["pid"], &rows);
        println!("kubeconfig: {}", self.kubeconfig.display());
        Ok(code)
    }
}

async fn start(folder: &Path, existing: Option<PathBuf>, kafka: bool, rabbitmq: bool) -> Result<State> {
    let home = Home::Detached(folder.to_owned());
    let nats = Nats::start_with(&home, NatsOptions::default()).await?;
    let mut components = Vec::new();
    let kubeconfig = if let Some(file) = existing {
        file
    } else {
        let control_plane = ControlPlane::start_with(&home, &[]).await?;
        components.push(entry(&control_plane.etcd, control_plane.etcd.url())?);
        components.push(entry(&control_plane.api_server, control_plane.api_server.url())?);
        control_plane.kubeconfig().to_owned()
    };
    components.push(entry(&nats, nats.url())?);
    let mut state = State { kubeconfig, nats_url: nats.url(), kafka: None, rabbitmq_url: None, components };
    if kafka {
        let kafka = Kafka::start_with(&home, KafkaOptions::default()).await?;
        let address = kafka.address(Listener::Plain);
        state.components.push(entry(&kafka, address.clone())?);
        state.kafka = Some(address);
    }
    if rabbitmq {
        let rabbitmq = Rabbitmq::start_with(&home, RabbitmqOptions::default()).await?;
        state.components.push(entry(&rabbitmq, rabbitmq.url())?);
        state.rabbitmq_url = Some(rabbitmq.url());
    }
    Ok(state)
}

/// Makes sure that the cluster of `kubeconfig` answers.
async fn existing(kubeconfig: &Path) -> Result<PathBuf> {
    let client = api_server::client(kubeconfig).await?;
    let version = client.apiserver_version().await;
    let version =
        version.with_context(|| format!("the cluster of {} does not answer", kubeconfig.display()))?;
    println!("using the cluster of {} (Kubernetes {})", kubeconfig.display(), version.git_version);
    std::path::absolute(kubeconfig).context("where the kubeconfig is")
}

fn entry(component: &Component, address: String) -> Result<Entry> {
    let binary = component.binary();
    Ok(Entry {
        name: binary.name().to_owned(),
        version: binary.version(),
        address,
        process: component.process(),
        log: component.log().to_owned(),
        started: unix_now()?,
    })
}

fn folder() -> Result<PathBuf> {
    cache::folder("up")
}

fn lock() -> Result<fs::File> {
    cache::lock(
        &cache::root()?.join("up.lock"),
        Some("another `cargo xtask up` or `down` is at work: waiting for it"),
    )
}

/// Ends whatever still runs in `folder` and removes everything in it.
fn clear(folder: &Path) -> Result<()> {
    kill_inside(folder)?;
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

// The clock rule is for the bridge, whose tests set the time; this is a person's clock.
#[expect(clippy::disallowed_methods)]
fn unix_now() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("the clock is before 1970")?.as_secs())
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// For a POSIX shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
