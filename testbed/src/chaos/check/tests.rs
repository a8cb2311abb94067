use serde_json::json;

use super::*;

const KEY: &str = "shop/milk";

fn confirmed(uid: &str, what: What) -> Confirmed {
    Confirmed { key: KEY.to_owned(), uid: uid.to_owned(), what }
}

fn object(uid: &str, version: u64) -> Value {
    json!({"metadata": {"name": "milk", "namespace": "shop", "uid": uid, "resourceVersion": version.to_string()}})
}

fn event(change: &str, uid: &str, version: u64, more: &[(&str, &str)]) -> Received {
    let id = if change == "deleted" { format!("{uid}.deleted") } else { format!("{uid}.{version}") };
    let mut attributes = BTreeMap::from([
        ("subject".to_owned(), KEY.to_owned()),
        ("type".to_owned(), format!("com.k8sasbackend.todo.{change}")),
        ("sequence".to_owned(), format!("{:012}.{version:020}", 0)),
        ("k8suid".to_owned(), uid.to_owned()),
        ("reason".to_owned(), "watch".to_owned()),
        ("id".to_owned(), id),
    ]);
    attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Received { subject: String::new(), attributes, data: object(uid, version), stored: 0 }
}

fn found(confirmed: &[Confirmed], events: &[Received], held: Option<Value>, suffered: Suffered) -> Findings {
    let held = held.into_iter().map(|object| (KEY.to_owned(), object)).collect();
    Checker::default().check(&Round { confirmed, events, held: &held, suffered })
}

/// What a clean round finds: two versions written and told.
fn two() -> (Vec<Confirmed>, Vec<Received>) {
    let confirmed = vec![confirmed("a", What::Version(5)), confirmed("a", What::Version(7))];
    (confirmed, vec![event("added", "a", 5, &[]), event("updated", "a", 7, &[])])
}

fn gap() -> Suffered {
    Suffered { lost_history: true, ..Suffered::default() }
}

#[test]
fn everything_told_once_in_order_is_well() {
    let (confirmed, events) = two();
    let findings = found(&confirmed, &events, Some(object("a", 7)), Suffered::default());
    assert_eq!((findings.lost, findings.wrong), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn a_version_that_was_not_told_is_lost_unless_the_next_event_says_so() {
    let (confirmed, mut events) = two();
    let mut all = confirmed.clone();
    all.insert(1, self::confirmed("a", What::Version(6)));
    let findings = found(&all, &events, Some(object("a", 7)), Suffered::default());
    assert!(findings.lost[0].contains("version 6 of a"), "{findings:?}");
    events[1].attributes.insert("gap".to_owned(), "true".to_owned());
    let findings = found(&all, &events, Some(object("a", 7)), gap());
    assert_eq!((findings.in_gaps, findings.lost, findings.wrong), (1, Vec::new(), Vec::new()));
}

#[test]
fn a_gap_without_lost_history_is_wrong() {
    let (confirmed, mut events) = two();
    events[1].attributes.insert("gap".to_owned(), "true".to_owned());
    let findings = found(&confirmed, &events, Some(object("a", 7)), Suffered::default());
    assert!(findings.wrong[0].contains("no history was lost"), "{findings:?}");
}

#[test]
fn a_deletion_that_was_not_told_is_lost_and_leaves_a_ghost() {
    let (mut confirmed, events) = two();
    confirmed.push(self::confirmed("a", What::Ended));
    let findings = found(&confirmed, &events, None, gap());
    assert!(findings.lost[0].contains("the end of a"), "{findings:?}");
    assert!(findings.wrong[0].contains("the consumer has"), "{findings:?}");
    let forgot = Suffered { forgot: true, ..Suffered::default() };
    let findings = found(&confirmed, &events, None, forgot);
    assert_eq!((findings.lost, findings.wrong), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn a_life_nobody_was_told_of_must_lie_inside_a_gap() {
    let mut all = vec![confirmed("a", What::Version(5)), confirmed("a", What::Ended)];
    all.push(Confirmed { key: "shop/bread".to_owned(), uid: "b".to_owned(), what: What::Version(6) });
    let findings = found(&all[..2], &[], None, gap());
    assert_eq!((findings.in_gaps, findings.lost), (1, Vec::new()));
    // Something between its first and last version was read live.
    all.insert(1, confirmed("a", What::Version(7)));
    let mut live = event("added", "b", 6, &[("subject", "shop/bread")]);
    live.data["metadata"]["name"] = "bread".into();
    let findings = found(&all, &[live], None, gap());
    assert_eq!(findings.lost.len(), 2, "{findings:?}");
}

#[test]
fn what_is_told_first_after_something_newer_is_out_of_order() {
    let (confirmed, mut events) = two();
    events.reverse();
    let findings = found(&confirmed, &events, Some(object("a", 7)), Suffered::default());
    assert!(findings.wrong[0].contains("was told after"), "{findings:?}");
}

#[test]
fn a_repeat_is_counted_and_must_be_the_same() {
    let (confirmed, mut events) = two();
    events.push(events[0].clone());
    let findings = found(&confirmed, &events, Some(object("a", 7)), Suffered::default());
    assert_eq!((findings.repeated, findings.wrong), (1, Vec::<String>::new()));
    events[2].attributes.insert("type".to_owned(), "com.k8sasbackend.todo.updated".to_owned());
    let findings = found(&confirmed, &events, Some(object("a", 7)), Suffered::default());
    assert!(findings.wrong[0].contains("id a.5 is"), "{findings:?}");
}

#[test]
fn what_was_never_written_is_invented() {
    let (confirmed, mut events) = two();
    events.insert(1, event("updated", "a", 6, &[]));
    let findings = found(&confirmed, &events, Some(object("a", 7)), Suffered::default());
    assert!(findings.wrong[0].contains("which was not written"), "{findings:?}");
    let (confirmed, mut events) = two();
    events.push(event("deleted", "a", 9, &[]));
    let findings = found(&confirmed, &events, None, Suffered::default());
    assert!(findings.wrong[0].contains("and it lives"), "{findings:?}");
}

#[test]
fn the_end_of_what_was_not_told_is_told_only_of_what_was_in_doubt() {
    let ended = [confirmed("a", What::Version(5)), confirmed("a", What::Ended)];
    let mut end = event("deleted", "a", 9, &[("gap", "true")]);
    let sequence = format!("{:012}.{:020}.d", 0, 9);
    end.attributes.insert("sequence".to_owned(), sequence);
    let killed = Suffered { killed: true, ..gap() };
    let told = |suffered| found(&ended, std::slice::from_ref(&end), None, suffered).wrong;
    assert_eq!(told(killed), Vec::<String>::new());
    assert!(told(gap())[0].contains("nobody knew it"));
}

#[test]
fn who_selected_less_for_a_time_is_told_what_left_and_what_came_back() {
    let edited = Suffered { edited: true, ..Suffered::default() };
    let by_selection = [("reason", "selection")];
    let (mut all, mut events) = two();
    // Two more versions while it was not selected, of which nobody was told.
    all.extend([8, 9].map(|version| confirmed("a", What::Version(version))));
    events.push(event("left", "a", 7, &[("id", "a.7.s2.left"), by_selection[0]]));
    let silent = found(&all, &events, None, Suffered::default());
    assert_eq!(silent.lost.len(), 2, "{silent:?}");
    events.push(event("added", "a", 9, &[("id", "a.9.s3"), by_selection[0]]));
    let findings = found(&all, &events, Some(object("a", 9)), edited);
    assert_eq!((findings.in_gaps, findings.lost, findings.wrong), (1, Vec::new(), Vec::new()));

    // It died meanwhile: that it left is the last that was told.
    all.push(confirmed("a", What::Ended));
    events.pop();
    let findings = found(&all, &events, None, edited);
    assert_eq!((findings.lost, findings.wrong), (Vec::new(), Vec::<String>::new()));
    events.pop();
    let findings = found(&all, &events, None, edited);
    assert!(findings.lost[0].contains("the end of a"), "{findings:?}");
}
