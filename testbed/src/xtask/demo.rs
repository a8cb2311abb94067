//! `demo`: the whole way, on real components, for people to see and for CI to check.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::root;
use crate::api_server;
use crate::binaries;
use crate::consumer::{Fold, Received};
use crate::control_plane::ControlPlane;
use crate::kubectl;
use crate::receiver::{Kind, Receiver};
use crate::shared;
use crate::tidings::{Bridge, Profile, build};
use crate::wait::eventually;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Run through once, unattended, and fail when the consumer ends up with anything else than the API server
    #[arg(long)]
    once: bool,
    /// Where the Events go
    #[arg(long, value_enum, default_value_t = Kind::Nats)]
    sink: Kind,
    /// Use the cluster of this file instead of starting one; what the demo makes there is left behind
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// The stream, topic, or exchange and queue.
const PLACE: &str = "todos";
/// How long anything may take before the demo gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the demo runs on.
struct Stage {
    /// Kept so that it runs.
    _control_plane: Option<ControlPlane>,
    kubeconfig: PathBuf,
    client: kube::Client,
    receiver: Receiver,
    namespace: String,
}

pub(super) async fn demo(Demo { once, sink, kubeconfig }: Demo) -> Result<ExitCode> {
    say("building what is missing (minutes the first time, nothing later)");
    binaries::ensure_usual()?;
    let program = tokio::task::spawn_blocking(|| build(Profile::Dev)).await??;
    let stage = Stage::set(kubeconfig, sink).await?;

    say("installing the CRDs of Tidings, the Todo CRD, a Subscription, and two Todos");
    let crds = std::process::Command::new(&program).arg("crds").output().context("run tidings crds")?;
    stage.apply(&String::from_utf8(crds.stdout)?)?;
    stage.apply(&example("crd.yaml")?)?;
    stage.established().await?;
    stage.subscribe()?;
    stage.write("bread", "Buy bread")?;
    stage.write("milk", "Buy milk")?;

    say("starting the bridge");
    let mut bridge = Bridge::start(&program, &stage.kubeconfig, &[]).await?;
    stage.until_well().await.with_context(|| bridge.log_tail())?;

    say(&format!("CloudEvents as they arrive from {}:", sink.name()));
    let fold = Arc::new(Mutex::new(Fold::default()));
    let printer = tokio::spawn(print(stage.receiver.events(), fold.clone()));
    stage.change()?;
    let outcome = stage.check(&fold).await;
    // The status is written once a second.
    let heard = fold.lock().map(|fold| fold.heard).unwrap_or_default();
    stage.until_acked(heard).await?;
    let status = kubectl::run(
        &stage.kubeconfig,
        &["get", "subscriptions.tidings.dev", "--namespace", &stage.namespace],
        "",
    );
    println!("\n{}", status?.trim_end());
    match &outcome {
        Ok(count) => say(&format!("the consumer holds exactly the {count} Todos that the API server holds")),
        Err(error) => say(&format!("MISMATCH: {error:#}")),
    }
    if !once && outcome.is_ok() {
        stage.explain(&program);
        tokio::signal::ctrl_c().await?;
    }
    printer.abort();
    bridge.stop().await?;
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// === impl Stage ===

impl Stage {
    async fn set(kubeconfig: Option<PathBuf>, sink: Kind) -> Result<Self> {
        let control_plane = if kubeconfig.is_some() {
            None
        } else {
            say(&format!("starting etcd, kube-apiserver and {}", sink.name()));
            Some(ControlPlane::start().await?)
        };
        let kubeconfig = match (&control_plane, kubeconfig) {
            (_, Some(file)) => std::path::absolute(file)?,
            (Some(control_plane), None) => control_plane.kubeconfig().to_owned(),
            (None, None) => anyhow::bail!("there is no cluster"),
        };
        let client = api_server::client(&kubeconfig).await?;
        let namespaces = Api::<Namespace>::all(client.clone());
        namespaces.list(&ListParams::default().limit(1)).await.context("the cluster does not answer")?;
        let namespace = shared::namespace(&client, "demo").await?;
        let receiver = Receiver::start(sink, PLACE).await?;
        Ok(Self { _control_plane: control_plane, kubeconfig, client, receiver, namespace })
    }

    /// The Subscription of the example, to where this demo listens.
    fn subscribe(&self) -> Result<()> {
        let secret = self.receiver.secret(&self.namespace);
        if !secret.is_empty() {
            self.apply(&secret)?;
        }
        let mut subscription: Value = serde_saphyr::from_str(&example("subscription.yaml")?)?;
        subscription["spec"]["sink"] = self.receiver.sink();
        // JSON is YAML.
        self.apply(&subscription.to_string())
    }

    fn apply(&self, yaml: &str) -> Result<()> {
        kubectl::apply(&self.kubeconfig, &self.namespace, yaml).map(drop)
    }

    fn write(&self, name: &str, message: &str) -> Result<()> {
        self.apply(&format!(
            "apiVersion: k8sasbackend.com/v1\nkind: Todo\nmetadata: {{name: {name}}}\n\
             spec: {{when: \"2026-12-24T18:00:00Z\", message: \"{message}\"}}\n"
        ))
    }

    fn delete(&self, name: &str) -> Result<()> {
        let arguments = ["delete", "todos.k8sasbackend.com", name, "--namespace", &self.namespace];
        kubectl::run(&self.kubeconfig, &arguments, "").map(drop)
    }

    /// What an application would do.
    fn change(&self) -> Result<()> {
        self.write("milk", "Buy two bottles of milk")?;
        self.write("call.the-bank", "Call the bank")?;
        self.delete("bread")?;
        self.write("bread", "Bake bread instead")?;
        self.apply(&example("todos.yaml")?)?;
        self.delete("milk")
    }

    fn todos(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("k8sasbackend.com", "v1", "Todo");
        let resource = ApiResource::from_gvk_with_plural(&kind, "todos");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn established(&self) -> Result<()> {
        eventually(PATIENCE, "the Todo CRD", || async {
            self.todos().list(&ListParams::default()).await.map(drop)
        })
        .await
    }

    fn subscriptions(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("tidings.dev", "v1alpha1", "Subscription");
        let resource = ApiResource::from_gvk_with_plural(&kind, "subscriptions");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Waits until the Subscription says that so many events were acked.
    async fn until_acked(&self, events: usize) -> Result<()> {
        eventually(PATIENCE, "the numbers in the status", || async {
            let subscription = self.subscriptions().get("todos").await?;
            let acked = &subscription.data["status"]["counts"]["acked"];
            ensure!(acked.as_u64() >= Some(events as u64), "it says {acked}");
            Ok(())
        })
        .await
    }

    /// Waits until the Subscription says that it delivers.
    async fn until_well(&self) -> Result<()> {
        eventually(PATIENCE, "a Subscription that delivers", || async {
            let subscription = self.subscriptions().get("todos").await?;
            let conditions = &subscription.data["status"]["conditions"];
            let delivering = conditions.as_array().into_iter().flatten().find(|c| c["type"] == "Delivering");
            ensure!(delivering.is_some_and(|c| c["reason"] == "Synchronized"), "it says {conditions}");
            Ok(())
        })
        .await
    }

    /// Waits until what the consumer folded is what the API server holds, and answers how many Todos that are.
    async fn check(&self, fold: &Mutex<Fold>) -> Result<usize> {
        eventually(PATIENCE, "the same on both sides", || async {
            let list = self.todos().list(&ListParams::default()).await?;
            let held = list.items.into_iter().map(|mut object| {
                object.metadata.managed_fields = None;
                let key = format!("{}/{}", self.namespace, object.name_any());
                Ok((key, bare(serde_json::to_value(object)?)))
            });
            let held = held.collect::<Result<BTreeMap<String, Value>>>()?;
            let folded = fold.lock().map_err(|_| anyhow::anyhow!("the printer panicked"))?.objects.clone();
            let folded: BTreeMap<_, _> = folded.into_iter().map(|(key, value)| (key, bare(value))).collect();
            ensure!(folded == held, "the consumer holds {folded:#?}, the API server {held:#?}");
            Ok(held.len())
        })
        .await
    }

    fn explain(&self, program: &Path) {
        let (kubeconfig, namespace) = (self.kubeconfig.display(), &self.namespace);
        println!(
            "\nEverything keeps running until Ctrl-C. In another terminal:\n\n  \
             export KUBECONFIG={kubeconfig}\n  \
             kubectl -n {namespace} get todos,subscriptions     # cargo xtask env has kubectl's PATH\n  \
             kubectl -n {namespace} edit todo bread             # and watch the event arrive here\n  \
             {} watch todos.k8sasbackend.com -A -o json",
            program.display()
        );
        if let Some(consumer) = self.receiver.consumer() {
            println!("  cargo run -p tidings-consumers -- {consumer}   # an application; examples/consumers");
        }
        println!();
    }
}

/// Without what every item of a list would repeat, and lists leave out.
fn bare(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.remove("apiVersion");
        object.remove("kind");
    }
    value
}

/// Prints each event as it arrives, and folds it.
async fn print(events: impl futures::Stream<Item = Received>, fold: Arc<Mutex<Fold>>) {
    let colour = std::io::stdout().is_terminal();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let change = event.change();
        let code = match change {
            "added" => "32",
            "updated" => "33",
            "deleted" => "31",
            _ => "2",
        };
        let change = format!("{change:<8}");
        let change = if colour { format!("\u{1b}[{code}m{change}\u{1b}[0m") } else { change };
        let message = event.data["spec"]["message"].as_str().unwrap_or_default();
        let mut stdout = std::io::stdout();
        let taken = fold.lock().map(|mut fold| fold.take(&event));
        let written = writeln!(stdout, "  {change} {:<52} {message}", event.subject);
        if taken.is_err() || written.and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

fn example(name: &str) -> Result<String> {
    let path = root()?.join("examples/todo").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn say(words: &str) {
    println!("==> {words}");
}
