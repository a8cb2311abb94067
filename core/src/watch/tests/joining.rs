//! Subscriptions that join a Watch that runs, are edited, and leave.

use super::*;
use crate::selection::Namespaces;

pub(super) fn list_of(effects: &[Effect], slot: Slot) -> u32 {
    let list = effects.iter().find_map(|effect| match effect {
        Effect::List { slot: of, list } if *of == slot => Some(*list),
        _ => None,
    });
    list.expect("a LIST was asked for")
}

pub(super) fn listed(slot: Slot, list: u32, name: &str, uid: &str, version: u64) -> Input {
    Input::Listed { slot, list, version: ResourceVersion(100), object: object(name, uid, version) }
}

pub(super) fn list_complete(slot: Slot, list: u32, version: u64) -> Input {
    Input::ListComplete { slot, list, version: ResourceVersion(version) }
}

#[test]
fn a_second_subscription_hears_the_snapshot_first_and_nothing_twice_at_the_seam() {
    let mut watch = following();
    let list = list_of(&run(&mut watch, [join(B)]), B);
    // The Watch is at 20, the LIST at 30; the watch brings 21 to 40 while pages come in.
    let effects = run(
        &mut watch,
        [
            present("a", "ua", 21),
            listed(B, list, "a", "ua", 25),
            present("a", "ua", 25),
            deleted("b", "ub", 26),
            present("c", "uc", 27),
            present("a", "ua", 31),
        ],
    );
    assert_eq!(
        told(&effects, A),
        ["updated a ua 21", "updated a ua 25", "deleted b ub 26", "added c uc 27", "updated a ua 31"]
    );
    // What it was told of goes on; what it was not told of waits.
    assert_eq!(told(&effects, B), ["snapshot a ua 25", "updated a ua 31"]);
    let effects = run(&mut watch, [listed(B, list, "c", "uc", 27), list_complete(B, list, 30)]);
    assert_eq!(told(&effects, B), ["snapshot c uc 27"]);
    let effects = run(&mut watch, [present("c", "uc", 41)]);
    assert_eq!(
        (told(&effects, A), told(&effects, B)),
        (vec!["updated c uc 41".into()], vec!["updated c uc 41".into()])
    );
}

#[test]
fn what_comes_back_while_history_is_lost_comes_because_of_the_selection() {
    let mut watch = following();
    let edit = |selection| Input::Edit { slot: A, selection, on: ChangeKinds::ALL };
    let farm = Selection::of(Namespaces::Only(["farm".to_owned()].into()));
    let list = list_of(&run(&mut watch, [edit(farm)]), A);
    let left = run(&mut watch, [listed(A, list, "a", "ua", 10), list_complete(A, list, 30)]);
    assert_eq!(told(&left, A)[0], "left a ua 10");
    let back = [Input::Expired, edit(Selection::all()), Input::SnapshotStarted, present("a", "ua", 10)];
    let effects = run(&mut watch, back);
    let reasons = effects.iter().filter_map(|effect| match effect {
        Effect::Emit { change, .. } => Some((change.kind, change.reason, change.gap)),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [(ChangeKind::Added, Reason::Selection, false)]);
}

#[test]
fn a_list_ahead_of_the_watch_suppresses_what_it_showed_already() {
    let mut watch = following();
    let list = list_of(&run(&mut watch, [join(B)]), B);
    run(&mut watch, [listed(B, list, "a", "ua", 25), list_complete(B, list, 30)]);
    // b was deleted before the LIST; d came and went before it.
    let late = [
        present("a", "ua", 21),
        present("a", "ua", 25),
        deleted("b", "ub", 26),
        present("d", "ud", 27),
        deleted("d", "ud", 28),
    ];
    assert_eq!(told(&run(&mut watch, late), B), [""; 0]);
    let effects = run(&mut watch, [deleted("a", "ua", 31)]);
    assert_eq!(told(&effects, B), ["deleted a ua 31"]);
}

#[test]
fn a_snapshot_of_the_watch_takes_the_place_of_a_list() {
    let mut watch = following();
    let list = list_of(&run(&mut watch, [join(B)]), B);
    run(&mut watch, [present("a", "ua", 21), listed(B, list, "a", "ua", 25), present("a", "ua", 25)]);
    let effects = run(&mut watch, [present("c", "uc", 32), Input::Expired, Input::SnapshotStarted]);
    assert!(effects.contains(&Effect::StopList(B)));
    // What waited comes with the snapshot.
    assert_eq!(told(&effects, B), [""; 0]);
    let snapshot =
        [present("b", "ub", 11), listed(B, list, "x", "ux", 33), present("c", "uc", 32), complete(40)];
    let effects = run(&mut watch, snapshot);
    assert_eq!(told(&effects, B), ["snapshot b ub 11", "snapshot c uc 32", "deleted a ua 25 gap"]);
    assert!(effects.contains(&Effect::Joined(B)));
}

#[test]
fn an_edited_selection_adds_and_leaves() {
    let only =
        |namespace: &str| Selection::of(crate::selection::Namespaces::Only([namespace.to_owned()].into()));
    let mut cow = meta("cow", "uw", 12);
    cow.key = ObjectKey::new(Some("farm"), "cow");
    let cow = Arc::new(Object { meta: cow, body: Bytes::from_static(b"{}") });
    let mut watch = Watch::default();
    let join = Input::Join { slot: A, selection: only("shop"), on: ChangeKinds::ALL };
    let start = [join, Input::SnapshotStarted, present("a", "ua", 10), present("b", "ub", 11)];
    assert_eq!(told(&run(&mut watch, start), A), ["snapshot a ua 10", "snapshot b ub 11"]);
    assert_eq!(told(&run(&mut watch, [Input::Present(cow.clone()), complete(20)]), A), [""; 0]);
    let edit = Input::Edit { slot: A, selection: only("farm"), on: ChangeKinds::ALL };
    let list = list_of(&run(&mut watch, [edit]), A);
    let effects = run(
        &mut watch,
        [
            listed(A, list, "a", "ua", 10),
            Input::Listed { slot: A, list, version: ResourceVersion(20), object: cow },
            deleted("b", "ub", 21),
            list_complete(A, list, 30),
        ],
    );
    assert_eq!(told(&effects, A), ["left a ua 10", "added cow uw 12", "deleted b ub 21"]);
    assert_eq!(told(&run(&mut watch, [present("a", "ua", 31)]), A), [""; 0]);
}

#[test]
fn filters_drop_events_and_never_membership() {
    let mut watch = Watch::default();
    let join =
        Input::Join { slot: A, selection: Selection::all(), on: ChangeKinds::of([ChangeKind::Deleted]) };
    let effects = run(
        &mut watch,
        [join, Input::SnapshotStarted, present("a", "ua", 10), complete(20), deleted("a", "ua", 21)],
    );
    assert_eq!(told(&effects, A), ["deleted a ua 21"]);
}

#[test]
fn a_slot_that_was_left_starts_anew() {
    let mut watch = following();
    run(&mut watch, [Input::Leave(A)]);
    assert_eq!(run(&mut watch, [present("a", "ua", 21)]), []);
    let list = list_of(&run(&mut watch, [join(A)]), A);
    let effects = run(&mut watch, [listed(A, list, "a", "ua", 21), list_complete(A, list, 22)]);
    assert_eq!(told(&effects, A), ["snapshot a ua 21"]);
}

/// The stream still brings how the life ended that the LIST does not show any more, and then the next one.
#[test]
fn a_name_with_a_new_life_in_the_list_is_continued_by_the_stream() {
    let mut watch = following();
    let everything = |slot| Input::Edit { slot, selection: Selection::all(), on: ChangeKinds::ALL };
    let shop = Selection::of(crate::selection::Namespaces::Only(["shop".to_owned()].into()));
    run(&mut watch, [Input::Edit { slot: A, selection: shop, on: ChangeKinds::ALL }]);
    let list = list_of(&run(&mut watch, [everything(A)]), A);
    let effects = run(&mut watch, [listed(A, list, "a", "later", 27), list_complete(A, list, 30)]);
    assert_eq!(told(&effects, A), [""; 0]);
    let stream = [
        present("a", "ua", 21),
        deleted("a", "ua", 25),
        present("a", "later", 26),
        present("a", "later", 27),
    ];
    assert_eq!(
        told(&run(&mut watch, stream), A),
        ["updated a ua 21", "deleted a ua 25", "added a later 26", "updated a later 27"]
    );
}

/// An edit does not make a hole in what was selected before and after.
#[test]
fn what_was_selected_all_the_time_misses_nothing_while_the_rest_is_listed() {
    let mut watch = following();
    let shop = Selection::of(crate::selection::Namespaces::Only(["shop".to_owned()].into()));
    let list = list_of(&run(&mut watch, [Input::Edit { slot: A, selection: shop, on: ChangeKinds::ALL }]), A);
    let came_and_went = [present("d", "ud", 21), deleted("d", "ud", 22), list_complete(A, list, 30)];
    assert_eq!(told(&run(&mut watch, came_and_went), A), ["added d ud 21", "deleted d ud 22"]);
}

#[test]
fn a_list_from_before_a_rewind_tells_nothing() {
    let mut watch = following();
    let nothing = Input::Edit { slot: A, selection: Selection::NOTHING, on: ChangeKinds::ALL };
    let list = list_of(&run(&mut watch, [present("a", "ua", 30), nothing]), A);
    let object = object("a", "ua", 10);
    let old = Input::Listed { slot: A, list, version: ResourceVersion(12), object };
    let effects = run(&mut watch, [old.clone(), old, list_complete(A, list, 12)]);
    assert_eq!(told(&effects, A), [""; 0]);
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Rewound(_))).count(), 1);
}

#[test]
fn who_waits_for_a_list_has_joined_when_a_snapshot_makes_it_needless() {
    let mut watch = following();
    run(
        &mut watch,
        [Input::Edit { slot: A, selection: Selection::NOTHING, on: ChangeKinds::ALL }, Input::Expired],
    );
    let effects = run(&mut watch, [Input::SnapshotStarted, present("a", "ua", 10), complete(40)]);
    assert_eq!(told(&effects, A), ["left a ua 10", "deleted b ub 11 gap"]);
    // And it has heard everything by then: who parts hears nothing more.
    assert_eq!(effects.last(), Some(&Effect::Joined(A)));
}

#[test]
fn who_parts_hears_of_what_went_just_before() {
    let mut watch = following();
    let nothing = Input::Edit { slot: A, selection: Selection::NOTHING, on: ChangeKinds::ALL };
    let list = list_of(&run(&mut watch, [nothing]), A);
    // The stream has not said yet that b is gone.
    let next = listed(A, list, "a", "ua2", 25);
    let effects = run(&mut watch, [next, list_complete(A, list, 30)]);
    assert_eq!(told(&effects, A), ["deleted a ua 10 gap", "deleted b ub 11 gap"]);
    let order = effects.iter().filter_map(|effect| match effect {
        Effect::Emit { change, .. } => Some(change.order().1.0),
        _ => None,
    });
    // Before the life that follows, whoever is told of that later.
    assert_eq!(order.collect::<Vec<_>>(), [24, 30]);
    assert_eq!(effects.last(), Some(&Effect::Joined(A)));
}

#[test]
fn what_began_while_it_was_not_selected_is_told_by_the_next_list() {
    let mut watch = following();
    let select = |selection| Input::Edit { slot: A, selection, on: ChangeKinds::ALL };
    run(&mut watch, [select(Selection::NOTHING)]);
    assert_eq!(
        told(&run(&mut watch, [deleted("a", "ua", 30), present("a", "ua2", 31)]), A),
        ["deleted a ua 30"]
    );
    let list = list_of(&run(&mut watch, [select(Selection::all())]), A);
    let effects = run(&mut watch, [listed(A, list, "a", "ua2", 31), list_complete(A, list, 40)]);
    assert_eq!(told(&effects, A), ["added a ua2 31"]);
}
