//! Rotation, restarts and a dead replica, while somebody writes all the time.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::balancer::Balancer;
use common::https::Https;
use common::load::Load;
use common::replica::{Replica, settings};
use common::{SOON, prepare, state, until_asked, workplace};
use kube::Client;
use tidings_config::duration::Duration as Setting;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::ports::Port;
use tidings_testbed::wait::eventually;

const SHOP: &str = "shop";
/// So much is written at least.
const ADMISSIONS: u64 = 10_000;
const WORKERS: usize = 8;
/// For what takes its time on a machine that is busy.
const LATER: Duration = Duration::from_mins(6);

async fn cluster() -> (ControlPlane, Client, PathBuf) {
    let control_plane = ControlPlane::start().await.unwrap();
    let kubeconfig = prepare(&control_plane).await;
    let client = control_plane.client().await.unwrap();
    workplace(&client, SHOP).await;
    (control_plane, client, kubeconfig)
}

/// A replica behind the balancer, which sends connections there once it is ready.
async fn join(balancer: &Balancer, kubeconfig: &Path) -> Replica {
    let replica = Replica::start_on(Port::reserve().unwrap(), kubeconfig, settings(&balancer.url())).await;
    balancer.add(replica.port());
    replica
}

/// As a Deployment does it: no new connections once it is not ready any more.
async fn restart(balancer: &Balancer, kubeconfig: &Path, old: Replica) -> Replica {
    let new = join(balancer, kubeconfig).await;
    old.stop();
    eventually(SOON, "an end of readiness", || async {
        match old.admin("/readyz").await {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        }
    })
    .await
    .unwrap();
    balancer.remove(old.port());
    old.stopped().await;
    new
}

async fn until_written(load: &Load, count: u64) {
    eventually(LATER, "enough was written", || async {
        let written = load.count();
        if written >= count { Ok(()) } else { Err(format!("only {written}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_refuses_and_wrongly_accepts_nothing() {
    let (control_plane, client, kubeconfig) = cluster().await;
    let quick = |settings: &mut tidings_config::process::webhook::WebhookSettings| {
        settings.certificates.lifetime = Setting::from_secs(6);
        settings.certificates.authority_lifetime = Setting::from_secs(26);
        settings.certificates.overlap = Setting::from_secs(2);
    };
    let replica = Replica::start(&kubeconfig, quick).await;
    until_asked(&client, SHOP).await;

    // Whoever connects anew trusts what the configuration says at that moment, as an API server does.
    let stop = Arc::new(AtomicBool::new(false));
    let connecting = {
        let (client, stop, port) = (client.clone(), stop.clone(), replica.port());
        tokio::spawn(async move {
            let (mut shown, mut known) = (BTreeSet::new(), BTreeSet::new());
            while !stop.load(Ordering::Relaxed) {
                let (bundle, policy) = state(&client).await.unwrap();
                assert_eq!(policy, "Fail");
                let https = Https::connect(port, &bundle).await.unwrap();
                shown.insert(https.certificate.to_vec());
                known.insert(bundle);
            }
            (shown.len(), known)
        })
    };
    let load = Load::start(control_plane.kubeconfig(), SHOP, WORKERS).await;
    let (first, _) = state(&client).await.unwrap();
    let first = first.split_inclusive("-----END CERTIFICATE-----").next().unwrap().to_owned();
    until_written(&load, ADMISSIONS).await;
    eventually(LATER, "the end of the first authority", || async {
        let (bundle, _) = state(&client).await?;
        if bundle.contains(&first) { Err("it is still known".to_owned()) } else { Ok(()) }
    })
    .await
    .unwrap();
    let tally = load.stop().await;
    stop.store(true, Ordering::Relaxed);
    let (shown, known) = connecting.await.unwrap();
    assert!(tally.right >= ADMISSIONS, "{tally:?}");
    assert_eq!((tally.refused, tally.accepted, tally.unanswered), (0, 0, 0), "{tally:?}");
    assert!(shown >= 4, "only {shown} certificates were shown");
    assert!(
        known.iter().any(|bundle| bundle.matches("BEGIN").count() > 1),
        "no two authorities were known at once"
    );
    println!("{} admissions, {shown} serving certificates, {} bundles", tally.right, known.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_refuse_and_wrongly_accept_nothing() {
    let (control_plane, client, kubeconfig) = cluster().await;
    let balancer = Balancer::start().await;
    let mut replicas = vec![join(&balancer, &kubeconfig).await, join(&balancer, &kubeconfig).await];
    until_asked(&client, SHOP).await;
    let load = Load::start(control_plane.kubeconfig(), SHOP, WORKERS).await;
    let mut restarts = 0;
    while restarts < 4 || load.count() < ADMISSIONS {
        let old = replicas.remove(0);
        replicas.push(restart(&balancer, &kubeconfig, old).await);
        restarts += 1;
        assert_eq!(state(&client).await.unwrap().1, "Fail");
    }
    let tally = load.stop().await;
    assert!(tally.right >= ADMISSIONS, "{tally:?}");
    assert_eq!((tally.refused, tally.accepted, tally.unanswered), (0, 0, 0), "{tally:?}");
    println!("{} admissions, {restarts} restarts", tally.right);
}

/// What a dying process was being asked, nobody answers: with `Fail` the API server says so to whoever wrote it, and neither
/// refuses nor accepts it. All others are answered by the replica that lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_under_load_takes_only_what_it_was_being_asked_with_it() {
    let (control_plane, client, kubeconfig) = cluster().await;
    let balancer = Balancer::start().await;
    let mut replicas = vec![join(&balancer, &kubeconfig).await, join(&balancer, &kubeconfig).await];
    until_asked(&client, SHOP).await;
    let load = Load::start(control_plane.kubeconfig(), SHOP, WORKERS).await;
    let mut killed = 0;
    while killed < 3 || load.count() < ADMISSIONS {
        until_written(&load, load.count() + ADMISSIONS / 5).await;
        let (dead, written) = (replicas.remove(0), load.count());
        let gone = dead.port();
        dead.kill();
        balancer.remove(gone);
        killed += 1;
        until_written(&load, written + 500).await;
        replicas.push(join(&balancer, &kubeconfig).await);
    }
    let tally = load.stop().await;
    assert!(tally.right >= ADMISSIONS, "{tally:?}");
    assert_eq!((tally.refused, tally.accepted), (0, 0), "{tally:?}");
    let under_way = u64::try_from(killed * WORKERS).unwrap();
    assert!(tally.unanswered <= under_way, "{tally:?}");
    println!("{} admissions, {killed} killed, {} unanswered", tally.right, tally.unanswered);
}
