//! Jars from Maven's repository: what a pinned project depends on, in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::build::with_progress;
use crate::cache;

/// A Maven project of this crate that only lists what to fetch.
#[derive(Clone, Copy)]
pub(super) struct Project {
    pub(super) folder: &'static str,
    pub(super) file: &'static str,
    /// The property that holds the version.
    pub(super) version: &'static str,
    /// How long it takes at most.
    pub(super) seconds: u32,
}

// === impl Project ===

impl Project {
    /// The pinned version. Empty when the project does not name it, which a test excludes.
    pub(super) fn version(self) -> &'static str {
        let (open, close) = (format!("<{}>", self.version), format!("</{}>", self.version));
        let text = self.file.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        text.map_or("", |(version, _)| version.trim())
    }

    /// Puts the jars into the folder `target`, which appears only when it is complete.
    pub(super) fn fetch(self, name: &str, target: &Path) -> Result<()> {
        let title = format!("fetching {name} {} with Maven (once; up to {} s)", self.version(), self.seconds);
        // One process fetches at a time (the caller's lock), and a broken attempt is overwritten.
        let unfinished = target.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
        }
        fs::create_dir_all(&unfinished).with_context(|| format!("create folder {}", unfinished.display()))?;

        let mut command = Command::new("mvn");
        command
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(self.path()?.join("pom.xml"))
            // The user's own repository stays as it is.
            .arg(format!("-Dmaven.repo.local={}", cache::folder("tools/maven")?.display()))
            .arg(format!("-DoutputDirectory={}", unfinished.display()))
            .arg("dependency:copy-dependencies")
            .stdin(Stdio::null());
        if let Err(output) = with_progress(&title, command).context("run mvn")? {
            bail!("mvn failed to fetch {name}:\n{}", output.trim_end());
        }
        if fs::read_dir(&unfinished)?.next().is_none() {
            bail!("mvn fetched no jar of {name}");
        }
        fs::rename(&unfinished, target).with_context(|| format!("move the jars to {}", target.display()))
    }

    fn path(self) -> Result<PathBuf> {
        super::pinned(self.folder, "pom.xml")
    }
}
