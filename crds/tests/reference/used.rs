//! Which fields there are, and which of them an example has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A field, by the form of the object it is in: where objects of one form are in several places, it is one field.
pub(crate) type Field = (String, String);

/// Every field of `schema`, with the first path it has.
pub(crate) fn fields(schema: &Value) -> BTreeMap<Field, String> {
    let mut fields = BTreeMap::new();
    collect(schema, "spec", &mut fields);
    fields
}

/// Adds the fields that `value` has.
pub(crate) fn used(schema: &Value, value: &Value, found: &mut BTreeSet<Field>) {
    for item in value.as_array().into_iter().flatten() {
        used(&schema["items"], item, found);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some(field) = schema["properties"].get(name) {
            found.insert((form(schema), name.clone()));
            used(field, value, found);
        }
    }
}

/// What makes two objects the same in all but their place.
pub(crate) fn form(schema: &Value) -> String {
    schema["properties"].to_string()
}

fn collect(schema: &Value, path: &str, fields: &mut BTreeMap<Field, String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if fields.insert((form(schema), name.clone()), path.clone()).is_none() {
            collect(field, &path, fields);
            collect(&field["items"], &format!("{path}[]"), fields);
        }
    }
}
