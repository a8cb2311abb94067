//! Which crate may import which, and that the core stays pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// What each crate may import of the others. Tests may import more (the testbed, mostly).
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("tidings-core", &[]),
    ("tidings-config", &["tidings-core"]),
    ("tidings-crds", &["tidings-core", "tidings-config"]),
    ("tidings-sinks", &["tidings-core", "tidings-config"]),
    ("tidings-bridge", &["tidings-core", "tidings-config", "tidings-crds", "tidings-sinks"]),
    ("tidings-webhook", &["tidings-core", "tidings-config", "tidings-crds"]),
    (
        "tidings",
        &[
            "tidings-core",
            "tidings-config",
            "tidings-crds",
            "tidings-sinks",
            "tidings-bridge",
            "tidings-webhook",
        ],
    ),
    ("tidings-testbed", &[]),
    ("tidings-e2e", &["tidings-crds", "tidings-testbed"]),
    // What an application would copy has nothing of ours.
    ("tidings-consumers", &[]),
];

/// Crates that do I/O or bring the clock or chance, by how their names begin.
const IMPURE: [&str; 22] = [
    "async-nats",
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "getrandom",
    "h2",
    "hyper",
    "jiff",
    "kube",
    "lapin",
    "mio",
    "quinn",
    "rand",
    "rdkafka",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "time",
    "tokio",
];

fn metadata() -> Result<Metadata> {
    let manifest = root()?.join("Cargo.toml");
    Ok(MetadataCommand::new().manifest_path(manifest).other_options(vec!["--locked".to_owned()]).exec()?)
}

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent folder")?.to_owned())
}

/// What `package` depends on outside of tests: the packages it is built from or with.
fn dependencies<'a>(metadata: &'a Metadata, package: &PackageId) -> Result<Vec<&'a PackageId>> {
    let nodes = &metadata.resolve.as_ref().context("no resolved dependencies")?.nodes;
    let node = nodes.iter().find(|node| node.id == *package).context("package not resolved")?;
    let shipped = node.deps.iter().filter(|dependency| {
        dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
    });
    Ok(shipped.map(|dependency| &dependency.pkg).collect())
}

#[test]
fn crates_import_only_what_lies_before_them() -> Result<()> {
    let metadata = metadata()?;
    let allowed: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let ours = metadata.workspace_packages();
    let mut wrong = Vec::new();
    for package in &ours {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{} is a new crate: say here what it may import", package.name));
            continue;
        };
        for id in dependencies(&metadata, &package.id)? {
            let Some(imported) = ours.iter().find(|ours| ours.id == *id) else { continue };
            if !allowed.contains(&imported.name.as_str()) {
                wrong.push(format!("{} must not import {}", package.name, imported.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What does none of that itself, whatever it is built from and with: `cel` evaluates expressions, in which there is no word for the
/// clock or for chance, with a crate of calendars and a parser's; `stacker` calls with a larger stack, by assembly that somebody has to
/// compile.
const PURE: [&str; 2] = ["cel", "stacker"];

#[test]
fn the_core_is_built_from_nothing_that_does_io() -> Result<()> {
    let metadata = metadata()?;
    let core = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == "tidings-core")
        .unwrap();
    let mut seen = BTreeSet::new();
    let mut next = VecDeque::from([&core.id]);
    while let Some(package) = next.pop_front() {
        if seen.insert(package) && !PURE.contains(&metadata[package].name.as_str()) {
            next.extend(dependencies(&metadata, package)?);
        }
    }
    assert!(seen.len() > 1, "the core depends on nothing at all, which this test does not believe");
    for id in seen {
        let name = metadata[id].name.as_str();
        let impure = IMPURE.iter().any(|crate_| {
            name.strip_prefix(crate_).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
        });
        assert!(!impure, "tidings-core is built with {name} (see `cargo tree -p tidings-core -e normal`)");
    }
    Ok(())
}

/// Headers of the pipeline's modules say what comes before and next, so that one can walk it without search.
#[test]
fn the_walk_leads_from_file_to_file() -> Result<()> {
    let mut wrong = Vec::new();
    let mut steps = 0;
    for crate_ in ["core", "config", "crds", "sinks", "bridge"] {
        for file in rust_files(&root()?.join(crate_).join("src"))? {
            for line in fs::read_to_string(&file)?.lines() {
                let Some(line) = line.strip_prefix("//! ") else { continue };
                let Some(target) = ["Before: ", "Next: "].iter().find_map(|word| line.strip_prefix(word))
                else {
                    continue;
                };
                steps += 1;
                // Plain paths; words may follow.
                let path =
                    target.split_whitespace().next().unwrap_or_default().trim_matches(['`', ',', ';', '.']);
                if !root()?.join(path).is_file() {
                    wrong.push(format!("{}: there is no {path:?}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(steps > 0, "no module says where the walk goes on");
    Ok(())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
