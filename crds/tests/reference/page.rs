//! A page about a resource, made of its definition: a section for each object in it, with a table of its fields.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::used::form;

/// A page that is being written.
struct Page {
    text: String,
    /// Where objects of a form are described.
    described: BTreeMap<String, String>,
}

/// The page about the resource of `definition`, with the `examples` at its end.
pub(crate) fn page(definition: &CustomResourceDefinition, examples: &str) -> String {
    let names = &definition.spec.names;
    let version = &definition.spec.versions[0];
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap();
    let (kind, group, short) =
        (&names.kind, &definition.spec.group, names.short_names.as_ref().unwrap().join(", "));
    let mut page = Page { text: String::new(), described: BTreeMap::new() };
    page.say(&format!(
        "# {kind}\n\nGenerated from the types; `cargo test -p tidings-crds --test reference` checks it, and `UPDATE_EXPECT=1` before it \
         writes it anew.\n\n`apiVersion: {group}/{}`, `kind: {kind}`, in a namespace; `kubectl get {short}` shows how they are.\n\n{}\n\n\
         What is in none of these tables is refused, and so is a value out of its bounds: by `kubectl apply`, and before that by \
         [`tidings check`](check.md).",
        version.name,
        text(&schema)
    ));
    for part in ["spec", "status"] {
        page.object(&schema["properties"][part], part);
    }
    let file = format!("examples/{}.yaml", kind.to_lowercase());
    page.say(&format!(
        "## Examples\n\nEvery field of the spec occurs in one of these ([{file}]({file})), and each is applied to an API server by a \
         test.\n\n```yaml\n{}\n```",
        examples.trim_end()
    ));
    page.text.truncate(page.text.trim_end().len());
    page.text + "\n"
}

// === impl Page ===

impl Page {
    fn say(&mut self, paragraph: &str) {
        self.text += paragraph;
        self.text += "\n\n";
    }

    /// A section about an object, and one for each object in it that was not described before.
    fn object(&mut self, schema: &Value, path: &str) {
        self.described.insert(form(schema), path.to_owned());
        let mut section = format!("## `{path}`\n\n{}\n\n", text(schema));
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let _ = writeln!(section, "- {}", rule["message"].as_str().unwrap_or_default());
        }
        if section.ends_with('\n') && !section.ends_with("\n\n") {
            section += "\n";
        }
        section += "| field | value | default | meaning |\n|---|---|---|---|\n";
        let mut inner = Vec::new();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let required =
                schema["required"].as_array().is_some_and(|names| names.iter().any(|other| other == name));
            let default = match (&field["default"], required) {
                (_, true) => "**required**".to_owned(),
                // Of an object, its fields say it.
                (Value::Null | Value::Object(_), false) => String::new(),
                (Value::String(text), false) => format!("`{text}`"),
                (other, false) => format!("`{other}`"),
            };
            let (object, path) = nested(field, &format!("{path}.{name}"));
            let place = object.map(|object| {
                let form = form(object);
                if !self.described.contains_key(&form) {
                    self.described.insert(form.clone(), path.clone());
                    inner.push((object, path));
                }
                self.described[&form].clone()
            });
            let value = value(field, place.as_deref());
            let _ = writeln!(
                section,
                "| `{name}` | {} | {} | {} |",
                cell(&value),
                cell(&default),
                cell(&text(field))
            );
        }
        self.say(section.trim_end());
        for (object, path) in inner {
            self.object(object, &path);
        }
    }
}

/// The object in a field, which may be in a list, and its path.
fn nested<'a>(field: &'a Value, path: &str) -> (Option<&'a Value>, String) {
    if field["properties"].is_object() {
        (Some(field), path.to_owned())
    } else if field["items"]["properties"].is_object() {
        (Some(&field["items"]), format!("{path}[]"))
    } else {
        (None, String::new())
    }
}

/// What a value looks like, and what bounds it has.
fn value(schema: &Value, place: Option<&str>) -> String {
    let link = |place: &str| {
        let anchor: String = place.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("[`{place}`](#{})", anchor.to_lowercase())
    };
    let kind = match (schema["type"].as_str(), place) {
        (Some("array"), Some(place)) => format!("list of {}", link(place)),
        (Some("array"), None) => format!("list of {}", value(&schema["items"], None)),
        (_, Some(place)) => link(place),
        (Some("object"), None) => format!("map to {}", value(&schema["additionalProperties"], None)),
        (Some("string"), None) if schema["enum"].is_array() => {
            let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
            words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        (Some("string"), None) => match schema["format"].as_str() {
            Some("duration") => "duration, e.g. `30s`".to_owned(),
            Some("date-time") => "time".to_owned(),
            _ => "text".to_owned(),
        },
        (Some("integer"), None) => "whole number".to_owned(),
        (Some("boolean"), None) => "true or false".to_owned(),
        (other, None) => other.unwrap_or("anything").to_owned(),
    };
    let bounds = [
        range(schema, "minimum", "maximum", ""),
        range(schema, "minLength", "maxLength", " characters"),
        range(schema, "minItems", "maxItems", " entries"),
        range(schema, "minProperties", "maxProperties", " entries"),
        schema["pattern"].as_str().map(|pattern| format!("matches `{pattern}`")),
    ];
    let bounds: Vec<_> = [kind].into_iter().chain(bounds.into_iter().flatten()).collect();
    bounds.join("; ")
}

fn range(schema: &Value, min: &str, max: &str, unit: &str) -> Option<String> {
    match (schema[min].as_f64(), schema[max].as_f64()) {
        (Some(min), Some(max)) => Some(format!("{min} to {max}{unit}")),
        (Some(min), None) => Some(format!("at least {min}{unit}")),
        (None, Some(max)) => Some(format!("at most {max}{unit}")),
        (None, None) => None,
    }
}

fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// As a cell of a table may hold it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
