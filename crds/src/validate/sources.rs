//! What a Subscription selects, or every mistake in that.
//!
//! Next: core/src/selection.rs

use std::collections::{BTreeMap, BTreeSet};

use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_core::route::Kind;
use tidings_core::selection::{LabelSelector, Namespaces, Operator, Requirement, Scope, Selection};

use super::names::{is_label, is_label_key, is_label_value};
use crate::subscription::selector::{self as subscription, LabelExpression, LabelOperator};
use crate::subscription::{Source, SourceNamespaces};

/// The most sources of one Subscription.
pub const MAX_SOURCES: usize = 16;
/// The most namespaces that one source can name.
pub const MAX_NAMESPACES: usize = 64;
/// The most objects that one source can name.
pub const MAX_NAMES: usize = 64;
/// The most labels that one source can ask for, in each of two ways.
const MAX_REQUIREMENTS: usize = 32;

/// What is selected of each kind.
pub(super) fn check(sources: &[Source], own: &str, errors: &mut FieldErrors) -> BTreeMap<Kind, Selection> {
    let path = "spec.sources";
    if sources.is_empty() {
        errors.push(FieldError::new(path, "at least one source is needed"));
    }
    if sources.len() > MAX_SOURCES {
        let problem = format!("{} sources are more than the {MAX_SOURCES} that are possible", sources.len());
        errors.push(FieldError::new(path, problem));
    }
    let mut selections: BTreeMap<Kind, Selection> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        let Source { api_version, kind, namespaces, names, label_selector } = source;
        let path = format!("{path}[{index}]");
        check_kind(api_version, kind, &path, errors);
        let namespaces = check_namespaces(namespaces.as_ref(), own, &format!("{path}.namespaces"), errors);

        let names = names.as_ref().map(|names| check_names(names, &format!("{path}.names"), errors));
        let labels = label_selector.as_ref();
        let labels = labels.map(|labels| check_labels(labels, &format!("{path}.labelSelector"), errors));
        let scope = Scope { names, labels: labels.unwrap_or_default(), namespaces };

        let (kind, selection) = (Kind::new(api_version, kind), Selection::from(scope));
        let same = |other: &&Kind| (&other.group, &other.kind) == (&kind.group, &kind.kind);
        if let Some(other) = selections.keys().find(same).filter(|other| other.version != kind.version) {
            // Their Events would have the same ids and different data.
            let problem = format!("is a source in {} already; one version is enough", other.api_version());
            errors.push(FieldError::new(format!("{path}.apiVersion"), format!("{} {problem}", kind.kind)));
        }
        let selection = match selections.remove(&kind) {
            Some(other) => other.union(selection),
            None => selection,
        };
        selections.insert(kind, selection);
    }
    selections
}

fn check_kind(api_version: &str, kind: &str, path: &str, errors: &mut FieldErrors) {
    let (group, version) = match api_version.split_once('/') {
        Some((group, version)) => (Some(group), version),
        None => (None, api_version),
    };
    let is_group =
        group.is_none_or(|group| (1..=253).contains(&group.len()) && group.split('.').all(is_label));
    if !is_group || !is_label(version) || version.starts_with(|c: char| c.is_ascii_digit()) {
        let problem = format!("{api_version:?} is not `group/version` or, for the core group, `version`");
        errors.push(FieldError::new(format!("{path}.apiVersion"), problem));
    }
    if !is_label(&kind.to_ascii_lowercase()) || kind.starts_with(|c: char| c.is_ascii_digit()) {
        let problem = format!("{kind:?} is not a kind like `Todo`");
        errors.push(FieldError::new(format!("{path}.kind"), problem));
    }
    if group.is_none() && kind == "Secret" {
        let problem = "Secrets cannot be a source: their content would go to a broker";
        errors.push(FieldError::new(path, problem));
    }
    if group == Some("tidings.dev") {
        let problem = "resources of tidings.dev cannot be a source: their status changes with every Event";
        errors.push(FieldError::new(path, problem));
    }
}

fn check_namespaces(
    namespaces: Option<&SourceNamespaces>,
    own: &str,
    path: &str,
    errors: &mut FieldErrors,
) -> Namespaces {
    let own = || Namespaces::Only(BTreeSet::from([own.to_owned()]));
    let Some(SourceNamespaces { names, all }) = namespaces else { return own() };
    match (names, all) {
        (Some(_), Some(true)) => {
            errors.push(FieldError::new(path, "names and all exclude each other"));
            Namespaces::All
        }
        (None, Some(true)) => Namespaces::All,
        (None, Some(false) | None) => own(),
        (Some(names), Some(false) | None) => {
            Namespaces::Only(check_namespace_names(names, &format!("{path}.names"), errors))
        }
    }
}

fn check_namespace_names(names: &[String], path: &str, errors: &mut FieldErrors) -> BTreeSet<String> {
    let none = "at least one is needed; without `names`, it is the Subscription's own";
    let problem = |name: &str| (!is_label(name)).then_some("is not the name of a namespace");
    check_set(names, MAX_NAMESPACES, path, none, problem, errors)
}

fn check_names(names: &[String], path: &str, errors: &mut FieldErrors) -> BTreeSet<String> {
    let none = "at least one is needed; without `names`, it is every object";
    // Kinds differ in what they allow; these no kind does.
    let problem = |name: &str| {
        let is_name =
            (1..=253).contains(&name.len()) && !name.contains(['/', '%']) && !matches!(name, "." | "..");
        (!is_name).then_some("is not the name of an object")
    };
    check_set(names, MAX_NAMES, path, none, problem, errors)
}

/// Names, each once.
fn check_set(
    names: &[String],
    most: usize,
    path: &str,
    none: &str,
    problem: impl Fn(&str) -> Option<&'static str>,
    errors: &mut FieldErrors,
) -> BTreeSet<String> {
    if names.is_empty() {
        errors.push(FieldError::new(path, none));
    }
    if names.len() > most {
        errors.push(FieldError::new(
            path,
            format!("{} are more than the {most} that are possible", names.len()),
        ));
    }
    let mut set = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(problem) = problem(name) {
            errors.push(FieldError::new(path, format!("{name:?} {problem}")));
        } else if !set.insert(name.clone()) {
            errors.push(FieldError::new(path, format!("{name:?} is there twice")));
        }
    }
    set
}

fn check_labels(
    selector: &subscription::LabelSelector,
    path: &str,
    errors: &mut FieldErrors,
) -> LabelSelector {
    let subscription::LabelSelector { match_labels, match_expressions } = selector;
    let mut requirements = Vec::new();
    for (what, count) in [("matchLabels", match_labels.len()), ("matchExpressions", match_expressions.len())]
    {
        if count > MAX_REQUIREMENTS {
            let problem = format!("{count} are more than the {MAX_REQUIREMENTS} that are possible");
            errors.push(FieldError::new(format!("{path}.{what}"), problem));
        }
    }
    for (key, value) in match_labels {
        let path = format!("{path}.matchLabels[{key}]");
        check_label(key, [value.as_str()], &path, &path, errors);
        let operator = Operator::In([value.clone()].into());
        requirements.push(Requirement { key: key.clone(), operator });
    }
    for (index, LabelExpression { key, operator, values }) in match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let of_values = format!("{path}.values");
        check_label(key, values.iter().map(String::as_str), &format!("{path}.key"), &of_values, errors);
        let set = || values.iter().cloned().collect();
        let (wants_values, operator) = match operator {
            LabelOperator::In => (true, Operator::In(set())),
            LabelOperator::NotIn => (true, Operator::NotIn(set())),
            LabelOperator::Exists => (false, Operator::Exists),
            LabelOperator::DoesNotExist => (false, Operator::DoesNotExist),
        };
        if wants_values == values.is_empty() {
            let problem = "In and NotIn need values, Exists and DoesNotExist have none";
            errors.push(FieldError::new(of_values, problem));
        }
        requirements.push(Requirement { key: key.clone(), operator });
    }
    LabelSelector::new(requirements)
}

fn check_label<'a>(
    key: &str,
    values: impl IntoIterator<Item = &'a str>,
    path: &str,
    of_values: &str,
    errors: &mut FieldErrors,
) {
    if !is_label_key(key) {
        let problem = "is not the key of a label, `name` or `prefix/name`";
        errors.push(FieldError::new(path, format!("{key:?} {problem}")));
    }
    for value in values {
        if !is_label_value(value) {
            let problem = "is not the value of a label: at most 63 letters, digits, `-`, `_` and `.`, the ends letters or digits";
            errors.push(FieldError::new(of_values, format!("{value:?} {problem}")));
        }
    }
}
