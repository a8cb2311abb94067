//! What is answered to the API server, and what has to be known for it. Pure: whoever calls it asks the cluster in between.
//!
//! ```text
//! body ─► request ─► begin ─► Verdict                         what needs no question
//!                      └────► Case ─► kinds, Sinks            to be looked up
//!                               └──► needs ─► who lacks what  to be asked
//!                                      └────► conclude ─► Verdict ─► response
//! ```

pub mod request;
pub mod response;
mod sink;
mod subscription;

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::Value;
use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_core::route::{Kind, Resource};

use self::request::{Malformed, Request};
use self::sink::SinkCase;
use self::subscription::SubscriptionCase;

/// The API group of our resources.
pub const GROUP: &str = "tidings.dev";

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused, if it is.
    pub refusal: Option<Refusal>,
    /// What is legal and still unwise.
    pub warnings: Vec<String>,
    /// In a word.
    pub outcome: Outcome,
}

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense: every mistake.
    Invalid(FieldErrors),
    /// Somebody lacks a right: every one.
    Forbidden(FieldErrors),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything about it is good.
    Valid,
    /// Nothing that is checked changes: its metadata do, or it is on its way out.
    Unchanged,
    /// It is nothing that we check.
    Unknown,
    /// It makes no sense.
    Invalid,
    /// Somebody lacks a right.
    Forbidden,
}

/// What goes on once the cluster was asked.
#[derive(Debug)]
pub enum Step {
    /// Nothing has to be asked.
    Done(Verdict),
    /// This has.
    Ask(Box<Case>),
}

/// An object that makes sense, and of which is not known yet whether it may be.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // there is one for each request, in a box
pub enum Case {
    /// A Subscription.
    Subscription(SubscriptionCase),
    /// A Sink.
    Sink(SinkCase),
}

/// A right that somebody has to have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// The field because of which.
    pub path: String,
    /// Who has to have it.
    pub who: Who,
    /// To what.
    pub target: Target,
    /// To do what.
    pub verb: &'static str,
}

/// Who has to have a right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// Whoever writes the object.
    User,
    /// A service account.
    Account {
        /// The namespace it is in.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What a right is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The API group.
    pub group: String,
    /// The version.
    pub version: String,
    /// As paths have it: `todos`.
    pub plural: String,
    /// In this namespace; in all of them, or where there are none, without.
    pub namespace: Option<String>,
    /// This one; all of them without.
    pub name: Option<String>,
}

/// A Sink by its namespace and name.
pub type SinkName = (String, String);

/// What the cluster says of a Sink that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFound {
    /// It is there, and lets the Subscription in.
    Open,
    /// It is there, and does not.
    Closed,
    /// It is not there.
    Missing,
    /// That could not be found out.
    Unclear,
}

/// What the cluster serves for kinds; nothing where it serves none.
pub type Resources = BTreeMap<Kind, Option<Resource>>;

/// Begins with what needs no question.
pub fn begin(request: &Request) -> Result<Step, Malformed> {
    let done = |outcome| Ok(Step::Done(Verdict { refusal: None, warnings: Vec::new(), outcome }));
    let part = request.sub_resource.as_deref().is_some_and(|part| !part.is_empty());
    if !matches!(request.operation.as_str(), "CREATE" | "UPDATE") || part {
        return done(Outcome::Unchanged);
    }
    let begin = match (request.kind.group.as_str(), request.kind.kind.as_str()) {
        (GROUP, "Subscription") => subscription::begin,
        (GROUP, "Sink") => sink::begin,
        (group, kind) => {
            let warning = format!("tidings does not know the kind {kind} of {group:?}: nothing was checked");
            let warnings = vec![warning];
            return Ok(Step::Done(Verdict { refusal: None, warnings, outcome: Outcome::Unknown }));
        }
    };
    let object = request.object.as_ref().ok_or_else(|| Malformed("it has no `request.object`".to_owned()))?;
    // Finalizers and status never wait for us.
    let same = |old: &Value| old.get("spec") == object.get("spec");
    let leaving = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    if leaving || request.operation == "UPDATE" && request.old_object.as_ref().is_some_and(same) {
        return done(Outcome::Unchanged);
    }
    let object = read(request, object)?;
    Ok(match begin(&object) {
        Ok(case) => Step::Ask(Box::new(case)),
        Err(mistakes) => Step::Done(Verdict {
            refusal: Some(Refusal::Invalid(mistakes)),
            warnings: Vec::new(),
            outcome: Outcome::Invalid,
        }),
    })
}

/// The object, with the name and the namespace that it is going to have.
fn read(request: &Request, object: &Value) -> Result<DynamicObject, Malformed> {
    let mut object: DynamicObject = serde_json::from_value(object.clone())
        .map_err(|error| Malformed(format!("its `request.object`: {error}")))?;
    let metadata = &mut object.metadata;
    if metadata.namespace.is_none() && !request.namespace.is_empty() {
        metadata.namespace = Some(request.namespace.clone());
    }
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        // The API server appends five characters when it is stored.
        metadata.name = metadata.generate_name.as_ref().map(|prefix| format!("{prefix}xxxxx"));
    }
    Ok(object)
}

// === impl Case ===

impl Case {
    /// The kinds of which it has to be known how they are served.
    pub fn kinds(&self) -> Vec<Kind> {
        match self {
            Self::Subscription(case) => case.kinds(),
            Self::Sink(_) => Vec::new(),
        }
    }

    /// The Sinks that are named, and the namespace that wants in.
    pub fn sinks(&self) -> (&str, Vec<SinkName>) {
        match self {
            Self::Subscription(case) => case.sinks(),
            Self::Sink(_) => ("", Vec::new()),
        }
    }

    /// The rights that somebody has to have.
    pub fn needs(&self, resources: &Resources) -> Vec<Need> {
        match self {
            Self::Subscription(case) => case.needs(resources),
            Self::Sink(case) => case.needs(),
        }
    }

    /// What is answered, when `denied` are the rights that are lacking. `user` is who asks.
    pub fn conclude(
        &self,
        user: &str,
        resources: &Resources,
        denied: Vec<Need>,
        sinks: &[(SinkName, SinkFound)],
    ) -> Verdict {
        let warnings = match self {
            Self::Subscription(case) => case.warnings(resources, sinks),
            Self::Sink(case) => case.warnings(),
        };
        if denied.is_empty() {
            return Verdict { refusal: None, warnings, outcome: Outcome::Valid };
        }
        let refusal = Some(Refusal::Forbidden(complaints(user, denied)));
        Verdict { refusal, warnings, outcome: Outcome::Forbidden }
    }
}

/// A sentence for each that is lacking, with the verbs of one thing together.
fn complaints(user: &str, denied: Vec<Need>) -> FieldErrors {
    let mut lacking: Vec<(Need, Vec<&'static str>)> = Vec::new();
    for need in denied {
        let same = |(known, _): &&mut (Need, Vec<_>)| {
            (&known.path, &known.who, &known.target) == (&need.path, &need.who, &need.target)
        };
        let verb = need.verb;
        match lacking.iter_mut().find(same) {
            Some((_, verbs)) => verbs.push(verb),
            None => lacking.push((need, vec![verb])),
        }
    }
    let complaints = lacking.into_iter().map(|(Need { path, who, target, verb: _ }, verbs)| {
        let (verbs, what) = (verbs.join(" and "), target.in_words());
        let problem = match who {
            Who::User => {
                format!("you ({user}) may not {verbs} {what}, and so cannot have it sent anywhere")
            }
            Who::Account { namespace, name } => format!(
                "the service account {namespace}/{name} may not {verbs} {what}: give it that right, or name another one in \
                 spec.serviceAccountName"
            ),
        };
        FieldError::new(path, problem)
    });
    complaints.collect()
}

// === impl Target ===

impl Target {
    fn in_words(&self) -> String {
        let Self { group, version: _, plural, namespace, name } = self;
        let kind = if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") };
        let what = match name {
            Some(name) => format!("{kind} {name:?}"),
            None => kind,
        };
        match namespace {
            Some(namespace) => format!("{what} in the namespace {namespace}"),
            None => format!("{what} in the whole cluster"),
        }
    }

    /// A Secret.
    fn secret(namespace: &str, name: &str) -> Self {
        Self {
            group: String::new(),
            version: "v1".to_owned(),
            plural: "secrets".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// For metrics and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unchanged => "unchanged",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// Every mistake.
    pub fn mistakes(&self) -> &FieldErrors {
        match self {
            Self::Invalid(mistakes) | Self::Forbidden(mistakes) => mistakes,
        }
    }
}

#[cfg(test)]
#[path = "review/tests.rs"]
mod tests;
