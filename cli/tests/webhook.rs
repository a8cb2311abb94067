//! `tidings webhook` with a real API server.

mod support;

use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::tidings;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::kubectl;
use tidings_testbed::ports::Port;
use tidings_testbed::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);
/// The schema lets it through.
const BROKEN: &str = "\
apiVersion: tidings.dev/v1alpha1
kind: Subscription
metadata: {name: orders}
spec:
  sources: [{apiVersion: v1, kind: ConfigMap}]
  sink: {stdout: {}}
  delivery: {maxAge: 0s}
";

/// Killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(kubeconfig: &Path, port: &Port, log: &Path) -> Result<Running> {
    let address = format!("127.0.0.1:{}", port.number());
    let mut command = tidings(["webhook", "--namespace", "kube-system", "--admin-address", "127.0.0.1:0"]);
    command.arg("--kubeconfig").arg(kubeconfig).args(["--address", &address, "--url"]);
    command.arg(format!("https://{address}")).args(["--shutdown-delay", "100ms"]).stderr(File::create(log)?);
    Ok(Running(command.spawn()?))
}

#[tokio::test]
async fn a_mistake_is_told_at_apply_until_the_webhook_is_told_to_stop() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let kubeconfig = control_plane.kubeconfig();
    kubectl::apply(kubeconfig, "default", &tidings_crds::print::yaml()?)?;
    let (port, folder) = (Port::reserve()?, tempfile::tempdir()?);
    let log = folder.path().join("log");
    let mut webhook = start(kubeconfig, &port, &log)?;
    let apply = || kubectl::run(kubeconfig, &["create", "--dry-run=server", "-f", "-"], BROKEN);
    let refused = eventually(DEADLINE, "a refusal", || async {
        match apply() {
            Ok(said) => bail!("{said}"),
            Err(error) if error.to_string().contains("no matches for kind") => Err(error),
            Err(error) => Ok(error.to_string()),
        }
    });
    let words = refused.await.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    assert!(words.contains("\"orders\" is invalid: spec.delivery.maxAge: is more than nothing"), "{words}");

    kill(Pid::from_raw(webhook.0.id().try_into()?), Signal::SIGTERM)?;
    assert_eq!(webhook.0.wait()?.code(), Some(0), "{}", std::fs::read_to_string(&log)?);
    apply().context("it accepts unasked when nobody is there")?;
    Ok(())
}
