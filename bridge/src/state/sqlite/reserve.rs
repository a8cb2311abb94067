//! A file that holds room on the disk for the moment when there is none: without it nothing could be removed from a
//! full disk, because removing has to be written down first.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::files::{Files, MODE};

/// Enough to write down that some gigabytes are free.
const SIZE: u64 = 4 << 20;

/// The room that is held.
pub(super) struct Reserve {
    held: bool,
}

// === impl Reserve ===

impl Reserve {
    /// What an earlier process left.
    pub(super) fn find(files: &Files) -> Self {
        Self { held: fs::metadata(files.reserve()).is_ok_and(|metadata| metadata.len() >= SIZE) }
    }

    /// Takes the room, if there is enough now.
    pub(super) fn hold(&mut self, files: &Files) {
        if self.held {
            return;
        }
        let path = files.reserve();
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&path);
        let written = file.and_then(|mut file: File| {
            let zeros = vec![0; 64 << 10];
            for _ in 0..SIZE / zeros.len() as u64 {
                file.write_all(&zeros)?;
            }
            Ok(())
        });
        self.held = written.is_ok();
        if !self.held {
            // Half a reserve only makes the disk fuller.
            let _ = fs::remove_file(&path);
        }
    }

    /// Gives the room back; says whether there was any.
    pub(super) fn release(&mut self, files: &Files) -> bool {
        std::mem::take(&mut self.held) && fs::remove_file(files.reserve()).is_ok()
    }
}
