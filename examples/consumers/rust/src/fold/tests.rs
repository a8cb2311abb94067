use cloudevents::{EventBuilder, EventBuilderV10};
use serde_json::json;

use super::*;

/// An Event of the object `demo/milk`.
fn event(id: &str, kind: &str, sequence: &str) -> Event {
    EventBuilderV10::new()
        .id(id)
        .source("/clusters/blue/apis/k8sasbackend.com/todos")
        .ty(format!("com.k8sasbackend.todo.{kind}"))
        .subject("demo/milk")
        .extension("sequence", sequence)
        .extension("subscription", "demo/todos")
        .data("application/json", json!({ "id": id }))
        .build()
        .unwrap()
}

/// The id of the Event whose data is held of `demo/milk`, after these were taken one by one.
fn held(events: &[Event]) -> Option<String> {
    let mut fold = Fold::open(Path::new(":memory:")).unwrap();
    for event in events {
        fold.take(std::slice::from_ref(event)).unwrap();
    }
    Some(fold.objects().unwrap().get("demo/milk")?["id"].as_str().unwrap().to_owned())
}

#[test]
fn what_exists_is_held_and_what_is_gone_is_not() {
    let [one, two] = [event("u.1", "snapshot", "0.1"), event("u.2", "updated", "0.2")];
    let [gone, left] = [event("u.deleted", "deleted", "0.3"), event("u.2.s2.left", "left", "0.2")];
    assert_eq!(held(std::slice::from_ref(&one)).as_deref(), Some("u.1"));
    assert_eq!(held(&[one.clone(), two.clone()]).as_deref(), Some("u.2"));
    assert_eq!(held(&[one.clone(), two.clone(), left]), None);
    assert_eq!(held(&[one, two, gone]), None);
}

#[test]
fn what_is_older_changes_nothing_also_after_a_delete() {
    let [one, two] = [event("u.1", "added", "0.1"), event("u.2", "updated", "0.2")];
    assert_eq!(held(&[two.clone(), one.clone()]).as_deref(), Some("u.2"));
    assert_eq!(held(&[event("u.deleted", "deleted", "0.3"), two, one]), None);
}

#[test]
fn of_equal_sequences_the_later_counts_and_a_repeat_does_not() {
    let [added, left] = [event("u.1.s2", "added", "0.1"), event("u.1.s3.left", "left", "0.1")];
    assert_eq!(held(&[added.clone(), left.clone()]), None);
    assert_eq!(held(&[left.clone(), added.clone()]).as_deref(), Some("u.1.s2"));
    assert_eq!(held(&[added.clone(), left, added]), None, "the repeat came late");
}

#[test]
fn what_is_not_understood_is_refused() {
    let error = Says::of(&event("u.1", "renamed", "0.1")).unwrap_err().to_string();
    assert!(error.contains("does not end in a change"), "{error}");
    let mut event = event("u.1", "added", "0.1");
    event.remove_extension("sequence");
    assert_eq!(Says::of(&event).unwrap_err().to_string(), "there is no attribute sequence");
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let mut fold = Fold::open(Path::new(":memory:")).unwrap();
    let [good, bad] = [event("u.1", "added", "0.1"), event("u.2", "renamed", "0.2")];
    fold.take(&[good.clone(), bad]).unwrap_err();
    assert!(fold.objects().unwrap().is_empty());
    assert_eq!(fold.take(&[good.clone(), good]).unwrap(), [true, false]);
}
