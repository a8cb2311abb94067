//! The commands that need a cluster, with a real API server.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{stderr, tidings};
use tidings_testbed::shared;
use tidings_testbed::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

/// A running `tidings`, killed when the test is over.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it, and reads standard output or standard error line by line.
    fn start(arguments: &[&str], read_stderr: bool) -> Result<Self> {
        let mut command = tidings(arguments);
        let mut child = if read_stderr {
            command.stderr(Stdio::piped()).spawn()?
        } else {
            command.stdout(Stdio::piped()).spawn()?
        };
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let pipe = stdout.or(stderr).context("nothing to read")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, lines })
    }

    /// The next line that is JSON with `value` at `field`.
    fn line_with(&self, field: &str, value: &str) -> Result<Value> {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            match serde_json::from_str::<Value>(&line) {
                Ok(json) if json[field] == value => return Ok(json),
                _ => seen.push(line),
            }
        }
        bail!("no line with {field} {value:?} but {seen:#?}")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }

    /// Waits for its end without reading.
    async fn exit(&mut self) -> Result<ExitStatus> {
        let child = Mutex::new(&mut self.child);
        eventually(DEADLINE, "the process ends", || async {
            let status =
                child.lock().map_err(|error| error.to_string())?.try_wait().map_err(|e| e.to_string())?;
            status.ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// Waits for its end: of the pipe first, which is the end of the process.
    fn end(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("it did not end"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An API for config maps in a namespace of the test's own, its name, and the kubeconfig.
async fn start() -> Result<(Api<ConfigMap>, String, String)> {
    let control_plane = &shared::testbed().await?.control_plane;
    let client = control_plane.client().await?;
    let namespace = shared::namespace(&client, "cli").await?;
    Ok((Api::namespaced(client, &namespace), namespace, control_plane.kubeconfig().display().to_string()))
}

async fn create(api: &Api<ConfigMap>, name: &str) -> Result<()> {
    create_with(api, name, String::new()).await
}

async fn create_with(api: &Api<ConfigMap>, name: &str, text: String) -> Result<()> {
    let object = ConfigMap {
        data: Some([("text".to_owned(), text)].into()),
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

#[tokio::test]
async fn watch_shows_what_exists_and_what_changes_until_it_is_interrupted() -> Result<()> {
    let (api, namespace, kubeconfig) = start().await?;
    create(&api, "old").await?;
    let arguments = ["watch", "configmaps", "-n", &namespace, "-o", "json", "--kubeconfig", &kubeconfig];
    let mut watch = Running::start(&arguments, false)?;
    let snapshot = watch.line_with("type", "io.k8s.core.configmap.snapshot")?;
    assert_eq!(snapshot["subject"], format!("{namespace}/old"));
    assert_eq!(snapshot["data"]["metadata"]["name"], "old");

    create(&api, "new").await?;
    let added = watch.line_with("type", "io.k8s.core.configmap.added")?;
    assert_eq!(added["subject"], format!("{namespace}/new"));
    api.delete("new", &kube::api::DeleteParams::default()).await?;
    watch.line_with("type", "io.k8s.core.configmap.deleted")?;

    watch.signal(Signal::SIGINT)?;
    assert_eq!(watch.end()?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn watch_ends_well_when_its_reader_goes_away() -> Result<()> {
    let (api, namespace, kubeconfig) = start().await?;
    create(&api, "first").await?;
    let arguments = ["watch", "cm", "-n", &namespace, "-o", "object", "--kubeconfig", &kubeconfig];
    let mut child = tidings(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    assert!(line.contains("first"), "{line}");

    create(&api, "second").await?;
    let mut watch = Running { lines: mpsc::channel().1, child };
    let mut said = String::new();
    watch.child.stderr.take().context("no errors")?.read_to_string(&mut said)?;
    assert_eq!(watch.child.wait()?.code(), Some(0), "{said}");
    Ok(())
}

/// A watch that has begun a line longer than what a pipe holds, and the pipe, which nobody reads any further.
async fn stuck_watch() -> Result<(Running, ChildStdout)> {
    let (api, namespace, kubeconfig) = start().await?;
    create_with(&api, "long", "x".repeat(500_000)).await?;
    let arguments = ["watch", "cm", "-n", &namespace, "-o", "object", "--kubeconfig", &kubeconfig];
    let mut child = tidings(arguments).stdout(Stdio::piped()).spawn()?;
    let mut pipe = child.stdout.take().context("no output")?;
    pipe.read_exact(&mut [0])?;
    Ok((Running { child, lines: mpsc::channel().1 }, pipe))
}

#[tokio::test]
async fn watch_ends_although_nobody_reads() -> Result<()> {
    let (mut watch, _pipe) = stuck_watch().await?;
    watch.signal(Signal::SIGINT)?;
    assert_eq!(watch.exit().await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() -> Result<()> {
    let (mut watch, _pipe) = stuck_watch().await?;
    watch.signal(Signal::SIGINT)?;
    watch.signal(Signal::SIGTERM)?;
    let code = watch.exit().await?.code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    Ok(())
}

#[tokio::test]
async fn a_resource_that_nobody_serves_is_named() -> Result<()> {
    let (_, _, kubeconfig) = start().await?;
    let output = tidings(["watch", "unicorns", "--kubeconfig", &kubeconfig]).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("\"unicorns\""), "{}", stderr(&output));
    Ok(())
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_told() -> Result<()> {
    let (_, _, kubeconfig) = start().await?;
    let mut content: Value = serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    content["users"][0]["user"] = serde_json::json!({"token": "wrong"});
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kubeconfig").display().to_string();
    std::fs::write(&path, content.to_string())?;
    for command in [["watch", "pods"].as_slice(), &["bridge"]] {
        let output = tidings(command).args(["--kubeconfig", &path]).output()?;
        assert_eq!(output.status.code(), Some(1));
        let told = stderr(&output);
        assert!(told.contains(&format!("does not accept the credentials of kubeconfig {path}")), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn bridge_serves_until_it_is_told_to_stop() -> Result<()> {
    let (_, _, kubeconfig) = start().await?;
    let folder = tempfile::tempdir()?;
    let state = format!("--state-dir={}", folder.path().display());
    let arguments = [
        "bridge",
        "--kubeconfig",
        &kubeconfig,
        "--admin-address",
        "127.0.0.1:0",
        "--cluster-name",
        "test",
        &state,
    ];
    let mut bridge = Running::start(&arguments, true)?;
    let line = bridge.line_with("message", "serving the Subscriptions of the cluster")?;
    assert_eq!((line["level"].as_str(), line["cluster"].as_str()), (Some("INFO"), Some("test")));
    bridge.signal(Signal::SIGTERM)?;
    assert_eq!(bridge.end()?.code(), Some(0));
    Ok(())
}
