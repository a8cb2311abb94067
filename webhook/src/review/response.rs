//! What the API server is answered, onto the wire.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use serde_json::{Map, Value, json};
use tidings_config::field_error::{FieldError, FieldErrors};

use super::request::Request;
use super::{GROUP, Refusal, Verdict};

/// The most mistakes that one answer lists.
const MAX_CAUSES: usize = 100;
/// What the API server passes on of a warning, in bytes.
const MAX_WARNING: usize = 256;
/// The longest annotation for the audit log, in bytes.
const MAX_ANNOTATION: usize = 1024;

/// The answer to `request`.
pub fn answer(request: &Request, verdict: &Verdict) -> Value {
    let Verdict { refusal, warnings, outcome } = verdict;
    let mut audit = Map::from_iter([("verdict".to_owned(), Value::from(outcome.name()))]);
    let mut response = json!({"uid": request.uid, "allowed": refusal.is_none()});
    if let Some(refusal) = refusal {
        let mistakes = refusal.mistakes();
        let paths: Vec<_> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
        audit.insert("paths".to_owned(), cut(&paths.join(" "), MAX_ANNOTATION).into());
        response["status"] = json!(status(request, refusal));
    }
    if !warnings.is_empty() {
        response["warnings"] = warnings.iter().map(|warning| cut(warning, MAX_WARNING)).collect();
    }
    response["auditAnnotations"] = Value::Object(audit);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

fn status(request: &Request, refusal: &Refusal) -> Status {
    let kind = &request.kind.kind;
    let object = match (request.namespace.as_str(), request.name.as_str()) {
        (_, "") => format!("the {kind}"),
        ("", name) => format!("the {kind} {name}"),
        (namespace, name) => format!("the {kind} {namespace}/{name}"),
    };
    let (code, reason, cause, title) = match refusal {
        Refusal::Invalid(_) => (422, "Invalid", "FieldValueInvalid", format!("{object} is not valid")),
        Refusal::Forbidden(_) => {
            (403, "Forbidden", "FieldValueForbidden", format!("{object} reaches for what it may not read"))
        }
    };
    let mistakes = refusal.mistakes();
    let causes = mistakes.iter().take(MAX_CAUSES).map(|FieldError { path, problem }| StatusCause {
        field: Some(path.clone()),
        message: Some(problem.clone()),
        reason: Some(cause.to_owned()),
    });
    Status {
        code: Some(code),
        details: Some(StatusDetails {
            causes: Some(causes.collect()),
            group: Some(GROUP.to_owned()),
            kind: Some(kind.clone()),
            name: Some(request.name.clone()).filter(|name| !name.is_empty()),
            ..StatusDetails::default()
        }),
        message: Some(format!("{title}:\n{}", lines(mistakes))),
        reason: Some(reason.to_owned()),
        status: Some("Failure".to_owned()),
        ..Status::default()
    }
}

/// One line for each mistake.
fn lines(mistakes: &FieldErrors) -> String {
    let mut lines: Vec<_> = mistakes.iter().take(MAX_CAUSES).map(|mistake| format!("  {mistake}")).collect();
    if let Some(more) = mistakes.len().checked_sub(MAX_CAUSES).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
