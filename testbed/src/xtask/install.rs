//! Installing what is missing, where that is wanted (`--install`, or `CI=true`) and possible.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cargo;
use crate::binaries::tools::{self, Missing};
use crate::cache;
use crate::process::is_root;

/// Which Go is fetched where there is only an old one.
const GO: &str = "1.26.8";
/// Which cargo-deny the checks were written for.
const CARGO_DENY: &str = "0.20.2";

/// Keeps packages from starting the services they bring, RabbitMQ above all, while it lives; see `invoke-rc.d(8)`.
struct NoServices {
    /// Whether the policy is ours to remove.
    ours: bool,
}

const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing of [`tools::ALL`], as far as we may. What is still missing is told by those who need it.
pub(super) fn prerequisites() -> Result<()> {
    let missing = tools::missing(&tools::ALL);
    let absent = missing.iter().filter(|missing| missing.found.is_none());
    let mut packages: Vec<_> = absent.flat_map(|missing| missing.tool.debian.split_whitespace()).collect();
    packages.dedup();
    if !packages.is_empty() && is_root()? && Path::new("/etc/debian_version").exists() {
        println!("installing Debian packages: {}", packages.join(" "));
        let _guard = NoServices::new()?;
        apt_get(&["update"])?;
        apt_get(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    }
    match tools::missing(&[tools::GO]).as_slice() {
        [Missing { found: Some(_), .. }] => fetch_go(),
        _ => Ok(()),
    }
}

/// Puts a Go of our own into the cache. Any Go, however old, can download a newer one as a module, and checks it.
fn fetch_go() -> Result<()> {
    println!("the Go here is too old: fetching {GO} into the cache (once)");
    let folder = tools::go_folder()?;
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let module = format!("golang.org/toolchain@v0.0.1-go{GO}.linux-{architecture}");
    let output = Command::new("go")
        .args(["mod", "download", "-json", &module])
        // Not inside a module, least of all one that wants a newer Go.
        .current_dir("/")
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .output()
        .context("run go mod download")?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(downloaded) = answer["Dir"].as_str() else {
        bail!(
            "unable to fetch {module}: {}{}",
            answer["Error"],
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    };

    let unfinished = folder.with_extension("unfinished");
    let copy = Command::new("cp").args(["-RT", "--no-preserve=mode", downloaded]).arg(&unfinished).status();
    if !copy.context("run cp")?.success() {
        bail!("failed to copy {downloaded} to {}", unfinished.display());
    }
    // Modules keep no permissions.
    for programs in [unfinished.join("bin"), unfinished.join(format!("pkg/tool/linux_{architecture}"))] {
        for program in fs::read_dir(&programs).with_context(|| format!("read {}", programs.display()))? {
            fs::set_permissions(program?.path(), Permissions::from_mode(0o755))?;
        }
    }
    fs::rename(&unfinished, &folder).with_context(|| format!("move the new Go to {}", folder.display()))
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

// === impl NoServices ===

impl NoServices {
    fn new() -> Result<Self> {
        // Images of containers have one that says the same, and an administrator's own is respected.
        let ours = !Path::new(SERVICE_POLICY).exists();
        if ours {
            let describe = || format!("write {SERVICE_POLICY}");
            fs::write(SERVICE_POLICY, "#!/bin/sh\nexit 101\n").with_context(describe)?;
            fs::set_permissions(SERVICE_POLICY, Permissions::from_mode(0o755)).with_context(describe)?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(SERVICE_POLICY)
        {
            eprintln!("unable to remove {SERVICE_POLICY}, which keeps services from being started: {error}");
        }
    }
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
