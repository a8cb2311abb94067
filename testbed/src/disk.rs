//! A small disk of the bridge's own, which can be full.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::folder::Folder;
use crate::process::is_root;

/// Enough for the state of a round, and filled at once.
pub const SIZE: u64 = 64 << 20;

/// A mounted tmpfs.
#[derive(Debug)]
pub struct Disk {
    // Unmounted on drop, and then removed.
    folder: Folder,
}

// === impl Disk ===

impl Disk {
    /// Mounts one, where that is allowed.
    pub fn mount() -> Result<Option<Self>> {
        if !is_root()? {
            eprintln!("no full disks: only root may mount one");
            return Ok(None);
        }
        let folder = Folder::temporary("disk")?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tidings-chaos"]).arg(folder.path());
        let status = mount.status().context("run mount")?;
        if !status.success() {
            eprintln!("no full disks: a tmpfs cannot be mounted here");
            return Ok(None);
        }
        Ok(Some(Self { folder }))
    }

    /// The folder on it that the bridge gets.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Takes every byte that is left, also what became free since the last time.
    pub fn fill(&self) -> Result<()> {
        let file = OpenOptions::new().append(true).create(true).open(self.filler());
        let mut file = file.context("fill the disk")?;
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
    }

    /// Gives them back.
    pub fn free(&self) -> Result<()> {
        let filler = self.filler();
        ensure!(filler.exists(), "the disk is not full");
        fs::remove_file(filler).context("free the disk")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(self.folder.path());
    }
}

fn unmount(path: &Path) {
    // Lazily: nobody may hold up the end. What cannot be unmounted now is swept by the next process.
    let _ = Command::new("umount").arg("--lazy").arg(path).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        // Said on stderr: not everybody may mount.
        let Some(disk) = Disk::mount().unwrap() else { return };
        disk.fill().unwrap();
        let full = fs::write(disk.path(), [0; 8192]).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        disk.free().unwrap();
        fs::write(disk.path(), [0; 8192]).unwrap();
    }
}
