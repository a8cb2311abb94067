//! What the tests of the webhook against a real API server share: a cluster with our resources, and replicas of the webhook.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "support of tests, which may panic"
)]
#![allow(dead_code, reason = "not every test uses everything")]

pub(crate) mod balancer;
pub(crate) mod https;
pub(crate) mod load;
pub(crate) mod replica;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidings_crds::subscription::Subscription;
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::wait::eventually;

pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Where the webhook is, and what it is called there.
pub(crate) const OWN: &str = "tidings";
pub(crate) const CONFIGURATION: &str = "tidings-webhook";
/// The user that the webhook is, with the rights that it needs and no others.
const USER: &str = "webhook";

/// The rights that the webhook needs in the cluster.
fn cluster_rules() -> Value {
    json!([
        {
            "apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
            "resourceNames": [CONFIGURATION], "verbs": ["get", "list", "watch", "patch"],
        },
        {
            "apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
            "verbs": ["create"],
        },
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        {"apiGroups": ["tidings.dev"], "resources": ["sinks"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    ])
}

/// Those that it needs in its own namespace.
fn own_rules() -> Value {
    json!([
        {
            "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tidings-webhook-ca"],
            "verbs": ["get", "list", "watch", "update"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    ])
}

/// Prepares a cluster: our resources, a kind to watch, the webhook's namespace, and its rights. Returns its kubeconfig.
pub(crate) async fn prepare(control_plane: &ControlPlane) -> PathBuf {
    let client = control_plane.client().await.unwrap();
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for definition in tidings_crds::print::definitions().into_iter().chain([todos()]) {
        crds.create(&PostParams::default(), &definition).await.unwrap();
    }
    for name in tidings_crds::print::definitions().map(|definition| definition.name_any()) {
        let (plural, group) = name.split_once('.').unwrap();
        let path = format!("/apis/{group}/v1alpha1/{plural}");
        eventually(SOON, "our resources are served", || async {
            let request = http::Request::get(&path).body(Vec::new()).unwrap();
            client.request::<Value>(request).await
        })
        .await
        .unwrap();
    }
    eventually(SOON, "Todos are served", || client.list_api_group_resources("k8sasbackend.com/v1"))
        .await
        .unwrap();
    namespace(&client, OWN).await;
    grant(&client, None, USER, cluster_rules()).await;
    grant(&client, Some(OWN), USER, own_rules()).await;
    control_plane.kubeconfig_for(USER, None).unwrap()
}

fn todos() -> CustomResourceDefinition {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "todos.k8sasbackend.com"},
        "spec": {
            "group": "k8sasbackend.com", "scope": "Namespaced",
            "names": {"plural": "todos", "singular": "todo", "kind": "Todo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]
        }
    });
    serde_json::from_value(definition).unwrap()
}

pub(crate) async fn namespace(client: &Client, name: &str) {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

/// The same, where the service account that Subscriptions act as may read Todos.
pub(crate) async fn workplace(client: &Client, name: &str) {
    namespace(client, name).await;
    grant(client, Some(name), &format!("{name}:default"), reads_todos()).await;
}

/// Gives `user` (or a service account, as `namespace:name`) rights in a namespace, or in the cluster.
pub(crate) async fn grant(client: &Client, namespace: Option<&str>, user: &str, rules: Value) {
    let group = "rbac.authorization.k8s.io";
    let subject = match user.split_once(':') {
        Some((namespace, name)) => json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}),
        None => json!({"kind": "User", "apiGroup": group, "name": user}),
    };
    let (role, binding) =
        if namespace.is_some() { ("Role", "RoleBinding") } else { ("ClusterRole", "ClusterRoleBinding") };
    let name = format!("{}-{:x}", user.replace(':', "-"), fastrand::u32(..));
    let object = |kind: &str, rest: Value| {
        let mut object =
            json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let role_ref = json!({"apiGroup": group, "kind": role, "name": name});
    for object in [
        object(role, json!({ "rules": rules })),
        object(binding, json!({"roleRef": role_ref, "subjects": [subject]})),
    ] {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let scope = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
        post::<Value>(client, &format!("/apis/{group}/v1{scope}/{plural}"), &object).await.unwrap();
    }
}

/// The right to read Todos.
pub(crate) fn reads_todos() -> Value {
    json!([{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"], "verbs": ["list", "watch"]}])
}

/// The right to write our resources.
pub(crate) fn writes_ours() -> Value {
    json!([{"apiGroups": ["tidings.dev"], "resources": ["*"], "verbs": ["*"]}])
}

pub(crate) async fn post<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    object: &Value,
) -> kube::Result<T> {
    let request = http::Request::post(path).header("content-type", "application/json");
    client.request(request.body(serde_json::to_vec(object).unwrap()).unwrap()).await
}

pub(crate) fn subscriptions(client: &Client, namespace: &str) -> Api<Subscription> {
    Api::namespaced(client.clone(), namespace)
}

/// Creates a Subscription or a Sink, with `query` behind the path.
pub(crate) async fn create(
    client: &Client,
    namespace: &str,
    object: &Value,
    query: &str,
) -> kube::Result<Value> {
    let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
    post(client, &format!("/apis/tidings.dev/v1alpha1/namespaces/{namespace}/{plural}{query}"), object).await
}

/// A Subscription on the Todos of its own namespace, over which `spec` is laid.
pub(crate) fn subscription(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription", "metadata": {"name": name},
        "spec": {"sources": [{"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"}], "sink": {"stdout": {}}},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

/// One that the schema lets through, and that makes no sense in three places.
pub(crate) fn broken(name: &str) -> Value {
    subscription(
        name,
        json!({
            "sources": [
                {"apiVersion": "a..b/v1", "kind": "Todo"},
                {"apiVersion": "k8sasbackend.com/v1", "kind": "Todo"},
                {"apiVersion": "k8sasbackend.com/v2", "kind": "Todo"},
            ],
            "delivery": {"maxAge": "0s"},
        }),
    )
}

/// Where [`broken`] is.
pub(crate) const BROKEN: [&str; 3] =
    ["spec.sources[0].apiVersion", "spec.sources[2].apiVersion", "spec.delivery.maxAge"];

/// The refusal in `result`.
pub(crate) fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("it was not refused: {other:?}"),
    }
}

pub(crate) async fn configuration(client: &Client) -> kube::Result<ValidatingWebhookConfiguration> {
    Api::all(client.clone()).get(CONFIGURATION).await
}

/// The `caBundle` and the failure policy in the configuration.
pub(crate) async fn state(client: &Client) -> Result<(String, String), String> {
    let configuration = configuration(client).await.map_err(|error| error.to_string())?;
    let webhook = configuration.webhooks.into_iter().flatten().next().ok_or("there is no webhook in it")?;
    let bundle = webhook.client_config.ca_bundle.unwrap_or_default().0;
    Ok((String::from_utf8(bundle).unwrap(), webhook.failure_policy.unwrap_or_default()))
}

/// Waits until the API server is told to refuse what it cannot ask about.
pub(crate) async fn until_policy(client: &Client, policy: &str) {
    eventually(SOON, &format!("failurePolicy: {policy}"), || async {
        let (_, found) = state(client).await?;
        if found == policy { Ok(()) } else { Err(format!("it is {found}")) }
    })
    .await
    .unwrap();
}

/// Waits until the API server really asks the webhook: it hears of a configuration a moment after it is stored.
pub(crate) async fn until_asked(client: &Client, namespace: &str) {
    until_policy(client, "Fail").await;
    eventually(SOON, "the webhook is asked", || async {
        match create(client, namespace, &broken("probe"), "?dryRun=All").await {
            Err(kube::Error::Api(status)) if status.code == 422 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

/// How many of our objects there are.
pub(crate) async fn count(client: &Client, namespace: &str) -> usize {
    subscriptions(client, namespace).list(&ListParams::default()).await.unwrap().items.len()
}
