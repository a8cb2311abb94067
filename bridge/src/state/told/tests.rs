use proptest::prelude::*;
use tidings_core::change::Epoch;
use tidings_core::known::Slot;
use tidings_core::object::{ObjectKey, ResourceVersion, Uid};
use tidings_core::route::Kind;
use tidings_core::watch::saved::Told;

use super::*;

fn watch() -> WatchName {
    WatchName { kind: Kind::new("example.com/v1", "Order"), namespace: Some("shop".to_owned()) }
}

fn doubt(number: u64) -> Doubt {
    let told = Told {
        uid: Uid::new(&number.to_string()),
        version: ResourceVersion(number),
        epoch: Epoch(0),
        generation: 1,
    };
    Doubt { slot: Slot(0), key: ObjectKey::new(Some("shop"), &format!("order-{number}")), told }
}

/// What a process that begins now would find.
fn found(folder: &Path) -> Vec<Doubt> {
    ToldLog::open(folder, &watch(), 0).unwrap().1
}

#[derive(Clone, Debug)]
enum Action {
    Append(u64),
    Begin,
    End,
    Reopen,
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..4_u64).prop_map(Action::Append),
        2 => Just(Action::Begin),
        2 => Just(Action::End),
        1 => Just(Action::Reopen),
    ]
}

proptest! {
    #[test]
    fn what_was_noted_stays_until_a_flush_that_began_later_is_done(
        actions in prop::collection::vec(any_action(), 1..60)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ToldLog::open(folder.path(), &watch(), 0).unwrap().0;
        let (mut before, mut since, mut counter) = (Vec::new(), Vec::new(), 0);
        let mut flushing = false;
        for action in actions {
            match action {
                Action::Append(count) => {
                    let doubts: Vec<_> = (counter..counter + count).map(doubt).collect();
                    counter += count;
                    log.append(0, &doubts).unwrap();
                    since.extend(doubts);
                }
                Action::Begin => {
                    log.begin_flush().unwrap();
                    before.append(&mut since);
                    flushing = true;
                }
                Action::End if flushing => {
                    log.end_flush().unwrap();
                    before.clear();
                    flushing = false;
                }
                Action::End => {}
                Action::Reopen => {
                    log = ToldLog::open(folder.path(), &watch(), 0).unwrap().0;
                    before.append(&mut since);
                    since.append(&mut before);
                    flushing = false;
                }
            }
            let expected: Vec<_> = before.iter().chain(&since).cloned().collect();
            prop_assert_eq!(found(folder.path()), expected);
        }
    }
}

#[test]
fn a_torn_end_is_not_read_and_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = ToldLog::open(folder.path(), &watch(), 0).unwrap();
    log.append(0, &[doubt(1)]).unwrap();
    log.append(0, &[doubt(2), doubt(3)]).unwrap();
    let [path, _] = paths(folder.path(), &watch());
    let whole = fs::read(&path).unwrap();
    let second = encode(1, &[doubt(1)]).unwrap().len();
    for length in second..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(found(folder.path()), [doubt(1)], "cut at {length}");
    }
    let (mut log, _) = ToldLog::open(folder.path(), &watch(), 0).unwrap();
    log.append(0, &[doubt(4)]).unwrap();
    assert_eq!(found(folder.path()), [doubt(1), doubt(4)]);
}

/// A crash while what a failed flush left is put together with what came since.
#[test]
fn what_is_there_twice_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = ToldLog::open(folder.path(), &watch(), 0).unwrap();
    log.append(0, &[doubt(1)]).unwrap();
    log.begin_flush().unwrap();
    log.append(0, &[doubt(2)]).unwrap();
    let [first, second] = paths(folder.path(), &watch());
    let both = [fs::read(&first).unwrap(), fs::read(&second).unwrap()].concat();
    fs::write(&first, both).unwrap();
    assert_eq!(found(folder.path()), [doubt(1), doubt(2)]);
}

#[test]
fn watches_have_logs_of_their_own_inside_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let name = |api_version: &str, kind: &str, namespace: Option<&str>| WatchName {
        kind: Kind::new(api_version, kind),
        namespace: namespace.map(ToOwned::to_owned),
    };
    let names = [
        name("v1", "Pod", None),
        name("v1", "Pod", Some("a")),
        name("_core/v1", "Pod", None),
        name("a.b/v1", "Pod", None),
        name("../v1", "../../etc", Some("../x")),
        name("a/v1", "b_c", None),
        name("a/v1", "b", Some("c")),
    ];
    for (number, name) in (0..).zip(&names) {
        ToldLog::open(folder.path(), name, 0).unwrap().0.append(0, &[doubt(number)]).unwrap();
    }
    for (number, name) in (0..).zip(&names) {
        assert_eq!(ToldLog::open(folder.path(), name, 0).unwrap().1, [doubt(number)], "{name:?}");
        assert!(paths(folder.path(), name)[0].starts_with(folder.path().join("told")));
        assert!(paths(folder.path(), name)[0].components().all(|part| part.as_os_str() != ".."));
    }
    ToldLog::open(folder.path(), &names[0], 0).unwrap().0.remove().unwrap();
    assert_eq!(ToldLog::open(folder.path(), &names[0], 0).unwrap().1, []);
}

#[test]
fn nothing_is_written_where_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = ToldLog::open(folder.path(), &watch(), 0).unwrap();
    log.append(0, &[]).unwrap();
    log.begin_flush().unwrap();
    log.end_flush().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_stored_is_not_in_doubt_where_the_log_was_not_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = ToldLog::open(folder.path(), &watch(), 1).unwrap();
    log.append(10, &[doubt(10), doubt(11)]).unwrap();
    log.append(12, &[doubt(12)]).unwrap();
    let open = |stored| ToldLog::open(folder.path(), &watch(), stored).unwrap();
    assert_eq!(open(12).1, [doubt(12)]);
    // Numbers that a process gave and did not store are given again by the next one.
    let (mut log, doubts) = open(10);
    assert_eq!(doubts, [doubt(10), doubt(11), doubt(12)]);
    log.append(10, &[doubt(20)]).unwrap();
    assert_eq!(open(10).1, [doubt(10), doubt(11), doubt(12), doubt(20)]);
}
