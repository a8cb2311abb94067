//! Rules of the watch machine that the random sequences of the model do not reach, or would not miss: a consumer ends
//! up right without them too, but is told more than it should be.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::change::ChangeKinds;
use tidings_core::known::Slot;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::selection::Selection;
use tidings_core::watch::{Effect, Input, Plan, Watch};

const FIRST: Slot = Slot(0);
const SECOND: Slot = Slot(1);

fn object(name: &str, uid: &str, version: u64) -> Arc<Object> {
    let meta = Meta {
        generation: Some(version),
        ..Meta::new(ObjectKey::new(Some("shop"), name), Uid::new(uid), ResourceVersion(version))
    };
    Arc::new(Object { meta, body: Bytes::from_static(b"{}") })
}

fn step(watch: &mut Watch, input: Input) -> Vec<Effect> {
    watch.step(input, 1_790_000_000)
}

fn join(slot: Slot) -> Input {
    Input::Join { slot, selection: Selection::all(), on: ChangeKinds::ALL }
}

/// What is told to `slot`, as `kind name uid`, with `gap` where that is marked.
fn told(effects: &[Effect], slot: Slot) -> Vec<String> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Emit { change, to } if to.contains(&slot) => {
            let gap = if change.gap { " gap" } else { "" };
            Some(format!("{} {} {}{gap}", change.kind, change.key().name(), change.uid()))
        }
        _ => None,
    });
    told.collect()
}

/// The first Subscription follows; `milk` exists at 10, and the position is 20.
fn following() -> Watch {
    let mut watch = Watch::default();
    for input in [
        join(FIRST),
        Input::SnapshotStarted,
        Input::Present(object("milk", "a", 10)),
        Input::SnapshotComplete(ResourceVersion(20)),
    ] {
        step(&mut watch, input);
    }
    watch
}

/// A second Subscription joins by a LIST at 30, while the Watch stands at 20; the LIST shows `milk` at 25.
fn joining() -> Watch {
    let mut watch = following();
    let effects = step(&mut watch, join(SECOND));
    let list = effects.iter().find_map(|effect| match effect {
        Effect::List { slot: SECOND, list } => Some(*list),
        _ => None,
    });
    let (slot, list) = (SECOND, list.expect("a LIST"));
    let effects = step(
        &mut watch,
        Input::Listed { slot, list, version: ResourceVersion(30), object: object("milk", "a", 25) },
    );
    assert_eq!(told(&effects, SECOND), ["snapshot milk a"]);
    step(&mut watch, Input::ListComplete { slot, list, version: ResourceVersion(30) });
    watch
}

#[test]
fn what_came_and_went_before_the_list_of_a_join_is_not_told() {
    let mut watch = joining();
    let came = step(&mut watch, Input::Present(object("bread", "b", 22)));
    let went = step(&mut watch, Input::Deleted(object("bread", "b", 23)));
    assert_eq!(
        (told(&came, FIRST), told(&went, FIRST)),
        (vec!["added bread b".into()], vec!["deleted bread b".into()])
    );
    assert_eq!((told(&came, SECOND), told(&went, SECOND)), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn a_join_ahead_of_the_watch_is_no_gap() {
    let mut watch = joining();
    step(&mut watch, Input::Present(object("milk", "a", 25)));
    let effects = step(&mut watch, Input::Present(object("milk", "a", 28)));
    assert_eq!(told(&effects, FIRST), ["updated milk a"]);
    assert_eq!(told(&effects, SECOND), ["updated milk a"]);
}

#[test]
fn a_bookmark_inside_a_snapshot_is_no_position() {
    let mut watch = Watch::default();
    for input in [
        join(FIRST),
        Input::SnapshotStarted,
        Input::Present(object("milk", "a", 10)),
        Input::Bookmark(ResourceVersion(20)),
        Input::Ended { empty: false },
    ] {
        step(&mut watch, input);
    }
    assert_eq!((watch.position(), watch.plan()), (None, Plan::Snapshot));
}

#[test]
fn the_end_of_an_older_life_ends_no_newer_one() {
    let mut watch = following();
    step(&mut watch, Input::Deleted(object("milk", "a", 21)));
    step(&mut watch, Input::Present(object("milk", "b", 22)));
    // An older stretch of the same history comes again.
    let effects = step(&mut watch, Input::Deleted(object("milk", "a", 21)));
    assert_eq!(effects, []);
    let effects = step(&mut watch, Input::Present(object("milk", "b", 23)));
    assert_eq!(told(&effects, FIRST), ["updated milk b"]);
}
