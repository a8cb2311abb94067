//! `Subscription`: which changes of which objects go where, and how that goes.

pub mod filter;
pub mod orders;
pub mod selector;
pub mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_config::sink::{ContentMode, SinkSettings};
use tidings_core::change::ChangeKind;

use self::filter::Filter;
use self::selector::LabelSelector;
use self::status::SubscriptionStatus;
use crate::schema::refuse_null;

// The doc comments are what `kubectl explain` shows. Every text and list has a bound, so that the API server can
// tell what a CEL rule costs at most.

/// Which changes of which objects go where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "tidings.dev",
    version = "v1alpha1",
    kind = "Subscription",
    plural = "subscriptions",
    shortname = "tsub",
    category = "tidings",
    namespaced,
    status = "SubscriptionStatus",
    derive = "PartialEq",
    doc = "A Subscription turns the changes of Kubernetes objects into CloudEvents and delivers them to a broker. No \
           change is lost: what the broker has not acknowledged is sent again.",
    printcolumn(
        name = "Delivering",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Delivering")].status"#,
        description = "Whether Events reach the broker"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Delivering")].reason"#,
        description = "Why they do, or do not"
    ),
    printcolumn(name = "Sink", type_ = "string", json_path = ".status.sink", description = "Where they go"),
    printcolumn(
        name = "Lag",
        type_ = "integer",
        json_path = ".status.lag.changes",
        description = "Changes that are not settled yet"
    ),
    printcolumn(
        name = "Acked",
        type_ = "integer",
        json_path = ".status.counts.acked",
        description = "Events that the broker holds, since the bridge started"
    ),
    printcolumn(
        name = "Blocked",
        type_ = "integer",
        json_path = ".status.blockedKeys",
        description = "Objects whose Events the broker refuses",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Delivering")].message"#,
        description = "More about the reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[allow(clippy::duplicated_attributes)] // columns of one type
#[serde(rename_all = "camelCase")]
pub struct SubscriptionSpec {
    /// What to watch. Two sources of one kind add up.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Vec<Source>,
    /// The kinds of change to send: `Snapshot` (the object exists, told when the Subscription starts), `Added`,
    /// `Updated`, `Deleted`, `Left` (the object exists on, but is selected no longer). All of them unless given.
    #[serde(default = "ChangeType::all")]
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub on: Vec<ChangeType>,
    /// Which updates to send: every new version unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Changed>,
    /// What else is demanded of an Event: all of these. What they leave out is settled; who is selected does not change by
    /// it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub filters: Vec<Filter>,
    /// What an Event looks like.
    #[serde(default)]
    pub event: EventSettings,
    /// Where the Events go: a kind of sink with its connection, or a Sink that has the connection (`ref`), and then the kind
    /// only with what is the Subscription's own.
    #[schemars(extend("x-kubernetes-validations" = sink_rules()))]
    pub sink: SinkSettings,
    /// How the Events are delivered.
    #[serde(default)]
    pub delivery: DeliverySettings,
    /// The service account with whose rights the Subscription acts: it must be allowed to `get` the Secrets that an inline
    /// connection names.
    #[serde(default = "SubscriptionSpec::default_service_account")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: String,
    /// Nothing is sent while it is true. What happens meanwhile is kept, within the quota, and sent afterwards.
    #[serde(default)]
    pub suspend: bool,
}

/// Objects of one kind: those for which everything that is given is true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(self.apiVersion == 'v1' && self.kind == 'Secret')",
        "message": "Secrets cannot be a source: their content would go to a broker",
    },
    {
        "rule": "!self.apiVersion.startsWith('tidings.dev/')",
        "message": "resources of tidings.dev cannot be a source: their status changes with every Event",
    },
]))]
pub struct Source {
    /// The API group and version, as objects have it: `k8sasbackend.com/v1`, or `v1` for the core group.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub api_version: String,
    /// The kind, as objects have it: `Todo`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub kind: String,
    /// The namespaces whose objects are selected: the Subscription's own unless given. Without meaning for kinds that
    /// do not live in namespaces: all their objects are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<SourceNamespaces>,
    /// The names of the objects that are selected: any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 253), regex(pattern = "^[^/%]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Option<Vec<String>>,
    /// The labels of the objects that are selected: any unless given. An object whose labels change enters the selection
    /// (`Added`) or leaves it (`Left`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

/// At most one of its fields; the Subscription's own namespace if none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(has(self.names) && has(self.all) && self.all)",
    "message": "names and all exclude each other",
}]))]
pub struct SourceNamespaces {
    /// These namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub names: Option<Vec<String>>,
    /// Every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ChangeType {
    /// The object exists like this; nothing is said about when it came to be.
    Snapshot,
    /// The object came into being, or into the selection.
    Added,
    /// The object changed.
    Updated,
    /// The object is gone.
    Deleted,
    /// The object exists on, but is selected no longer.
    Left,
}

/// Which updates count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Changed {
    /// Only those that change `metadata.generation`: what is desired, and neither `status` nor metadata. Kinds without
    /// generations have every update sent.
    pub generation: bool,
}

/// What an Event looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSettings {
    /// `Binary`: the attributes of the Event are headers and the object is the body. `Structured`: the body is one JSON
    /// document with both.
    #[serde(default)]
    pub mode: ContentMode,
}

/// How Events are delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.deadLetter) || !(has(self.onReject) && self.onReject == 'DeadLetter' || has(self.oversize) && \
             self.oversize == 'DeadLetter')",
    "message": "DeadLetter needs deadLetter: where dead letters go",
}]))]
pub struct DeliverySettings {
    /// The most Events that may be on their way without an acknowledgement; of one object it is always at most one.
    #[schemars(range(min = 1, max = 65536))]
    pub max_in_flight: i32,
    /// What happens to an Event that is larger than the broker takes. `Reference`: only the identity of the object is
    /// sent. `DeadLetter`: it goes to the dead letters. `Block`: what `onReject` says.
    pub oversize: Oversize,
    /// What happens to an Event that the broker refuses for good, or that was tried for as long as it should be. `Block`: it
    /// waits, and so does all that follows for that object, until a person helps. `DeadLetter`: it goes to `deadLetter`, and
    /// what follows goes on. `Drop`: it is left out, logged and counted.
    pub on_reject: OnReject,
    /// Where dead letters go: the same broker at another place, or another one. They are the Events as they were, with the
    /// attributes `deadletterreason`, `deadlettererror`, `deadletterattempts`, `deadlettersink` and `deadletterplace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = sink_rules()))]
    pub dead_letter: Option<SinkSettings>,
    /// An Event is given up after so many attempts: `onReject` says what becomes of it. For ever unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<i32>,
    /// An Event is given up when an attempt fails so long after its change, e.g. `24h`. Never unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^[0-9][0-9a-z. ]*$"))]
    pub max_age: Option<String>,
}

/// What happens to an Event that will not be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnReject {
    /// It waits, and so does all that follows for that object, and status says so.
    #[default]
    Block,
    /// It goes to the dead letters.
    DeadLetter,
    /// It is left out, with a record.
    Drop,
}

/// What happens to an Event that is larger than the broker takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Oversize {
    /// Only the identity of the object is sent.
    #[default]
    Reference,
    /// It goes to the dead letters.
    DeadLetter,
    /// What is done with any other Event that the broker refuses.
    Block,
}

/// What the API server checks of a sink. The bridge checks it again, and more.
fn sink_rules() -> serde_json::Value {
    serde_json::json!([
        {
            "rule": "[has(self.kafka), has(self.nats), has(self.rabbitmq), has(self.http), has(self.stdout)]\
                     .filter(given, given).size() < 2",
            "message": "only one of kafka, nats, rabbitmq, http and stdout can be given",
        },
        {
            "rule": "has(self.ref) || has(self.kafka) || has(self.nats) || has(self.rabbitmq) || has(self.http) || \
                     has(self.stdout)",
            "message": "ref or one of kafka, nats, rabbitmq, http and stdout must be given",
        },
        {
            "rule": "!has(self.kafka) || has(self.ref) != has(self.kafka.brokers)",
            "message": "kafka needs brokers, or else a Sink that has them (ref)",
        },
        {
            "rule": "!has(self.nats) || has(self.ref) != has(self.nats.servers)",
            "message": "nats needs servers, or else a Sink that has them (ref)",
        },
        {
            "rule": "!has(self.rabbitmq) || has(self.ref) != has(self.rabbitmq.servers)",
            "message": "rabbitmq needs servers, or else a Sink that has them (ref)",
        },
        {
            "rule": "!has(self.http) || has(self.ref) != has(self.http.url)",
            "message": "http needs a url, or else a Sink that has it (ref)",
        },
        {
            "rule": "!(has(self.ref) && has(self.stdout))",
            "message": "stdout needs no Sink",
        },
    ])
}

// === impl SubscriptionSpec ===

impl SubscriptionSpec {
    fn default_service_account() -> String {
        "default".to_owned()
    }
}

// === impl Subscription ===

impl Subscription {
    /// The definition that makes an API server serve Subscriptions.
    pub fn definition() -> CustomResourceDefinition {
        refuse_null(Self::crd())
    }
}

// === impl ChangeType ===

impl ChangeType {
    /// Every one: the default.
    pub const ALL: [Self; 5] = [Self::Snapshot, Self::Added, Self::Updated, Self::Deleted, Self::Left];

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }
}

impl From<ChangeType> for ChangeKind {
    fn from(change: ChangeType) -> Self {
        match change {
            ChangeType::Snapshot => Self::Snapshot,
            ChangeType::Added => Self::Added,
            ChangeType::Updated => Self::Updated,
            ChangeType::Deleted => Self::Deleted,
            ChangeType::Left => Self::Left,
        }
    }
}

// === impl DeliverySettings ===

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            max_in_flight: 1024,
            oversize: Oversize::default(),
            on_reject: OnReject::default(),
            dead_letter: None,
            max_attempts: None,
            max_age: None,
        }
    }
}
