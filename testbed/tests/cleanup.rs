//! Components go away with whoever started them, however that ended.
//!
//! A test starts this very program again with `ROLE` set, so that there is an owner to kill.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tidings_testbed::component::Home;
use tidings_testbed::folder;
use tidings_testbed::nats::{Nats, NatsOptions};
use tidings_testbed::process::{Process, ProcessId};
use tidings_testbed::wait::eventually;

const ROLE: &str = "TIDINGS_TESTBED_CLEANUP_ROLE";
const SOON: Duration = Duration::from_secs(30);

/// What an owner tells about the component it started.
#[derive(Serialize, Deserialize)]
struct Started {
    process: ProcessId,
    folder: PathBuf,
}

/// Does nothing unless a test below runs it: starts a NATS, tells about it, and waits to be killed.
#[tokio::test]
async fn owner() -> Result<()> {
    let Ok(role) = env::var(ROLE) else { return Ok(()) };
    let home = if role == "temporary" { Home::Temporary } else { Home::Detached(PathBuf::from(&role)) };
    // From a thread that ends at once: the component must not end with it.
    let handle = tokio::runtime::Handle::current();
    let start = move || handle.block_on(Nats::start_with(&home, NatsOptions::default()));
    let mut nats = tokio::task::spawn_blocking(start).await??;
    if !nats.is_running() {
        bail!("NATS is gone");
    }
    let started = Started { process: nats.process(), folder: nats.folder().to_owned() };
    println!("\nstarted {}", serde_json::to_string(&started)?);
    stdout().flush()?;
    std::future::pending().await
}

/// Runs [`owner`] in a process of its own until it has started its component.
fn run_owner(role: &str) -> Result<(Child, Started)> {
    let mut child = Command::new(env::current_exe()?)
        .args(["owner", "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        if let Some(started) = line?.strip_prefix("started ") {
            return Ok((child, serde_json::from_str(started)?));
        }
    }
    bail!("the owner ended with {} before it started anything", child.wait()?)
}

async fn gone(process: ProcessId) -> Result<()> {
    eventually(SOON, "the component is gone", || async {
        if process.is_running() { Err("it still runs") } else { Ok(()) }
    })
    .await
}

#[tokio::test]
async fn a_component_dies_with_a_killed_owner_and_its_folder_is_swept() -> Result<()> {
    let (mut owner, Started { process, folder }) = run_owner("temporary")?;
    assert!(process.is_running() && folder.is_dir());
    folder::sweep()?;
    assert!(process.is_running() && folder.is_dir(), "swept away from a living owner");

    owner.kill()?;
    owner.wait()?;
    gone(process).await?;
    folder::sweep()?;
    assert!(!folder.exists(), "{} is left over", folder.display());
    Ok(())
}

#[tokio::test]
async fn a_detached_component_outlives_its_owner_and_is_found_again() -> Result<()> {
    let home = folder::Folder::temporary("detached")?;
    let (mut owner, Started { process, folder }) = run_owner(&home.path().display().to_string())?;
    owner.kill()?;
    owner.wait()?;

    let mut found = Process::find(process).context("the component died with its owner")?;
    assert!(folder.join("log").is_file());
    assert!(found.stop(SOON).await?, "it had to be killed");
    assert!(!process.is_running());
    Ok(())
}

#[tokio::test]
async fn a_dropped_component_leaves_nothing() -> Result<()> {
    let nats = Nats::start().await?;
    let (process, folder) = (nats.process(), nats.folder().to_owned());
    drop(nats);
    assert!(!process.is_running());
    assert!(!Path::exists(&folder));
    Ok(())
}

#[tokio::test]
async fn a_component_that_does_not_come_up_says_why() -> Result<()> {
    // Where its folder should go, there is a file.
    let home = folder::Folder::temporary("broken")?;
    let folder = home.path().join("nats-server");
    fs::create_dir(&folder)?;
    fs::write(folder.join("jetstream"), "not a folder")?;
    let error =
        Nats::start_with(&Home::Detached(home.path().to_owned()), NatsOptions::default()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("nats-server ended while it started"), "{error}");
    assert!(error.contains("storage directory is not a directory"), "no log in: {error}");
    Ok(())
}
