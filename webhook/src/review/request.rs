//! What the API server asks, off the wire.
//!
//! Not `kube`'s own types: those want every object to have metadata, and not everything that is admitted has some.

use k8s_openapi::api::authentication::v1::UserInfo;
use serde::Deserialize;
use serde_json::Value;

/// One question of the API server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Tells it from others; the answer repeats it.
    pub uid: String,
    /// Of what kind the object is.
    pub kind: Kind,
    /// A part of the object, e.g. `status`; nothing or empty for all of it.
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// Its name; nothing yet where the API server makes one.
    #[serde(default)]
    pub name: String,
    /// Its namespace; nothing where it lives in none.
    #[serde(default)]
    pub namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who asks for it.
    #[serde(default)]
    pub user_info: UserInfo,
    /// The object as it is to be.
    #[serde(default)]
    pub object: Option<Value>,
    /// The object as it is.
    #[serde(default)]
    pub old_object: Option<Value>,
    /// It is only tried. That changes nothing for us: we have no side effects.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// A kind with its group and version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Kind {
    /// Its API group.
    #[serde(default)]
    pub group: String,
    /// Its version.
    pub version: String,
    /// The kind.
    pub kind: String,
}

/// Why a question is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no AdmissionReview of admission.k8s.io/v1: {0}")]
pub struct Malformed(pub(super) String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// What is asked in the body of a request.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    let Review { api_version, kind, request } =
        serde_json::from_slice(body).map_err(|error| Malformed(error.to_string()))?;
    if (api_version.as_str(), kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(Malformed(format!("it is {kind:?} of {api_version:?}")));
    }
    let request = request.ok_or_else(|| Malformed("it has no `request`".to_owned()))?;
    if request.uid.is_empty() {
        return Err(Malformed("its `request.uid` is empty".to_owned()));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_review_is_refused_with_the_reason() {
        let request = json!({"uid": "u", "kind": {"version": "v1", "kind": "Pod"}, "operation": "CREATE"});
        let review = |api_version: &str, kind: &str, request: Value| {
            json!({"apiVersion": api_version, "kind": kind, "request": request}).to_string()
        };
        let v1 = "admission.k8s.io/v1";
        assert_eq!(read(review(v1, "AdmissionReview", request.clone()).as_bytes()).unwrap().uid, "u");
        let deep = format!(r#"{{"request": {{"object": {}"#, "[".repeat(100_000));
        for (body, reason) in [
            (String::new(), "EOF"),
            (deep, "recursion limit"),
            ("[]".to_owned(), "invalid length"),
            (review("admission.k8s.io/v1beta1", "AdmissionReview", request.clone()), "v1beta1"),
            (review(v1, "Pod", request.clone()), "\"Pod\""),
            (review(v1, "AdmissionReview", Value::Null), "no `request`"),
            (review(v1, "AdmissionReview", json!({})), "missing field `uid`"),
        ] {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason} is not in {error}");
        }
    }
}
