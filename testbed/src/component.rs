//! One running server of the testbed, and what can be done to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ::http::Request;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::api_server;
use crate::binaries::Binary;
use crate::folder::Folder;
use crate::ports::Port;
use crate::process::{Lifetime, Process, ProcessId, Program};
use crate::{controller_manager, http, kafka, rabbitmq};

/// Where a component lives, and with that how long.
#[derive(Clone, Debug)]
pub enum Home {
    /// A folder of its own that goes away with the component, which goes away with this process.
    Temporary,
    /// This folder; the component runs on when this process ends, and both stay until somebody removes them.
    Detached(PathBuf),
}

/// A running server with its folder, ports and log. Data and ports stay the same over [`restart`](Self::restart);
/// dropping it kills it and removes its folder, unless it is [`Home::Detached`].
#[derive(Debug)]
pub struct Component {
    binary: Binary,
    program: Program,
    lifetime: Lifetime,
    setup: Setup,
    process: Process,
    /// Size of the log when the present process started.
    log_start: u64,
    // Last, so that the process is gone when the folder is removed.
    folder: Folder,
}

/// What differs between components.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What runs it, where that is not the binary itself.
    pub(crate) program: Option<PathBuf>,
    pub(crate) arguments: Vec<String>,
    pub(crate) ports: Vec<Port>,
    pub(crate) ready: Ready,
}

/// How a component says that it is ready.
#[derive(Debug)]
pub(crate) enum Ready {
    /// 200 for this path on this port.
    Http { port: u16, path: &'static str },
    /// `/readyz` of the API server behind this kubeconfig, and its first namespaces.
    Api { kubeconfig: PathBuf },
    /// There is what controllers make in the cluster behind this kubeconfig.
    Controllers { kubeconfig: PathBuf },
    /// Kafka's metadata on this port name a broker.
    Kafka { port: u16 },
    /// The server on this port begins to speak AMQP.
    Amqp { port: u16 },
}

/// For a machine that compiles on all its cores meanwhile; an idle one needs less than 3 seconds.
const START_PATIENCE: Duration = Duration::from_secs(90);
const PROBE_PATIENCE: Duration = Duration::from_secs(5);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How often new ports are tried when a program outside the testbed was faster.
const PORT_TRIES: usize = 5;
const TAIL_LINES: usize = 30;

// === impl Component ===

impl Component {
    /// Starts `binary`, building it first where needed, and returns when it is ready. `setup` prepares files and ports in the
    /// component's folder; it is called again when one of its ports was taken before the component could listen.
    pub(crate) async fn start(
        binary: Binary,
        home: &Home,
        mut setup: impl FnMut(&Path) -> Result<Setup>,
    ) -> Result<Self> {
        let name = binary.name();
        let path = binary.ensure_async().await?;
        let (folder, lifetime) = match home {
            Home::Temporary => (Folder::temporary(name)?, Lifetime::Owner),
            Home::Detached(folder) => (Folder::permanent(folder.join(name))?, Lifetime::Detached),
        };
        let log = folder.path().join("log");
        let mut tries = 1;
        loop {
            let log_start = size(&log);
            let setup = setup(folder.path())?;
            let program = Program {
                path: setup.program.clone().unwrap_or_else(|| path.clone()),
                arguments: setup.arguments.clone(),
                folder: folder.path().to_owned(),
                log: log.clone(),
            };
            let mut process = Process::spawn(&program, lifetime)?;
            match wait_until_ready(name, &mut process, &setup.ready, &log, log_start).await {
                Ok(()) => return Ok(Self { binary, program, lifetime, setup, process, log_start, folder }),
                Err(_) if tries < PORT_TRIES && port_was_taken(&log, log_start) => tries += 1,
                Err(error) => {
                    // A detached one that is not ready would stay for ever.
                    process.kill()?;
                    return Err(error);
                }
            }
        }
    }

    /// Which program this is.
    pub fn binary(&self) -> Binary {
        self.binary
    }

    /// The present process.
    pub fn process(&self) -> ProcessId {
        self.process.id()
    }

    /// Where its data, configuration and log are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.program.log
    }

    /// Ends it with SIGTERM and waits; an error when it did not go and had to be killed. Keeps data and ports.
    pub async fn stop(&mut self) -> Result<()> {
        if !self.stop_within(STOP_PATIENCE).await? {
            bail!("{} did not end within {STOP_PATIENCE:?} of SIGTERM and was killed", self.binary.name());
        }
        Ok(())
    }

    /// The same, and says whether it went before it had to be killed.
    pub async fn stop_within(&mut self, patience: Duration) -> Result<bool> {
        self.process.stop(patience).await
    }

    /// Ends it with SIGKILL, as a crash does. Keeps data and ports.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Holds it (SIGSTOP): connections stay open and nothing answers, as with a hung machine.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)?;
        // Threads that run on another core answer for a moment more.
        self.process.until_stopped()
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Sends it `signal`, which its program knows what to do with.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Whether the process has not ended. A paused one runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Starts it again on the same ports and data and returns when it is ready. Stops it first if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.log_start = size(&self.program.log);
        self.process = Process::spawn(&self.program, self.lifetime)?;
        self.until_ready().await
    }

    /// Waits until it answers as ready.
    pub async fn until_ready(&mut self) -> Result<()> {
        let name = self.binary.name();
        wait_until_ready(name, &mut self.process, &self.setup.ready, &self.program.log, self.log_start).await
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.program.log, self.log_start)
    }

    /// The number of its port number `index`, in the order of its setup.
    pub(crate) fn port(&self, index: usize) -> u16 {
        self.setup.ports.get(index).map_or(0, Port::number)
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        if thread::panicking() {
            // A failing test; its folder, and the log with it, is about to go.
            eprintln!("end of the log of {}:\n{}", self.binary.name(), self.log_tail());
        }
    }
}

async fn wait_until_ready(
    name: &str,
    process: &mut Process,
    ready: &Ready,
    log: &Path,
    log_start: u64,
) -> Result<()> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if !process.is_running() {
            bail!("{name} ended while it started; the end of its log:\n{}", tail(log, log_start));
        }
        let answer = timeout(PROBE_PATIENCE, ready.probe()).await.context("no answer").flatten();
        let Err(error) = answer else { return Ok(()) };
        if Instant::now() > deadline {
            let tail = tail(log, log_start);
            bail!("{name} is not ready after {START_PATIENCE:?} ({error:#}); the end of its log:\n{tail}");
        }
        sleep(Duration::from_millis(25)).await;
    }
}

// === impl Ready ===

impl Ready {
    async fn probe(&self) -> Result<()> {
        match self {
            Self::Http { port, path } => drop(http::get(*port, path).await?),
            Self::Api { kubeconfig } => {
                let client = api_server::client(kubeconfig).await?;
                // The namespaces that clusters have from the start, and are known by, appear a moment after readiness.
                for path in ["/readyz", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/default"] {
                    client.request_text(Request::get(path).body(Vec::new())?).await?;
                }
            }
            Self::Controllers { kubeconfig } => controller_manager::answers(kubeconfig).await?,
            Self::Kafka { port } => kafka::answers(*port).await?,
            Self::Amqp { port } => rabbitmq::answers(*port).await?,
        }
        Ok(())
    }
}

/// As Go, Java and Erlang say it.
fn port_was_taken(log: &Path, start: u64) -> bool {
    let log = since(log, start).to_lowercase();
    log.contains("address already in use") || log.contains("eaddrinuse")
}

fn size(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |metadata| metadata.len())
}

/// What was logged since the log had the size `start`.
fn since(log: &Path, start: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

fn tail(log: &Path, start: u64) -> String {
    let text = since(log, start);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
