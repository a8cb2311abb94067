//! Design, section 2: each row of the table, and the traps of interrupted snapshots.

mod doubts;
mod joining;
mod recovering;

use bytes::Bytes;

use super::*;
use crate::change::{ChangeKind, Content, Reason};
use crate::object::Uid;

const NOW: u64 = 1_790_000_000;
const A: Slot = Slot(0);
const B: Slot = Slot(1);

fn meta(name: &str, uid: &str, version: u64) -> Meta {
    Meta {
        generation: Some(version / 10),
        ..Meta::new(ObjectKey::new(Some("shop"), name), Uid::new(uid), ResourceVersion(version))
    }
}

pub(super) fn object(name: &str, uid: &str, version: u64) -> Arc<Object> {
    Arc::new(Object { meta: meta(name, uid, version), body: Bytes::from_static(b"{}") })
}

fn present(name: &str, uid: &str, version: u64) -> Input {
    Input::Present(object(name, uid, version))
}

fn deleted(name: &str, uid: &str, version: u64) -> Input {
    Input::Deleted(object(name, uid, version))
}

fn join(slot: Slot) -> Input {
    Input::Join { slot, selection: Selection::all(), on: ChangeKinds::ALL }
}

fn complete(version: u64) -> Input {
    Input::SnapshotComplete(ResourceVersion(version))
}

/// What one Subscription is told, as `kind key uid version` with `gap` where that is marked.
fn told(effects: &[Effect], slot: Slot) -> Vec<String> {
    let mut lines = Vec::new();
    for effect in effects {
        if let Effect::Emit { change, to } = effect
            && to.contains(&slot)
        {
            let gap = if change.gap { " gap" } else { "" };
            let (key, uid, version) = (change.key().name(), change.uid(), change.resource_version());
            lines.push(format!("{} {key} {uid} {version}{gap}", change.kind));
        }
    }
    lines
}

fn run(watch: &mut Watch, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
    inputs.into_iter().flat_map(|input| watch.step(input, NOW)).collect()
}

/// Slot A follows; objects a/ua@10 and b/ub@11 exist; the position is 20.
fn following() -> Watch {
    let mut watch = Watch::default();
    let effects = run(
        &mut watch,
        [join(A), Input::SnapshotStarted, present("a", "ua", 10), present("b", "ub", 11), complete(20)],
    );
    assert_eq!(told(&effects, A), ["snapshot a ua 10", "snapshot b ub 11"]);
    assert!(effects.contains(&Effect::Joined(A)));
    watch
}

/// Asked after everything that came so far.
fn probed(version: u64) -> Input {
    Input::Probed { version: ResourceVersion(version), since: ResourceVersion(u64::MAX) }
}

#[test]
fn unknown_key_is_added() {
    let mut watch = following();
    assert_eq!(told(&run(&mut watch, [present("c", "uc", 21)]), A), ["added c uc 21"]);
    assert_eq!(watch.position(), Some(ResourceVersion(21)));
}

#[test]
fn same_uid_higher_version_is_updated() {
    let mut watch = following();
    assert_eq!(told(&run(&mut watch, [present("a", "ua", 21)]), A), ["updated a ua 21"]);
}

#[test]
fn same_uid_equal_version_is_a_repeat() {
    let mut watch = following();
    assert_eq!(run(&mut watch, [present("a", "ua", 10)]), []);
}

#[test]
fn same_uid_lower_version_proves_a_rewind_and_begins_an_epoch() {
    let mut watch = following();
    assert_eq!(run(&mut watch, [present("a", "ua", 9)]), [Effect::Rewound(Epoch(NOW)), Effect::Close]);
    assert_eq!(watch.plan(), Plan::Snapshot);
    let effects = run(
        &mut watch,
        [Input::SnapshotStarted, present("a", "ua", 9), present("b", "ub", 11), complete(12)],
    );
    // An equal version proves nothing in another history, so b is told again.
    assert_eq!(told(&effects, A), ["updated a ua 9 gap", "updated b ub 11 gap"]);
    let epochs = effects.iter().filter_map(|effect| match effect {
        Effect::Emit { change, .. } => Some(change.epoch),
        _ => None,
    });
    assert!(epochs.eq([Epoch(NOW), Epoch(NOW)]));
    assert_eq!(watch.plan(), Plan::Resume(ResourceVersion(12)));
}

#[test]
fn a_probe_below_the_position_is_a_rewind() {
    let mut watch = following();
    run(&mut watch, [Input::Ended { empty: false }]);
    assert_eq!(run(&mut watch, [probed(20)]), []);
    assert_eq!(watch.plan(), Plan::Resume(ResourceVersion(20)));
    let effects = run(&mut watch, [probed(19)]);
    assert_eq!(effects, [Effect::Rewound(Epoch(NOW)), Effect::Close]);
    assert_eq!(watch.plan(), Plan::Snapshot);
}

#[test]
fn an_old_version_in_a_snapshot_that_known_does_not_have_is_a_rewind() {
    for stranger in [present("a", "ua", 15), present("c", "uc", 15), present("a", "other", 15)] {
        let mut watch = following();
        run(&mut watch, [Input::Expired, Input::SnapshotStarted]);
        assert_eq!(run(&mut watch, [stranger]), [Effect::Rewound(Epoch(NOW)), Effect::Close]);
    }
}

#[test]
fn a_second_rewind_in_the_same_second_is_another_epoch() {
    let mut watch = following();
    run(&mut watch, [present("a", "ua", 9), Input::SnapshotStarted, present("a", "ua", 9), complete(12)]);
    let effects = run(&mut watch, [probed(11)]);
    assert_eq!(effects[0], Effect::Rewound(Epoch(NOW + 1)));
}

#[test]
fn another_uid_with_a_higher_version_ends_the_old_life_first() {
    let mut watch = following();
    let effects = run(&mut watch, [present("a", "ua2", 21)]);
    assert_eq!(told(&effects, A), ["deleted a ua 10 gap", "added a ua2 21 gap"]);
}

#[test]
fn another_uid_not_higher_is_nothing() {
    let mut watch = following();
    assert_eq!(run(&mut watch, [present("a", "ua2", 10), present("a", "ua2", 9)]), []);
}

#[test]
fn a_watched_delete_carries_the_last_content_and_its_own_version() {
    let mut watch = following();
    let effects = run(&mut watch, [deleted("a", "ua", 21)]);
    assert_eq!(told(&effects, A), ["deleted a ua 21"]);
    let Effect::Emit { change, .. } = &effects[0] else { panic!("{effects:?}") };
    assert!(matches!(change.content, Content::Object(_)));
    assert_eq!(watch.known().len(), 1);
}

#[test]
fn a_delete_of_an_unknown_key_is_nothing() {
    let mut watch = following();
    assert_eq!(run(&mut watch, [deleted("c", "uc", 21)]), []);
    assert_eq!(watch.position(), Some(ResourceVersion(21)));
}

#[test]
fn a_delete_of_another_uid_ends_the_known_life() {
    let mut watch = following();
    assert_eq!(told(&run(&mut watch, [deleted("a", "ua2", 22)]), A), ["deleted a ua 10 gap"]);
    assert!(watch.known().get(&ObjectKey::new(Some("shop"), "a")).is_none());
}

#[test]
fn a_complete_snapshot_concludes_deletes() {
    let mut watch = following();
    let effects = run(&mut watch, [Input::Expired]);
    assert_eq!(effects, [Effect::Gap { since: ResourceVersion(20) }]);
    assert_eq!((watch.plan(), watch.position()), (Plan::Snapshot, None));
    let effects = run(&mut watch, [Input::SnapshotStarted, present("b", "ub", 31), complete(40)]);
    assert_eq!(told(&effects, A), ["updated b ub 31 gap", "deleted a ua 10 gap"]);
    assert_eq!(watch.position(), Some(ResourceVersion(40)));
}

#[test]
fn interrupted_snapshot_deletes_nothing() {
    let mut watch = following();
    let effects = run(
        &mut watch,
        [Input::Expired, Input::SnapshotStarted, present("b", "ub", 11), Input::Ended { empty: false }],
    );
    assert_eq!(told(&effects, A), [""; 0]);
    assert_eq!(watch.plan(), Plan::Snapshot);
    // The next attempt sees only a: b, seen by the attempt before, is gone all the same.
    let effects = run(&mut watch, [Input::SnapshotStarted, present("a", "ua", 10), complete(40)]);
    assert_eq!(told(&effects, A), ["deleted b ub 11 gap"]);
}

#[test]
fn what_an_interrupted_snapshot_told_is_not_told_again() {
    let mut watch = Watch::default();
    let first = [join(A), Input::SnapshotStarted, present("a", "ua", 10), Input::Ended { empty: false }];
    assert_eq!(told(&run(&mut watch, first), A), ["snapshot a ua 10"]);
    let second = [Input::SnapshotStarted, present("a", "ua", 10), present("b", "ub", 11), complete(20)];
    assert_eq!(told(&run(&mut watch, second), A), ["snapshot b ub 11"]);
}

#[test]
fn two_snapshots_in_a_row_tell_only_what_differs() {
    let mut watch = following();
    for version in [21, 22] {
        let snapshot =
            [Input::Expired, Input::SnapshotStarted, present("a", "ua", 10), present("b", "ub", 11)];
        assert_eq!(told(&run(&mut watch, snapshot), A), [""; 0]);
        assert_eq!(told(&run(&mut watch, [complete(version)]), A), [""; 0]);
    }
}

#[test]
fn an_undecodable_object_with_a_name_counts_as_seen() {
    let mut watch = following();
    let undecodable = Input::Undecodable { meta: Some(meta("a", "ua", 21)), deleted: false };
    run(&mut watch, [Input::Expired, Input::SnapshotStarted, present("b", "ub", 11)]);
    let effects = run(&mut watch, [undecodable, complete(40)]);
    let skipped = Effect::Skipped { key: Some(ObjectKey::new(Some("shop"), "a")) };
    assert_eq!(effects, [skipped, Effect::Joined(A)]);
    // The version that could not be told is marked as a gap before the next one.
    assert_eq!(told(&run(&mut watch, [present("a", "ua", 50)]), A), ["updated a ua 50 gap"]);
    assert_eq!(told(&run(&mut watch, [present("a", "ua", 51)]), A), ["updated a ua 51"]);
}

#[test]
fn an_undecodable_object_without_a_name_lets_the_snapshot_conclude_nothing() {
    let mut watch = following();
    run(&mut watch, [Input::Expired, Input::SnapshotStarted, present("b", "ub", 11)]);
    let effects = run(&mut watch, [Input::Undecodable { meta: None, deleted: false }, complete(40)]);
    assert_eq!(told(&effects, A), [""; 0]);
    let effects =
        run(&mut watch, [Input::Expired, Input::SnapshotStarted, present("b", "ub", 11), complete(50)]);
    assert_eq!(told(&effects, A), ["deleted a ua 10 gap"]);
}

#[test]
fn a_line_that_names_nobody_loses_history() {
    let mut watch = following();
    let effects = run(&mut watch, [Input::Undecodable { meta: None, deleted: false }]);
    let gap = Effect::Gap { since: ResourceVersion(20) };
    assert_eq!(effects, [Effect::Skipped { key: None }, gap, Effect::Close]);
    assert_eq!(watch.plan(), Plan::Snapshot);
}

#[test]
fn an_undecodable_delete_is_told_without_content() {
    let mut watch = following();
    let effects = run(&mut watch, [Input::Undecodable { meta: Some(meta("a", "ua", 21)), deleted: true }]);
    assert_eq!(told(&effects, A), ["deleted a ua 21 gap"]);
}

#[test]
fn an_undecodable_new_life_ends_the_old_one() {
    let mut watch = following();
    let effects = run(&mut watch, [Input::Undecodable { meta: Some(meta("a", "ua2", 21)), deleted: false }]);
    assert_eq!(told(&effects, A), ["deleted a ua 10 gap"]);
    assert_eq!(told(&run(&mut watch, [present("a", "ua2", 22)]), A), ["added a ua2 22 gap"]);
}

#[test]
fn a_bookmark_moves_the_position_and_nothing_else() {
    let mut watch = following();
    assert_eq!(run(&mut watch, [Input::Bookmark(ResourceVersion(99))]), []);
    assert_eq!(watch.position(), Some(ResourceVersion(99)));
    run(&mut watch, [Input::Bookmark(ResourceVersion(98)), Input::Ended { empty: false }]);
    assert_eq!(watch.plan(), Plan::Resume(ResourceVersion(99)));
}

#[test]
fn streams_that_end_at_once_again_and_again_lose_their_position() {
    let mut watch = following();
    for _ in 1..EMPTY_STREAMS {
        run(&mut watch, [Input::Ended { empty: true }, Input::Resumed]);
    }
    assert_eq!(watch.plan(), Plan::Resume(ResourceVersion(20)));
    run(&mut watch, [Input::Ended { empty: true }]);
    assert_eq!(watch.plan(), Plan::Snapshot);
}

#[test]
fn an_older_stretch_of_the_same_history_is_a_repeat() {
    let mut watch = following();
    run(&mut watch, [present("a", "ua", 30), present("a", "ua", 40)]);
    assert_eq!(run(&mut watch, [present("a", "ua", 30), present("a", "ua", 40)]), []);
}

#[test]
fn what_comes_while_nothing_is_open_is_not_believed() {
    let mut watch = following();
    run(&mut watch, [Input::Expired]);
    assert_eq!(run(&mut watch, [present("c", "uc", 9), deleted("a", "ua", 1)]), []);
}

#[test]
fn a_gap_counts_the_generations_not_seen() {
    let mut watch = following();
    let effects = run(&mut watch, [Input::Expired, Input::SnapshotStarted, present("a", "ua", 50)]);
    let missed = effects.iter().find_map(|effect| match effect {
        Effect::Emit { change, .. } => Some((change.gap_missed, change.reason)),
        _ => None,
    });
    // Generation 1 was told, 5 is told now.
    assert_eq!(missed, Some((3, Reason::Reconcile)));
}

#[test]
fn an_answer_that_waited_is_no_proof_of_a_rewind() {
    let mut watch = following();
    let since = watch.newest();
    let effects =
        run(&mut watch, [present("a", "ua", 30), Input::Probed { version: ResourceVersion(25), since }]);
    assert_eq!(told(&effects, A), ["updated a ua 30"]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Rewound(_))));
}
