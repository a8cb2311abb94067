//! The bridge against a real API server: from an object that is written to an Event that a sink acked.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it is made of")]

mod common;

use common::{
    PLACE, Recorder, Todos, change, delivery, pipeline, reaches, report_of, route, todo_kind, version,
};
use tidings_bridge::watch::WatchState;
use tidings_core::selection::{Namespaces, Selection};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::shared;
use tidings_testbed::wait::eventually;

async fn client() -> kube::Client {
    tidings_testbed::shared::testbed().await.unwrap().control_plane.client().await.unwrap()
}

#[tokio::test]
async fn what_exists_comes_first_and_then_every_change_with_the_last_content() {
    let client = client().await;
    let todos = Todos::install(&client, "every").await;
    let namespace = &shared::namespace(&client, "every").await.unwrap();
    todos.write(namespace, "milk", "one").await;
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    pipeline.add(route("s", &todos.group, &[namespace]), recorder.target(), PLACE.into(), delivery()).await;
    recorder.hears(&["snapshot milk"]).await;

    let created = todos.write(namespace, "bread", "one").await;
    let updated = todos.write(namespace, "bread", "two").await;
    todos.delete(namespace, "bread").await;
    recorder.hears(&["snapshot milk", "added bread", "updated bread", "deleted bread"]).await;
    let events = recorder.events();
    let uid = events[1]["k8suid"].as_str().unwrap();
    assert_eq!(events[1]["id"], format!("{uid}.{created}"));
    assert_eq!(events[2]["id"], format!("{uid}.{updated}"));
    assert_eq!(events[3]["id"], format!("{uid}.deleted"));
    assert!(version(&events[3]) > updated);
    assert_eq!(events[3]["data"]["spec"]["message"], "two");
    assert_eq!(events[1]["type"], "com.example.every.todo.added");
    assert_eq!(events[1]["source"], format!("/clusters/test/apis/{}/todos", todos.group));
    assert_eq!(recorder.fold(), todos.held(namespace).await);

    let report = pipeline.report("uid-s").unwrap();
    assert_eq!((report.lane.acked, report.lane.pending), (4, 0));
    assert!(report.watches[0].settled >= Some(tidings_core::object::ResourceVersion(updated)));
    assert!(!report.watches[0].joining);
}

#[tokio::test]
async fn a_second_subscription_shares_the_watch_and_misses_and_doubles_nothing_at_the_seam() {
    let client = client().await;
    let todos = Todos::install(&client, "seam").await;
    let namespace = &shared::namespace(&client, "seam").await.unwrap();
    for name in ["a", "b", "c"] {
        todos.write(namespace, name, "0").await;
    }
    let (first, mut pipeline) = (Recorder::default(), pipeline(&client, |settings| settings.page_size = 1));
    pipeline.add(route("first", &todos.group, &[namespace]), first.target(), PLACE.into(), delivery()).await;
    first.hears(&["snapshot a", "snapshot b", "snapshot c"]).await;

    // Somebody writes all the time; three more Subscriptions join meanwhile.
    let writer = tokio::spawn({
        let (todos, namespace) = (todos.clone(), namespace.clone());
        async move {
            for round in 1..=40 {
                for name in ["a", "b", "c"] {
                    todos.write(&namespace, name, &round.to_string()).await;
                }
                if round % 10 == 0 {
                    todos.delete(&namespace, "c").await;
                }
            }
        }
    });
    let late: Vec<_> = (0..3).map(|_| Recorder::default()).collect();
    for (index, recorder) in late.iter().enumerate() {
        let heard = first.events().len();
        let name = format!("late-{index}");
        pipeline
            .add(route(&name, &todos.group, &[namespace]), recorder.target(), PLACE.into(), delivery())
            .await;
        eventually(common::SOON, "some more changes", || async {
            if first.events().len() > heard + 20 { Ok(()) } else { Err("not yet") }
        })
        .await
        .unwrap();
    }
    writer.await.unwrap();
    assert_eq!(pipeline.watches(), 1);
    let held = todos.held(namespace).await;
    for recorder in late.iter().chain([&first]) {
        eventually(common::SOON, "the state of the API server", || async {
            if recorder.fold() == held { Ok(()) } else { Err("not yet") }
        })
        .await
        .unwrap();
    }
    // Per name: the snapshot in some version, then exactly what the first one heard after that version.
    let of = |recorder: &Recorder, name: &str| -> Vec<(String, u64)> {
        let events = recorder.events();
        let named = events.iter().filter(|event| event["subject"].as_str().unwrap().ends_with(name));
        named.map(|event| (change(event).to_owned(), version(event))).collect()
    };
    for recorder in &late {
        for name in ["/a", "/b", "/c"] {
            let (told, all) = (of(recorder, name), of(&first, name));
            let begin = told[0].1;
            let expected: Vec<_> = all.into_iter().filter(|(_, version)| *version > begin).collect();
            let rest = if told[0].0 == "snapshot" { &told[1..] } else { &told[..] };
            let expected = if told[0].0 == "snapshot" { &expected[..] } else { &of(&first, name)[..] };
            let skip = expected.len() - rest.len();
            assert_eq!(rest, &expected[skip..], "{name}");
            assert!(told[0].0 == "snapshot" && skip == 0 || name == "/c", "{name}: {told:?}");
        }
    }
}

#[tokio::test]
async fn lost_history_is_reconciled_and_marked() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    let todos = Todos::install(&client, "lost").await;
    for name in ["stays", "changes", "goes", "returns"] {
        todos.write("default", name, "one").await;
    }
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    recorder.hears(&["snapshot stays", "snapshot changes", "snapshot goes", "snapshot returns"]).await;
    reaches(&pipeline, &todo_kind(&todos.group), WatchState::Live).await;

    // The bridge is stopped in its reading by the end of the server; what is written before the next one
    // serves watches from it is history that no watch can bring any more.
    control_plane.api_server.kill().unwrap();
    control_plane.api_server.restart().await.unwrap();
    todos.write("default", "changes", "two").await;
    todos.delete("default", "goes").await;
    todos.delete("default", "returns").await;
    todos.write("default", "returns", "again").await;
    eventually(common::SOON, "the state of the API server", || async {
        let (fold, held) = (recorder.fold(), todos.held("default").await);
        if fold == held { Ok(()) } else { Err(format!("{:?}", recorder.lines())) }
    })
    .await
    .unwrap();
    let repeated = recorder.lines().iter().filter(|line| line.contains("stays")).count();
    assert_eq!(repeated, 1, "{:?}", recorder.lines());
    // Nothing of an old life comes after the new one.
    let lives: Vec<_> =
        recorder.events().iter().filter(|e| e["subject"] == "default/returns").map(change_and_uid).collect();
    assert!(lives.len() >= 3, "{lives:?}");
    let (old, new) = (lives[0].1.clone(), lives[lives.len() - 1].1.clone());
    let switch = lives.iter().position(|(_, uid)| *uid == new).unwrap();
    assert!(lives[..switch].iter().all(|(_, uid)| *uid == old), "{lives:?}");
    assert_eq!(lives[switch - 1].0, "deleted");
}

#[tokio::test]
async fn a_gap_is_marked_counted_and_reported() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    let todos = Todos::install(&client, "gap").await;
    let before = todos.write("default", "milk", "one").await;
    let (recorder, mut pipeline) =
        (Recorder::default(), pipeline(&client, |settings| settings.backfill.requests = 0));
    let kind = todo_kind(&todos.group);
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    recorder.hears(&["snapshot milk"]).await;
    reaches(&pipeline, &kind, WatchState::Live).await;

    // Compacted while no API server, which has its own copy of the recent history, could tell anybody.
    control_plane.api_server.kill().unwrap();
    control_plane.etcd.compact().await.unwrap();
    control_plane.api_server.restart().await.unwrap();
    todos.write("default", "milk", "two").await;
    recorder.hears(&["snapshot milk", "updated milk gap"]).await;
    let report = report_of(&pipeline, &kind);
    assert_eq!(report.gaps, 1, "{report:?}");
    assert!(report.last_gap.is_some_and(|(since, _)| since.0 >= before), "{report:?}");
}

fn change_and_uid(event: &serde_json::Value) -> (String, String) {
    (change(event).to_owned(), event["k8suid"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_restart_of_the_api_server_repeats_nothing() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    let todos = Todos::install(&client, "restart").await;
    todos.write("default", "milk", "one").await;
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    recorder.hears(&["snapshot milk"]).await;
    for round in ["two", "three"] {
        control_plane.api_server.kill().unwrap();
        control_plane.api_server.restart().await.unwrap();
        todos.write("default", "milk", round).await;
        eventually(common::SOON, "the update", || async {
            if recorder.fold() == todos.held("default").await { Ok(()) } else { Err("not yet") }
        })
        .await
        .unwrap();
    }
    let lines = recorder.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].starts_with("updated milk") && lines[2].starts_with("updated milk"), "{lines:?}");
}

#[tokio::test]
async fn a_watch_that_has_gone_silent_is_opened_again() {
    let mut control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client().await.unwrap();
    let todos = Todos::install(&client, "silent").await;
    let recorder = Recorder::default();
    let limit = std::time::Duration::from_secs(2);
    let (mut pipeline, metrics) =
        common::pipeline_with(&client, 64 << 20, |settings| settings.silence_limit = limit);
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    reaches(&pipeline, &todo_kind(&todos.group), WatchState::Live).await;
    todos.write("default", "milk", "one").await;
    recorder.hears(&["added milk"]).await;
    // The connection stands, and nothing comes over it, not even the end of the stream.
    control_plane.api_server.pause().unwrap();
    eventually(common::SOON, "the end of patience", || async {
        let text = metrics.render();
        if text.contains(r#"reason="silent"}"#) { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    control_plane.api_server.resume().unwrap();
    todos.write("default", "milk", "two").await;
    recorder.hears(&["added milk", "updated milk"]).await;
}

#[tokio::test]
async fn a_kind_that_comes_goes_and_comes_back_is_followed() {
    let client = client().await;
    let todos = Todos { client: client.clone(), group: "late.example.com".into() };
    let kind = todo_kind(&todos.group);
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    reaches(&pipeline, &kind, WatchState::NotServed).await;
    let trouble = report_of(&pipeline, &kind).trouble.unwrap();
    assert_eq!(
        trouble,
        "the cluster does not serve the kind Todo of late.example.com/v1; is its CRD installed?"
    );

    todos.install_crd().await;
    reaches(&pipeline, &kind, WatchState::Live).await;
    todos.write("default", "milk", "one").await;
    recorder.hears(&["added milk"]).await;

    todos.remove_crd().await;
    reaches(&pipeline, &kind, WatchState::NotServed).await;
    todos.install_crd().await;
    reaches(&pipeline, &kind, WatchState::Live).await;
    todos.write("default", "bread", "one").await;
    eventually(common::SOON, "the state of the API server", || async {
        if recorder.fold() == todos.held("default").await {
            Ok(())
        } else {
            Err(format!("{:?}", recorder.lines()))
        }
    })
    .await
    .unwrap();
    let deletes = recorder.lines().iter().filter(|line| line.starts_with("deleted milk")).count();
    assert_eq!(deletes, 1, "{:?}", recorder.lines());
}

#[tokio::test]
async fn a_server_that_does_not_stream_the_state_is_listed_by_pages() {
    let flags = ["--feature-gates=WatchList=false".to_owned()];
    let home = tidings_testbed::component::Home::Temporary;
    let control_plane = ControlPlane::start_with(&home, &flags).await.unwrap();
    let client = control_plane.client().await.unwrap();
    let todos = Todos::install(&client, "pages").await;
    for index in 0..7 {
        todos.write("default", &format!("t{index}"), "one").await;
    }
    let (recorder, mut pipeline) =
        (Recorder::default(), pipeline(&client, |settings| settings.page_size = 3));
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    let snapshot: Vec<_> = (0..7).map(|index| format!("snapshot t{index}")).collect();
    let mut expected: Vec<_> = snapshot.iter().map(String::as_str).collect();
    recorder.hears(&expected).await;
    todos.write("default", "t3", "two").await;
    expected.push("updated t3");
    recorder.hears(&expected).await;
}

#[tokio::test]
async fn an_object_that_is_too_long_is_reported_and_stops_nothing() {
    let client = client().await;
    let todos = Todos::install(&client, "long").await;
    let namespace = &shared::namespace(&client, "long").await.unwrap();
    let (recorder, mut pipeline) =
        (Recorder::default(), pipeline(&client, |settings| settings.max_object_bytes = 4096));
    pipeline.add(route("s", &todos.group, &[namespace]), recorder.target(), PLACE.into(), delivery()).await;
    reaches(&pipeline, &todo_kind(&todos.group), WatchState::Live).await;
    todos.write(namespace, "small", "one").await;
    recorder.hears(&["added small"]).await;
    todos.write(namespace, "small", &"x".repeat(8192)).await;
    todos.write(namespace, "other", "one").await;
    recorder.hears(&["added small", "added other"]).await;
    assert_eq!(report_of(&pipeline, &todo_kind(&todos.group)).skipped, 1);
    todos.write(namespace, "small", "short again").await;
    recorder.hears(&["added small", "added other", "updated small gap"]).await;
}

#[tokio::test]
async fn an_edited_selection_adds_and_leaves_without_a_restart() {
    let client = client().await;
    let todos = Todos::install(&client, "edit").await;
    let shop = &shared::namespace(&client, "shop").await.unwrap();
    let farm = &shared::namespace(&client, "farm").await.unwrap();
    todos.write(shop, "milk", "one").await;
    todos.write(farm, "cow", "one").await;
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    let first = route("s", &todos.group, &[shop]);
    pipeline.add(first.clone(), recorder.target(), PLACE.into(), delivery()).await;
    recorder.hears(&["snapshot milk"]).await;
    let mut second = tidings_core::route::Route { generation: 2, ..first };
    let namespaces = Namespaces::Only([farm.clone()].into());
    second.selections.insert(todo_kind(&todos.group), Selection::of(namespaces));
    pipeline.edit(second, None, delivery()).await;
    recorder.hears(&["snapshot milk", "left milk", "added cow"]).await;
    let added = recorder.events().into_iter().find(|event| change(event) == "added").unwrap();
    assert_eq!(added["id"].as_str().unwrap().rsplit('.').next(), Some("s2"), "{added}");
    assert_eq!(added["reason"], "selection");
    todos.write(shop, "milk", "two").await;
    todos.write(farm, "cow", "two").await;
    recorder.hears(&["snapshot milk", "left milk", "added cow", "updated cow"]).await;
}

#[tokio::test]
async fn a_kind_that_is_not_selected_any_more_is_left_and_its_watch_ends() {
    let client = client().await;
    let todos = Todos::install(&client, "parted").await;
    let notes = Todos::install(&client, "kept").await;
    todos.write("default", "milk", "one").await;
    notes.write("default", "idea", "one").await;
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    let kept = route("s", &notes.group, &["default"]);
    let mut both = kept.clone();
    both.selections.extend(route("s", &todos.group, &["default"]).selections);
    pipeline.add(both, recorder.target(), PLACE.into(), delivery()).await;
    recorder.hears(&["snapshot milk", "snapshot idea"]).await;
    assert_eq!(pipeline.watches(), 2);
    pipeline.edit(tidings_core::route::Route { generation: 2, ..kept }, None, delivery()).await;
    recorder.hears(&["snapshot milk", "snapshot idea", "left milk"]).await;
    let pipeline = tokio::sync::Mutex::new(pipeline);
    eventually(common::SOON, "the end of a Watch", || async {
        let mut pipeline = pipeline.lock().await;
        pipeline.drop_unused().await;
        if pipeline.watches() == 1 { Ok(()) } else { Err("it runs") }
    })
    .await
    .unwrap();
    notes.write("default", "idea", "two").await;
    recorder.hears(&["snapshot milk", "snapshot idea", "left milk", "updated idea"]).await;
}

#[tokio::test]
async fn a_sink_that_fails_for_a_while_loses_nothing_and_keeps_order() {
    let client = client().await;
    let todos = Todos::install(&client, "fails").await;
    let namespace = &shared::namespace(&client, "fails").await.unwrap();
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&client, |_| ()));
    recorder.fail(true);
    pipeline.add(route("s", &todos.group, &[namespace]), recorder.target(), PLACE.into(), delivery()).await;
    reaches(&pipeline, &todo_kind(&todos.group), WatchState::Live).await;
    let mut expected = Vec::new();
    for round in 0..20 {
        for name in ["a", "b"] {
            expected.push((name, todos.write(namespace, name, &round.to_string()).await));
        }
    }
    eventually(common::SOON, "everything waiting", || async {
        let report = pipeline.report("uid-s").unwrap();
        let waits = report.lane.pending == 40 && report.lane.retried > 0;
        if waits { Ok(()) } else { Err(format!("{report:?}")) }
    })
    .await
    .unwrap();
    let settled = pipeline.report("uid-s").unwrap().watches[0].settled;
    assert!(settled.is_none_or(|settled| settled.0 < expected[0].1), "{settled:?} with nothing acked");
    recorder.fail(false);
    eventually(common::SOON, "everything acked", || async {
        if recorder.events().len() == 40 { Ok(()) } else { Err(recorder.events().len().to_string()) }
    })
    .await
    .unwrap();
    for name in ["a", "b"] {
        let wanted: Vec<_> =
            expected.iter().filter(|(n, _)| *n == name).map(|(_, version)| *version).collect();
        let events = recorder.events();
        let of_name = events.iter().filter(|event| event["subject"].as_str().unwrap().ends_with(name));
        assert_eq!(of_name.map(version).collect::<Vec<_>>(), wanted);
    }
}

#[tokio::test]
async fn a_full_journal_holds_the_watch_and_loses_nothing() {
    let client = client().await;
    let todos = Todos::install(&client, "full").await;
    let namespace = &shared::namespace(&client, "full").await.unwrap();
    let recorder = Recorder::default();
    // Room for a handful of Changes, and hardly more in the ring.
    let (mut pipeline, metrics) =
        common::pipeline_with(&client, 16 << 10, |settings| settings.ring_bytes = 8 << 10);
    recorder.fail(true);
    pipeline.add(route("s", &todos.group, &[namespace]), recorder.target(), PLACE.into(), delivery()).await;
    reaches(&pipeline, &todo_kind(&todos.group), WatchState::Live).await;
    for round in 0..100 {
        todos.write(namespace, "milk", &format!("{round} {}", "x".repeat(1000))).await;
    }
    recorder.fail(false);
    eventually(common::SOON, "all versions", || async {
        if recorder.events().len() == 100 { Ok(()) } else { Err(recorder.events().len().to_string()) }
    })
    .await
    .unwrap();
    assert!(recorder.lines().iter().all(|line| !line.ends_with("gap")), "{:?}", recorder.lines());
    let text = metrics.render();
    assert!(text.contains(r#"reason="full"}"#), "{text}");
}

#[tokio::test]
async fn who_may_not_watch_is_told_so() {
    let testbed = shared::testbed().await.unwrap();
    let admin = testbed.control_plane.client().await.unwrap();
    let todos = Todos::install(&admin, "forbidden").await;
    let nobody = testbed.control_plane.client_for("nobody", None).await.unwrap();
    let (recorder, mut pipeline) = (Recorder::default(), pipeline(&nobody, |_| ()));
    pipeline.add(route("s", &todos.group, &["default"]), recorder.target(), PLACE.into(), delivery()).await;
    let kind = todo_kind(&todos.group);
    reaches(&pipeline, &kind, WatchState::Forbidden).await;
    let trouble = report_of(&pipeline, &kind).trouble.unwrap();
    assert!(trouble.contains(r#"User "nobody" cannot"#), "{trouble}");
}
