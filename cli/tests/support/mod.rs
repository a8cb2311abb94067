//! Running the binary with nothing of the tester's own environment.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// The binary, with an environment that holds only `PATH` and an empty home.
pub(crate) fn tidings<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// What it wrote to standard error.
#[allow(dead_code)] // not every test file needs it
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it wrote to standard output.
#[allow(dead_code)] // not every test file needs it
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
