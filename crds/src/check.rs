//! Resources as they lie in files, before any cluster has seen them: everything that is wrong with each, and with how they go
//! together. No I/O: whoever reads the files says what is in them.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DynamicObject;
use kube::core::ObjectMeta;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_config::nearest::nearest;

use crate::print::definitions;
use crate::shape::{self, Mistakes};
use crate::sink::{Sink, ValidSinkSpec};
use crate::subscription::Subscription;
use crate::validate::names::{is_label, is_subdomain};
use crate::validate::{self, ValidSubscription};
use crate::warnings::{self, Warning};

mod paths;
mod together;

use self::paths::Paths;
pub use self::together::together;

/// The API group of our resources.
const GROUP: &str = "tidings.dev";

/// One resource, and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Its kind, as it is written.
    pub kind: String,
    /// The namespace it is in, or would be applied to.
    pub namespace: String,
    /// Its name; empty where it has none.
    pub name: String,
    /// Everything that is wrong with it.
    pub errors: FieldErrors,
    /// What is legal in it and unwise.
    pub warnings: Vec<Warning>,
    /// What it means, where nothing is wrong with it.
    pub meaning: Option<Meaning>,
}

/// What a resource means.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// A Subscription.
    Subscription(Box<ValidSubscription>),
    /// A Sink.
    Sink(Box<ValidSinkSpec>),
}

/// A kind of ours, and the schema of its definition.
struct Definition {
    kind: String,
    version: String,
    schema: Value,
}

static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    let metadata = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let metadata = metadata.into_generator().into_root_schema_for::<ObjectMeta>().to_value();
    let definition = |definition: CustomResourceDefinition| {
        let version = definition.spec.versions.into_iter().next()?;
        let schema = version.schema?.open_api_v3_schema?;
        let mut schema = serde_json::to_value(schema).ok()?;
        let fields = schema["properties"].as_object_mut()?;
        fields.insert("metadata".to_owned(), metadata.clone());
        for name in ["apiVersion", "kind"] {
            fields.entry(name).or_insert_with(|| serde_json::json!({"type": "string"}));
        }
        Some(Definition { kind: definition.spec.names.kind, version: version.name, schema })
    };
    definitions().into_iter().filter_map(definition).collect()
});

/// Everything that can be said of `object` by itself, as if it were applied to `namespace` where it names none; nothing if it is
/// no resource of ours.
pub fn check(mut object: Value, namespace: &str) -> Option<Checked> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    if group != GROUP {
        return None;
    }
    if object["metadata"].is_object() && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = namespace.into();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut checked = Checked {
        kind: text(&object["kind"]),
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        errors: FieldErrors::new(),
        warnings: Vec::new(),
        meaning: None,
    };
    let Some(definition) = DEFINITIONS.iter().find(|definition| definition.kind == checked.kind) else {
        checked.errors.push(unknown_kind(&checked.kind));
        return Some(checked);
    };
    if version != definition.version {
        let problem = format!("{api_version:?} is not served; it is {GROUP}/{}", definition.version);
        checked.errors.push(FieldError::new("apiVersion", problem));
        return Some(checked);
    }
    let mut mistakes = Mistakes::default();
    shape::check(&definition.schema, &mut object, "", &mut mistakes);
    let Mistakes { unknown, form, bounds } = mistakes;
    checked.errors.extend(unknown);
    checked.errors.extend(check_metadata(&object["metadata"]));
    // What is malformed is left out, to see what is wrong with the rest.
    for error in &form {
        leave_out(&mut object, &error.path);
    }
    match understand(&checked.kind, object) {
        Ok(meaning) => {
            // Of half a resource, nobody knows what it would do.
            if form.is_empty() {
                checked.warnings = warnings_of(&meaning);
            }
            checked.meaning = Some(meaning);
        }
        Err(errors) => {
            let (known, malformed) = (Paths::of(&checked.errors), Paths::of(&form));
            let is_news = |error: &FieldError| {
                let path = &*error.path;
                // Of the root it is only said that something is missing, which is among what is malformed.
                let caused =
                    malformed.reach_into(path) || malformed.hold(path) || path == "." && !form.is_empty();
                !caused && !known.contains(path)
            };
            checked.errors.extend(errors.into_iter().filter(is_news));
        }
    }
    checked.errors.extend(form);
    // The validator says it better, where it says it. Of a whole spec it says nothing about its parts.
    let said = Paths::of(checked.errors.iter().filter(|error| error.path != "spec"));
    checked
        .errors
        .extend(bounds.into_iter().filter(|bound| !said.reach_into(&bound.path) && !said.hold(&bound.path)));
    if !checked.errors.is_empty() {
        checked.meaning = None;
    }
    Some(checked)
}

fn understand(kind: &str, object: Value) -> Result<Meaning, FieldErrors> {
    let object: DynamicObject = serde_json::from_value(object)
        .map_err(|error| vec![FieldError::new("metadata", error.to_string())])?;
    if kind == "Sink" {
        let sink = validate::read::<Sink>(&object)?;
        return sink.spec.validate().map(|valid| Meaning::Sink(Box::new(valid)));
    }
    let subscription = validate::read::<Subscription>(&object)?;
    validate::validate(&subscription).map(|valid| Meaning::Subscription(Box::new(valid)))
}

fn warnings_of(meaning: &Meaning) -> Vec<Warning> {
    match meaning {
        Meaning::Subscription(subscription) => warnings::warnings(subscription),
        Meaning::Sink(sink) => warnings::of_sink(sink),
    }
}

/// What the API server checks of names, beside their form.
fn check_metadata(metadata: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let name = &metadata["name"];
    if name.is_null() && metadata["generateName"].is_null() {
        errors.push(FieldError::new("metadata.name", "is needed"));
    }
    if let Some(name) = name.as_str().filter(|name| !is_subdomain(name)) {
        let problem = "has 1 to 253 lower-case letters, digits, `-` and `.`, and begins and ends with a letter or digit";
        errors.push(FieldError::new("metadata.name", format!("{name:?} is no name: it {problem}")));
    }
    if let Some(name) = metadata["namespace"].as_str().filter(|name| !is_label(name)) {
        errors
            .push(FieldError::new("metadata.namespace", format!("{name:?} is not the name of a namespace")));
    }
    errors
}

fn unknown_kind(written: &str) -> FieldError {
    let kinds: Vec<_> = DEFINITIONS.iter().map(|definition| definition.kind.as_str()).collect();
    let hint = nearest(written, &kinds).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let problem = format!("{written:?} is no kind of {GROUP}: there are {}{hint}", kinds.join(" and "));
    FieldError::new("kind", problem)
}

/// Removes what is at `path`; with the whole list, if it is in one.
fn leave_out(object: &mut Value, path: &str) {
    let field = path.split_once('[').map_or(path, |(list, _)| list);
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let mut names = parent.split('.').filter(|name| !name.is_empty());
    let parent = names.try_fold(object, |value, name| value.get_mut(name));
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(name);
    }
}

#[cfg(test)]
#[path = "check/tests.rs"]
mod tests;
