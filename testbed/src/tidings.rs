//! Our own program, built from this checkout and run like any other component.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::folder::Folder;
use crate::http;
use crate::ports::Port;
use crate::process::{Lifetime, Process, ProcessId, Program};
use crate::wait::eventually;

/// Names another program than the one of this checkout.
pub(crate) const PROGRAM: &str = "TIDINGS_PROGRAM";
/// How long a start may take on a busy machine.
const START: Duration = Duration::from_mins(1);
/// Longer than the bridge's own deadline for a shutdown.
const STOP: Duration = Duration::from_secs(40);

/// How the program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For tests and the demo.
    Dev,
    /// For benchmarks.
    Release,
}

/// A running `tidings bridge`.
#[derive(Debug)]
pub struct Bridge {
    process: Process,
    program: Program,
    admin: Port,
    folder: Folder,
}

/// Builds our program, where that is not done, and says where it is. `TIDINGS_PROGRAM` names another one in its place: a
/// benchmark can compare two.
pub fn build(profile: Profile) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM) {
        return Ok(program.into());
    }
    build_binary(profile, "tidings")
}

/// Builds the binary `name` of this workspace, with the features that all of it needs, so that nothing is compiled
/// twice, and says where it is.
pub fn build_binary(profile: Profile, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root()?).args(["build", "--quiet", "--workspace", "--bin", name]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo")?;
    if !output.status.success() {
        bail!("{name} does not compile");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executable.with_context(|| format!("cargo did not say where {name} is"))
}

// === impl Bridge ===

impl Bridge {
    /// Starts it on the cluster of `kubeconfig`, with more `arguments`, and waits until it is ready.
    pub async fn start(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        let mut bridge = Self::spawn(program, kubeconfig, arguments)?;
        bridge.until_ready().await?;
        Ok(bridge)
    }

    /// The same, without waiting for anything.
    pub fn spawn(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        let folder = Folder::temporary("bridge")?;
        let admin = Port::reserve()?;
        let mut all = vec![
            // Not a setting of the bridge, which refuses what it does not know.
            format!("--unset={PROGRAM}"),
            format!("KUBECONFIG={}", kubeconfig.display()),
            program.display().to_string(),
            "bridge".to_owned(),
            format!("--admin-address=127.0.0.1:{}", admin.number()),
        ];
        // Its state is its own, unless it is told where that is.
        if !arguments.iter().any(|argument| argument.starts_with("--state-dir")) {
            all.push(format!("--state-dir={}", folder.path().join("state").display()));
        }
        all.extend(arguments.iter().map(ToString::to_string));
        let program = Program {
            path: "/usr/bin/env".into(),
            arguments: all,
            folder: folder.path().to_owned(),
            log: folder.path().join("bridge.log"),
        };
        let process = Process::spawn(&program, Lifetime::Owner)?;
        Ok(Self { process, program, admin, folder })
    }

    /// Starts it again after it was stopped or killed.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = Process::spawn(&self.program, Lifetime::Owner)?;
        self.until_ready().await
    }

    /// SIGTERM; it delivers what is under way, and is gone when this returns.
    pub async fn stop(&mut self) -> Result<()> {
        if !self.process.stop(STOP).await? {
            bail!("the bridge did not end within {STOP:?} of SIGTERM:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// Only sends SIGTERM. [`Bridge::ended`] awaits the end.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// Waits for the end of one that was told to.
    pub async fn ended(&mut self) -> Result<()> {
        if !self.process.ended_within(STOP).await {
            bail!("the bridge did not end within {STOP:?} of SIGTERM:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What Prometheus would read.
    pub async fn metrics(&self) -> Result<String> {
        http::get(self.admin.number(), "/metrics").await
    }

    /// Which process it is.
    pub fn process(&self) -> ProcessId {
        self.process.id()
    }

    /// Bytes that its state takes on disk.
    pub fn state_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for file in std::fs::read_dir(self.folder.path().join("state")).context("look at the state")? {
            // A file that has just gone takes nothing.
            bytes += file?.metadata().map_or(0, |metadata| metadata.blocks() * 512);
        }
        Ok(bytes)
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("bridge.log")).unwrap_or_default()
    }

    /// The last lines it logged, for errors.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The last lines it logged that name `what`.
    pub fn log_about(&self, what: &str) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    async fn until_ready(&mut self) -> Result<()> {
        let port = self.admin.number();
        let process = &mut self.process;
        let ready = eventually(START, "a ready bridge", || {
            let running = process.is_running();
            async move {
                if !running {
                    bail!("it ended");
                }
                http::get(port, "/readyz").await
            }
        });
        let ready = ready.await;
        ready.map(drop).with_context(|| format!("log of the bridge:\n{}", self.log_tail()))
    }
}
