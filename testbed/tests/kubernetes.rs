//! The control plane does what tests rely on: real answers, real rights, and each way to break it.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, Error};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::shared;
use tidings_testbed::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

async fn create(client: &Client, namespace: &str, name: &str) -> Result<ConfigMap> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let object = ConfigMap { metadata, ..ConfigMap::default() };
    Ok(Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &object).await?)
}

async fn exists(client: &Client, namespace: &str, name: &str) -> Result<bool> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_opt(name).await?.is_some())
}

#[tokio::test]
async fn namespaces_of_one_prefix_are_different() -> Result<()> {
    let client = shared::testbed().await?.control_plane.client().await?;
    let (first, second) =
        (shared::namespace(&client, "twin").await?, shared::namespace(&client, "twin").await?);
    assert_ne!(first, second);
    create(&client, &first, "here").await?;
    assert!(!exists(&client, &second, "here").await?);
    Ok(())
}

#[tokio::test]
async fn a_user_without_a_role_is_refused() -> Result<()> {
    let control_plane = &shared::testbed().await?.control_plane;
    let client = control_plane.client_for("nobody-in-particular", None).await?;
    match create(&client, "default", "refused").await.unwrap_err().downcast()? {
        Error::Api(status) => {
            assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"), "{status:?}");
            assert!(status.message.contains("nobody-in-particular"), "{}", status.message);
        }
        other => bail!("not refused by the server: {other}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_user_has_the_rights_of_the_group() -> Result<()> {
    let control_plane = &shared::testbed().await?.control_plane;
    let client = control_plane.client_for("deputy", Some("system:masters")).await?;
    let namespace = shared::namespace(&client, "deputy").await?;
    create(&client, &namespace, "allowed").await?;
    Ok(())
}

#[tokio::test]
async fn the_server_calls_itself_by_the_pinned_version() -> Result<()> {
    let control_plane = &shared::testbed().await?.control_plane;
    let version = control_plane.client().await?.apiserver_version().await?;
    assert_eq!(version.git_version, format!("v{}", control_plane.api_server.binary().version()));
    Ok(())
}

#[tokio::test]
async fn objects_survive_a_crash_of_everything() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    let client = control_plane.client().await?;
    create(&client, "default", "durable").await?;
    let url = control_plane.api_server.url();

    control_plane.api_server.kill()?;
    control_plane.etcd.kill()?;
    assert!(!control_plane.api_server.is_running() && !control_plane.etcd.is_running());
    assert!(exists(&client, "default", "durable").await.is_err());
    control_plane.etcd.restart().await?;
    control_plane.api_server.restart().await?;

    assert_eq!(control_plane.api_server.url(), url);
    assert!(exists(&client, "default", "durable").await?);
    Ok(())
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    let client = control_plane.client().await?;
    create(&client, "default", "patient").await?;

    control_plane.api_server.pause()?;
    let answer = tokio::time::timeout(Duration::from_secs(2), exists(&client, "default", "patient")).await;
    assert!(answer.is_err(), "answered while paused: {answer:?}");
    control_plane.api_server.resume()?;

    eventually(SOON, "an answer", || exists(&client, "default", "patient")).await?;
    Ok(())
}

#[tokio::test]
async fn forgotten_history_answers_410_to_a_watch_that_resumes() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    let client = control_plane.client().await?;
    let before = create(&client, "default", "first").await?.metadata.resource_version.unwrap();
    for name in ["second", "third"] {
        create(&client, "default", name).await?;
    }

    control_plane.forget_history().await?;

    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let code = eventually(SOON, "the watch ends with 410", || async {
        let mut events = api.watch(&WatchParams::default(), &before).await?.boxed();
        match events.next().await {
            Some(Ok(WatchEvent::Error(status))) => Ok(status.code),
            // "storage is (re)initializing" just after the start.
            other => bail!("{other:?}"),
        }
    });
    ensure!(code.await? == 410);
    Ok(())
}
