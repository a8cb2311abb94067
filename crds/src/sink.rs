//! `Sink`: a connection to a broker, with its credentials, for the Subscriptions that name it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, LabelSelectorRequirement};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_config::sink::ConnectionSettings;
use tidings_config::sink::valid::ValidConnection;

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

/// A Sink that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidSinkSpec {
    /// The connection.
    pub connection: ValidConnection,
    /// Whose Subscriptions may name it.
    pub allowed: AllowedNamespaces,
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

// === impl SinkSpec ===

impl SinkSpec {
    /// What the Sink means, or every mistake in it.
    pub fn validate(&self) -> Result<ValidSinkSpec, FieldErrors> {
        let Self { connection, allowed_namespaces } = self;
        let mut errors = FieldErrors::new();
        let connection = connection.validate("spec").map_err(|mistakes| errors.extend(mistakes));
        let allowed = allowed_namespaces.clone().unwrap_or_default();
        allowed.check("spec.allowedNamespaces", &mut errors);
        match connection {
            Ok(connection) if errors.is_empty() => Ok(ValidSinkSpec { connection, allowed }),
            _ => Err(errors),
        }
    }
}

// === impl AllowedNamespaces ===

impl AllowedNamespaces {
    /// Whether a Subscription of `namespace` may name a Sink that is in `own`; nothing where the labels of the namespace
    /// decide.
    pub fn allows(&self, own: &str, namespace: &str) -> Option<bool> {
        match self.from {
            _ if own == namespace => Some(true),
            From::Same => Some(false),
            From::All => Some(true),
            From::Selector => None,
        }
    }

    fn check(&self, path: &str, errors: &mut FieldErrors) {
        let Self { from, selector } = self;
        match (from, selector) {
            (From::Selector, None) => {
                let problem = "is needed with `from: Selector`: the labels of the namespaces that are let in";
                errors.push(FieldError::new(format!("{path}.selector"), problem));
            }
            (From::Same | From::All, Some(_)) => {
                let problem = format!("belongs to `from: Selector`, and not to `from: {from:?}`");
                errors.push(FieldError::new(format!("{path}.selector"), problem));
            }
            _ => {}
        }
        let expressions = selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
        for (index, LabelSelectorRequirement { key: _, operator, values }) in expressions.enumerate() {
            let path = format!("{path}.selector.matchExpressions[{index}]");
            let given = values.as_ref().is_some_and(|values| !values.is_empty());
            let problem = match (&**operator, given) {
                ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => continue,
                ("In" | "NotIn", false) => ("values", format!("at least one is needed with {operator}")),
                ("Exists" | "DoesNotExist", true) => ("values", format!("there are none with {operator}")),
                _ => ("operator", format!("{operator:?} is none of In, NotIn, Exists, DoesNotExist")),
            };
            errors.push(FieldError::new(format!("{path}.{}", problem.0), problem.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn validate(allowed: Value) -> Result<ValidSinkSpec, Vec<String>> {
        let spec = json!({"nats": {"servers": ["nats://a"]}, "allowedNamespaces": allowed});
        let spec: SinkSpec = serde_json::from_value(spec).unwrap();
        spec.validate().map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_selector_is_one_that_can_be_read() {
        let with = |operator: &str, values: Value| {
            let expression = json!({"key": "team", "operator": operator, "values": values});
            validate(json!({"from": "Selector", "selector": {"matchExpressions": [expression]}}))
        };
        for (operator, values) in [("In", json!(["a"])), ("NotIn", json!(["a"])), ("Exists", json!([]))] {
            assert!(with(operator, values).is_ok(), "{operator}");
        }
        let path = "spec.allowedNamespaces.selector";
        for (operator, values, expected) in [
            ("In", json!([]), "values: at least one is needed with In"),
            ("Exists", json!(["a"]), "values: there are none with Exists"),
            ("in", json!(["a"]), "operator: \"in\" is none of In, NotIn, Exists, DoesNotExist"),
        ] {
            let expected = format!("{path}.matchExpressions[0].{expected}");
            assert_eq!(with(operator, values).unwrap_err(), [expected]);
        }
        let labels = json!({"matchLabels": {"a": "b"}});
        for wrong in [json!({"from": "Selector"}), json!({"from": "All", "selector": labels})] {
            let told = validate(wrong).unwrap_err();
            assert!(told.len() == 1 && told[0].starts_with(&format!("{path}: ")), "{told:?}");
        }
    }

    #[test]
    fn its_own_namespace_is_always_let_in() {
        let allowed = |from: &str| AllowedNamespaces {
            from: serde_json::from_value(json!(from)).unwrap(),
            selector: None,
        };
        for from in ["Same", "All", "Selector"] {
            assert_eq!(allowed(from).allows("ops", "ops"), Some(true));
        }
        assert_eq!(allowed("Same").allows("ops", "shop"), Some(false));
        assert_eq!(allowed("All").allows("ops", "shop"), Some(true));
        assert_eq!(allowed("Selector").allows("ops", "shop"), None);
    }
}
