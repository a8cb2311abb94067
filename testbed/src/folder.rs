//! Folders of running components, which go away with their owner whatever happens to it.
//!
//! Each process has one folder under `run/` in the cache and holds a lock in it. A process that is killed cannot clean up,
//! so the next one to start does: an unlocked folder has no owner any more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cache;
use crate::process::start_ticks;

/// A folder for one component, removed on drop.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: bool,
}

/// The folder of this process, with the lock that says it is alive.
struct Owned {
    path: PathBuf,
    _lock: File,
}

const OWNER: &str = "owner.lock";
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// What runs components that are no programs themselves.
const MACHINES: [&str; 4] = ["java", "beam.smp", "erl_child_setup", "epmd"];

// === impl Folder ===

impl Folder {
    /// A new folder of this process; `name` is for people who look. The first call also sweeps up after dead processes.
    pub fn temporary(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = owned()?.join(format!("{name}-{count}"));
        fs::create_dir(&path).with_context(|| format!("create folder {}", path.display()))?;
        Ok(Self { path, temporary: true })
    }

    /// A folder that stays when this value goes. Created when missing.
    pub fn permanent(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("create folder {}", path.display()))?;
        Ok(Self { path, temporary: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed now is swept by the next process.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes the folders of processes that are gone, and kills components that outlived them.
pub fn sweep() -> Result<()> {
    let run = cache::folder("run")?;
    let _creating = cache::lock(&run.join(".lock"), None)?;
    sweep_locked(&run)
}

fn owned() -> Result<PathBuf> {
    static OWNED: Mutex<Option<Owned>> = Mutex::new(None);
    let mut slot = OWNED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(owned) = &*slot {
        return Ok(owned.path.clone());
    }
    let run = cache::folder("run")?;
    // Nobody sweeps between the moment the folder exists and the moment its lock is held.
    let _creating = cache::lock(&run.join(".lock"), None)?;
    sweep_locked(&run)?;
    let pid = process::id();
    let path = run.join(format!("{pid}-{}", start_ticks(pid).unwrap_or_default()));
    fs::create_dir_all(&path)?;
    let lock = cache::lock(&path.join(OWNER), None)?;
    *slot = Some(Owned { path: path.clone(), _lock: lock });
    Ok(path)
}

fn sweep_locked(run: &Path) -> Result<()> {
    for entry in fs::read_dir(run)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let dead = match File::open(path.join(OWNER)) {
            Ok(file) => file.try_lock().is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if dead {
            kill_inside(&path)?;
            if let Err(error) = fs::remove_dir_all(&path) {
                eprintln!("unable to remove the leftover folder {}: {error}", path.display());
            }
        }
    }
    Ok(())
}

/// Kills the testbed's programs that run in `folder`, and waits until they are gone. They die with their owner by
/// themselves, but an owner killed between starting one and its first instruction leaves it behind.
pub(crate) fn kill_inside(folder: &Path) -> Result<()> {
    let programs = cache::folder("bin")?;
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let running = running_inside(folder, &programs)?;
        if running.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{running:?} still run in {} and cannot be killed", folder.display());
        }
        for pid in running {
            // Gone meanwhile is what we want.
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processes of files below `programs`, and machines, whose working folder is `folder` or below.
fn running_inside(folder: &Path, programs: &Path) -> Result<Vec<Pid>> {
    let mut running = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Unreadable: gone meanwhile, or somebody else's.
        let link = |name: &str| fs::read_link(entry.path().join(name)).unwrap_or_default();
        let program = link("exe");
        let machine =
            || program.file_name().is_some_and(|name| MACHINES.iter().any(|machine| name == *machine));
        if link("cwd").starts_with(folder) && (program.starts_with(programs) || machine()) {
            running.push(Pid::from_raw(pid));
        }
    }
    Ok(running)
}
