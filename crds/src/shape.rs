//! Whether an object has the form that its definition asks for, as a strict API server says it: fields that do not exist, values
//! of another type, what is missing, words that mean nothing, and bounds.
//!
//! It walks the definition's own schema, so that whatever is added to a type is checked here too. Deserializing finds only the
//! first mistake, and cannot refuse unknown fields where structs are flattened. CEL rules of the schema are left out: the
//! [validator](crate::validate) says the same in better words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};
use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_config::nearest::nearest;

/// The longest text that is repeated in a message, in characters.
const MAX_QUOTED: usize = 64;

/// What is wrong with the form of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// Fields that do not exist.
    pub unknown: FieldErrors,
    /// What stands in the way of reading it: another type, something missing, no such word.
    pub form: FieldErrors,
    /// Values of the right type that are too long, too large, too many, or not spelt as they should be.
    pub bounds: FieldErrors,
}

/// Everything that is wrong with the form of `value`, at `path`, by its `schema`. A null that the API server takes for
/// "left out" is left out.
pub fn check(schema: &Value, value: &mut Value, path: &str, mistakes: &mut Mistakes) {
    match value {
        Value::Object(fields) if is(schema, "object") => check_object(schema, fields, path, mistakes),
        Value::Array(items) if is(schema, "array") => check_array(schema, items, path, mistakes),
        Value::String(text) if is(schema, "string") => check_text(schema, text, path, mistakes),
        Value::Number(_) if is(schema, "integer") || is(schema, "number") => {
            check_number(schema, value, path, mistakes);
        }
        Value::Bool(_) if is(schema, "boolean") => {}
        Value::Null if schema["nullable"] == true => {}
        other => {
            if let Some(expected) = schema["type"].as_str() {
                mistakes.form.push(FieldError::new(path, wrong_type(expected, other)));
            }
        }
    }
}

fn is(schema: &Value, kind: &str) -> bool {
    schema["type"] == kind
        || schema["x-kubernetes-int-or-string"] == true && matches!(kind, "integer" | "string")
}

fn check_object(schema: &Value, fields: &mut Map<String, Value>, path: &str, mistakes: &mut Mistakes) {
    let known = schema["properties"].as_object();
    if let Some(known) = known {
        // To the API server a null is as if the field were left out, unless the definition lets it be one.
        fields.retain(|name, value| {
            !value.is_null() || known.get(name).is_none_or(|schema| schema["nullable"] == true)
        });
    }
    let others = &schema["additionalProperties"];
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true || known.is_none();
    for (name, value) in fields.iter_mut() {
        // By the keys of a map, and not of ours.
        let path = if known.is_none() { format!("{path}[{:?}]", cut(name)) } else { join(path, name) };
        match known.and_then(|known| known.get(name)) {
            Some(schema) => check(schema, value, &path, mistakes),
            None if others.is_object() => check(others, value, &path, mistakes),
            None if open => {}
            None => {
                let near = known.and_then(|known| nearest(name, known.keys()));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                mistakes.unknown.push(FieldError::new(path, format!("there is no such field{hint}")));
            }
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            mistakes.form.push(FieldError::new(join(path, name), "is needed"));
        }
    }
    if let Some(min) = schema["minProperties"].as_u64().filter(|min| (fields.len() as u64) < *min) {
        let problem = format!("{} entries are fewer than the {min} that are needed", fields.len());
        mistakes.bounds.push(FieldError::new(path, problem));
    }
    if let Some(max) = schema["maxProperties"].as_u64().filter(|max| fields.len() as u64 > *max) {
        let problem = format!("{} entries are more than the {max} that are possible", fields.len());
        mistakes.bounds.push(FieldError::new(path, problem));
    }
}

fn check_array(schema: &Value, items: &mut [Value], path: &str, mistakes: &mut Mistakes) {
    let count = items.len() as u64;
    if let Some(min) = schema["minItems"].as_u64().filter(|min| count < *min) {
        mistakes
            .bounds
            .push(FieldError::new(path, format!("{count} entries are fewer than the {min} that are needed")));
    }
    if let Some(max) = schema["maxItems"].as_u64().filter(|max| count > *max) {
        let problem = format!("{count} entries are more than the {max} that are possible");
        mistakes.bounds.push(FieldError::new(path, problem));
    }
    let is_set = schema["x-kubernetes-list-type"] == "set";
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter_mut().enumerate() {
        let path = format!("{path}[{index}]");
        check(&schema["items"], item, &path, mistakes);
        if is_set && !seen.insert(item.to_string()) {
            mistakes.bounds.push(FieldError::new(path, format!("{} is there twice", quoted(item))));
        }
    }
}

fn check_text(schema: &Value, text: &str, path: &str, mistakes: &mut Mistakes) {
    let words: Vec<_> = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !words.is_empty() && !words.contains(&text) {
        let hint = nearest(text, &words).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let problem = format!("{} is none of {}{hint}", quoted(&text.into()), words.join(", "));
        mistakes.form.push(FieldError::new(path, problem));
    }
    let length = text.chars().count() as u64;
    if let Some(min) = schema["minLength"].as_u64().filter(|min| length < *min) {
        mistakes
            .bounds
            .push(FieldError::new(path, format!("has at least {min} characters, and not {length}")));
    }
    if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
        mistakes
            .bounds
            .push(FieldError::new(path, format!("has at most {max} characters, and not {length}")));
    }
    // What does not match is not repeated: there may be a credential in it.
    if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !matches(pattern, text)) {
        mistakes.bounds.push(FieldError::new(path, format!("does not match {pattern}")));
    }
}

/// Whether `text` matches. A pattern that is none is the definition's fault, and nobody's who writes a resource.
fn matches(pattern: &str, text: &str) -> bool {
    // There are few patterns and any number of texts, and making one is slow.
    static KNOWN: Mutex<BTreeMap<String, Option<Regex>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = match known.get(pattern) {
        Some(regex) => regex,
        None => known.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok()),
    };
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

fn check_number(schema: &Value, value: &Value, path: &str, mistakes: &mut Mistakes) {
    let number = value.as_f64().unwrap_or(f64::NAN);
    if schema["type"] == "integer" && !value.is_i64() && !value.is_u64() {
        mistakes.form.push(FieldError::new(path, wrong_type("integer", value)));
        return;
    }
    let (least, most) = match schema["format"].as_str() {
        Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
        Some("uint32") => (0.0, f64::from(u32::MAX)),
        Some("uint16") => (0.0, f64::from(u16::MAX)),
        Some("uint8") => (0.0, f64::from(u8::MAX)),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let min = schema["minimum"].as_f64().unwrap_or(least);
    let max = schema["maximum"].as_f64().unwrap_or(most);
    let problem = match (min.is_finite(), max.is_finite()) {
        (true, true) => format!("{value} is not from {min} to {max}"),
        (true, false) => format!("{value} is less than {min}"),
        _ => format!("{value} is more than {max}"),
    };
    if !(least..=most).contains(&number) {
        mistakes.form.push(FieldError::new(path, problem));
    } else if !(min..=max).contains(&number) {
        mistakes.bounds.push(FieldError::new(path, problem));
    }
}

fn wrong_type(expected: &str, value: &Value) -> String {
    let expected = match expected {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        other => other,
    };
    match value {
        Value::Null => format!("must be {expected}, and is empty (null)"),
        Value::Bool(_) | Value::Number(_) if expected == "a text" => {
            format!("must be {expected}, and not {value} without quotes")
        }
        Value::Bool(_) | Value::Number(_) => format!("must be {expected}, and not {value}"),
        Value::String(_) => format!("must be {expected}, and not a text"),
        Value::Array(_) => format!("must be {expected}, and not a list"),
        Value::Object(_) => format!("must be {expected}, and not an object"),
    }
}

/// The path of a field, as people write it.
pub(crate) fn join(path: &str, name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$'));
    match (path.is_empty(), plain && !name.is_empty()) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        _ => format!("{path}[{:?}]", cut(name)),
    }
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", cut(text)),
        other => cut(&other.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "shape/tests.rs"]
mod tests;
