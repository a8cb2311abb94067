//! cargo-deny: licences, duplicates and sources block; advisories, which come from outside and change by themselves, do not.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Report;
use crate::xtask::{install, root};

pub(super) fn check(install: bool, report: &mut Report) -> Result<()> {
    let Some(program) = install::cargo_deny(install)? else {
        report.skip("dependencies: no cargo-deny (`cargo xtask test --install` gets it)".to_owned());
        return Ok(());
    };
    let deny = |checks: &[&str]| -> Result<Command> {
        let mut command = Command::new(&program);
        command.current_dir(root()?).args(["--all-features", "check", "--hide-inclusion-graph"]).args(checks);
        command.stdin(Stdio::null());
        Ok(command)
    };

    println!("--- cargo deny check bans licenses sources");
    if deny(&["bans", "licenses", "sources"])?.status().context("run cargo-deny")?.success() {
        report.counts.passed += 1;
    } else {
        report.fail("cargo deny check failed; deny.toml has the rules".to_owned());
    }

    println!("--- cargo deny check advisories");
    let output = deny(&["advisories"])?.output().context("run cargo-deny")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        report.counts.passed += 1;
    } else if text.contains("failed to fetch advisory database") {
        report.skip("advisories: their database cannot be reached".to_owned());
    } else {
        eprint!("{text}");
        report
            .notes
            .push("there are advisories on dependencies (not counted as a failure): see above".to_owned());
    }
    Ok(())
}
