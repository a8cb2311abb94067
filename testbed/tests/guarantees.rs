//! `docs/guarantees.md` names a test for what it promises, and those tests exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What holds more than one rule.
const SUITES: [&str; 4] = ["*model*", "*simulation*", "*chaos*", "*conformance*"];

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent folder")?.to_owned())
}

/// The names of all tests of the workspace.
fn tests(folder: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && !path.ends_with("target") {
            tests(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            // `#[test]`, `#[tokio::test]` and `#[tokio::test(start_paused = true)]`.
            let text = text.replace("test(start_paused = true)]\n", "test]\n");
            for after in text.split("test]\n").skip(1) {
                let name = after.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                names.extend(name.map(str::to_owned));
            }
            // `case!(Calm, well::what_is_acked_is_there_once)`, which is a test for each kind of sink.
            for case in text.split("case!(").skip(1) {
                let path = case.split(')').next().and_then(|case| case.split(',').nth(1));
                let name = path.and_then(|path| path.trim().split_once("::"));
                names.extend(name.map(|(_, name)| name.to_owned()));
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_promised_names_tests_that_exist() -> Result<()> {
    let root = root()?;
    let text = fs::read_to_string(root.join("docs/guarantees.md"))?;
    let mut names = BTreeSet::new();
    tests(&root, &mut names)?;
    let (promises, notes) = text.split_once("\n[^").context("there are no notes")?;
    let notes: Vec<_> = notes.split("\n[^").collect();
    let mut described = BTreeSet::new();
    for note in notes {
        let (label, note) = note.split_once("]:").context("a note without a label")?;
        described.insert(label);
        // Every second piece is between two marks of code.
        let code = note.split('`').skip(1).step_by(2);
        let named: Vec<_> = code.filter(|code| code.contains('_') && !code.contains('/')).collect();
        for name in &named {
            ensure!(names.contains(*name), "note {label}: there is no test {name}");
        }
        let held = !named.is_empty() || SUITES.iter().any(|suite| note.contains(suite));
        ensure!(held, "note {label} names no test");
    }
    let used = promises.split("[^").skip(1).filter_map(|rest| Some(rest.split_once(']')?.0));
    let used: BTreeSet<_> = used.collect();
    assert_eq!(used, described, "notes that are used, and notes that are there");
    Ok(())
}
