use tidings_core::object::ResourceVersion;

use super::*;
use crate::deliver::LaneReport;
use crate::watch::WatchReport;

/// A Subscription on Todos, with `change` made to how their Watch is doing.
fn report(change: impl FnOnce(&mut WatchReport)) -> Report {
    let mut watch = WatchReport::default();
    change(&mut watch);
    let kind = Kind::new("k8sasbackend.com/v1", "Todo");
    let source = SourceReport {
        kind,
        watch,
        settled: None,
        joining: false,
        filtered: crate::watch::Filtered::default(),
    };
    Report { lane: LaneReport::default(), watches: vec![source] }
}

fn gap(gaps: u64, at: u64) -> Report {
    report(|watch| (watch.gaps, watch.last_gap) = (gaps, Some((ResourceVersion(42), at))))
}

fn storing(trouble: Option<&str>) -> Report {
    report(|watch| watch.store = trouble.map(ToOwned::to_owned))
}

/// What is to be sent after `report`, and is sent.
fn said(announced: &mut Announced, report: &Report) -> Vec<&'static str> {
    announced.note(report);
    std::mem::take(&mut announced.waiting).into_keys().collect()
}

#[test]
fn each_gap_is_said_once_with_where_it_began() {
    let mut announced = Announced::new(100);
    announced.note(&gap(1, 100));
    let notice = announced.waiting[HISTORY_LOST].clone();
    assert_eq!(notice.reason, HISTORY_LOST);
    assert!(notice.note.contains("after resourceVersion 42 was gone"), "{}", notice.note);
    assert_eq!(said(&mut announced, &gap(1, 100)), [HISTORY_LOST]);
    assert!(said(&mut announced, &gap(1, 100)).is_empty());
    assert_eq!(said(&mut announced, &gap(3, 101)), [HISTORY_LOST]);
}

#[test]
fn a_gap_before_the_subscription_was_made_is_not_said() {
    let mut announced = Announced::new(100);
    assert!(said(&mut announced, &gap(1, 99)).is_empty());
    assert_eq!(said(&mut announced, &gap(2, 100)), [HISTORY_LOST]);
}

#[test]
fn trouble_of_the_store_is_said_when_it_begins_and_when_it_ends() {
    let mut announced = Announced::default();
    assert!(said(&mut announced, &storing(None)).is_empty());
    assert_eq!(said(&mut announced, &storing(Some("no room"))), [STATE_NOT_STORED]);
    assert!(said(&mut announced, &storing(Some("other words"))).is_empty());
    assert_eq!(said(&mut announced, &storing(None)), [STATE_STORED]);
    assert!(said(&mut announced, &storing(None)).is_empty());
}

#[test]
fn what_was_not_sent_waits() {
    let mut announced = Announced::default();
    announced.note(&storing(Some("no room")));
    announced.note(&gap(1, 1));
    assert!(announced.waiting.keys().eq([&HISTORY_LOST, &STATE_NOT_STORED, &STATE_STORED]));
}

#[test]
fn a_note_is_cut_to_what_the_api_server_takes() {
    let event = Notice { reason: STATE_NOT_STORED, note: "ü".repeat(MAX_NOTE) }.event();
    assert_eq!((event.note.unwrap().len(), event.type_), (MAX_NOTE, EventType::Warning));
}
