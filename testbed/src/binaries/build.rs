//! One `go build`, and progress on stderr for whatever takes long.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Recipe, tools};

/// Builds `recipe` to `target`. The file appears only when it is complete.
pub(super) fn build(name: &str, recipe: &Recipe, target: &Path) -> Result<()> {
    let Recipe { module, requirement, package, seconds } = *recipe;
    let version = module.version_of(requirement);
    let title =
        format!("building {name} {version} from source (once; up to {seconds} s with nothing cached)");
    // One process builds at a time (the caller's lock), so one temporary name is enough and a broken build is overwritten.
    let unfinished = target.with_extension("unfinished");

    let folder = target.parent().context("a program without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))?;

    let mut command = Command::new(tools::go());
    command
        .current_dir(module.path()?)
        .args(["build", "-buildvcs=false", "-trimpath", "-ldflags", &link_flags(package, version), "-o"])
        .arg(&unfinished)
        .arg(package)
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .stdin(Stdio::null());
    let output = with_progress(&title, command).context("run go build")?;
    if let Err(output) = output {
        bail!("go build of {package} failed:\n{}", output.trim_end());
    }
    fs::rename(&unfinished, target).with_context(|| format!("move the new {name} to {}", target.display()))
}

/// Kubernetes and Helm learn their versions from the linker; without it, Kubernetes calls itself v0.0.0 and features
/// misbehave.
fn link_flags(package: &str, version: &str) -> String {
    let mut flags = "-s -w".to_owned();
    if package.starts_with("helm.sh/helm/v4/") {
        flags.push_str(&format!(" -X helm.sh/helm/v4/internal/version.version=v{version}"));
    }
    if package.starts_with("k8s.io/kubernetes/") {
        let mut numbers = version.split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let variable = "k8s.io/component-base/version";
        for (name, value) in
            [("gitVersion", &*format!("v{version}")), ("gitMajor", major), ("gitMinor", minor)]
        {
            flags.push_str(&format!(" -X {variable}.{name}={value}"));
        }
    }
    flags
}

/// Runs `command` to its end. On a terminal one line counts the seconds; elsewhere a line says so now and then.
/// The inner error is what a failed command wrote.
pub(super) fn with_progress(title: &str, mut command: Command) -> Result<Result<(), String>> {
    let terminal = io::stderr().is_terminal();
    let every = Duration::from_secs(if terminal { 1 } else { 30 });
    let started = Instant::now();
    // Maven says what went wrong on stdout, Go on stderr.
    let (mut read, write) = io::pipe()?;
    let mut child = command.stdout(write.try_clone()?).stderr(write).spawn()?;
    // It holds the ends for writing, which else would never close.
    drop(command);
    let (send, finished) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let result = read.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned());
        // The receiver outlives this thread; if it is gone, nobody wants to know.
        let _ = send.send(());
        result
    });

    if !terminal {
        eprintln!("{title}");
    }
    loop {
        let seconds = started.elapsed().as_secs();
        if terminal {
            eprint!("\r{title} … {seconds} s ");
            io::stderr().flush()?;
        } else if seconds > 0 {
            eprintln!("  still building, {seconds} s");
        }
        if finished.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    let status = child.wait()?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("reading the command's output failed"))??;
    let outcome = if status.success() { "done" } else { "failed" };
    eprintln!("{}  {outcome} after {} s", if terminal { "\n" } else { "" }, started.elapsed().as_secs());
    Ok(if status.success() { Ok(()) } else { Err(text) })
}
