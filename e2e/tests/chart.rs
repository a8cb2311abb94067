//! What the chart renders, as a real API server takes it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "chart/mistakes.rs"]
mod mistakes;
#[path = "chart/ways.rs"]
mod ways;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use mistakes::mistakes;
use serde_json::{Value, json};
use tidings_testbed::{helm, kubectl, shared};
use ways::{everything, ways};

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

async fn admin() -> Client {
    shared::testbed().await.unwrap().control_plane.client().await.unwrap()
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let chart = helm::chart().unwrap().display().to_string();
    let words = helm::run(&["lint", "--strict", &chart], "").unwrap();
    assert!(words.contains("1 chart(s) linted, 0 chart(s) failed"), "{words}");
}

#[test]
fn helm_installs_the_definitions_of_this_checkout() {
    let chart = helm::chart().unwrap().display().to_string();
    let shown = helm::run(&["show", "crds", &chart], "").unwrap();
    let names = |yaml: &str| -> BTreeSet<String> {
        let lines = yaml.lines().filter_map(|line| line.strip_prefix("  name: "));
        lines.map(ToOwned::to_owned).collect()
    };
    // What is in them is compared where they are made (crds/src/print.rs).
    assert_eq!(names(&shown), names(&tidings_crds::print::yaml().unwrap()));
}

#[tokio::test]
async fn the_api_server_takes_every_object_of_every_way_to_install() {
    let namespace = shared::namespace(&admin().await, "chart").await.unwrap();
    let kubeconfig = shared::testbed().await.unwrap().control_plane.kubeconfig();
    for (way, values) in ways(&namespace) {
        let mut objects = helm::template(&namespace, &values).unwrap();
        // The server does not know that kind.
        objects.retain(|object| kind(object) != "PodMonitor");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let dry_run = ["apply", "--server-side", "--dry-run=server", "--filename", "-"];
        let taken =
            kubectl::run(kubeconfig, &dry_run, &list).unwrap_or_else(|error| panic!("{way}: {error:#}"));
        assert_eq!(taken.lines().count(), objects.len(), "{way}: {taken}");
        assert!(taken.lines().all(|line| line.contains("(server dry run)")), "{way}: {taken}");
    }
}

#[test]
fn what_is_rendered_follows_the_values() {
    let objects = |way: &str| {
        let (_, values) = ways("orders").into_iter().find(|(name, _)| *name == way).unwrap();
        let objects = helm::template("tidings", &values).unwrap();
        objects
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                let namespace = metadata["namespace"].as_str().filter(|namespace| *namespace != "tidings");
                let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
                format!("{} {}{place}", kind(object), metadata["name"].as_str().unwrap())
            })
            .collect::<BTreeSet<_>>()
    };
    let set = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let defaults = objects("defaults");
    assert_eq!(defaults.iter().filter(|object| object.contains("-webhook")).count(), 9, "{defaults:#?}");
    let without = objects("no webhook");
    assert!(
        !without.iter().any(|object| object.contains("webhook") || object.contains("Webhook")),
        "{without:#?}"
    );
    let added = |way: &str| objects(way).difference(&defaults).cloned().collect::<BTreeSet<_>>();
    let gone = |way: &str| defaults.difference(&objects(way)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(added("sources"), set(&["ClusterRole tidings-bridge-source-values"]));
    let secrets = ["Role tidings-bridge-secrets in orders", "RoleBinding tidings-bridge-secrets in orders"];
    assert_eq!(added("some Secrets"), set(&secrets));
    assert_eq!(gone("one webhook"), set(&["PodDisruptionBudget tidings-webhook"]));
    let namespaced = objects("namespaces");
    let cluster = ["Cluster", "Webhook"];
    assert!(
        !namespaced.iter().any(|object| cluster.iter().any(|kind| object.contains(kind))),
        "{namespaced:#?}"
    );
    let roles = ["Role tidings-bridge in orders", "RoleBinding tidings-bridge in orders"];
    assert_eq!(added("namespaces"), set(&roles));
    let accounts = objects("accounts that exist");
    assert!(
        !accounts.iter().any(|object| object.contains("Role") || object.contains("Account")),
        "{accounts:#?}"
    );
}

#[test]
fn the_bridge_reads_the_settings_that_are_rendered() {
    let objects = helm::template("tidings", &everything()).unwrap();
    let of = |name: &str, file: &str| {
        let found =
            objects.iter().find(|object| kind(object) == "ConfigMap" && object["metadata"]["name"] == name);
        found.unwrap()["data"][file].as_str().unwrap().to_owned()
    };
    let bridge = "admin_address: 0.0.0.0:8080\ncluster_name: east.example\njournal_bytes: 134217728\nretry_backoff:\n  \
                  first: 1s\nstate_dir: /var/lib/tidings/state";
    assert_eq!(of("town-crier-bridge", "bridge.yaml").trim_end(), bridge);
    let webhook = of("town-crier-webhook", "webhook.yaml");
    for line in [
        "address: 0.0.0.0:9443",
        "configuration: town-crier",
        "  lifetime: 240h",
        "  secret: town-crier-webhook-ca",
    ] {
        assert!(webhook.lines().any(|found| found == line), "{webhook} has no {line:?}");
    }
    let arguments = |kind_: &str| {
        let found = objects.iter().find(|object| kind(object) == kind_).unwrap();
        found["spec"]["template"]["spec"]["containers"][0]["args"].clone()
    };
    let file = "--config=/etc/tidings/bridge.yaml";
    assert_eq!(arguments("StatefulSet"), json!(["bridge", file, "--log-level=debug"]));
}

#[test]
fn an_image_is_named_by_its_digest_before_its_tag_before_the_version() {
    let image = |image: Value| {
        let objects = helm::template("tidings", &json!({ "image": image })).unwrap();
        let found = objects.iter().find(|object| kind(object) == "StatefulSet").unwrap();
        found["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    assert_eq!(image(json!({})), concat!("ghcr.io/tidings-dev/tidings:", env!("CARGO_PKG_VERSION")));
    assert_eq!(image(json!({"tag": "dev"})), "ghcr.io/tidings-dev/tidings:dev");
    assert_eq!(
        image(json!({"tag": "dev", "digest": digest})),
        format!("ghcr.io/tidings-dev/tidings@{digest}")
    );
}

#[test]
fn an_older_cluster_is_refused() {
    let chart = helm::chart().unwrap().display().to_string();
    let on = |version: &str| helm::run(&["template", "tidings", &chart, "--kube-version", version], "");
    let refused = on("1.31.9").unwrap_err().to_string();
    assert!(refused.contains("chart requires kubeVersion: >=1.32.0-0"), "{refused}");
    // With what providers add to a version.
    on("1.32.0-gke.100").unwrap();
}

#[test]
fn prometheus_reads_the_admin_ports() {
    let objects = helm::template("tidings", &everything()).unwrap();
    let monitor = objects.iter().find(|object| kind(object) == "PodMonitor").unwrap();
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([{"port": "admin", "interval": "30s"}]));
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let mut pods = 0;
    for template in
        objects.iter().map(|object| &object["spec"]["template"]).filter(|template| template.is_object())
    {
        let labels = &template["metadata"]["labels"];
        assert!(selected.iter().all(|(name, value)| labels[name] == *value), "{labels}");
        let ports = template["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(
            ports.iter().any(|port| port["name"] == "admin" && port["containerPort"] == 8080),
            "{ports:?}"
        );
        pods += 1;
    }
    assert_eq!(pods, 2);
}

#[test]
fn another_setting_makes_another_pod_and_nothing_else_does() {
    let template = |kind_: &str, values: Value| {
        let objects = helm::template("tidings", &values).unwrap();
        objects.into_iter().find(|object| kind(object) == kind_).unwrap()["spec"]["template"].clone()
    };
    let set = |interval: &str| json!({"bridge": {"settings": {"flush_interval": interval}}});
    assert_ne!(template("StatefulSet", json!({})), template("StatefulSet", set("1s")));
    assert_eq!(template("StatefulSet", set("1s")), template("StatefulSet", set("1s")));
    assert_eq!(template("Deployment", json!({})), template("Deployment", set("1s")));
    let sources = json!({"sources": [{"apiGroups": ["a"], "resources": ["b"]}]});
    assert_eq!(template("StatefulSet", json!({})), template("StatefulSet", sources));
}

#[test]
fn a_mistake_in_the_values_is_refused_with_its_path() {
    for (values, words) in mistakes() {
        let refused = helm::template("tidings", &values).map(drop).unwrap_err().to_string();
        assert!(refused.contains(words), "{values}: {refused}");
    }
}

#[test]
fn no_role_has_a_wildcard_or_lists_secrets() {
    for (way, values) in ways("orders") {
        for object in helm::template("tidings", &values).unwrap() {
            let Some(rules) = object["rules"].as_array() else { continue };
            assert!(!rules.is_empty(), "{way}: {object:#}");
            for rule in rules {
                let words = |of: &str| -> Vec<String> {
                    let words = rule[of].as_array().into_iter().flatten();
                    words.map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
                };
                let all = [words("apiGroups"), words("resources"), words("verbs")];
                assert!(all.iter().all(|words| !words.is_empty()), "{way}: {rule}");
                assert!(!all.iter().flatten().any(|word| word.contains('*')), "{way}: {rule}");
                let [_, resources, verbs] = all;
                // A right to one Secret can be used to list that one.
                let is_named = rule["resourceNames"].is_array();
                if resources.iter().any(|resource| resource == "secrets") && !is_named {
                    assert!(!verbs.iter().any(|verb| verb == "list"), "{way}: {rule}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_pods_satisfy_the_restricted_standard() {
    let client = admin().await;
    let namespace = shared::namespace(&client, "restricted").await.unwrap();
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pod = |object: &Value| {
        let mut pod = object["spec"]["template"].clone();
        pod["metadata"]["name"] = "it".into();
        // Of a claim the StatefulSet makes a volume.
        let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
        if kind(object) == "StatefulSet" {
            volumes.push(json!({"name": "state", "persistentVolumeClaim": {"claimName": "state-it"}}));
        }
        pod
    };
    let objects = helm::template(&namespace, &json!({})).unwrap();
    let workloads: Vec<_> = objects.iter().filter(|object| object["spec"]["template"].is_object()).collect();
    assert_eq!(workloads.len(), 2);
    for workload in workloads {
        let mut pod = pod(workload);
        let good = serde_json::from_value(pod.clone()).unwrap();
        pods.create(&dry_run, &good).await.unwrap_or_else(|error| panic!("{}: {error}", kind(workload)));
        // As it would be without what the chart says of it.
        pod["spec"]["containers"][0]["securityContext"] = json!({});
        let bad = serde_json::from_value(pod).unwrap();
        let refused = pods.create(&dry_run, &bad).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
    }
}

#[test]
fn the_notes_say_what_is_next() {
    let chart = helm::chart().unwrap().display().to_string();
    let notes = |values: Value| {
        let arguments = [
            "install",
            "tidings",
            &chart,
            "--namespace",
            "news",
            "--dry-run=client",
            "--hide-secret",
            "--values",
            "-",
        ];
        let all = helm::run(&arguments, &values.to_string()).unwrap();
        all.split_once("NOTES:\n").unwrap().1.to_owned()
    };
    let defaults = notes(json!({}));
    assert!(
        defaults.contains("kubectl --namespace news rollout status statefulset/tidings-bridge"),
        "{defaults}"
    );
    assert!(defaults.contains("deployment/tidings-webhook"), "{defaults}");
    assert!(defaults.contains("The bridge may not read any kind yet"), "{defaults}");
    assert!(!defaults.contains("is not on a volume"), "{defaults}");
    let other = notes(json!({
        "webhook": {"enabled": false}, "bridge": {"persistence": {"enabled": false}},
        "sources": [{"apiGroups": ["a"], "resources": ["b"]}]
    }));
    assert!(other.contains("is not on a volume") && !other.contains("deployment/"), "{other}");
    assert!(other.contains("The bridge may read the kinds of the value `sources`"), "{other}");
}

/// Also what people with Docker apply by kind/deploy.sh, which is not run here.
#[tokio::test]
async fn the_api_server_takes_what_kind_deploys() {
    let kubeconfig = shared::testbed().await.unwrap().control_plane.kubeconfig();
    let nats = include_str!("../../kind/nats.yaml");
    // A dry run does not make the namespace that what follows is in.
    let (namespace, rest) = nats.split_once("\n---\n").unwrap();
    kubectl::apply(kubeconfig, "default", namespace).unwrap();
    let dry_run = ["apply", "--server-side", "--dry-run=server", "--filename", "-"];
    let taken = kubectl::run(kubeconfig, &dry_run, rest).unwrap();
    assert_eq!(taken.lines().count(), 3, "{taken}");
    let chart = helm::chart().unwrap().display().to_string();
    let values = helm::chart().unwrap().join("../../kind/values.yaml").display().to_string();
    helm::run(&["template", "tidings", &chart, "--values", &values], "").unwrap();
}
