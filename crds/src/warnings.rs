//! What is legal in a resource and unwise: said at `kubectl apply` and by `tidings check`, and never a reason to refuse it. Pure, and
//! only what is certain from what is written: nobody is asked whether a topic exists.

mod address;
mod connection;

use std::fmt;
use std::time::Duration;

use tidings_config::sink::valid::{ValidConnection, ValidSink, Via};
use tidings_core::change::ChangeKind;
use tidings_core::selection::{Namespaces, Scope, Selection};

use self::address::Addressed;
use crate::sink::ValidSinkSpec;
use crate::subscription::{OnReject, Oversize};
use crate::validate::ValidSubscription;

/// Shorter than outages of brokers are.
const OUTAGE: Duration = Duration::from_hours(1);
/// So many attempts last for about five minutes.
const FEW_ATTEMPTS: u32 = 20;
/// Fewer than this on their way, and the way to the broker decides how many Events it gets in a second.
const FEW_IN_FLIGHT: usize = 8;

/// Something that is legal and unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The path of the field as it is written, e.g. `spec.delivery.onReject`.
    pub path: String,
    /// What comes of it, and what would be wiser: lower case, no full stop.
    pub message: String,
}

// === impl Warning ===

impl Warning {
    /// `message` at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What is unwise in a Subscription.
pub fn warnings(subscription: &ValidSubscription) -> Vec<Warning> {
    let mut warnings = Vec::new();
    check_on(subscription, &mut warnings);
    check_sink(subscription, &subscription.sink, "spec.sink", &mut warnings);
    check_delivery(subscription, &mut warnings);
    if let Some(dead_letter) = &subscription.dead_letter {
        check_dead_letter(subscription, dead_letter, &mut warnings);
    }
    if subscription.suspend {
        let message = "nothing is sent while it is true; what happens meanwhile is kept, within the quota";
        warnings.push(Warning::new("spec.suspend", message));
    }
    warnings
}

/// What is unwise in a Sink.
pub fn of_sink(sink: &ValidSinkSpec) -> Vec<Warning> {
    let mut warnings = Vec::new();
    connection::check(&sink.connection, "spec", &mut warnings);
    warnings
}

/// Whether two Subscriptions send Events of the same objects to the very same place: a consumer cannot tell them apart by
/// their ids.
pub fn share_a_target(left: &ValidSubscription, right: &ValidSubscription) -> bool {
    let common = left.route.selections.iter().any(|(kind, selection)| {
        right.route.selections.get(kind).is_some_and(|other| may_overlap(selection, other))
    });
    // Standard output is for people who look, and not for consumers.
    let is_heard = !matches!(left.sink.via, Via::Inline(ValidConnection::Stdout));
    common
        && is_heard
        && !is_told_apart(&left.sink)
        && is_same_target((&left.sink, left.namespace()), (&right.sink, right.namespace()))
}

/// Whether there may be an object in both.
fn may_overlap(left: &Selection, right: &Selection) -> bool {
    let share = |left: &Scope, right: &Scope| {
        let namespaces = match (&left.namespaces, &right.namespaces) {
            (Namespaces::Only(left), Namespaces::Only(right)) => !left.is_disjoint(right),
            _ => true,
        };
        let names = left.names.as_ref().zip(right.names.as_ref());
        namespaces && names.is_none_or(|(left, right)| !left.is_disjoint(right))
    };
    // Labels change: who has none of these today can have them tomorrow.
    left.scopes().iter().any(|left| right.scopes().iter().any(|right| share(left, right)))
}

/// Whether Events go to the very same place, and not only by the same connection.
fn is_same_target(left: (&ValidSink, &str), right: (&ValidSink, &str)) -> bool {
    left.0.place(left.1) == right.0.place(right.1)
        && address_of(left.0).behind() == address_of(right.0).behind()
}

/// Whether the name of the Subscription is part of where its Events go.
fn is_told_apart(sink: &ValidSink) -> bool {
    address_of(sink).behind().contains("{subscription}")
}

fn address_of(sink: &ValidSink) -> Addressed<'_> {
    match (&sink.address, &sink.via) {
        (Some(address), _) => Addressed::Given(address),
        (None, Via::Inline(connection)) => Addressed::Default(connection.default_address()),
        (None, Via::Sink(_)) => Addressed::Unknown,
    }
}

fn check_on(subscription: &ValidSubscription, warnings: &mut Vec<Warning>) {
    let on = subscription.route.on;
    if !ChangeKind::ALL.into_iter().any(|kind| kind != ChangeKind::Snapshot && on.contains(kind)) {
        let message = "only what exists when the Subscription starts is told, and no change after it";
        warnings.push(Warning::new("spec.on", message));
    }
}

fn check_sink(subscription: &ValidSubscription, sink: &ValidSink, path: &str, warnings: &mut Vec<Warning>) {
    if let Via::Inline(valid) = &sink.via {
        connection::check(valid, &format!("{path}.{}", field(valid)), warnings);
    }
    if let Some(address) = &sink.address {
        address::check(subscription, address, path, warnings);
    }
}

/// How the kind of sink is called in a spec.
fn field(connection: &ValidConnection) -> &'static str {
    match connection {
        ValidConnection::Kafka(_) => "kafka",
        ValidConnection::Nats(_) => "nats",
        ValidConnection::Rabbitmq(_) => "rabbitmq",
        ValidConnection::Http(_) => "http",
        ValidConnection::Stdout => "stdout",
    }
}

fn check_delivery(subscription: &ValidSubscription, warnings: &mut Vec<Warning>) {
    let delivery = &subscription.delivery;
    let path = "spec.delivery";
    let mut warn =
        |field: &str, message: String| warnings.push(Warning::new(format!("{path}.{field}"), message));
    if delivery.on_reject == OnReject::Drop {
        let message = "what the broker refuses for good is lost, with no more than a log line and a count; `DeadLetter` keeps it";
        warn("onReject", message.to_owned());
    }
    let becomes = match delivery.on_reject {
        OnReject::Drop => Some("loses every change that waits for it"),
        OnReject::Block => Some("blocks every object that changed, until a person orders a retry"),
        OnReject::DeadLetter => None,
    };
    if let (Some(becomes), Some(age)) = (becomes, delivery.max_age.filter(|age| *age < OUTAGE)) {
        let age = tidings_config::duration::Duration::from(age);
        warn("maxAge", format!("an outage of the broker of more than {age} {becomes}"));
    }
    if let (Some(becomes), Some(attempts)) =
        (becomes, delivery.max_attempts.filter(|most| *most < FEW_ATTEMPTS))
    {
        warn(
            "maxAttempts",
            format!("{attempts} attempts are over within minutes: trouble at the broker {becomes}"),
        );
    }
    if delivery.max_in_flight < FEW_IN_FLIGHT {
        let message = format!(
            "with {} on their way, each waits for the way to the broker and back; of one object there is never more than one \
             on its way in any case",
            delivery.max_in_flight
        );
        warn("maxInFlight", message);
    }
}

fn check_dead_letter(subscription: &ValidSubscription, dead_letter: &ValidSink, warnings: &mut Vec<Warning>) {
    let path = "spec.delivery.deadLetter";
    let delivery = &subscription.delivery;
    if delivery.on_reject != OnReject::DeadLetter && delivery.oversize != Oversize::DeadLetter {
        let message = "nothing ever goes there: neither `onReject` nor `oversize` is `DeadLetter`";
        warnings.push(Warning::new(path, message));
    }
    let namespace = subscription.namespace();
    if is_same_target((&subscription.sink, namespace), (dead_letter, namespace)) {
        let message = "dead letters go where the Events go: what is refused there as an Event is likely refused as a dead \
                       letter too, and consumers read one for the other";
        warnings.push(Warning::new(path, message));
    }
    check_sink(subscription, dead_letter, path, warnings);
}

/// Whether the deletion of an object is among what is told.
fn tells_deletions(subscription: &ValidSubscription) -> bool {
    subscription.route.on.contains(ChangeKind::Deleted)
}

#[cfg(test)]
#[path = "warnings/tests.rs"]
mod tests;
