use std::time::Duration;

use tidings_config::field_error::FieldError;
use tidings_core::object::{ObjectKey, ResourceVersion};
use tidings_core::route::{Kind, Resource};
use tidings_sinks::sink::NotReady;

use super::*;
use crate::deliver::LaneReport;
use crate::watch::Filtered;
use crate::watch::WatchReport;

fn report(state: WatchState) -> Report {
    let kind = Kind::new("k8sasbackend.com/v1", "Todo");
    let resource = Resource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        kind: kind.kind.clone(),
        plural: "todos".into(),
        namespaced: true,
    };
    let watch = WatchReport { state, resource: Some(resource), ..WatchReport::default() };
    let source = SourceReport {
        kind,
        watch,
        settled: Some(ResourceVersion(42)),
        joining: false,
        filtered: Filtered::default(),
    };
    let lane = LaneReport { sink: Some(Ok(())), acked: 5, pending: 2, ..LaneReport::default() };
    Report { lane, watches: vec![source] }
}

fn status(report: Option<&Report>, mistakes: &FieldErrors) -> SubscriptionStatus {
    let before = SubscriptionStatus::default();
    of(&Facts { before: &before, generation: 3, valid: None, mistakes, report })
}

/// `status reason` of each condition, in the order Accepted, `SinkReady`, Delivering.
fn conditions_of(status: &SubscriptionStatus) -> Vec<String> {
    status.conditions.iter().map(|condition| format!("{} {}", condition.status, condition.reason)).collect()
}

fn conditions_with(change: impl FnOnce(&mut Report)) -> Vec<String> {
    let mut report = report(WatchState::Live);
    change(&mut report);
    conditions_of(&status(Some(&report), &FieldErrors::new()))
}

#[test]
fn a_subscription_that_is_well_says_so_with_numbers() {
    let status = status(Some(&report(WatchState::Live)), &FieldErrors::new());
    assert_eq!(conditions_of(&status), ["True Valid", "True Connected", "True Synchronized"]);
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.positions[0].resource, "todos.v1.k8sasbackend.com");
    assert_eq!(status.positions[0].resource_version, "42");
    assert_eq!(status.lag, Some(Lag { changes: 2, seconds: 0 }));
    assert_eq!(status.counts.as_ref().map(|counts| (counts.received, counts.acked)), Some((7, 5)));
}

#[test]
fn every_mistake_is_in_the_message() {
    let mistakes = vec![FieldError::new("spec.a", "is wrong"), FieldError::new("spec.b", "is worse")];
    let status = status(None, &mistakes);
    assert_eq!(conditions_of(&status), ["False Invalid", "False Invalid", "False Invalid"]);
    assert_eq!(status.conditions[0].message, "spec.a: is wrong\nspec.b: is worse");
}

#[test]
fn what_keeps_it_from_delivering_is_the_reason() {
    let not_served = conditions_with(|report| {
        report.watches[0].watch.state = WatchState::NotServed;
        report.watches[0].watch.trouble = Some("the kind Todo is not there".into());
    });
    assert_eq!(not_served, ["False KindNotServed", "True Connected", "False KindNotServed"]);
    let forbidden = conditions_with(|report| report.watches[0].watch.state = WatchState::Forbidden);
    assert_eq!(forbidden[2], "False Forbidden");
    let sink = conditions_with(|report| {
        report.lane.sink = Some(Err(NotReady::new("StreamNotFound", "no stream")));
    });
    assert_eq!(sink[1..], ["False StreamNotFound", "False SinkNotReady"]);
    let not_stored = conditions_with(|report| {
        report.watches[0].watch.store = Some("there is no room".into());
        report.lane.sink = Some(Err(NotReady::new("StreamNotFound", "no stream")));
    });
    assert_eq!(not_stored, ["True Valid", "False StreamNotFound", "False StateNotStored"]);
    let unavailable = conditions_with(|report| report.watches[0].watch.trouble = Some("no answer".into()));
    assert_eq!(unavailable[2], "False ApiUnavailable");
    let blocked = conditions_with(|report| report.lane.blocked_keys = 1);
    assert_eq!(blocked[2], "False Blocked");
    let joining = conditions_with(|report| report.watches[0].joining = true);
    assert_eq!(joining[2], "True SnapshotRunning");
    let behind = conditions_with(|report| report.lane.oldest = Some(Duration::from_mins(1)));
    assert_eq!(behind[2], "True CatchingUp");
    let starting = conditions_with(|report| report.watches[0].watch.state = WatchState::Starting);
    assert_eq!(starting[2], "Unknown Pending");
}

#[test]
fn while_the_state_cannot_be_stored_it_is_said_what_to_do_and_what_goes_on() {
    let mut report = report(WatchState::Live);
    report.watches[0].watch.store = Some("there is no room in /state".into());
    let status = status(Some(&report), &FieldErrors::new());
    assert_eq!(
        status.conditions[2].message,
        "the state cannot be stored (there is no room in /state): free room on its volume; until then what was taken in \
         is delivered, what is new waits, and nothing is lost"
    );
}

#[test]
fn a_blocked_key_keeps_the_time_it_was_blocked_at() {
    let mut report = report(WatchState::Live);
    report.lane.blocked = vec![BlockedEvent {
        key: ObjectKey::new(Some("shop"), "milk"),
        id: "u.1".into(),
        reason: "too large".into(),
    }];
    let facts = |before: &SubscriptionStatus| -> SubscriptionStatus {
        let mistakes = FieldErrors::new();
        of(&Facts { before, generation: 1, valid: None, mistakes: &mistakes, report: Some(&report) })
    };
    let mut first = facts(&SubscriptionStatus::default());
    first.blocked[0].since = time(1);
    assert_eq!(facts(&first).blocked[0].since, time(1));
}

#[test]
fn what_is_absent_is_removed_by_the_patch() {
    let patch = patch(&status(None, &FieldErrors::new()));
    assert_eq!((&patch["lastError"], &patch["lag"]), (&Value::Null, &Value::Null));
    assert!(patch.as_object().unwrap().contains_key("lastError"));
}
