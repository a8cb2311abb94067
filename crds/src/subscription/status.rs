//! `status` of a Subscription: what the bridge says about it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most blocked objects that are listed; `blockedKeys` counts all of them.
pub const MAX_BLOCKED: usize = 10;

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionStatus {
    /// `Accepted` (it can be understood), `SinkReady` (the broker can be reached and takes its Events) and `Delivering`
    /// (Events go out).
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the Events go, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Up to where every change of each resource is settled.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resource"]))]
    pub positions: Vec<Position>,
    /// What was done since the bridge started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// What is still to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// The objects whose Events the broker refuses, longest first; at most 10 of them.
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub blocked: Vec<BlockedKey>,
    /// How many objects have Events that the broker refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_keys: Option<i64>,
    /// The last stretch of history that could not be read. The net difference was sent instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_gap: Option<Gap>,
    /// The last thing that went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// Up to where every change of one resource is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The resource, e.g. `todos.v1.k8sasbackend.com`.
    pub resource: String,
    /// The resourceVersion.
    pub resource_version: String,
}

/// Numbers since the bridge started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Changes that this Subscription selects, and its filters let pass.
    pub received: i64,
    /// Attempts to send an Event.
    pub sent: i64,
    /// Events that the broker has acknowledged.
    pub acked: i64,
    /// Attempts that failed and were, or will be, made again.
    pub retried: i64,
    /// Events that the broker refused for good, or that were given up.
    pub rejected: i64,
    /// Those of them that were left out (`onReject: Drop`, or a person's order).
    pub dropped: i64,
    /// Those of them that the dead letters hold.
    pub dead_lettered: i64,
    /// Objects that could not be read, and were left out.
    pub skipped: i64,
    /// Changes of selected objects that the filters left out.
    pub filtered: i64,
    /// Changes of which a filter could not say whether they are wanted, and that were sent; `lastError` says why.
    pub filter_failures: i64,
}

/// What is still to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lag {
    /// Changes that are not settled.
    pub changes: i64,
    /// The age of the oldest of them, in seconds.
    pub seconds: i64,
}

/// An object whose Events the broker refuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedKey {
    /// `namespace/name`, or `name` of a cluster-scoped object.
    pub key: String,
    /// The `id` of the Event that is refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Time,
}

/// A stretch of history that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// When that was noticed.
    pub time: Time,
    /// The resource it is about, e.g. `todos.v1.k8sasbackend.com`.
    pub resource: String,
    /// How it came about.
    pub message: String,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When.
    pub time: Time,
    /// What.
    pub message: String,
}
