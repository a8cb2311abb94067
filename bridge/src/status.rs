//! What is said about a Subscription in its status. Pure: facts in, status out.
//!
//! Before: core/src/cursor.rs
//! Next: bridge/src/announce.rs

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tidings_config::field_error::FieldErrors;
use tidings_crds::conditions::{self, set};
use tidings_crds::subscription::status::{
    BlockedKey, Counts, Gap, Lag, LastError, Position, SubscriptionStatus,
};
use tidings_crds::validate::ValidSubscription;

use crate::clock;
use crate::deliver::BlockedEvent;
use crate::pipeline::{Report, SourceReport};
use crate::watch::WatchState;

/// A lag of less than this is the ordinary time a broker takes.
const PROMPT: u64 = 2;

/// What is known of a Subscription.
pub(crate) struct Facts<'a> {
    /// What was said last.
    pub(crate) before: &'a SubscriptionStatus,
    /// The present generation.
    pub(crate) generation: i64,
    /// What is being served.
    pub(crate) valid: Option<&'a ValidSubscription>,
    /// What is wrong with the present generation.
    pub(crate) mistakes: &'a FieldErrors,
    /// How what is being served is doing.
    pub(crate) report: Option<&'a Report>,
}

/// A condition, before it is dated.
struct Verdict {
    status: Option<bool>,
    reason: String,
    message: String,
}

/// The status of a Subscription.
pub(crate) fn of(facts: &Facts<'_>) -> SubscriptionStatus {
    let Facts { before, generation, valid, mistakes, report } = facts;
    let now = time(clock::unix_seconds());
    let mut status = SubscriptionStatus {
        conditions: before.conditions.clone(),
        observed_generation: Some(*generation),
        sink: valid.map(ValidSubscription::sink_name),
        ..SubscriptionStatus::default()
    };
    let verdicts = [
        (conditions::ACCEPTED, accepted(mistakes, *valid, *report)),
        (conditions::SINK_READY, sink_ready(*report, mistakes)),
        (conditions::DELIVERING, delivering(*report, mistakes)),
    ];
    for (condition, Verdict { status: verdict, reason, message }) in verdicts {
        set(&mut status.conditions, condition, verdict, &reason, &message, Some(*generation), &now);
    }
    let Some(Report { lane, watches }) = report else { return status };
    status.positions = watches.iter().filter_map(position).collect();
    status.counts = Some(Counts {
        received: count(lane.acked + lane.pending),
        sent: count(lane.sent),
        acked: count(lane.acked),
        retried: count(lane.retried),
        rejected: count(lane.rejected),
        dropped: count(lane.dropped),
        dead_lettered: count(lane.dead_lettered),
        skipped: count(watches.iter().map(|source| source.watch.skipped).sum()),
        filtered: count(watches.iter().map(|source| source.filtered.left_out).sum()),
        filter_failures: count(watches.iter().map(|source| source.filtered.failed).sum()),
    });
    let seconds = lane.oldest.map_or(0, |oldest| oldest.as_secs());
    status.lag = Some(Lag { changes: count(lane.pending), seconds: count(seconds) });
    status.blocked_keys = Some(count(lane.blocked_keys as u64));
    status.blocked = lane.blocked.iter().map(|event| blocked(before, event, &now)).collect();
    status.last_gap = watches.iter().filter_map(gap).max_by_key(|gap| gap.time.0);
    let filters = watches.iter().filter_map(|source| source.filtered.last_failure.as_ref());
    let error = lane.last_error.iter().chain(filters).max_by_key(|(at, _)| *at);
    status.last_error = error.map(|(at, message)| LastError { time: time(*at), message: message.clone() });
    status
}

/// The status as a merge patch: what is absent is removed, so that an old error does not stay.
pub(crate) fn patch(status: &SubscriptionStatus) -> Value {
    let mut patch = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = patch.as_object_mut() {
        for optional in ["observedGeneration", "sink", "counts", "lag", "blockedKeys", "lastGap", "lastError"]
        {
            fields.entry(optional).or_insert(Value::Null);
        }
    }
    patch
}

fn accepted(mistakes: &FieldErrors, valid: Option<&ValidSubscription>, report: Option<&Report>) -> Verdict {
    if !mistakes.is_empty() {
        let mut message = lines(mistakes);
        if let Some(valid) = valid {
            message += &format!("\ngeneration {} is served on", valid.route.generation);
        }
        return no(conditions::INVALID, message);
    }
    match source_in(report, WatchState::NotServed) {
        Some(source) => no(conditions::KIND_NOT_SERVED, trouble(source)),
        None => yes(conditions::VALID, ""),
    }
}

fn sink_ready(report: Option<&Report>, mistakes: &FieldErrors) -> Verdict {
    match report.map(|report| &report.lane.sink) {
        Some(Some(Ok(()))) => yes(conditions::CONNECTED, ""),
        Some(Some(Err(not_ready))) => no(&not_ready.reason, not_ready.message.clone()),
        Some(None) => unknown("the sink was not checked yet"),
        None if mistakes.is_empty() => unknown("the subscription was not taken in yet"),
        None => no(conditions::INVALID, "the subscription is not valid"),
    }
}

fn delivering(report: Option<&Report>, mistakes: &FieldErrors) -> Verdict {
    let Some(report) = report else {
        return if mistakes.is_empty() {
            unknown("the subscription was not taken in yet")
        } else {
            no(conditions::INVALID, "the subscription is not valid")
        };
    };
    let lane = &report.lane;
    for (state, reason) in
        [(WatchState::NotServed, conditions::KIND_NOT_SERVED), (WatchState::Forbidden, conditions::FORBIDDEN)]
    {
        if let Some(source) = source_in(Some(report), state) {
            return no(reason, trouble(source));
        }
    }
    if let Some(trouble) = report.watches.iter().find_map(|source| source.watch.store.as_ref()) {
        // Before the sink, of which another condition speaks.
        return no(conditions::STATE_NOT_STORED, not_stored(trouble));
    }
    if lane.suspended {
        return no(conditions::SUSPENDED, "spec.suspend is true: nothing is sent, and what happens is kept");
    }
    if let Some(Err(not_ready)) = &lane.sink {
        return no(conditions::SINK_NOT_READY, not_ready.message.clone());
    }
    if let Some(failing) = &lane.failing {
        return no(conditions::ATTEMPTS_FAIL, failing.clone());
    }
    if let Some(source) = report.watches.iter().find(|source| source.watch.trouble.is_some()) {
        return no(conditions::API_UNAVAILABLE, trouble(source));
    }
    if let Some(Err(not_ready)) = &lane.dead_letter_sink
        && lane.dead_letters > 0
    {
        let message = format!("{} dead letters wait: {}", lane.dead_letters, not_ready.message);
        return no(conditions::DEAD_LETTERS_WAIT, message);
    }
    if lane.blocked_keys > 0 {
        let message =
            format!("the broker refuses the events of {} objects; all others go out", lane.blocked_keys);
        return no(conditions::BLOCKED, message);
    }
    if report.watches.iter().any(|source| source.watch.state == WatchState::Starting) || lane.sink.is_none() {
        return unknown("starting");
    }
    if report.watches.iter().any(|source| source.joining || source.watch.state == WatchState::Snapshot) {
        return yes(conditions::SNAPSHOT_RUNNING, "the objects that exist are being told");
    }
    if lane.oldest.is_some_and(|oldest| oldest.as_secs() >= PROMPT) {
        // The numbers are in lag, where they may change without a word.
        return yes(conditions::CATCHING_UP, "there is a backlog; see status.lag");
    }
    yes(conditions::SYNCHRONIZED, "")
}

/// What a person should know, and do, while the state cannot be stored.
pub(crate) fn not_stored(trouble: &str) -> String {
    format!(
        "the state cannot be stored ({trouble}): free room on its volume; until then what was taken in is delivered, \
         what is new waits, and nothing is lost"
    )
}

fn position(source: &SourceReport) -> Option<Position> {
    let resource = source.watch.resource.as_ref()?.to_string();
    Some(Position { resource, resource_version: source.settled?.to_string() })
}

fn gap(source: &SourceReport) -> Option<Gap> {
    let (since, at) = source.watch.last_gap?;
    let resource = source.watch.resource.as_ref()?.to_string();
    let message = format!("the history after resourceVersion {since} was gone; the net difference was sent");
    Some(Gap { time: time(at), resource, message })
}

/// A key that was blocked before is blocked since then.
fn blocked(before: &SubscriptionStatus, blocked: &BlockedEvent, now: &Time) -> BlockedKey {
    let BlockedEvent { key, id, reason } = blocked;
    let known = before.blocked.iter().find(|known| known.key == key.as_str());
    let since = known.map_or_else(|| now.clone(), |known| known.since.clone());
    BlockedKey { key: key.to_string(), event: id.clone(), reason: reason.clone(), since }
}

fn source_in(report: Option<&Report>, state: WatchState) -> Option<&SourceReport> {
    report?.watches.iter().find(|source| source.watch.state == state)
}

fn trouble(source: &SourceReport) -> String {
    let trouble = source.watch.trouble.clone().unwrap_or_default();
    if trouble.contains(&source.kind.kind) { trouble } else { format!("{}: {trouble}", source.kind) }
}

/// A line for each mistake.
pub(crate) fn lines(mistakes: &FieldErrors) -> String {
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn yes(reason: &str, message: &str) -> Verdict {
    Verdict { status: Some(true), reason: reason.to_owned(), message: message.to_owned() }
}

fn no(reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { status: Some(false), reason: reason.to_owned(), message: message.into() }
}

fn unknown(message: &str) -> Verdict {
    Verdict { status: None, reason: conditions::PENDING.to_owned(), message: message.to_owned() }
}

/// A point in time as Kubernetes writes it.
pub(crate) fn time(unix_seconds: u64) -> Time {
    let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or_default())
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
