//! `Sink`: a connection to a broker, with its credentials, for the Subscriptions that name it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_config::sink::ConnectionSettings;

use crate::schema::refuse_null;

/// A connection to a broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "tidings.dev",
    version = "v1alpha1",
    kind = "Sink",
    plural = "sinks",
    shortname = "tsink",
    category = "tidings",
    namespaced,
    status = "SinkStatus",
    derive = "PartialEq",
    doc = "A Sink is a connection to a broker. Subscriptions that name it share it, and need no credentials of their own: \
           these are in Secrets beside the Sink.",
    printcolumn(
        name = "Reachable",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Reachable")].status"#,
        description = "Whether the broker can be reached and knows who we are"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Reachable")].reason"#,
        description = "Why it can, or cannot"
    ),
    printcolumn(name = "Broker", type_ = "string", json_path = ".status.broker", description = "Which one"),
    printcolumn(
        name = "Subscriptions",
        type_ = "integer",
        json_path = ".status.subscriptions",
        description = "How many Subscriptions send by it"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Reachable")].message"#,
        description = "More about the reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[allow(clippy::duplicated_attributes)] // columns of one type
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "[has(self.kafka), has(self.nats), has(self.rabbitmq), has(self.http)].exists_one(given, given)",
        "message": "exactly one of kafka, nats, rabbitmq and http must be given",
    },
    {"rule": "!has(self.kafka) || has(self.kafka.brokers)", "message": "kafka needs brokers"},
    {"rule": "!has(self.nats) || has(self.nats.servers)", "message": "nats needs servers"},
    {"rule": "!has(self.rabbitmq) || has(self.rabbitmq.servers)", "message": "rabbitmq needs servers"},
    {"rule": "!has(self.http) || has(self.http.url)", "message": "http needs a url"},
]))]
pub struct SinkSpec {
    /// The connection: exactly one kind of sink.
    #[serde(flatten)]
    pub connection: ConnectionSettings,
    /// The namespaces whose Subscriptions may name this Sink: its own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
}

/// Whose Subscriptions may name a Sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.from == 'Selector') == has(self.selector)",
    "message": "selector belongs to `from: Selector`",
}]))]
pub struct AllowedNamespaces {
    /// `Same`: those of the Sink's own namespace. `All`: everybody's. `Selector`: those of namespaces with these labels.
    #[serde(default)]
    pub from: From,
    /// The labels of the namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Whose Subscriptions may name a Sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum From {
    /// Those of its own namespace.
    #[default]
    Same,
    /// Everybody's.
    All,
    /// Those of namespaces with certain labels.
    Selector,
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SinkStatus {
    /// `Reachable`: the broker can be reached, and knows who we are.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Which broker, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// How many Subscriptions send by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<i64>,
}

// === impl Sink ===

impl Sink {
    /// The definition that makes an API server serve Sinks.
    pub fn definition() -> CustomResourceDefinition {
        refuse_null(Self::crd())
    }
}
