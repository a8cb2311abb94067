//! A child process that can be signalled, waited for, and never outlives its owner by accident.
//!
//! The kernel kills a child on the death of the *thread* that made it (`PR_SET_PDEATHSIG`), so all of them come from one
//! thread that lives as long as the process. `setpriv` sets the signal and then becomes the program, which spares us
//! `unsafe` code between fork and exec.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Within this a process stops that is told to.
const STOPPED: Duration = Duration::from_secs(5);

/// How long a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// No longer than this process: killed on drop, and by the kernel when this process dies.
    Owner,
    /// Until somebody stops it.
    Detached,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its working folder.
    pub folder: PathBuf,
    /// Where its output is appended.
    pub log: PathBuf,
}

/// A process, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number the kernel gave it.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub ticks: u64,
}

/// A running or ended process.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    /// `None` for a process some other program started.
    child: Option<Child>,
    lifetime: Lifetime,
}

type Request = (Command, SyncSender<io::Result<Child>>);

// === impl Process ===

impl Process {
    /// Starts `program`. Whether it comes up is for the caller to find out.
    pub fn spawn(program: &Program, lifetime: Lifetime) -> Result<Self> {
        let Program { path, arguments, folder, log } = program;
        let mut command = match lifetime {
            Lifetime::Owner => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]);
                command
            }
            Lifetime::Detached => {
                // Its own session, so that neither Ctrl-C nor the end of the terminal reaches it.
                let mut command = Command::new("setsid");
                command.arg("--");
                command
            }
        };
        let output = File::options().create(true).append(true).open(log).context("open the log file")?;
        command.arg(path).args(arguments).current_dir(folder).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("start {} (through util-linux)", path.display()))?;
        let pid = child.id();
        let ticks = start_ticks(pid).context("the process is gone at once")?;
        Ok(Self { id: ProcessId { pid, ticks }, child: Some(child), lifetime })
    }

    /// The process somebody else started, if it still runs.
    pub fn find(id: ProcessId) -> Option<Self> {
        id.is_running().then_some(Self { id, child: None, lifetime: Lifetime::Detached })
    }

    /// Which process this is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            // Also collects the child, which else would stay as a zombie.
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => self.id.is_running(),
        }
    }

    /// Returns when a process that was sent SIGSTOP is stopped in all its threads.
    pub fn until_stopped(&self) -> Result<()> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.id.pid));
        let deadline = Instant::now() + STOPPED;
        loop {
            let mut stopped = true;
            for task in fs::read_dir(&tasks).with_context(|| format!("read {}", tasks.display()))? {
                // A thread may end while this is read.
                let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
                let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
                stopped &= matches!(state, None | Some("T" | "t" | "Z" | "X"));
            }
            if stopped {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("process {} does not stop", self.id.pid);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends `signal`. A process that has ended already is no error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let pid = i32::try_from(self.id.pid).context("process number out of range")?;
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to process {pid}")),
        }
    }

    /// Waits until it has ended. False when it still runs after `patience`.
    pub async fn ended_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Ends it the polite way: SIGTERM, and SIGKILL when it still runs after `patience`. Says whether it went politely.
    pub async fn stop(&mut self, patience: Duration) -> Result<bool> {
        self.signal(Signal::SIGTERM)?;
        // A paused process would not see it.
        self.signal(Signal::SIGCONT)?;
        if self.ended_within(patience).await {
            return Ok(true);
        }
        self.kill()?;
        Ok(false)
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        if let Some(child) = &mut self.child {
            child.wait().context("wait for a killed process")?;
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.id.is_running() {
            if Instant::now() > deadline {
                bail!("process {} does not end, not even by SIGKILL", self.id.pid);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Owner {
            // Nobody is left to tell; the kernel kills it at the latest when this process ends.
            let _ = self.kill();
        }
    }
}

// === impl ProcessId ===

impl ProcessId {
    /// Whether this very process still runs.
    pub fn is_running(self) -> bool {
        start_ticks(self.pid) == Some(self.ticks)
    }
}

/// When process `pid` started, in clock ticks since boot; `None` when there is none, or only its remains.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything; see proc(5).
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(ticks)
}

fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            // The sender is never dropped, so this thread ends with the process.
            for (mut command, answer) in requests {
                // Who asked may have gone; then the child is dropped, and dies with us.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::sync_channel(1);
    spawner.send((command, answer)).context("the thread that starts processes is gone")?;
    Ok(child.recv().context("the thread that starts processes is gone")??)
}

/// Whether this process may do anything.
pub(crate) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("look at this process")?.uid() == 0)
}
