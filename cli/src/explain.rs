//! `tidings explain`: what a Subscription in a file would make of an object, before any cluster sees either.
//!
//! The rules are those of the bridge: the same selection, filters and encoders are asked.

mod report;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tidings_bridge::watch::read_object;
use tidings_config::sink::valid::{ValidAddress, ValidSink, Via};
use tidings_core::change::{Change, ChangeKind};
use tidings_core::event::{Event, EventContext};
use tidings_core::filter::Facts;
use tidings_core::object::Object;
use tidings_core::route::{Kind, Resource};
use tidings_core::selection::Selection;
use tidings_crds::check::{Checked, Meaning, check};
use tidings_crds::validate::ValidSubscription;
use tidings_sinks::Encoder;
use tidings_sinks::message::Message;

use self::report::Report;
use crate::args::ExplainArgs;
use crate::check::documents;
use crate::output;

/// What an object that no API server has seen has instead.
const UID: &str = "00000000-0000-0000-0000-000000000000";
const VERSION: &str = "1";

/// What becomes of an object.
struct Explained {
    subscription: String,
    object: String,
    /// What happens to it, as far as this Subscription is concerned; nothing if it is no member before or after.
    change: Option<ChangeKind>,
    scopes: Vec<Scope>,
    demands: Vec<Demand>,
    told: bool,
    /// What would be sent, or why that cannot be said.
    message: Result<Message, String>,
    /// What a broker calls the place.
    place: String,
}

/// A part of the selection, and why the object is not in it; nothing if it is.
struct Scope {
    words: String,
    misses: Vec<String>,
}

/// A demand on the Event.
struct Demand {
    path: String,
    words: String,
    /// Or why that cannot be said: then the Event is told.
    holds: Result<bool, String>,
}

pub(crate) fn run(args: ExplainArgs) -> Result<()> {
    let ExplainArgs { file, object, old, deleted, subscription, namespace, cluster_name, plural, output } =
        args;
    let (all, sinks) = subscriptions(&file, &namespace)?;
    let chosen: Vec<_> =
        all.iter().filter(|checked| subscription.as_ref().is_none_or(|name| *name == checked.name)).collect();
    ensure!(
        !chosen.is_empty(),
        "failed to find a Subscription{} in {}",
        called(subscription.as_deref()),
        file.display()
    );
    let (object, kind) = read(&object, &namespace)?;
    let old = old.map(|old| read(&old, &namespace)).transpose()?;
    if let Some((old, _)) = &old {
        let (before, now) = (&old.meta.key, &object.meta.key);
        ensure!(before == now, "--old is {before}, and --object is {now}: they have to be one object");
    }
    let resource = Resource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        kind: kind.kind.clone(),
        plural: plural.unwrap_or_else(|| guess_plural(&kind.kind)),
        namespaced: object.meta.key.namespace().is_some(),
    };
    let mut explained = Vec::new();
    for checked in chosen {
        let Some(Meaning::Subscription(valid)) = &checked.meaning else { continue };
        let context =
            EventContext::new(&cluster_name, &valid.route.subscription, &valid.route.uid, &resource);
        let news = News { object: &object, old: old.as_ref().map(|(old, _)| old), deleted };
        explained.push(explain(valid, &Arc::new(context), &news, &sinks));
    }
    output::print(Report(&explained).render(output)?.as_bytes())
}

/// What happened to an object.
struct News<'a> {
    object: &'a Arc<Object>,
    old: Option<&'a Arc<Object>>,
    deleted: bool,
}

fn explain(
    valid: &ValidSubscription,
    context: &Arc<EventContext>,
    news: &News<'_>,
    sinks: &[Checked],
) -> Explained {
    let News { object, old, .. } = news;
    let (route, meta) = (&valid.route, &object.meta);
    let kind = context.resource.to_kind();
    let selection = route.selections.get(&kind).cloned().unwrap_or(Selection::NOTHING);
    let scopes = selection
        .scopes()
        .iter()
        .map(|scope| Scope { words: scope.to_string(), misses: scope.misses(meta) })
        .collect();
    let change = what_happens(&selection, news);
    let mut explained = Explained {
        subscription: route.subscription.to_string(),
        object: format!("{} {}", kind.kind, meta.key),
        change,
        scopes,
        demands: Vec::new(),
        told: false,
        message: Err("nothing is sent".to_owned()),
        place: valid.sink_name(),
    };
    let Some(change) = change else { return explained };
    let wanted = route.on.contains(change);
    let mut demand = |path: &str, words: String, holds| {
        explained.demands.push(Demand { path: path.to_owned(), words, holds });
    };
    demand("spec.changeTypes", format!("{change} is among them"), Ok(wanted));
    if change == ChangeKind::Updated {
        let before = old.and_then(|old| old.meta.generation).unwrap_or_default();
        let counts = route.on.counts(before, meta.generation);
        demand("spec.changed", "this update counts".to_owned(), Ok(counts));
    }
    let change = Change::watched(change, (*object).clone());
    let (event, facts) = (Event::new(context, route.generation, &change), Facts::default());
    for (index, expression) in route.filter.expressions().iter().enumerate() {
        let holds = expression.holds(&event, &change, &facts).map_err(|error| error.to_string());
        demand(&format!("spec.filters[{index}]"), expression.to_string(), holds);
    }
    explained.told = !explained.demands.iter().any(|demand| demand.holds == Ok(false));
    explained.message =
        address(valid, sinks).map(|address| Encoder::new(&address, valid.mode).encode(&event));
    explained
}

/// What the Subscription hears of, if its filters let it: it enters, changes in it, leaves it or dies in it.
fn what_happens(selection: &Selection, News { object, old, deleted }: &News<'_>) -> Option<ChangeKind> {
    let was = old.is_some_and(|old| selection.selects(&old.meta));
    let is = selection.selects(&object.meta);
    match (was, is) {
        _ if *deleted => (was || old.is_none() && is).then_some(ChangeKind::Deleted),
        (false, true) => Some(ChangeKind::Added),
        (true, true) => Some(ChangeKind::Updated),
        (true, false) => Some(ChangeKind::Left),
        (false, false) => None,
    }
}

/// Where the Events go behind the connection.
fn address(valid: &ValidSubscription, sinks: &[Checked]) -> Result<ValidAddress, String> {
    let ValidSink { via, address } = &valid.sink;
    if let Some(address) = address {
        return Ok(address.clone());
    }
    match via {
        Via::Inline(connection) => Ok(connection.default_address()),
        Via::Sink(reference) => {
            let namespace = reference.namespace.as_deref().unwrap_or(valid.namespace());
            let found =
                sinks.iter().find(|sink| (&*sink.namespace, &*sink.name) == (namespace, &*reference.name));
            match found.and_then(|sink| sink.meaning.as_ref()) {
                Some(Meaning::Sink(sink)) => Ok(sink.connection.default_address()),
                _ => Err(format!(
                    "the Sink {namespace}/{} decides how it is written: put it into the file as well",
                    reference.name
                )),
            }
        }
    }
}

/// The Subscriptions and the Sinks in a file. What is wrong with one is told as an error.
fn subscriptions(file: &Path, namespace: &str) -> Result<(Vec<Checked>, Vec<Checked>)> {
    let all = documents(file)?.into_iter().filter_map(|value| check(value, namespace));
    let (subscriptions, others): (Vec<_>, Vec<_>) = all.partition(|checked| checked.kind == "Subscription");
    if let Some(checked) = subscriptions.iter().find(|checked| !checked.errors.is_empty()) {
        let errors: Vec<_> = checked.errors.iter().map(|error| format!("\n  {error}")).collect();
        bail!("the Subscription {}/{} is wrong:{}", checked.namespace, checked.name, errors.concat());
    }
    Ok((subscriptions, others))
}

/// The object in a file, as the bridge would read it. What an API server would have added is made up.
fn read(file: &Path, namespace: &str) -> Result<(Arc<Object>, Kind)> {
    let name = file.display();
    let mut values = documents(file)?;
    ensure!(values.len() == 1, "{name} has {} objects: one is needed", values.len());
    let mut value = values.remove(0);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = Kind::new(&text(&value["apiVersion"]), &text(&value["kind"]));
    ensure!(!kind.version.is_empty() && !kind.kind.is_empty(), "{name}: apiVersion and kind are needed");
    let metadata =
        value["metadata"].as_object_mut().with_context(|| format!("{name}: metadata is needed"))?;
    for (field, made_up) in [("uid", UID), ("resourceVersion", VERSION), ("namespace", namespace)] {
        metadata.entry(field).or_insert_with(|| made_up.into());
    }
    let bytes = serde_json::to_vec(&value).with_context(|| format!("failed to read {name}"))?;
    let object = read_object(&bytes, &kind).map_err(|problem| anyhow::anyhow!("{name}: {problem}"))?;
    Ok((Arc::new(object), kind))
}

fn called(name: Option<&str>) -> String {
    name.map(|name| format!(" called {name}")).unwrap_or_default()
}

/// As most kinds have it.
fn guess_plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if kind.ends_with(['s', 'x']) || kind.ends_with("ch") || kind.ends_with("sh") => {
            format!("{kind}es")
        }
        _ => format!("{kind}s"),
    }
}
