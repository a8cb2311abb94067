//! Writing what is hard to carry, and what Events have to say of it by `docs/guarantees.md`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::Stage;

/// One change, and the object as the API server answered it to whoever made it.
pub(crate) struct Told {
    pub(crate) change: &'static str,
    /// Of a deletion, what was there before.
    pub(crate) object: Value,
}

/// A trace that the writer of an object has begun.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// A megabyte and what is around it, which no broker's default forbids.
const LARGE: usize = 1_000_000;
/// As long as names may be, almost, with all characters that there may be in most of them.
fn longest() -> String {
    let label = |letter: &str, length: usize| format!("{letter}{}{letter}", "-0".repeat((length - 2) / 2));
    [label("a", 62), label("b", 62), label("c", 62), label("d", 62)].join(".")
}

/// Of Roles, names have anything but `/` and `%`.
const ROLES: [&str; 3] =
    ["system:role", r#"a "role" \ with, <everything>; {that}=is|legal"#, "Rolle für Zoë 🎁"];

impl Told {
    /// The attributes of the Event that tells it, but for what nobody can know: `sequence` and `time` of a deletion, and a
    /// `traceparent` that nobody gave.
    pub(crate) fn attributes(&self, subscription: &str, cluster: &str) -> BTreeMap<String, String> {
        let Self { change, object } = self;
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap().to_owned();
        let (uid, version, name) = (text("uid"), text("resourceVersion"), text("name"));
        let subject = format!("{}/{name}", text("namespace"));
        let (source, kind) = match object["kind"].as_str().unwrap() {
            "Todo" => ("k8sasbackend.com/todos", "com.k8sasbackend.todo"),
            _ => ("rbac.authorization.k8s.io/roles", "io.k8s.authorization.rbac.role"),
        };
        let id = match *change {
            "deleted" => format!("{uid}.deleted"),
            "snapshot" => format!("{uid}.{version}.s1"),
            _ => format!("{uid}.{version}"),
        };
        let mut attributes = vec![
            ("specversion", "1.0".to_owned()),
            ("id", id),
            ("source", format!("/clusters/{cluster}/apis/{source}")),
            ("type", format!("{kind}.{change}")),
            ("subject", subject.clone()),
            ("datacontenttype", "application/json".to_owned()),
            ("partitionkey", subject),
            ("subscription", subscription.to_owned()),
            ("k8suid", uid),
            ("reason", if *change == "snapshot" { "snapshot" } else { "watch" }.to_owned()),
        ];
        let managed = metadata["managedFields"].as_array().unwrap().iter();
        let newest = managed.filter_map(|entry| entry["time"].as_str()).max().unwrap();
        attributes.extend(match *change {
            "added" => Some(("time", text("creationTimestamp"))),
            "deleted" => None,
            _ => Some(("time", newest.to_owned())),
        });
        if *change != "deleted" {
            attributes.push(("sequence", sequence(&version)));
        }
        attributes
            .extend(metadata["generation"].as_u64().map(|number| ("k8sgeneration", number.to_string())));
        let trace = metadata["annotations"]["traceparent"].as_str();
        attributes.extend(trace.map(|trace| ("traceparent", trace.to_owned())));
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The data: what the API server holds, without what it keeps for itself. Of a deletion without its version.
    pub(crate) fn data(&self) -> Value {
        let mut data = self.object.clone();
        let metadata = data["metadata"].as_object_mut().unwrap();
        metadata.remove("managedFields");
        if self.change == "deleted" {
            metadata.remove("resourceVersion");
        }
        data
    }
}

/// Of the first epoch.
pub(crate) fn sequence(version: &str) -> String {
    format!("{:012}.{version:0>20}", 0)
}

/// The cluster, as `source` names it.
pub(crate) async fn cluster(stage: &Stage) -> String {
    let namespaces = Api::<Namespace>::all(stage.cluster.client.clone());
    namespaces.get("kube-system").await.unwrap().uid().unwrap()
}

/// What is there before anybody listens.
pub(crate) async fn before(stage: &Stage) -> Vec<Told> {
    vec![todo(stage, "snapshot", "before", json!({"message": "before"})).await]
}

/// How many changes [`before`] and [`write`] make.
pub(crate) const CHANGES: usize = 1 + 10 + 2 + 5;

/// Everything that is hard to carry.
pub(crate) async fn write(stage: &Stage) -> Vec<Told> {
    let mut told = Vec::new();
    let names = ["milk", "a.b-c.0.de", &longest()];
    for name in names {
        told.push(todo(stage, "added", name, json!({"message": "one"})).await);
        let message = "\u{0}\u{1}\t\r\n \"quoted\" \\ %41 <&> ß Ω 漢字 אב 🏴‍☠️ e\u{301}\u{2028}\u{feff}";
        told.push(todo(stage, "updated", name, json!({"message": message, "code": -2_147_483_648})).await);
        told.push(status(stage, name, json!({
            "null": null, "empty": "", "list": [], "object": {}, "nested": {"null": [null, {"": null}]}, "zero": 0,
            "false": false, "large": 9_007_199_254_740_993_i64, "small": 1.5e-7, "ünïcödé 🎁": "key", "": "no key",
        })).await);
    }
    let last = told.last().unwrap().object.clone();
    stage.todos().delete(&longest(), &DeleteParams::default()).await.unwrap();
    told.push(Told { change: "deleted", object: last });
    told.push(todo(stage, "added", "large", json!({"message": "large"})).await);
    told.push(status(stage, "large", json!({ "bulk": "Zoë ".repeat(LARGE / 5) })).await);
    told.extend(roles(stage).await);
    assert_eq!(told.len() + 1, CHANGES);
    told
}

async fn todo(stage: &Stage, change: &'static str, name: &str, mut spec: Value) -> Told {
    spec["when"] = "2026-12-24T18:00:00Z".into();
    let todo = json!({
        "apiVersion": "k8sasbackend.com/v1", "kind": "Todo",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/Part_of.it": "a.B_c-9", "empty": ""},
            "annotations": {"traceparent": TRACE, "example.com/what": "für \"Zoë\", 100 %\n", "empty": ""},
        },
        "spec": spec,
    });
    let params = PatchParams::apply("e2e").force();
    let object = stage.todos().patch(name, &params, &Patch::Apply(todo)).await.unwrap();
    Told { change, object: serde_json::to_value(object).unwrap() }
}

async fn status(stage: &Stage, name: &str, status: Value) -> Told {
    // Written whole: a patch would take null for an instruction.
    let mut object = serde_json::to_value(stage.todos().get(name).await.unwrap()).unwrap();
    object["status"] = status;
    let object = serde_json::from_value(object).unwrap();
    let object = stage.todos().replace_status(name, &PostParams::default(), &object).await.unwrap();
    Told { change: "updated", object: serde_json::to_value(object).unwrap() }
}

/// Roles of all names; one is deleted and made again.
async fn roles(stage: &Stage) -> Vec<Told> {
    let roles = roles_of(stage);
    let create = |name: &str| {
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "labels": {"app": "interop"}}, "rules": rules});
        let (roles, role) = (roles.clone(), serde_json::from_value(role).unwrap());
        async move {
            let role = roles.create(&PostParams::default(), &role).await.unwrap();
            Told { change: "added", object: serde_json::to_value(role).unwrap() }
        }
    };
    let mut told = Vec::new();
    for name in ROLES {
        told.push(create(name).await);
        if name == ROLES[1] {
            // The only Role so far that can be selected like this; its name is not for a path.
            let known = ListParams::default().labels("app=interop").fields("metadata.name!=system:role");
            roles.delete_collection(&DeleteParams::default(), &known).await.unwrap();
            told.push(Told { change: "deleted", object: told[1].object.clone() });
            told.push(create(name).await);
        }
    }
    told
}

pub(crate) fn roles_of(stage: &Stage) -> Api<DynamicObject> {
    stage.cluster.api(&stage.namespace, "rbac.authorization.k8s.io", "v1", "Role", "roles")
}
