//! The bridge: from the API server to the brokers, as Subscriptions say. The modules are listed in the order
//! one event goes through them; `pipeline` draws the way.

pub mod admin;
pub mod clock;
pub mod discovery;
pub mod follow;
mod identity;
pub mod metrics;
mod settings;

pub mod subscriptions;

mod connections;

mod secrets;

pub mod pipeline;

pub mod watch;

pub mod journal;

pub mod state;

pub mod deliver;

mod status;

mod announce;

pub mod redrive;

use std::time::Duration;

use tidings_config::process::BridgeSettings;
use tokio_util::sync::CancellationToken;

use crate::state::record::Commit;

/// Why the bridge ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin port cannot be served.
    #[error("failed to serve the admin port")]
    Admin(#[source] admin::Error),
    /// What to follow could not be found.
    #[error("failed to find the resource")]
    Resource(#[source] discovery::Error),
    /// The state cannot be used.
    #[error("failed to open the state")]
    State(#[source] state::Error),
    /// The state is of another cluster.
    #[error(
        "the state in {} is of the cluster {stored}, and this is {present}: use the state of this cluster, or begin \
         anew with `tidings state reset`, or, if {present} took the place of {stored}, start once with \
         --adopt-cluster={present}",
        .folder.display()
    )]
    OtherCluster {
        /// Where the state is.
        folder: std::path::PathBuf,
        /// The uid of kube-system in the cluster it is of.
        stored: String,
        /// The same in the cluster that answers.
        present: String,
    },
    /// What was stored cannot be gone on with.
    #[error("failed to go on with what was stored")]
    Restore(#[source] pipeline::Error),
    /// What to follow may not be read.
    #[error("failed to watch: {0}")]
    Forbidden(String),
}

/// Serves the Subscriptions of a cluster until `shutdown`.
pub async fn run(
    client: kube::Client,
    settings: BridgeSettings,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (metrics, readiness) = (metrics::Metrics::default(), admin::Readiness::default());
    let served =
        admin::serve(settings.admin_address, metrics.clone(), readiness.clone(), shutdown.child_token());
    served.await.map_err(Error::Admin)?;
    let state = open_state(&settings).await?.counted(metrics.state_cpu.clone());
    let Some(cluster) = identified(&client, &settings, &shutdown).await else { return Ok(()) };
    of_this_cluster(&state, &cluster, &settings).await?;
    tracing::info!(cluster = %cluster.name, uid = cluster.uid, "serving the Subscriptions of the cluster");
    let clock = clock::Clock::start();
    let context =
        settings::watch_context(client.clone(), cluster.name, metrics, clock, Some(state), &settings);
    let pipeline = pipeline::Pipeline::new(context);
    let controller = subscriptions::Controller::new(client, pipeline, &settings);
    let deadline = settings.shutdown_deadline.get();
    controller.run(readiness, shutdown, deadline).await.map(drop).map_err(Error::Restore)
}

/// The store of the process. It is locked before anything else is done, so that a second process is told at once.
async fn open_state(settings: &BridgeSettings) -> Result<state::State, Error> {
    let folder = settings.state_dir.clone();
    let store = tokio::task::spawn_blocking(move || state::sqlite::SqliteStore::open(&folder)).await;
    let store = match store {
        Ok(store) => store.map_err(Error::State)?,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    };
    let (interval, quota) = (settings.flush_interval.get(), settings.state_quota.get() as u64);
    Ok(state::State::new(Box::new(store), &settings.state_dir, interval, quota, true))
}

/// Makes sure that the state is of this cluster. What was of another one is taken over when the settings say so: every
/// Watch begins another history, and only then the state is of this cluster, so that a crash in between changes nothing.
async fn of_this_cluster(
    state: &state::State,
    cluster: &identity::Cluster,
    settings: &BridgeSettings,
) -> Result<(), Error> {
    let stored = state.ask(|store| store.cluster()).await.map_err(Error::State)?;
    let present = cluster.uid.clone();
    match stored {
        Some(stored) if stored == present => return Ok(()),
        Some(stored) if settings.adopt_cluster.as_ref() != Some(&present) => {
            return Err(Error::OtherCluster { folder: settings.state_dir.clone(), stored, present });
        }
        _ => {}
    }
    let now = clock::unix_seconds();
    let adopt = move |store: &mut dyn state::Store| {
        for (watch, mut record) in store.watches()? {
            record.head.begin_history(now);
            store.commit(&Commit::of_record(watch, record))?;
        }
        store.set_cluster(&present)
    };
    state.ask(adopt).await.map_err(Error::State)
}

/// Which cluster it is, as soon as the API server can be asked for it; nothing when it is too late.
async fn identified(
    client: &kube::Client,
    settings: &BridgeSettings,
    shutdown: &CancellationToken,
) -> Option<identity::Cluster> {
    let mut failures = 0;
    loop {
        match identity::of_cluster(client, settings).await {
            Ok(cluster) => return Some(cluster),
            Err(error) => tracing::warn!(%error, "unable to tell which cluster this is"),
        }
        failures += 1;
        let wait = settings::backoff(settings.list_backoff).delay(failures, clock::jitter());
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(100))) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
