//! Programs this project expects on the machine: found, old enough to be refused, or missing, all told at once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::{KUBERNETES, installed};
use crate::cache;

/// A program somebody has to install.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// How it is called.
    pub name: &'static str,
    /// What it is for here.
    pub purpose: &'static str,
    /// The Debian packages that bring it.
    pub debian: &'static str,
    version: &'static [&'static str],
    minimum: fn() -> Option<Version>,
    install: &'static str,
}

/// Numbers of a version, compared in order.
pub type Version = [u32; 3];

/// Builds the components.
pub const GO: Tool = Tool {
    name: "go",
    purpose: "builds etcd, Kubernetes, kubectl, helm and nats-server",
    // Often too old, but able to fetch a newer one.
    debian: "golang-go",
    version: &["version"],
    // What go.mod asks for is what Go itself would insist on, in more words.
    minimum: || KUBERNETES.file.lines().find_map(|line| line.strip_prefix("go ").and_then(parse)),
    install: "from https://go.dev/dl, or any Go from 1.21 on with GOTOOLCHAIN=auto, which fetches the right one itself",
};

const SETPRIV: Tool = Tool {
    name: "setpriv",
    purpose: "makes components die with the test that started them (Linux only)",
    debian: "util-linux",
    version: &["--version"],
    minimum: || Some([2, 33, 0]),
    install: "package util-linux",
};

const SETSID: Tool = Tool {
    name: "setsid",
    purpose: "lets `cargo xtask up` leave components running",
    debian: "util-linux",
    version: &["--version"],
    minimum: || None,
    install: "package util-linux",
};

/// Runs Kafka.
pub const JAVA: Tool = Tool {
    name: "java",
    purpose: "runs Kafka",
    debian: "default-jre-headless",
    version: &["--version"],
    minimum: || Some([17, 0, 0]),
    install: "package default-jre-headless (Debian), java-21-openjdk-headless (Fedora), openjdk21-jre-headless (Alpine)",
};

const MAVEN: Tool = Tool {
    name: "mvn",
    purpose: "fetches Kafka",
    debian: "maven",
    version: &["--batch-mode", "--version"],
    minimum: || Some([3, 6, 3]),
    install: "package maven",
};

/// The one broker that is neither built nor fetched.
pub const RABBITMQ: Tool = Tool {
    name: "rabbitmq-server",
    purpose: "the RabbitMQ broker, of which the testbed runs its own node; the system's need not run",
    debian: "rabbitmq-server",
    // Not asked: it would start a node.
    version: &[],
    minimum: || Some([3, 10, 0]),
    install: "package rabbitmq-server (Debian 12 or newer), or from https://www.rabbitmq.com",
};

/// Reads Events with the official SDK.
pub const PYTHON: Tool = Tool {
    name: "python3",
    purpose: "runs the consumers of examples/consumers/python, which tests read Events with",
    debian: "python3 python3-venv",
    // Fails where Debian has left out what makes virtual environments.
    version: &["-c", "import ensurepip, platform; print(platform.python_version())"],
    minimum: || Some([3, 10, 0]),
    install: "package python3-venv (Debian), python3 (Fedora, Alpine)",
};

/// Looks for mistakes in scripts.
pub const SHELLCHECK: Tool = Tool {
    name: "shellcheck",
    purpose: "looks for mistakes in the scripts for people",
    debian: "shellcheck",
    version: &["--version"],
    minimum: || Some([0, 8, 0]),
    install: "package shellcheck (Debian, Alpine), ShellCheck (Fedora)",
};

const CC: Tool = Tool {
    name: "cc",
    purpose: "compiles the C parts of Rust dependencies (TLS)",
    debian: "gcc libc6-dev",
    version: &["--version"],
    minimum: || None,
    install: "package gcc and libc6-dev (Debian), gcc (Fedora), build-base (Alpine)",
};

/// What building and running the components takes.
pub const BUILD: [Tool; 3] = [GO, SETPRIV, SETSID];

/// What fetching and running Kafka takes.
pub const KAFKA: [Tool; 4] = [JAVA, MAVEN, SETPRIV, SETSID];

/// What everything in this repository takes, besides Rust itself and what compiles C.
pub const ALL: [Tool; 9] = [GO, CC, SETPRIV, SETSID, JAVA, MAVEN, RABBITMQ, PYTHON, SHELLCHECK];

/// A tool that cannot be used, and why.
#[derive(Debug)]
pub struct Missing {
    /// Which one.
    pub tool: Tool,
    /// The version that is too old; `None` when there is no such program.
    pub found: Option<Version>,
}

/// The Go to use: one that was [put into the cache](go_folder), else the one of the PATH.
pub fn go() -> PathBuf {
    let cached = go_folder().map(|folder| folder.join("bin/go"));
    cached.ok().filter(|go| go.exists()).unwrap_or_else(|| PathBuf::from("go"))
}

/// Where a Go of our own is, if the machine's was missing or too old and installing was allowed.
pub fn go_folder() -> Result<PathBuf> {
    Ok(cache::folder("tools")?.join("go"))
}

/// Those of `tools` that are missing or too old.
pub fn missing(tools: &[Tool]) -> Vec<Missing> {
    tools.iter().filter_map(|tool| tool.check().err()).collect()
}

/// Fails with one message about all of `tools` that are missing or too old.
pub fn require(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let mut message = "this machine lacks what the testbed needs:".to_owned();
    for Missing { tool, found } in missing {
        let wanted = (tool.minimum)().map_or(String::new(), |version| format!(" {} or newer", show(version)));
        let found = found.map_or("not found".to_owned(), |version| format!("found {}", show(version)));
        // Writing to a String cannot fail.
        let _ = write!(
            message,
            "\n  {}{wanted} ({found}): {}\n    install: {}",
            tool.name, tool.purpose, tool.install
        );
    }
    bail!(message)
}

// === impl Tool ===

impl Tool {
    fn check(&self) -> Result<(), Missing> {
        if self.name == RABBITMQ.name {
            let found = installed::rabbitmq().and_then(|installed| parse(&installed.version));
            return if found >= (self.minimum)() { Ok(()) } else { Err(Missing { tool: *self, found }) };
        }
        let program = if self.name == GO.name { go() } else { self.name.into() };
        let output = Command::new(program)
            .args(self.version)
            // Where the Go module is, `go version` names the toolchain that will build it.
            .current_dir(KUBERNETES.path().unwrap_or_else(|_| Path::new(".").to_owned()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let Ok(output) = output else { return Err(Missing { tool: *self, found: None }) };
        let Some(minimum) = (self.minimum)() else { return Ok(()) };
        match parse(&String::from_utf8_lossy(&output.stdout)) {
            Some(version) if version >= minimum => Ok(()),
            found => Err(Missing { tool: *self, found }),
        }
    }
}

/// The first thing in `text` that looks like a version: `go version go1.26.8 linux/amd64`, `setpriv from util-linux 2.38.1`.
pub(super) fn parse(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches(|character: char| !character.is_ascii_digit());
        let mut numbers = word.split('.').map(|part| {
            let digits = part.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
            digits.parse().ok()
        });
        Some([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)])
    })
}

fn show([major, minor, patch]: Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_tools_print() {
        assert_eq!(parse("go version go1.26.8 linux/amd64"), Some([1, 26, 8]));
        assert_eq!(parse("go version go1.27rc1 linux/amd64"), Some([1, 27, 0]));
        assert_eq!(parse("setpriv from util-linux 2.38.1"), Some([2, 38, 1]));
        assert_eq!(parse("no version here"), None);
    }

    #[test]
    fn every_missing_or_old_tool_is_named_with_the_version_needed_and_how_to_install_it() {
        let absent = Tool { name: "tidings-no-such-tool", minimum: || Some([3, 1, 0]), ..GO };
        let old = Tool { minimum: || Some([9, 0, 0]), ..SETPRIV };
        let message = require(&[absent, old]).unwrap_err().to_string();
        assert!(message.contains("tidings-no-such-tool 3.1.0 or newer (not found)"), "{message}");
        assert!(message.contains("setpriv 9.0.0 or newer (found 2."), "{message}");
        assert!(message.contains("install: package util-linux"), "{message}");
    }
}
