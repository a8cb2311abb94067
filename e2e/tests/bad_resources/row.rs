//! A row of the table: a mistake, and where it is.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One mistake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// What it is.
    pub(crate) name: String,
    #[serde(default = "subscription")]
    pub(crate) kind: String,
    /// Fields of the spec, in place of those of a good one.
    #[serde(default)]
    spec: Map<String, Value>,
    /// Fields that a good spec has, and this one has not.
    #[serde(default)]
    without: Vec<String>,
    /// Fields of the object, in place of those of a good one.
    #[serde(default)]
    object: Map<String, Value>,
    /// The paths that have to be named.
    pub(crate) at: Vec<String>,
    /// Which one it is.
    #[serde(skip)]
    number: usize,
}

/// All of them.
pub(crate) fn table() -> Vec<Row> {
    let mut rows: Vec<Row> = serde_saphyr::from_str(include_str!("table.yaml")).unwrap();
    for (number, row) in rows.iter_mut().enumerate() {
        row.number = number;
    }
    rows
}

fn subscription() -> String {
    "Subscription".to_owned()
}

// === impl Row ===

impl Row {
    /// The resource, with a name of its own unless the row has one.
    pub(crate) fn object(&self) -> Value {
        let mut spec = match &*self.kind {
            "Subscription" => {
                json!({"sources": [{"apiVersion": "v1", "kind": "ConfigMap"}], "sink": {"stdout": {}}})
            }
            _ => json!({}),
        };
        for (name, value) in &self.spec {
            spec[name] = expanded(value);
        }
        for name in &self.without {
            spec.as_object_mut().unwrap().remove(name);
        }
        let mut object = json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": self.kind,
            "metadata": {"name": format!("row-{}", self.number)}, "spec": spec,
        });
        for (name, value) in &self.object {
            object[name] = expanded(value);
        }
        object
    }

    /// The name of the resource.
    pub(crate) fn resource(&self) -> String {
        self.object()["metadata"]["name"].as_str().unwrap().to_owned()
    }
}

/// With long texts and lists in place of what describes them.
fn expanded(value: &Value) -> Value {
    let times = || usize::try_from(value["times"].as_u64().unwrap()).unwrap();
    match value {
        Value::Object(fields) if fields.contains_key("$repeat") => {
            value["$repeat"].as_str().unwrap().repeat(times()).into()
        }
        Value::Object(fields) if fields.contains_key("$list") => vec![value["$list"].clone(); times()].into(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), expanded(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(expanded).collect(),
        other => other.clone(),
    }
}
