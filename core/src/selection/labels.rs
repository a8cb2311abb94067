//! Labels of objects, and what is demanded of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// The labels of an object, as the JSON object they came in: most objects are never asked for them.
#[derive(Clone, Debug, Default)]
pub struct Labels(Option<Box<str>>);

/// What labels have to be: all of its requirements. Without any, every object is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LabelSelector {
    /// Sorted, so that equal selectors are equal.
    requirements: BTreeSet<Requirement>,
}

/// What one label has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Requirement {
    /// The key of the label.
    pub key: String,
    /// What is demanded of its value.
    pub operator: Operator,
}

/// What is demanded of the value of a label, as Kubernetes understands it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operator {
    /// It is one of these.
    In(BTreeSet<String>),
    /// It is none of these, or there is no such label.
    NotIn(BTreeSet<String>),
    /// There is such a label.
    Exists,
    /// There is no such label.
    DoesNotExist,
}

// === impl Labels ===

impl Labels {
    /// The value of `metadata.labels`: a JSON object of texts, or `null`. What is neither counts as no labels.
    pub fn from_json(text: &str) -> Self {
        Self(Some(text).filter(|text| !matches!(*text, "null" | "{}")).map(Into::into))
    }

    /// By key. Nothing where there are none.
    pub fn parse(&self) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
        // Keys and values have no character that JSON escapes, so that mostly nothing is copied.
        let parse = |text| serde_json::from_str::<BTreeMap<Text<'_>, Option<Text<'_>>>>(text).ok();
        let labels = self.0.as_deref().and_then(parse).unwrap_or_default();
        labels.into_iter().map(|(key, value)| (key.0, value.unwrap_or_default().0)).collect()
    }
}

/// However they are written.
impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.parse() == other.parse()
    }
}

impl Eq for Labels {}

/// A text that is borrowed where it can be, which `Cow` in a map is not.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

// === impl LabelSelector ===

impl LabelSelector {
    /// Those for which all of this is true.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Self { requirements: requirements.into_iter().collect() }
    }

    /// Whether it demands nothing.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether these labels are as they have to be.
    pub fn matches(&self, labels: &Labels) -> bool {
        if self.is_empty() {
            return true;
        }
        let labels = labels.parse();
        self.requirements.iter().all(|requirement| {
            requirement.operator.holds(labels.get(requirement.key.as_str()).map(|value| &**value))
        })
    }

    /// What it demands.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// What these labels are not, each with the value that there is.
    pub fn misses<'a>(
        &'a self,
        labels: &Labels,
    ) -> impl Iterator<Item = (&'a Requirement, Option<String>)> + use<'a> {
        let labels = labels.parse();
        let value = |key: &str| labels.get(key).map(|value| value.clone().into_owned());
        let misses: Vec<_> = self
            .requirements
            .iter()
            .map(|requirement| (requirement, value(&requirement.key)))
            .filter(|(requirement, value)| !requirement.operator.holds(value.as_deref()))
            .collect();
        misses.into_iter()
    }
}

/// `a, b`.
pub(super) fn listed(texts: &BTreeSet<String>) -> String {
    texts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// `label tier is gold`, `label tier is none of a, b`, `label tier is there`.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator } = self;
        match operator {
            Operator::In(values) if values.len() == 1 => write!(f, "label {key} is {}", listed(values)),
            Operator::In(values) => write!(f, "label {key} is one of {}", listed(values)),
            Operator::NotIn(values) => write!(f, "label {key} is none of {}", listed(values)),
            Operator::Exists => write!(f, "label {key} is there"),
            Operator::DoesNotExist => write!(f, "label {key} is not there"),
        }
    }
}

// === impl Operator ===

impl Operator {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
        }
    }
}
