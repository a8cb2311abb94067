//! shellcheck, over every script for people and for CI.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Report;
use crate::binaries::tools::{self, SHELLCHECK};
use crate::xtask::{in_ci, root};

pub(super) fn check(report: &mut Report) -> Result<()> {
    if let Err(missing) = tools::require(&[SHELLCHECK]) {
        let note = format!("scripts: {missing:#}");
        if in_ci() {
            report.fail(note);
        } else {
            report.skip(note);
        }
        return Ok(());
    }
    println!("--- shellcheck");
    // What they source lies beside them.
    let mut command = Command::new(SHELLCHECK.name);
    command.current_dir(root()?).args(["--external-sources", "--source-path=SCRIPTDIR"]).args(scripts()?);
    if command.stdin(Stdio::null()).status().context("run shellcheck")?.success() {
        report.counts.passed += 1;
    } else {
        report.fail("shellcheck found something in a script".to_owned());
    }
    Ok(())
}

fn scripts() -> Result<Vec<PathBuf>> {
    let mut scripts = vec![PathBuf::from(".ci/run")];
    for entry in fs::read_dir(root()?.join("kind")).context("look for scripts")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            scripts.push(path);
        }
    }
    Ok(scripts)
}
