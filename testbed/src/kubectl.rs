//! `kubectl`, for what people do by hand.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binaries::Binary;

/// Runs `kubectl` on the cluster of `kubeconfig`, with `input` on its standard input, and answers what it printed.
pub fn run(kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(Binary::Kubectl.ensure()?);
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run kubectl")?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("kubectl {} failed: {}", arguments.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Applies the resources in `yaml`.
pub fn apply(kubeconfig: &Path, namespace: &str, yaml: &str) -> Result<String> {
    run(
        kubeconfig,
        &["apply", "--server-side", "--force-conflicts", "--namespace", namespace, "-f", "-"],
        yaml,
    )
}
