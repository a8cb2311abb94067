//! What lies in a gap, for several Subscriptions, and when history is lost again before it is recovered.

use std::collections::VecDeque;

use super::joining::{list_complete, list_of, listed};
use super::*;
use crate::selection::Namespaces;
use crate::watch::backfill::{Answer, Ask, Limits};

/// What etcd has of the name `a`: versions, and the uid, if there was one.
type History<'a> = &'a [(u64, Option<&'a str>)];

fn recovering() -> Watch {
    let mut watch = following();
    watch.set_backfill(Limits { requests: 100, bytes: 1 << 20 });
    watch
}

/// History is lost, and a snapshot of `version` shows this; `b` is as it was.
fn lost(watch: &mut Watch, shown: Vec<Input>, version: u64) -> Vec<Effect> {
    let before = [Input::Expired, Input::SnapshotStarted, present("b", "ub", 11)];
    run(watch, before.into_iter().chain(shown).chain([complete(version)]))
}

fn asks(effects: &[Effect]) -> impl Iterator<Item = Ask> {
    let ask = |effect: &Effect| if let Effect::Ask(ask) = effect { Some(ask.clone()) } else { None };
    effects.iter().filter_map(ask)
}

/// Answers everything that is asked, and what is asked because of that. Versions before `compacted` are forgotten.
fn answered(watch: &mut Watch, effects: &[Effect], history: History<'_>, compacted: u64) -> Vec<Effect> {
    let (mut open, mut all): (VecDeque<_>, _) = (asks(effects).collect(), Vec::new());
    while let Some(Ask { number, at, died, .. }) = open.pop_front() {
        let version = history.iter().rev().find(|(version, _)| *version <= at.0);
        let answer = match version {
            _ if at.0 < compacted => Answer::Compacted,
            Some((version, Some(uid))) => {
                Answer::Present(object("a", uid, died.map_or(*version, |died| died.0)))
            }
            _ => Answer::Absent,
        };
        let effects = watch.step(Input::Answered { number, answer }, NOW);
        open.extend(asks(&effects));
        all.extend(effects);
    }
    all
}

#[test]
fn what_was_seen_while_something_is_recovered_is_told_though_history_is_lost_again() {
    let mut watch = recovering();
    // A snapshot shows another life, the stream goes on with it, and the next snapshot shows a third one.
    lost(&mut watch, vec![present("a", "ua2", 40)], 50);
    run(&mut watch, [present("a", "ua2", 55)]);
    let effects = lost(&mut watch, vec![present("a", "ua3", 70)], 80);
    let asked: Vec<_> = watch.asks().collect();
    assert_eq!(told(&effects, A), Vec::<String>::new());
    let history = [
        (10, Some("ua")),
        (30, None),
        (40, Some("ua2")),
        (55, Some("ua2")),
        (60, None),
        (65, Some("ua3")),
        (70, Some("ua3")),
    ];
    let effects = answered(&mut watch, &asked, &history, 0);
    let lives = ["deleted a ua 30", "added a ua2 40", "updated a ua2 55"];
    let expected = [&lives[..], &["deleted a ua2 60", "added a ua3 65", "updated a ua3 70"]].concat();
    assert_eq!(told(&effects, A), expected);
    assert_eq!(watch.position(), Some(ResourceVersion(80)));
}

#[test]
fn what_only_an_interrupted_snapshot_showed_is_told() {
    let mut watch = recovering();
    let mut effects = run(
        &mut watch,
        [Input::Expired, Input::SnapshotStarted, present("a", "ua2", 40), Input::Ended { empty: false }],
    );
    effects.extend(run(&mut watch, [Input::SnapshotStarted, present("b", "ub", 11), complete(50)]));
    assert_eq!(told(&effects, A), Vec::<String>::new());
    let asked: Vec<_> = watch.asks().collect();
    let history = [(10, Some("ua")), (30, None), (40, Some("ua2")), (45, None)];
    let effects = answered(&mut watch, &asked, &history, 0);
    assert_eq!(told(&effects, A), ["deleted a ua 30", "added a ua2 40", "deleted a ua2 45"]);
}

#[test]
fn a_life_that_only_a_list_told_ends() {
    let mut watch = recovering();
    let list = list_of(&run(&mut watch, [join(B)]), B);
    let joined =
        [listed(B, list, "a", "ua2", 44), listed(B, list, "b", "ub", 11), list_complete(B, list, 46)];
    assert_eq!(told(&run(&mut watch, joined), B), ["snapshot a ua2 44", "snapshot b ub 11"]);
    let effects = lost(&mut watch, Vec::new(), 60);
    // Whoever looks for the end of the first life only does not meet the second one.
    let history = [(10, Some("ua")), (30, None), (44, Some("ua2")), (50, None)];
    let effects = answered(&mut watch, &effects, &history, 0);
    assert_eq!(told(&effects, A), ["deleted a ua 30", "added a ua2 44", "deleted a ua2 50"]);
    assert_eq!(told(&effects, B), ["deleted a ua2 50"]);
}

#[test]
fn who_joins_while_history_is_lost_is_shown_what_exists_and_not_told_from_the_middle() {
    let mut watch = recovering();
    let asked = lost(&mut watch, vec![present("a", "ua", 40)], 50);
    run(&mut watch, [Input::Expired, join(B)]);
    let history = [(10, Some("ua")), (30, Some("ua")), (40, Some("ua"))];
    let effects = answered(&mut watch, &asked, &history, 0);
    assert_eq!(told(&effects, A), ["updated a ua 30", "updated a ua 40"]);
    assert_eq!(told(&effects, B), Vec::<String>::new());
    let effects = run(&mut watch, [Input::SnapshotStarted, present("a", "ua", 40), present("b", "ub", 11)]);
    assert_eq!(told(&effects, B), ["snapshot a ua 40", "snapshot b ub 11"]);
}

#[test]
fn who_joined_before_a_gap_hears_of_what_came_and_was_shown_in_it() {
    let mut watch = recovering();
    let list = list_of(&run(&mut watch, [join(B)]), B);
    run(&mut watch, [listed(B, list, "b", "ub", 11), list_complete(B, list, 35)]);
    // The Watch is at 20 when history is lost: the LIST was ahead of it, and what came after that is news to B.
    let effects = lost(&mut watch, vec![present("a", "ua2", 40)], 50);
    let history = [(10, Some("ua")), (30, None), (40, Some("ua2"))];
    let effects = answered(&mut watch, &effects, &history, 0);
    assert_eq!(told(&effects, B), ["added a ua2 40"]);
}

#[test]
fn a_list_that_is_complete_while_history_is_lost_ends_nobodys_wait() {
    let mut watch = recovering();
    let list = list_of(&run(&mut watch, [join(B)]), B);
    run(&mut watch, [Input::Expired]);
    // A follows nothing any more, and has to be told so by the next snapshot.
    run(&mut watch, [Input::Edit { slot: A, selection: Selection::NOTHING, on: ChangeKinds::ALL }]);
    run(&mut watch, [listed(B, list, "a", "ua", 10), list_complete(B, list, 30)]);
    let effects = run(&mut watch, [Input::SnapshotStarted, present("a", "ua", 10), complete(40)]);
    let list = list_of(&effects, A);
    let shown = [listed(A, list, "a", "ua", 10), list_complete(A, list, 100)];
    let effects = [effects, run(&mut watch, shown)].concat();
    assert_eq!(told(&effects, A), ["left a ua 10", "deleted b ub 11 gap"]);
}

#[test]
fn who_is_edited_behind_a_list_is_not_told_what_came_and_went_before_it() {
    let mut watch = recovering();
    let edit = |selection| Input::Edit { slot: B, selection, on: ChangeKinds::ALL };
    let list = list_of(&run(&mut watch, [join(B)]), B);
    run(&mut watch, [listed(B, list, "b", "ub", 11), list_complete(B, list, 35)]);
    // The Watch is at 20: when it brings what was before 35, B has another selection, and had it all before.
    let namespaces = Namespaces::Only(["shop".to_owned()].into());
    let list = list_of(&run(&mut watch, [edit(Selection::of(namespaces))]), B);
    let late = [present("c", "uc", 30), deleted("c", "uc", 31), present("c", "uc2", 40)];
    assert_eq!(told(&run(&mut watch, late), B), ["added c uc2 40"]);
    // The second LIST leaves to the stream what came after the first one, and so does the third.
    let rest = [listed(B, list, "b", "ub", 11), listed(B, list, "d", "ud", 41), list_complete(B, list, 45)];
    assert_eq!(told(&run(&mut watch, rest), B), Vec::<String>::new());
    run(&mut watch, [edit(Selection::all())]);
    let rest = [present("d", "ud", 41), present("c", "uc2", 46), present("d", "ud", 47)];
    assert_eq!(told(&run(&mut watch, rest), B), ["added d ud 41", "updated c uc2 46", "updated d ud 47"]);
}

#[test]
fn what_is_selected_again_while_a_snapshot_comes_in_is_not_new() {
    let mut watch = following();
    run(&mut watch, [Input::Ended { empty: false }, Input::Expired]);
    let edit = |selection| Input::Edit { slot: A, selection, on: ChangeKinds::ALL };
    run(&mut watch, [edit(Selection::NOTHING), Input::SnapshotStarted, present("a", "ua", 10), complete(40)]);
    run(&mut watch, [Input::Expired, edit(Selection::all())]);
    let effects = run(&mut watch, [Input::SnapshotStarted, present("a", "ua", 10)]);
    let reasons = effects.iter().filter_map(|effect| match effect {
        Effect::Emit { change, .. } => Some((change.kind, change.reason)),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [(ChangeKind::Added, Reason::Selection)]);
}

#[test]
fn what_the_server_has_forgotten_is_not_asked_for_again_and_marked() {
    let mut watch = recovering();
    let effects = run(
        &mut watch,
        [
            Input::Expired,
            Input::SnapshotStarted,
            present("a", "ua", 40),
            present("b", "ub", 39),
            complete(50),
        ],
    );
    let asked: Vec<_> = asks(&effects).map(|ask| ask.at.0).collect();
    assert_eq!(asked, [39, 38]);
    let [a, b] = [0, 1].map(|which| asks(&effects).nth(which));
    let number = |ask: Option<Ask>| ask.map(|ask| ask.number).unwrap_or_default();
    let forgotten = Input::Answered { number: number(a), answer: Answer::Compacted };
    assert_eq!(told(&watch.step(forgotten, NOW), A), ["updated a ua 40 gap"]);
    // It was older when it was asked for than what the server still has, as is known by now.
    let found = Answer::Present(object("b", "ub", 30));
    let effects = watch.step(Input::Answered { number: number(b), answer: found }, NOW);
    assert_eq!(asks(&effects).count(), 0);
    assert_eq!(told(&effects, A), ["updated b ub 30 gap", "updated b ub 39"]);
}

#[test]
fn no_more_is_asked_than_is_allowed_and_the_rest_is_marked() {
    let mut watch = following();
    watch.set_backfill(Limits { requests: 3, bytes: 1 << 20 });
    let effects = lost(&mut watch, vec![present("a", "ua", 40)], 50);
    let history: Vec<_> = (30..=40).map(|version| (version, Some("ua"))).collect();
    let effects = answered(&mut watch, &effects, &history, 0);
    let expected = ["updated a ua 37 gap", "updated a ua 38", "updated a ua 39", "updated a ua 40"];
    assert_eq!(told(&effects, A), expected);
    assert_eq!(effects.last(), Some(&Effect::StopAsking));
}

#[test]
fn no_more_is_held_in_memory_than_is_allowed_and_the_rest_is_marked() {
    let mut watch = following();
    watch.set_backfill(Limits { requests: 100, bytes: 4 * object("a", "ua", 40).size() });
    let effects = lost(&mut watch, vec![present("a", "ua", 40)], 50);
    let history: Vec<_> = (20..=40).map(|version| (version, Some("ua"))).collect();
    let effects = answered(&mut watch, &effects, &history, 0);
    let expected = ["updated a ua 37 gap", "updated a ua 38", "updated a ua 39", "updated a ua 40"];
    assert_eq!(told(&effects, A), expected);
    assert_eq!(effects.last(), Some(&Effect::StopAsking));
}

#[test]
fn who_parts_does_not_wait_for_what_is_recovered() {
    let mut watch = recovering();
    run(&mut watch, [Input::Edit { slot: A, selection: Selection::NOTHING, on: ChangeKinds::ALL }]);
    let list = list_of(&run(&mut watch, [join(B)]), B);
    run(&mut watch, [listed(B, list, "a", "ua", 10), list_complete(B, list, 20)]);
    // B waits for what became of a; the last word to A comes before.
    let effects = lost(&mut watch, vec![present("a", "ua2", 40)], 50);
    let list = list_of(&effects, A);
    assert!(!effects.contains(&Effect::Joined(A)));
    let rest = run(&mut watch, [listed(A, list, "b", "ub", 11), list_complete(A, list, 100)]);
    let effects = [effects, rest].concat();
    assert_eq!(told(&effects, A), ["left b ub 11", "deleted a ua 10 gap"]);
    assert_eq!(effects.last(), Some(&Effect::Joined(A)));
}
