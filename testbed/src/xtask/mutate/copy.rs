//! A copy of the checkout to make mistakes in, kept between runs so that only what changed is compiled again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cache, root};

/// The copy. Nobody else uses it while this value lives.
pub(super) struct Copy {
    folder: PathBuf,
    _lock: File,
}

// === impl Copy ===

impl Copy {
    /// Brings the copy to what the checkout is now: what is committed, what is not, and nothing that is ignored.
    pub(super) fn make() -> Result<Self> {
        let folder = cache::folder("mutate")?;
        let lock = cache::lock(&folder.join(".lock"), Some("another mutate is at work; waiting for it"))?;
        let copy = Self { folder, _lock: lock };
        let root = root()?;
        let files = listed(&root, &["--cached", "--others", "--exclude-standard"])?;
        for file in &files {
            // Deleted and not yet committed.
            let Ok(bytes) = fs::read(root.join(file)) else { continue };
            let path = copy.tree().join(file);
            // What is the same keeps its time, by which cargo knows that nothing changed.
            if fs::read(&path).ok().as_ref() != Some(&bytes) {
                fs::create_dir_all(path.parent().context("a file without a folder")?)?;
                fs::write(&path, bytes).with_context(|| format!("copy {file}"))?;
            }
        }
        copy.remove_others(&copy.tree(), &root, &files)?;
        Ok(copy)
    }

    /// Its root.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Where it is compiled.
    pub(super) fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// Removes what is not in the checkout any more.
    fn remove_others(&self, folder: &Path, root: &Path, files: &BTreeSet<String>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.remove_others(&path, root, files)?;
                continue;
            }
            let name = path.strip_prefix(self.tree())?.to_str().context("a file name is not UTF-8")?;
            if !files.contains(name) || !root.join(name).exists() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn listed(root: &Path, which: &[&str]) -> Result<BTreeSet<String>> {
    let output = Command::new("git").arg("ls-files").arg("-z").args(which).current_dir(root).output();
    let output = output.context("run git")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect())
}
