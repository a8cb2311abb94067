use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds_ago: i64) -> String {
    Timestamp::from_second(NOW - seconds_ago).unwrap().to_string()
}

fn subscription(status: Value) -> Subscription {
    serde_json::from_value(json!({
        "apiVersion": "tidings.dev/v1alpha1", "kind": "Subscription",
        "metadata": {"name": "orders", "namespace": "shop", "generation": 4},
        "spec": {"sources": [], "sink": {}}, "status": status,
    }))
    .unwrap()
}

fn shown(status: Value) -> String {
    page(&subscription(status), Timestamp::from_second(NOW).unwrap(), Style::NONE)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": at(200), "observedGeneration": 4,
    })
}

#[test]
fn one_that_is_well_is_told_in_a_few_lines() {
    let text = shown(json!({
        "conditions": [
            condition("Accepted", "True", "Valid", ""), condition("SinkReady", "True", "Connected", ""),
            condition("Delivering", "True", "Synchronized", ""),
        ],
        "observedGeneration": 4, "sink": "Sink kafka", "lag": {"changes": 0, "seconds": 0},
        "counts": {"received": 1204, "sent": 1204, "acked": 1204},
        "positions": [{"resource": "todos.v1.k8sasbackend.com", "resourceVersion": "4711"}],
    }));
    assert_eq!(
        text,
        "\
Subscription shop/orders
  Accepted      yes, for 3m: Valid
  SinkReady     yes, for 3m: Connected
  Delivering    yes, for 3m: Synchronized
  Sink          Sink kafka
  Lag           none: everything is settled
  Counts        1,204 received, 1,204 sent, 1,204 acked, since the bridge started
  Position      todos.v1.k8sasbackend.com settled up to 4711
"
    );
}

#[test]
fn what_is_wrong_is_told_with_the_way_out() {
    let text = shown(json!({
        "conditions": [condition("Delivering", "False", "Blocked", "the broker refuses the events of 12 objects")],
        "observedGeneration": 3,
        "lag": {"changes": 40, "seconds": 7300},
        "counts": {"received": 60, "sent": 70, "acked": 20, "retried": 8, "rejected": 12},
        "blocked": [{"key": "shop/milk", "event": "u.7", "reason": "too large", "since": at(300_000)}],
        "blockedKeys": 12,
        "lastGap": {"time": at(90), "resource": "todos.v1.a.dev", "message": "the history was gone"},
        "lastError": {"time": at(5), "message": "the broker said no"},
    }));
    assert_eq!(
        text,
        "\
Subscription shop/orders
  this is about generation 3; the bridge has not looked at 4 yet
  Delivering    no, for 3m: Blocked: the broker refuses the events of 12 objects
  Lag           40 changes, the oldest 2h old
  Counts        60 received, 70 sent, 20 acked, 8 retried, 12 rejected, since the bridge started

Blocked, 12 objects
  shop/milk: too large (event u.7), for 3d
  and 11 more
  when the cause is gone:   tidings subscription retry orders -n shop
  to leave an event out:    tidings subscription skip orders -n shop --key shop/milk

Last gap, 90s ago
  todos.v1.a.dev: the history was gone

Last error, 5s ago
  the broker said no
"
    );
}

#[test]
fn every_mistake_is_a_line_of_its_own() {
    let text = shown(json!({
        "conditions": [condition("Accepted", "False", "Invalid", "spec.on: a\nspec.sink: b")], "observedGeneration": 4,
    }));
    let expected =
        "  Accepted      no, for 3m: Invalid\n                spec.on: a\n                spec.sink: b\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn that_no_bridge_was_there_is_said() {
    assert!(shown(Value::Null).contains("is a bridge running in this cluster?"));
    assert!(!delivers(&subscription(Value::Null)));
}
