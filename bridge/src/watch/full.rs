//! The full parse behind the scanner: for text that is valid and unusual.

use serde_json::Value;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::selection::Labels;

use super::scan::{Error, LAST_APPLIED, TRACEPARENT, TypeMeta};

/// Does what [`super::scan::scan`] does, by way of a DOM.
pub(super) fn parse(text: &[u8], type_meta: &TypeMeta) -> Result<Object, Error> {
    let mut value: Value = serde_json::from_slice(text)?;
    let object = value.as_object_mut().ok_or(Error::Field("name"))?;
    if !(object.contains_key("apiVersion") && object.contains_key("kind")) {
        object.insert("apiVersion".into(), type_meta.api_version.clone().into());
        object.insert("kind".into(), type_meta.kind.clone().into());
    }
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or(Error::Field("name"))?;

    let managed_fields = metadata.remove("managedFields");
    let modified = managed_fields.as_ref().and_then(Value::as_array).and_then(|fields| {
        let times = fields.iter().filter_map(|field| field.get("time")?.as_str());
        times.max().map(Into::into)
    });
    let mut traceparent = None;
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        let removed = annotations.remove(LAST_APPLIED).is_some();
        traceparent = annotations.get(TRACEPARENT).and_then(Value::as_str).map(Into::into);
        if removed && annotations.is_empty() {
            metadata.remove("annotations");
        }
    }

    let text_of = |field: &'static str| metadata.get(field).and_then(Value::as_str);
    let required = |field: &'static str| text_of(field).ok_or(Error::Field(field));
    let meta = Meta {
        key: ObjectKey::new(text_of("namespace"), required("name")?),
        uid: Uid::new(required("uid")?),
        resource_version: required("resourceVersion")?.parse::<ResourceVersion>()?,
        generation: metadata.get("generation").and_then(Value::as_u64),
        created: text_of("creationTimestamp").map(Into::into),
        modified,
        deleted: text_of("deletionTimestamp").map(Into::into),
        traceparent,
        labels: metadata
            .get("labels")
            .map(|labels| Labels::from_json(&labels.to_string()))
            .unwrap_or_default(),
    };
    Ok(Object { meta, body: serde_json::to_vec(&value)?.into() })
}
