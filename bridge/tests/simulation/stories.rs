//! What the schedules once found, told on purpose: one story for each fault.

use std::time::Duration;

use fastrand::Rng;
use tidings_core::selection::Namespaces;

use crate::api_server::ApiServer;
use crate::broker::Broker;
use crate::etcd::NAMES;
use crate::fence::Edge;
use crate::schedule::{self, rest};
use crate::trace::Trace;
use crate::world::World;

/// Tells a story in a world in which nothing goes wrong by itself, and then waits for rest.
fn tell(story: impl AsyncFnOnce(&mut World)) {
    schedule::runtime(1).block_on(async {
        let (mut rng, trace) = (Rng::with_seed(1), Trace::new(true));
        let server = ApiServer::new(rng.fork(), trace.clone());
        let broker = Broker::new(rng.fork(), trace.clone(), server.clone());
        let mut world = World::new(rng.fork(), trace.clone(), server.clone(), broker);
        let ticker = tokio::spawn(server.tick());
        story(&mut world).await;
        world.broker.calm();
        world.disk.calm();
        let ended = rest(&mut world, &trace).await.and_then(|()| world.check());
        ticker.abort();
        let outcome = trace.into_outcome();
        let broken = outcome.broken.or(ended.err());
        assert!(broken.is_none(), "{broken:?}\n{}", outcome.lines.join("\n"));
    });
}

async fn a_while() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[test]
fn who_comes_back_to_a_kind_is_still_told_what_left() {
    tell(async |world| {
        world.server.lock().put(1, "shop", "a", "1");
        world.join_as(0, [(0, Namespaces::All), (1, Namespaces::All)].into());
        world.start(true);
        a_while().await;
        world.broker.take_down("uid-0-1", Duration::from_secs(5));
        world.edit_to(0, [(0, Namespaces::All)].into());
        a_while().await;
        world.server.lock().delete(1, "shop/a");
        a_while().await;
        world.edit_to(0, [(0, Namespaces::All), (1, Namespaces::All)].into());
        a_while().await;
    });
}

#[test]
fn nobody_is_told_what_was_decided_for_who_had_the_slot_before() {
    tell(async |world| {
        world.server.lock().put(0, "shop", "a", "1");
        world.join_as(0, [(0, Namespaces::All)].into());
        world.start(true);
        a_while().await;
        world.disk.stiffen(Duration::from_secs(3));
        world.server.lock().put(0, "farm", "b", "1");
        world.server.lock().delete(0, "shop/a");
        a_while().await;
        world.leave(0);
        world.join_as(0, [(0, Namespaces::Only(["yard".to_owned()].into()))].into());
        a_while().await;
    });
}

#[test]
fn what_a_process_before_may_have_told_is_not_left_out_of_a_backlog() {
    tell(async |world| {
        world.set_window(1);
        world.join_as(0, [(0, Namespaces::All)].into());
        world.start(true);
        a_while().await;
        world.broker.take_down("uid-0-1", Duration::from_secs(3));
        for name in NAMES {
            world.server.lock().put(0, "shop", name, "1");
            world.server.lock().put(0, "farm", name, "1");
        }
        a_while().await;
        world.server.lock().put(0, "yard", "a", "1");
        a_while().await;
        // The ninth is told, and nobody can store that.
        world.disk.fill(Duration::from_secs(5));
        let process = world.process.take().unwrap();
        process.fence.arm(Edge::Stored, 9);
        process.fence.closed().await;
        process.kill();
        a_while().await;
        world.disk.calm();
        world.disk.set_quota(1);
        world.broker.take_down("uid-0-1", Duration::from_secs(5));
        world.server.lock().delete(0, "yard/a");
        world.start(false);
        tokio::time::sleep(Duration::from_secs(4)).await;
    });
}
