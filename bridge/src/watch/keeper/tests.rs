//! A told log that cannot be written.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use tidings_core::change::{Change, ChangeKind};
use tidings_core::known::Slot;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::route::Kind;

use super::*;
use crate::journal::Memory;
use crate::state::record::Recipient;
use crate::state::sqlite::SqliteStore;

/// A disk on which nothing can be noted.
#[derive(Debug)]
struct Full;

impl crate::state::Disk for Full {
    fn pass(&self, _answered: bool) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn note(&self) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_told_log_cannot_be_written_nothing_spins() {
    let folder = tempfile::tempdir().unwrap();
    let store = Box::new(SqliteStore::open(folder.path()).unwrap());
    let state = State::new(store, folder.path(), Duration::from_millis(200), 1 << 20, false);
    let state = state.behind(Arc::new(Full));
    let name = WatchName { kind: Kind::new("example.com/v1", "Order"), namespace: None };
    let (told, _) = state.told_log(&name, 1).unwrap();
    let mut keeper = Some(Keeper::new(state, name, told));
    let followers = Followers::restore(1, "test".into(), None, None, &[], |_| None);
    let journal = Journal::new(Memory::new(1 << 20));
    let meta = Meta::new(ObjectKey::new(Some("shop"), "milk"), Uid::new("u"), ResourceVersion(1));
    let change = Change::watched(ChangeKind::Added, Object { meta, body: Bytes::from_static(b"{}") });
    let to = vec![Recipient { slot: Slot(0), generation: 1 }];
    let record = JournalRecord { number: 0, change: change.into(), to, before: None, decided: 0 };

    // The time of the first flush has come, and what was decided cannot be handed over.
    assert!(matches!(Keeper::event(&mut keeper).await, Kept::Due));
    let told = keeper.as_mut().unwrap().tell(&[record], &followers, &journal);
    assert!(told.unwrap_err().starts_with("the told log: "));
    assert!(futures::poll!(pin!(Keeper::event(&mut keeper))).is_pending());
}
