//! The consumers of `examples/consumers`, which read with the SDKs of `CloudEvents` and with other people's clients.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tidings_testbed::binaries::Binary;
use tidings_testbed::folder::Folder;
use tidings_testbed::tidings::{Profile, build_binary};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, mpsc};
use tokio::time::timeout;

/// For everything that is read, on a machine that compiles meanwhile.
const PATIENCE: Duration = Duration::from_mins(2);

/// Whose SDK reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Rust,
}

/// A consumer, with what it has folded so far.
pub(crate) struct Consumer {
    pub(crate) language: Language,
    from: &'static str,
    arguments: Vec<String>,
    folder: Folder,
}

/// One that runs.
pub(crate) struct Running {
    language: Language,
    process: Child,
    output: mpsc::Receiver<String>,
}

/// What one has read that has ended well.
pub(crate) struct Read {
    /// Each Event in the JSON format, as its SDK wrote it.
    pub(crate) events: Vec<Value>,
    /// The objects that it holds in the end, by namespace/name.
    pub(crate) fold: Value,
}

// === impl Language ===

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::Rust];
}

// === impl Consumer ===

impl Consumer {
    /// The consumer of the broker called `from`.
    pub(crate) fn new(language: Language, from: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { language, from, arguments, folder: Folder::temporary("consumer").unwrap() }
    }

    /// Lets it make what it needs at the broker: a queue gets only what comes when it is there.
    pub(crate) async fn prepare(&self) {
        self.start(Some(0)).await.end().await;
    }

    /// Starts it, for `count` Events or until it is stopped.
    pub(crate) async fn start(&self, count: Option<usize>) -> Running {
        let Self { language, from, arguments, folder } = self;
        let mut command = match language {
            Language::Python => {
                let mut command = Command::new(Binary::Python.ensure_async().await.unwrap());
                let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/consumers/python");
                command.arg(scripts.join(format!("from_{from}.py"))).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Language::Rust => {
                let mut command = Command::new(program().await);
                command.arg(from);
                command
            }
        };
        command.args(arguments).arg("--json").arg("--database").arg(folder.path().join("todos.db"));
        if let Some(count) = count {
            command.args(["--count", &count.to_string()]);
        }
        // In its folder, so that whoever sweeps it finds what was left behind.
        command.current_dir(folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // Read at once: who cannot print does not acknowledge, and is told again.
        let (send, output) = mpsc::channel(10_000);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = send.send(line).await;
            }
        });
        Running { language: *language, process, output }
    }
}

// === impl Running ===

impl Running {
    /// The next Event that it reads.
    pub(crate) async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.output.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("{:?} reads nothing", self.language));
        line.unwrap_or_else(|| panic!("{:?} has ended", self.language)).parse().unwrap()
    }

    /// Kills it after `count` Events more, wherever it is then. What it has read.
    pub(crate) async fn kill_after(mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.next().await);
        }
        self.process.kill().await.unwrap();
        // And what it had said by then.
        while let Some(line) = self.output.recv().await {
            events.push(line.parse().unwrap());
        }
        events
    }

    /// Waits until it has read `count` different Events, and stops it. Everything is sent at least once, so it may be more.
    pub(crate) async fn reads(mut self, count: usize) -> Vec<Value> {
        let (mut events, mut ids) = (Vec::new(), BTreeSet::new());
        while ids.len() < count {
            let event = self.next().await;
            ids.insert(event["id"].to_string());
            events.push(event);
        }
        self.stop_after(0).await;
        events
    }

    /// Waits until it has read `count` Events more, and stops it as Kubernetes would. What it has read.
    pub(crate) async fn stop_after(mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.next().await);
        }
        let pid = Pid::from_raw(self.process.id().unwrap().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        events.extend(self.ended().await.iter().map(|line| line.parse::<Value>().unwrap()));
        events
    }

    /// What it has read, when it has all of it.
    pub(crate) async fn end(self) -> Read {
        let lines = self.ended().await;
        let mut lines: Vec<Value> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let fold = lines.pop().unwrap();
        Read { events: lines, fold }
    }

    /// Waits until it has ended with an error, and answers that.
    pub(crate) async fn fails(self) -> String {
        let language = self.language;
        let output = timeout(PATIENCE, self.process.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{language:?} goes on")).unwrap();
        assert_eq!(output.status.code(), Some(1), "{language:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until it has ended well, and answers the rest of what it has printed.
    async fn ended(mut self) -> Vec<String> {
        let language = self.language;
        let rest = async {
            let mut lines = Vec::new();
            while let Some(line) = self.output.recv().await {
                lines.push(line);
            }
            (lines, self.process.wait_with_output().await.unwrap())
        };
        let (lines, output) =
            timeout(PATIENCE, rest).await.unwrap_or_else(|_| panic!("{language:?} goes on"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{language:?}: {errors}");
        lines
    }
}

/// The consumers in Rust, built once per test process.
async fn program() -> PathBuf {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async {
        let build = || build_binary(Profile::Dev, "tidings-consumers");
        tokio::task::spawn_blocking(build).await.unwrap().unwrap()
    };
    PROGRAM.get_or_init(build).await.clone()
}

/// The Secret `broker` with the password of RabbitMQ's `guest`, which the service account `default` may read. Without a
/// Role, which would be told too.
pub(crate) fn secret_of_guest(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: broker}}\nstringData: {{password: guest}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: reads-broker}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\n\
         subjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]\n"
    )
}
