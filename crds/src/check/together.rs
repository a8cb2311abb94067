//! How resources go together: the same one twice, a Sink that does not take what is sent to it, two that share a target.
//!
//! A Sink that is not among them is no mistake: it may be in the cluster.

use std::collections::BTreeMap;

use tidings_config::field_error::FieldError;
use tidings_config::sink::SinkReference;
use tidings_config::sink::valid::{ValidSink, Via};

use super::{Checked, Meaning};
use crate::sink::ValidSinkSpec;
use crate::validate::ValidSubscription;
use crate::warnings::{Warning, share_a_target};

/// Adds to each what is wrong or unwise between it and the others.
pub fn together(all: &mut [Checked]) {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut first: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for (index, checked) in all.iter().enumerate() {
        let Checked { kind, namespace, name, .. } = checked;
        if name.is_empty() {
            continue;
        }
        if first.insert((kind, namespace, name), index).is_some() {
            let problem =
                format!("there is a {kind} {namespace}/{name} already: the last one that is applied counts");
            errors.push((index, FieldError::new("metadata.name", problem)));
        }
    }
    let sinks: BTreeMap<_, _> = all.iter().filter_map(as_sink).collect();
    let subscriptions: Vec<_> = all.iter().enumerate().filter_map(as_subscription).collect();
    for (place, (index, subscription)) in subscriptions.iter().enumerate() {
        let own = [
            ("spec.sink", Some(&subscription.sink)),
            ("spec.delivery.deadLetter", subscription.dead_letter.as_ref()),
        ];
        for (path, sink) in own {
            let mistake = sink.and_then(|sink| named(subscription, sink, path, &sinks));
            errors.extend(mistake.map(|mistake| (*index, mistake)));
        }
        for (_, other) in &subscriptions[..place] {
            if share_a_target(subscription, other)
                && subscription.route.subscription != other.route.subscription
            {
                let message = format!(
                    "the Subscription {} sends Events of the same objects to the same place: their ids are the same, and so a \
                     consumer takes one for a repeat of the other",
                    other.route.subscription
                );
                warnings.push((*index, Warning::new("spec.sink", message)));
            }
        }
    }
    for (index, error) in errors {
        all[index].errors.push(error);
    }
    for (index, warning) in warnings {
        all[index].warnings.push(warning);
    }
}

fn as_sink(checked: &Checked) -> Option<((&str, &str), &ValidSinkSpec)> {
    match &checked.meaning {
        Some(Meaning::Sink(sink)) => Some(((&checked.namespace, &checked.name), sink)),
        _ => None,
    }
}

fn as_subscription((index, checked): (usize, &Checked)) -> Option<(usize, &ValidSubscription)> {
    match &checked.meaning {
        Some(Meaning::Subscription(subscription)) => Some((index, subscription)),
        _ => None,
    }
}

/// What is wrong with the Sink that is named, if it is among those that are known.
fn named(
    subscription: &ValidSubscription,
    sink: &ValidSink,
    path: &str,
    sinks: &BTreeMap<(&str, &str), &ValidSinkSpec>,
) -> Option<FieldError> {
    let Via::Sink(SinkReference { namespace, name }) = &sink.via else { return None };
    let namespace = namespace.as_deref().unwrap_or(subscription.namespace());
    let found = sinks.get(&(namespace, name))?;
    if found.allowed.allows(namespace, subscription.namespace()) == Some(false) {
        let problem = format!(
            "the Sink {namespace}/{name} does not let the namespace {} in (its spec.allowedNamespaces)",
            subscription.namespace()
        );
        return Some(FieldError::new(format!("{path}.ref"), problem));
    }
    let (given, wanted) = (sink.address.as_ref()?.kind(), found.connection.kind());
    (given != wanted).then(|| {
        let problem =
            format!("the Sink {namespace}/{name} is one of {wanted}, and what is given here is for {given}");
        FieldError::new(format!("{path}.ref"), problem)
    })
}
