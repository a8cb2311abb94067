//! How a Subscription sends to a place: settings, and the Secret that they name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::Kind;

/// The name of the Secret with all credentials.
pub const SECRET: &str = "broker";

/// Settings of a connection and of what is behind it.
#[derive(Clone, Debug)]
pub struct Way {
    /// Which kind of sink.
    pub kind: Kind,
    /// How the broker is reached.
    pub connection: Value,
    /// The place behind that.
    pub address: Value,
    /// What the Secret holds.
    pub credentials: BTreeMap<&'static str, String>,
}

// === impl Way ===

impl Way {
    /// `spec.sink` of a Subscription with a connection of its own.
    pub fn inline(&self) -> Value {
        let mut settings = self.connection.clone();
        if let (Some(settings), Some(address)) = (settings.as_object_mut(), self.address.as_object()) {
            settings.extend(address.clone());
        }
        json!({ self.kind.field(): settings })
    }

    /// `spec.sink` of a Subscription that names the Sink `name`.
    pub fn by_sink(&self, name: &str) -> Value {
        json!({ "ref": { "name": name }, self.kind.field(): self.address })
    }

    /// `spec` of that Sink.
    pub fn sink(&self) -> Value {
        json!({ self.kind.field(): self.connection })
    }

    /// The Secret.
    pub fn secret(&self) -> Secret {
        let values = self.credentials.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Secret {
            metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
            string_data: Some(values.collect()),
            ..Secret::default()
        }
    }

    /// The Secret, and that the service account `default` of `namespace` may read it, as YAML; empty where no Secret is
    /// needed.
    pub fn yaml(&self, namespace: &str) -> String {
        if self.credentials.is_empty() {
            return String::new();
        }
        let credentials = json!(self.credentials);
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {SECRET}}}\nstringData: {credentials}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: tidings-reads-broker}}\n\
             rules: [{{apiGroups: [\"\"], resources: [secrets], resourceNames: [{SECRET}], verbs: [get]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: tidings-reads-broker}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: tidings-reads-broker}}\n\
             subjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]\n"
        )
    }
}

/// What names a key of the Secret.
pub(super) fn key(key: &str) -> Value {
    json!({ "name": SECRET, "key": key })
}
