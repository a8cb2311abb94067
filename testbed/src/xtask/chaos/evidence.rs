//! What is kept of a round that failed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::stage::{Heard, Stage};

/// Copies every log into `folder`, and writes what was published in the round.
pub(super) fn keep(stage: &mut Stage, heard: &[Heard], folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("bridge.log"), stage.bridge.log())?;
    fs::copy(stage.control_plane.api_server.log(), folder.join("kube-apiserver.log"))?;
    fs::copy(stage.control_plane.etcd.log(), folder.join("etcd.log"))?;
    if let Some(log) = stage.broker.log() {
        fs::copy(log, folder.join("broker.log"))?;
    }
    for Heard { subscription, events, findings } in heard {
        let mut text = String::new();
        for event in events {
            let attribute = |name| event.attribute(name);
            writeln!(
                text,
                "{} {} {} {} {} gap={}",
                event.stored,
                attribute("sequence"),
                attribute("subject"),
                attribute("id"),
                event.change(),
                attribute("gap")
            )?;
        }
        fs::write(folder.join(format!("{subscription}.events")), text)?;
        fs::write(folder.join(format!("{subscription}.findings")), format!("{findings:#?}\n"))?;
    }
    Ok(())
}
