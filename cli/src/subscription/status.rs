//! `tidings subscription status`: everything that the status says, as a page that a person can act on.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tidings_crds::conditions::DELIVERING;
use tidings_crds::subscription::Subscription;
use tidings_crds::subscription::status::{
    BlockedKey, Counts, Gap, Lag, LastError, Position, SubscriptionStatus,
};

use crate::args::{StatusArgs, TextOrJson};
use crate::cluster::Cluster;
use crate::output::{self, Style, grouped};

pub(super) async fn run(args: StatusArgs) -> Result<()> {
    let StatusArgs { name, namespace, output, cluster } = args;
    let cluster = Cluster::connect(&cluster).await?;
    cluster.check().await?;
    let namespace = namespace.unwrap_or_else(|| cluster.namespace.clone());
    let api: Api<Subscription> = Api::namespaced(cluster.client, &namespace);
    let found = api.get_opt(&name).await.context("failed to read the Subscription")?;
    let subscription = found.with_context(|| format!("there is no Subscription {namespace}/{name}"))?;
    let text = match output {
        TextOrJson::Text => page(&subscription, Timestamp::now(), Style::of_stdout()),
        TextOrJson::Json => serde_json::to_string_pretty(&document(&subscription))? + "\n",
    };
    output::print(text.as_bytes())?;
    if delivers(&subscription) { Ok(()) } else { Err(output::Told.into()) }
}

/// For programs: which one, whether it delivers, and its status as it is.
fn document(subscription: &Subscription) -> serde_json::Value {
    json!({
        "namespace": subscription.namespace(),
        "name": subscription.name_any(),
        "generation": subscription.metadata.generation,
        "delivers": delivers(subscription),
        "status": subscription.status,
    })
}

fn delivers(subscription: &Subscription) -> bool {
    let conditions = subscription.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == DELIVERING && condition.status == "True")
}

/// For people.
fn page(subscription: &Subscription, now: Timestamp, style: Style) -> String {
    let Style { bold, plain, .. } = style;
    let name = format!("{}/{}", subscription.namespace().unwrap_or_default(), subscription.name_any());
    let mut text = format!("{bold}Subscription {name}{plain}\n");
    let Some(status) = &subscription.status else {
        return text + "  nobody has looked at it yet: is a bridge running in this cluster?\n";
    };
    let SubscriptionStatus {
        conditions,
        observed_generation,
        sink,
        positions,
        counts,
        lag,
        blocked,
        blocked_keys,
        last_gap,
        last_error,
    } = status;
    // Writing to a String cannot fail.
    if let (Some(generation), Some(observed)) = (subscription.metadata.generation, observed_generation)
        && observed < &generation
    {
        let _ = writeln!(
            text,
            "  this is about generation {observed}; the bridge has not looked at {generation} yet"
        );
    }
    for condition in conditions {
        text += &line(&condition.type_, &said(condition, now, style));
    }
    if let Some(sink) = sink {
        text += &line("Sink", sink);
    }
    if let Some(Lag { changes, seconds }) = lag {
        text += &match changes {
            0 => line("Lag", "none: everything is settled"),
            _ => line("Lag", &format!("{} changes, the oldest {} old", number(*changes), length(*seconds))),
        };
    }
    if let Some(counts) = counts {
        text += &line("Counts", &format!("{}, since the bridge started", told(counts)));
    }
    for Position { resource, resource_version } in positions {
        text += &line("Position", &format!("{resource} settled up to {resource_version}"));
    }
    if !blocked.is_empty() {
        text += &way_out(blocked, *blocked_keys, subscription, now, style);
    }
    if let Some(Gap { time, resource, message }) = last_gap {
        let _ = writeln!(text, "\n{bold}Last gap{plain}, {} ago\n  {resource}: {message}", age(time, now));
    }
    if let Some(LastError { time, message }) = last_error {
        let _ = writeln!(text, "\n{bold}Last error{plain}, {} ago\n  {message}", age(time, now));
    }
    text
}

/// What is blocked, and what can be done about it.
fn way_out(
    blocked: &[BlockedKey],
    count: Option<i64>,
    subscription: &Subscription,
    now: Timestamp,
    style: Style,
) -> String {
    let Style { bold, plain, .. } = style;
    let all = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(blocked.len()).max(blocked.len());
    let mut text = format!("\n{bold}Blocked{plain}, {}\n", objects(all));
    for BlockedKey { key, event, reason, since } in blocked {
        let event = if event.is_empty() { String::new() } else { format!(" (event {event})") };
        let _ = writeln!(text, "  {key}: {reason}{event}, for {}", age(since, now));
    }
    if all > blocked.len() {
        let _ = writeln!(text, "  and {} more", all - blocked.len());
    }
    let (namespace, name) = (subscription.namespace().unwrap_or_default(), subscription.name_any());
    let key = blocked.first().map_or("KEY", |blocked| &blocked.key);
    let _ = write!(
        text,
        "  when the cause is gone:   tidings subscription retry {name} -n {namespace}\n  \
         to leave an event out:    tidings subscription skip {name} -n {namespace} --key {key}\n"
    );
    text
}

/// `yes: Synchronized`, `no: Blocked: the broker …, for 3m`.
fn said(condition: &Condition, now: Timestamp, style: Style) -> String {
    let Style { red, yellow, plain, .. } = style;
    let Condition { status, reason, message, last_transition_time, .. } = condition;
    let (colour, word) = match &**status {
        "True" => ("", "yes"),
        "False" => (red, "no"),
        _ => (yellow, "not known"),
    };
    // Every mistake is a line of its own.
    let message = if message.contains('\n') {
        let lines: Vec<_> = message.lines().map(|line| format!("\n                {line}")).collect();
        lines.concat()
    } else if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    let plain = if colour.is_empty() { "" } else { plain };
    format!("{colour}{word}{plain}, for {}: {reason}{message}", age(last_transition_time, now))
}

fn told(counts: &Counts) -> String {
    let Counts {
        received,
        sent,
        acked,
        retried,
        rejected,
        dropped,
        dead_lettered,
        skipped,
        filtered,
        filter_failures,
    } = counts;
    let always = [("received", received), ("sent", sent), ("acked", acked)];
    let sometimes = [
        ("retried", retried),
        ("rejected", rejected),
        ("dropped", dropped),
        ("dead-lettered", dead_lettered),
        ("skipped", skipped),
        ("left out by filters", filtered),
        ("of which filters could not say", filter_failures),
    ];
    let told = always.into_iter().chain(sometimes.into_iter().filter(|(_, count)| **count != 0));
    told.map(|(what, count)| format!("{} {what}", number(*count))).collect::<Vec<_>>().join(", ")
}

fn line(what: &str, value: &str) -> String {
    format!("  {what:<12}  {value}\n")
}

fn objects(count: usize) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{} objects", grouped(count as u64)) }
}

fn number(number: i64) -> String {
    grouped(u64::try_from(number).unwrap_or_default())
}

fn age(time: &Time, now: Timestamp) -> String {
    length(now.as_second() - time.0.as_second())
}

/// In the largest unit that it has, as kubectl shows ages.
fn length(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (unit, name) = [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| seconds >= 2 * unit)
        .unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
