//! The consumers of `examples/consumers`, which read with the SDKs of `CloudEvents` and with other people's clients.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tidings_testbed::binaries::Binary;
use tidings_testbed::folder::Folder;
use tidings_testbed::tidings::{Profile, build_binary};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// For everything that is read, on a machine that compiles meanwhile.
const PATIENCE: Duration = Duration::from_mins(2);

/// Whose SDK reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Rust,
}

/// A consumer that runs until it has so many Events.
pub(crate) struct Reader {
    pub(crate) language: Language,
    process: Child,
    /// With what it has folded.
    _folder: Folder,
}

/// What a consumer read.
pub(crate) struct Read {
    /// Each Event in the JSON format, as its SDK wrote it.
    pub(crate) events: Vec<Value>,
    /// The objects that it holds in the end, by namespace/name.
    pub(crate) fold: Value,
}

// === impl Language ===

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::Rust];

    /// Starts the consumer of the broker called `from`, for `count` Events.
    pub(crate) async fn read(self, from: &str, arguments: &[&str], count: usize) -> Reader {
        let folder = Folder::temporary("consumer").unwrap();
        let mut command = match self {
            Self::Python => {
                let mut command = Command::new(Binary::Python.ensure_async().await.unwrap());
                let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/consumers/python");
                command.arg(scripts.join(format!("from_{from}.py"))).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::Rust => {
                let mut command = Command::new(consumers().await);
                command.arg(from);
                command
            }
        };
        command.args(arguments).args(["--json", "--count", &count.to_string()]);
        command.arg("--database").arg(folder.path().join("todos.db"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // In its folder, so that whoever sweeps it finds what was left behind.
        let process = command.current_dir(folder.path()).spawn().unwrap();
        Reader { language: self, process, _folder: folder }
    }
}

// === impl Reader ===

impl Reader {
    /// Waits until it has ended well.
    pub(crate) async fn end(self) -> Read {
        let Self { language, process, _folder } = self;
        let output = tokio::time::timeout(PATIENCE, process.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{language:?} did not read everything")).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{language:?}: {errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fold = lines.pop().unwrap();
        Read { events: lines, fold }
    }
}

/// The program of the consumers in Rust, built once per test process.
async fn consumers() -> PathBuf {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    let build = || async {
        let build = || build_binary(Profile::Dev, "tidings-consumers");
        tokio::task::spawn_blocking(build).await.unwrap().unwrap()
    };
    PROGRAM.get_or_init(build).await.clone()
}
