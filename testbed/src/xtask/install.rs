//! Installing what is missing, where that is wanted (`--install`, or `CI=true`) and possible.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cargo;
use crate::binaries::tools;
use crate::cache;

/// Which cargo-deny the checks were written for.
const CARGO_DENY: &str = "0.20.2";

/// Makes sure that everything in [`tools::ALL`] is there, installing Debian packages when `install` says so and we may.
pub(super) fn prerequisites(install: bool) -> Result<()> {
    let packages: Vec<_> = tools::missing(&tools::ALL)
        .iter()
        .filter_map(|missing| missing.tool.debian)
        .flat_map(str::split_whitespace)
        .collect();
    if install && !packages.is_empty() && is_root()? && Path::new("/etc/debian_version").exists() {
        println!("installing Debian packages: {}", packages.join(" "));
        apt_get(&["update"])?;
        apt_get(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    }
    tools::require(&tools::ALL)
}

/// cargo-deny: the one of the cache or of the PATH; with `install` put into the cache. `None` when there is none.
pub(super) fn cargo_deny(install: bool) -> Result<Option<PathBuf>> {
    let tools = cache::folder("tools")?;
    let cached = tools.join("bin/cargo-deny");
    let works = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    for program in [cached.clone(), PathBuf::from("cargo-deny")] {
        if works(&program) {
            return Ok(Some(program));
        }
    }
    if !install {
        return Ok(None);
    }
    println!("installing cargo-deny {CARGO_DENY} into the cache (once; some minutes)");
    let status = cargo()?
        .args(["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY, "--root"])
        .arg(&tools)
        .status()
        .context("run cargo install")?;
    if !status.success() {
        bail!("cargo install cargo-deny failed");
    }
    Ok(Some(cached))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "--quiet"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    if !command.status().context("run apt-get")?.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("look at this process")?.uid() == 0)
}
