//! A Python with the packages of a pinned list.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::build::with_progress;

/// A virtual environment with what a `requirements.txt` lists.
#[derive(Clone, Copy)]
pub(super) struct Environment {
    /// Where the list is, from the root of the checkout.
    pub(super) list: &'static str,
    pub(super) text: &'static str,
    /// The package that the environment is called after.
    pub(super) package: &'static str,
    /// How long it takes at most.
    pub(super) seconds: u32,
}

// === impl Environment ===

impl Environment {
    /// The pinned version of its package, and a word that differs when anything in the list does.
    pub(super) fn version(self) -> String {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        format!("{}-{:016x}", self.pinned(), hasher.finish())
    }

    /// Empty when the list does not name the package, which a test excludes.
    pub(super) fn pinned(self) -> &'static str {
        let mut lines = self.text.lines().filter_map(|line| line.split_once("=="));
        lines.find(|(name, _)| *name == self.package).map_or("", |(_, version)| version.trim())
    }

    /// The interpreter in the environment `folder`.
    pub(super) fn interpreter(folder: &Path) -> PathBuf {
        folder.join("bin/python")
    }

    /// Makes the environment in the folder of the interpreter `target`, which appears only when it is complete.
    pub(super) fn make(self, target: &Path) -> Result<()> {
        let folder = target.parent().and_then(Path::parent).context("an interpreter without a folder")?;
        // One process makes it at a time (the caller's lock), and a broken attempt is overwritten. The interpreter finds
        // its packages beside itself, so the folder can be moved.
        let unfinished = folder.with_file_name("python.unfinished");
        let title = format!(
            "making a Python with {} {} (once; up to {} s)",
            self.package,
            self.pinned(),
            self.seconds
        );
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(&unfinished).stdin(Stdio::null());
        if let Err(output) = with_progress(&title, command).context("run python3")? {
            bail!("python3 -m venv failed:\n{}", output.trim_end());
        }
        let mut command = Command::new(Self::interpreter(&unfinished));
        command.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--requirement"]);
        command.arg(super::pinned_file(self.list)?).stdin(Stdio::null());
        if let Err(output) = with_progress("fetching its packages", command).context("run pip")? {
            bail!("pip failed to install what {} lists:\n{}", self.list, output.trim_end());
        }
        if folder.exists() {
            // The interpreter that it was made from is gone.
            fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::rename(&unfinished, folder)
            .with_context(|| format!("move the new Python to {}", folder.display()))
    }
}
