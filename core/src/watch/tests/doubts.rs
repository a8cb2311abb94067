//! What may have been told before a crash, and what becomes of it.

use super::saved::{Doubt, Head, Saved, Told};
use super::*;
use crate::change::Epoch;
use crate::selection::Namespaces;

/// A Watch on which `A` was told of `a` in version 10, as the next process finds it, with these doubts.
fn crashed(doubts: &[(&str, &str, u64)]) -> Watch {
    let mut watch = Watch::restore(Head::default(), Saved::default(), []);
    run(&mut watch, [join(A), Input::SnapshotStarted, present("a", "ua", 10), complete(10)]);
    let (head, difference) = watch.take_difference();
    let known = difference.known.into_iter().filter_map(|(key, entry)| Some((key, entry?)));
    let saved = Saved { known: known.collect(), views: Vec::new() };
    let doubts = doubts.iter().map(|(name, uid, version)| {
        let Meta { key, uid, resource_version: version, .. } = meta(name, uid, *version);
        Doubt { slot: A, key, told: Told { uid, version, epoch: Epoch(0), generation: 1 } }
    });
    Watch::restore(head, saved, doubts)
}

fn only(namespaces: &[&str]) -> Selection {
    let namespaces = namespaces.iter().map(ToString::to_string).collect();
    Selection::of(Namespaces::Only(namespaces))
}

/// What a LIST at 100 tells `A`, which selects this now, with the versions that order is kept by.
fn listed(
    watch: &mut Watch,
    selection: Selection,
    name: &str,
    uid: &str,
    version: u64,
) -> Vec<(String, ResourceVersion)> {
    let effects = run(watch, [Input::Edit { slot: A, selection, on: ChangeKinds::ALL }]);
    let list = effects.iter().find_map(|effect| match effect {
        Effect::List { list, .. } => Some(*list),
        _ => None,
    });
    let (list, at) = (list.expect("a LIST is asked for"), ResourceVersion(100));
    let object = object(name, uid, version);
    let effects = run(
        watch,
        [
            Input::Listed { slot: A, list, version: at, object },
            Input::ListComplete { slot: A, list, version: at },
        ],
    );
    let orders = effects.iter().filter_map(|effect| match effect {
        Effect::Emit { change, .. } => Some(change.order().1),
        _ => None,
    });
    told(&effects, A).into_iter().zip(orders).collect()
}

#[test]
fn what_may_have_been_told_of_another_life_is_over_although_one_before_it_is_known() {
    let mut watch = crashed(&[("a", "ub", 20)]);
    let effects = run(&mut watch, [Input::Expired, Input::SnapshotStarted, present("a", "uc", 30)]);
    assert_eq!(told(&effects, A), ["deleted a ua 10 gap", "deleted a ub 20 gap", "added a uc 30 gap"]);
}

#[test]
fn what_a_list_shows_to_be_over_ends_before_the_life_that_the_stream_still_brings() {
    let mut watch = crashed(&[("a", "u", 9)]);
    let told_now = listed(&mut watch, only(&["shop"]), "a", "ub", 30);
    assert_eq!(told_now, [("deleted a u 9 gap".to_owned(), ResourceVersion(29))]);
    let effects = run(&mut watch, [Input::Resumed, deleted("a", "ua", 29), present("a", "ub", 30)]);
    assert_eq!(told(&effects, A), ["deleted a ua 29", "added a ub 30"]);
}

#[test]
fn the_end_of_what_was_told_after_the_position_is_left_to_the_stream() {
    let mut watch = crashed(&[("b", "ub", 20), ("c", "uc", 21)]);
    assert_eq!(listed(&mut watch, only(&["shop"]), "b", "ud", 30), []);
    let rest =
        [present("b", "ub", 20), present("c", "uc", 21), deleted("c", "uc", 22), deleted("b", "ub", 29)];
    let effects = run(&mut watch, [Input::Resumed].into_iter().chain(rest));
    assert_eq!(told(&effects, A), ["added b ub 20", "added c uc 21", "deleted c uc 22", "deleted b ub 29"]);
}

#[test]
fn what_was_told_after_the_position_is_left_to_the_stream() {
    let mut watch = crashed(&[("b", "ub", 20)]);
    assert_eq!(listed(&mut watch, only(&["shop"]), "b", "ub", 30), []);
    let effects = run(&mut watch, [Input::Resumed, present("b", "ub", 20), present("b", "ub", 30)]);
    assert_eq!(told(&effects, A), ["added b ub 20", "updated b ub 30"]);
}

#[test]
fn what_may_have_been_told_before_the_position_is_listed_with_the_gap_marked() {
    let mut watch = crashed(&[("b", "ub", 9)]);
    let told_now = listed(&mut watch, only(&["shop"]), "b", "ub", 30);
    let lines: Vec<_> = told_now.into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["added b ub 30 gap"]);
}

#[test]
fn what_may_have_been_told_leaves_although_a_life_before_it_is_known() {
    let lines = ["deleted a ua 10 gap", "left a ub 20"];
    let mut watch = crashed(&[("a", "ub", 20)]);
    let parts = Input::Edit { slot: A, selection: Selection::NOTHING, on: ChangeKinds::ALL };
    run(&mut watch, [Input::Expired, parts]);
    let effects = run(&mut watch, [Input::SnapshotStarted, present("a", "ub", 20), complete(30)]);
    assert_eq!(told(&effects, A), lines);

    let mut watch = crashed(&[("a", "ub", 20)]);
    let told_now = listed(&mut watch, Selection::NOTHING, "a", "ub", 20);
    assert_eq!(told_now.into_iter().map(|(line, _)| line).collect::<Vec<_>>(), lines);
}
