//! `helm`, and the chart of this checkout.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::Binary;
use crate::{cache, root};

/// Where the chart is.
pub fn chart() -> Result<PathBuf> {
    Ok(root()?.join("charts/tidings"))
}

/// Runs `helm`, with `input` on its standard input, and answers what it printed. It reads nobody's settings, and keeps its
/// own files in the cache.
pub fn run(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(Binary::Helm.ensure()?);
    for (variable, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, cache::folder("helm")?.join(folder));
    }
    let mut child = command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run helm")?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("helm {} failed: {}", arguments.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the chart makes of `values` for a release `tidings` in `namespace`, without its CRDs.
pub fn template(namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let chart = chart()?.display().to_string();
    let yaml = run(
        &["template", "tidings", &chart, "--namespace", namespace, "--values", "-"],
        // JSON is YAML.
        &values.to_string(),
    )?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml).context("read what helm renders")?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}
