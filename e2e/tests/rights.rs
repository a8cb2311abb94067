//! The rights that the chart gives the bridge: enough for everything, and none too many.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::{ACCOUNT, Cluster, HOME, SOON, Stage, lines, program};
use tidings_crds::sink::Sink;
use tidings_testbed::component::Home;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::nats::{Nats, NatsOptions, NatsUser};
use tidings_testbed::tidings::Bridge;
use tidings_testbed::wait::eventually;
use tidings_testbed::{helm, kubectl, shared};

/// The right to do one thing.
struct Right {
    group: String,
    resource: String,
    verb: String,
}

/// A connection to the server at `url`, with a password from a Secret.
fn connection(url: &str) -> Value {
    json!({"servers": [url], "auth": {"user": "tidings", "passwordSecretRef": {"name": "broker", "key": "password"}}})
}

/// Two Subscriptions that together need everything: `inline` reads a Secret of its own, and `shared` names a Sink of another
/// namespace that lets in by labels. Answers that namespace.
async fn subscribe_in_every_way(stage: &Stage, url: &str) -> String {
    let other = shared::namespace(&stage.cluster.client, "company").await.unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broker"}, "stringData": {"password": "hunter2"}
    });
    let rights = json!({"apiVersion": "v1", "kind": "List", "items": [
        secret,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reads-broker"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["broker"], "verbs": ["get"]}]
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "reads-broker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads-broker"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": stage.namespace}]
        }
    ]});
    stage.cluster.apply(&stage.namespace, &rights.to_string());
    let labels = json!({"kubernetes.io/metadata.name": stage.namespace});
    let sink = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Sink", "metadata": {"name": "company"},
        "spec": {
            "nats": connection(url), "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": labels}}
        }
    });
    let company = json!({"apiVersion": "v1", "kind": "List", "items": [secret, sink]});
    stage.cluster.apply(&other, &company.to_string());

    let subject = |of: &str| format!("{}.{of}.{{name}}.{{change}}", stage.namespace);
    let mut inline = json!({ "nats": connection(url) });
    inline["nats"]["subject"] = subject("inline").into();
    stage.subscribe("inline", |spec| spec["sink"] = inline).await;
    let shared =
        json!({"ref": {"namespace": other, "name": "company"}, "nats": {"subject": subject("shared")}});
    stage.subscribe("shared", |spec| spec["sink"] = shared).await;
    other
}

/// Another server for `inline`, which leaves behind what the one before did not take. None is at these ports.
async fn move_away(stage: &Stage, port: u16) {
    stage.edit("inline", json!({"sink": {"nats": {"servers": [format!("nats://127.0.0.1:{port}")]}}})).await;
}

#[tokio::test]
async fn the_chart_gives_the_bridge_every_right_that_it_needs() {
    let options = NatsOptions { users: vec![NatsUser::new("tidings", "hunter2")], ..NatsOptions::default() };
    let (mut control_plane, mut nats) =
        tokio::try_join!(ControlPlane::start(), Nats::start_with(&Home::Temporary, options)).unwrap();
    control_plane.start_controllers().await.unwrap();
    let cluster = Cluster::install(&control_plane).await;
    // Kubernetes itself puts the role together here.
    let bindings = Api::<ClusterRoleBinding>::all(cluster.client.clone());
    bindings
        .delete("without-controllers-tidings-bridge-source-values", &DeleteParams::default())
        .await
        .unwrap();
    let bridge = Bridge::start(program().await, cluster.bridge(), &[]).await.unwrap();
    let stage = Stage::set(cluster, &nats, "rights").await;
    stage.create_stream().await;
    stage.write("milk", "one").await;
    let other = subscribe_in_every_way(&stage, &nats.url()).await;
    for subscription in ["inline", "shared"] {
        stage.says(subscription, "Accepted", "True", "Valid").await;
        stage.says(subscription, "Delivering", "True", "Synchronized").await;
    }
    stage.write("bread", "one").await;
    stage.write("bread", "two").await;
    stage.delete("bread").await;
    let mut told = lines(&stage.hears(8).await);
    told.sort();
    let each = ["added bread", "deleted bread", "snapshot milk", "updated bread"];
    let expected: Vec<_> = each.iter().flat_map(|line| [*line, *line]).collect();
    assert_eq!(told, expected, "{}", bridge.log_tail());
    let sinks = Api::<Sink>::namespaced(stage.cluster.client.clone(), &other);
    eventually(SOON, "a Sink that says how it is", || async {
        let status = sinks.get("company").await?.status.unwrap_or_default();
        let well = status.conditions.iter().any(|condition| condition.status == "True");
        anyhow::ensure!(well && status.subscriptions == Some(1), "{status:#?}");
        Ok(())
    })
    .await
    .unwrap();

    // What could not be delivered is announced, and the second time added to what was announced.
    nats.stop().await.unwrap();
    stage.write("milk", "two").await;
    move_away(&stage, 2).await;
    stage.announces("inline", "NotDelivered").await;
    move_away(&stage, 3).await;
    let events = stage.cluster.api(&stage.namespace, "events.k8s.io", "v1", "Event", "events");
    eventually(SOON, "a second announcement", || async {
        let all = events.list(&ListParams::default()).await?.items;
        let again = all.iter().any(|event| event.data["series"]["count"] == 2);
        anyhow::ensure!(again, "{all:#?}");
        Ok(())
    })
    .await
    .unwrap();

    // And through all of that the API server refused nothing.
    let refused = bridge.log_about("forbidden");
    assert!(refused.is_empty(), "{refused}");
}

/// Every single right of the bridge, of those that the chart renders.
fn rights() -> Vec<(Right, Vec<Value>)> {
    let sources = json!([{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"]}]);
    let objects = helm::template(HOME, &json!({ "sources": sources })).unwrap();
    let of_bridge = |object: &&Value| {
        object["kind"] == "ClusterRole"
            && object["metadata"]["labels"]["app.kubernetes.io/component"] == "bridge"
    };
    let roles = objects.iter().filter(of_bridge).filter_map(|role| role["rules"].as_array());
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = Vec::new();
    for rule in roles.flatten() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    let mut single = rule.clone();
                    single["apiGroups"] = json!([group]);
                    single["resources"] = json!([resource]);
                    single["verbs"] = json!([verb]);
                    all.push((Right { group: group.clone(), resource: resource.clone(), verb }, single));
                }
            }
        }
    }
    let rule_of = |index: usize, all: &[(Right, Value)]| -> Vec<Value> {
        all.iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, (_, rule))| rule.clone())
            .collect()
    };
    let rest: Vec<_> = (0..all.len()).map(|index| rule_of(index, &all)).collect();
    all.into_iter().map(|(right, _)| right).zip(rest).collect()
}

/// Bridges that lack one right each serve the same Subscriptions, to a broker that is never there: nothing gets in their way but
/// the API server.
#[tokio::test]
async fn without_any_one_of_its_rights_the_bridge_is_refused_something() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = Cluster::install(&control_plane).await;
    let client = cluster.client.clone();
    let mut bridges = Vec::new();
    for (index, (right, others)) in rights().into_iter().enumerate() {
        let name = format!("lacks-{index}");
        let role = json!({"metadata": {"name": name}, "rules": others});
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": HOME}]
        });
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        cluster.apply(HOME, &account.to_string());
        let (roles, bindings) =
            (Api::<ClusterRole>::all(client.clone()), Api::<ClusterRoleBinding>::all(client.clone()));
        roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
        let kubeconfig = control_plane.kubeconfig_of(HOME, &name).await.unwrap();
        let bridge = Bridge::spawn(program().await, &kubeconfig, &[]).unwrap();
        bridges.push((right, bridge));
    }
    assert!(bridges.len() > 12, "these are hardly all rights of {ACCOUNT}");

    let nats = &shared::testbed().await.unwrap().nats;
    let stage = Stage::set(cluster, nats, "lacking").await;
    stage.write("milk", "one").await;
    subscribe_in_every_way(&stage, "nats://127.0.0.1:1").await;
    // What is announced for the first time is created, and for the second time patched.
    let (_, patching) =
        bridges.iter().find(|(right, _)| (&*right.resource, &*right.verb) == ("events", "patch")).unwrap();
    for (moves, port) in [2, 3].into_iter().enumerate() {
        eventually(SOON, "something to leave behind", || async {
            let metrics = patching.metrics().await?;
            let lag = metrics
                .lines()
                .find(|line| line.starts_with("tidings_lag_changes") && line.contains("inline"));
            let left = patching.log().matches("the sink was left before everything was delivered").count();
            let waits = lag.is_some_and(|lag| !lag.ends_with(" 0"));
            anyhow::ensure!(waits && left == moves, "{lag:?}, left {left} times: {}", patching.log_tail());
            Ok(())
        })
        .await
        .unwrap();
        move_away(&stage, port).await;
    }
    for (Right { group, resource, verb }, bridge) in &bridges {
        let words = format!("cannot {verb} resource \"{resource}\" in API group \"{group}\"");
        eventually(SOON, &words, || async {
            let log = bridge.log().replace('\\', "");
            anyhow::ensure!(log.contains(&words), "{log}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// So that the tests above mean something: what is in nobody's role is refused.
#[tokio::test]
async fn the_bridge_may_not_do_what_it_need_not_do() {
    let testbed = shared::testbed().await.unwrap();
    let cluster = Cluster::install(&testbed.control_plane).await;
    let client = tidings_testbed::api_server::client(cluster.bridge()).await.unwrap();
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(client.clone(), "default");
    let refused = secrets.list(&ListParams::default()).await.map(drop).unwrap_err().to_string();
    let account = format!("system:serviceaccount:{HOME}:{ACCOUNT}");
    assert!(refused.contains(&format!("\"{account}\" cannot list resource \"secrets\"")), "{refused}");
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::all(client.clone());
    let refused = pods.list(&ListParams::default()).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("cannot list resource \"pods\""), "{refused}");
    let sinks = Api::<Sink>::namespaced(client, "default");
    let patch = Patch::Merge(json!({"spec": {}}));
    let refused =
        sinks.patch("any", &PatchParams::default(), &patch).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("cannot patch resource \"sinks\""), "{refused}");
}

/// The chart is ready for it; the bridge has no setting yet that keeps it within them.
#[tokio::test]
async fn with_namespaces_there_are_rights_in_these_and_nowhere_else() {
    let testbed = shared::testbed().await.unwrap();
    let cluster = Cluster::install(&testbed.control_plane).await;
    let admin = cluster.client.clone();
    let home = shared::namespace(&admin, "narrow").await.unwrap();
    let (inside, outside) = (
        shared::namespace(&admin, "inside").await.unwrap(),
        shared::namespace(&admin, "outside").await.unwrap(),
    );
    let values = json!({
        "namespaces": [inside], "clusterName": "east", "webhook": {"enabled": false},
        "sources": [{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"]}]
    });
    let mut objects = helm::template(&home, &values).unwrap();
    objects.retain(|object| {
        ["ServiceAccount", "Role", "RoleBinding"].iter().any(|kind| object["kind"] == *kind)
    });
    assert_eq!(objects.len(), 3, "{objects:#?}");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    kubectl::run(&cluster.kubeconfig, &["apply", "--server-side", "--filename", "-"], &list).unwrap();
    let account = format!("system:serviceaccount:{home}:{ACCOUNT}");
    let may = async |namespace: Option<&str>, group: &str, resource: &str, verb: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({
            "metadata": {},
            "spec": {"user": account, "groups": ["system:authenticated"], "resourceAttributes": {
                "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb
            }}
        });
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let reviews = Api::<SubjectAccessReview>::all(admin.clone());
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    };
    for (group, resource, verb) in [
        ("tidings.dev", "subscriptions", "list"),
        ("tidings.dev", "sinks", "watch"),
        ("tidings.dev", "subscriptions/status", "patch"),
        ("events.k8s.io", "events", "create"),
        ("", "secrets", "get"),
        ("authorization.k8s.io", "localsubjectaccessreviews", "create"),
        ("k8sasbackend.com", "todos", "watch"),
    ] {
        assert!(may(Some(&inside), group, resource, verb).await, "{verb} {resource} inside");
        assert!(!may(Some(&outside), group, resource, verb).await, "{verb} {resource} outside");
        assert!(!may(None, group, resource, verb).await, "{verb} {resource} everywhere");
    }
}
