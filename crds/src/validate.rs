//! What a Subscription means, or every mistake in it with its path. Pure: the bridge, the webhook and the CLI run the
//! same code. It takes nothing for granted that the schema promises: a file was never checked by it.
//!
//! Next: core/src/route.rs

mod filters;
pub(crate) mod names;
mod sources;

use std::time::Duration;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use tidings_config::field_error::{FieldError, FieldErrors};
use tidings_config::sink::valid::{ValidSink, Via};
use tidings_config::sink::{ContentMode, SinkReference};
use tidings_core::change::{ChangeKind, ChangeKinds};
use tidings_core::route::Route;

pub use self::sources::{MAX_NAMES, MAX_NAMESPACES, MAX_SOURCES};
use crate::subscription::{
    ChangeType, DeliverySettings, EventSettings, OnReject, Oversize, Subscription, SubscriptionSpec,
};

/// The most Events of one Subscription that may be on their way.
pub const MAX_IN_FLIGHT: usize = 65_536;

/// A Subscription that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidSubscription {
    /// What goes to it. Its uid is empty for an object that no API server has seen.
    ///
    /// A selection without `namespaces` holds the Subscription's own namespace. Whether the kind lives in namespaces
    /// is known only to the cluster: where it does not, all its objects are selected, whatever stands here.
    pub route: Route,
    /// Where its Events go.
    pub sink: ValidSink,
    /// How an Event and its data share a Message.
    pub mode: ContentMode,
    /// How its Events are delivered.
    pub delivery: ValidDelivery,
    /// Where those go that will not be.
    pub dead_letter: Option<ValidSink>,
    /// With whose rights it acts.
    pub service_account: String,
    /// Nothing is sent.
    pub suspend: bool,
}

/// How Events are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidDelivery {
    /// The most Events on their way without an acknowledgement, from 1 to [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// What happens to an Event that is larger than the broker takes.
    pub oversize: Oversize,
    /// What happens to one that will not be delivered.
    pub on_reject: OnReject,
    /// An Event is given up after so many attempts.
    pub max_attempts: Option<u32>,
    /// An Event is given up when an attempt fails so long after its change.
    pub max_age: Option<Duration>,
}

/// The resource in an object as it came from the API server or a file. An object that does not have the form of
/// one, e.g. because a newer definition is installed, must not stop anybody from reading the others.
pub fn read<T: DeserializeOwned>(object: &DynamicObject) -> Result<T, FieldErrors> {
    serde_json::to_value(object)
        .map_err(|error| FieldError::new("", error.to_string()))
        .and_then(|value| {
            serde_path_to_error::deserialize(value)
                .map_err(|error| FieldError::new(error.path().to_string(), error.inner().to_string()))
        })
        .map_err(|error| vec![error])
}

/// What the Subscription means, or every mistake in it.
pub fn validate(subscription: &Subscription) -> Result<ValidSubscription, FieldErrors> {
    let SubscriptionSpec {
        sources,
        on,
        changed,
        filters,
        event,
        sink,
        delivery,
        service_account_name,
        suspend,
    } = &subscription.spec;
    let EventSettings { mode } = event;
    let mut errors = FieldErrors::new();

    let (name, namespace) = (subscription.name_any(), subscription.namespace().unwrap_or_default());
    if name.is_empty() {
        errors.push(FieldError::new("metadata.name", "is needed"));
    }
    if namespace.is_empty() {
        errors.push(FieldError::new("metadata.namespace", "is needed"));
    }
    let selections = sources::check(sources, &namespace, &mut errors);
    let on = check_on(on, &mut errors);
    let on =
        if changed.as_ref().is_some_and(|changed| changed.generation) { on.of_generations() } else { on };
    let filter = filters::check(filters, &mut errors);
    let sink = sink.validate("spec.sink").map_err(|mistakes| errors.extend(mistakes)).ok();
    let dead_letter = check_dead_letter(delivery, &mut errors);
    let delivery = check_delivery(delivery, &mut errors);
    if !names::is_subdomain(service_account_name) {
        let problem = format!("{service_account_name:?} is not the name of a service account");
        errors.push(FieldError::new("spec.serviceAccountName", problem));
    }

    let route = Route {
        subscription: format!("{namespace}/{name}").into(),
        uid: subscription.uid().unwrap_or_default().into(),
        generation: subscription.metadata.generation.and_then(|g| u64::try_from(g).ok()).unwrap_or_default(),
        selections,
        on,
        filter: filter.into(),
    };
    match sink {
        Some(sink) if errors.is_empty() => {
            let service_account = service_account_name.clone();
            let (mode, suspend) = (*mode, *suspend);
            Ok(ValidSubscription { route, sink, mode, delivery, dead_letter, service_account, suspend })
        }
        _ => Err(errors),
    }
}

fn check_on(on: &[ChangeType], errors: &mut FieldErrors) -> ChangeKinds {
    if on.is_empty() {
        errors.push(FieldError::new("spec.on", "at least one is needed; without `on`, it is all of them"));
    }
    for (index, change) in on.iter().enumerate() {
        if on[..index].contains(change) {
            errors.push(FieldError::new(format!("spec.on[{index}]"), format!("{change:?} is there twice")));
        }
    }
    ChangeKinds::of(on.iter().copied().map(ChangeKind::from))
}

fn check_dead_letter(delivery: &DeliverySettings, errors: &mut FieldErrors) -> Option<ValidSink> {
    let DeliverySettings { oversize, on_reject, dead_letter, .. } = delivery;
    let path = "spec.delivery.deadLetter";
    if dead_letter.is_none() && (*on_reject == OnReject::DeadLetter || *oversize == Oversize::DeadLetter) {
        let problem = "is needed where onReject or oversize is DeadLetter: where dead letters go";
        errors.push(FieldError::new(path, problem));
    }
    dead_letter.as_ref()?.validate(path).map_err(|mistakes| errors.extend(mistakes)).ok()
}

fn check_delivery(delivery: &DeliverySettings, errors: &mut FieldErrors) -> ValidDelivery {
    let DeliverySettings { max_in_flight, oversize, on_reject, dead_letter: _, max_attempts, max_age } =
        delivery;
    let max = usize::try_from(*max_in_flight).ok().filter(|max| (1..=MAX_IN_FLIGHT).contains(max));
    if max.is_none() {
        let problem = format!("{max_in_flight} is not from 1 to {MAX_IN_FLIGHT}");
        errors.push(FieldError::new("spec.delivery.maxInFlight", problem));
    }
    let attempts = max_attempts.map(|most| u32::try_from(most).ok().filter(|most| *most > 0));
    if attempts == Some(None) {
        errors.push(FieldError::new("spec.delivery.maxAttempts", "is at least 1; without it, for ever"));
    }
    let age = max_age.as_ref().and_then(|text| match text.parse::<tidings_config::duration::Duration>() {
        Ok(age) if !age.get().is_zero() => Some(age.get()),
        Ok(_) => {
            errors.push(FieldError::new("spec.delivery.maxAge", "is more than nothing; without it, never"));
            None
        }
        Err(error) => {
            errors.push(FieldError::new("spec.delivery.maxAge", error.to_string()));
            None
        }
    });
    ValidDelivery {
        max_in_flight: max.unwrap_or(1),
        oversize: *oversize,
        on_reject: *on_reject,
        max_attempts: attempts.flatten(),
        max_age: age,
    }
}

// === impl ValidSubscription ===

impl ValidSubscription {
    /// The namespace it is in.
    pub fn namespace(&self) -> &str {
        self.route.subscription.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The Sinks it names, each with its namespace.
    pub fn sinks(&self) -> impl Iterator<Item = (&str, &str)> {
        [Some(&self.sink), self.dead_letter.as_ref()].into_iter().flatten().filter_map(|sink| {
            match &sink.via {
                Via::Sink(reference) => Some((
                    reference.namespace.as_deref().unwrap_or(self.namespace()),
                    reference.name.as_str(),
                )),
                Via::Inline(_) => None,
            }
        })
    }

    /// Where the Events go in a few words, for `status.sink`, without credentials.
    pub fn sink_name(&self) -> String {
        match &self.sink.via {
            Via::Inline(connection) => connection.summary(),
            Via::Sink(SinkReference { namespace: None, name }) => format!("Sink {name}"),
            Via::Sink(SinkReference { namespace: Some(namespace), name }) => {
                format!("Sink {namespace}/{name}")
            }
        }
    }
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
