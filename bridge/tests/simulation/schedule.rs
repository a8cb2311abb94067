//! One schedule: what happens when, from one seed.

use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::api_server::ApiServer;
use crate::broker::Broker;
use crate::fence::Edge;
use crate::trace::{Fault, Outcome, Trace};
use crate::world::World;
use crate::writer;

/// How long everything may take to come to rest when nothing goes wrong any more.
const REST: Duration = Duration::from_secs(200);
/// A rewind has to be noticed within this time.
const NOTICED: Duration = Duration::from_secs(100);

/// Runs the schedule of `seed` in a runtime of its own.
pub(crate) fn run(seed: u64, lines: bool) -> Outcome {
    runtime(seed).block_on(async {
        let trace = Trace::new(lines);
        if let Err(complaint) = act(seed, &trace).await {
            trace.complain(complaint);
        }
        trace.into_outcome()
    })
}

/// Time in it moves only when everybody waits.
pub(crate) fn runtime(seed: u64) -> Runtime {
    // What the bridge rolls dice with.
    fastrand::seed(seed);
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

async fn act(seed: u64, trace: &Trace) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    // Each has dice of its own, so that what one does more of does not change the others.
    let server = ApiServer::new(rng.fork(), trace.clone());
    let broker = Broker::new(rng.fork(), trace.clone(), server.clone());
    let mut world = World::new(rng.fork(), trace.clone(), server.clone(), broker);
    // What holds only as long as nobody crashes is held to in the others.
    world.mortal = !seed.is_multiple_of(4);
    let mut writes = rng.fork();
    for count in 0..rng.u64(0..12) {
        writer::write(&server, &mut writes, count);
    }
    for index in 0..rng.usize(1..=4) {
        world.join(index);
    }
    world.start(true);
    let pause = Duration::from_millis(rng.u64(30..300));
    let writer = tokio::spawn(writer::run(server.clone(), writes, pause));
    let ticker = tokio::spawn(server.clone().tick());

    // Some schedules have no bad luck at all, so that nothing may be lost in them.
    let rate = if rng.u32(0..8) == 0 { 0.0 } else { rng.f64() * 0.25 };
    server.lock().weather.rate = rate;
    world.broker.set_rate(if rng.u32(0..4) == 0 { 0.0 } else { rng.f64() * 0.3 });
    for _ in 0..rng.u32(5..30) {
        let pause = Duration::from_millis(rng.u64(1..1500));
        world.pause(pause).await;
        revive(&mut world, &mut rng).await;
        let thoroughly = rng.u32(0..4) == 0;
        world.observe(thoroughly);
        something(&mut world, &mut rng).await;
        if trace.is_broken() {
            return Ok(());
        }
    }

    trace.say(|| "everything works from now on".to_owned());
    server.lock().calm();
    world.broker.calm();
    world.disk.calm();
    world.pause(Duration::from_millis(500)).await;
    writer.abort();
    if world.process.as_ref().is_none_or(|process| process.fence.is_closed()) {
        world.process = None;
        world.start(false);
    } else if let Some(process) = &world.process {
        process.fence.disarm();
    }
    rest(&mut world, trace).await?;
    ticker.abort();
    world.check()
}

/// A process that died is followed by another.
async fn revive(world: &mut World, rng: &mut Rng) {
    if world.process.as_ref().is_some_and(|process| process.fence.is_closed()) {
        if let Some(process) = world.process.take() {
            process.kill();
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(1..3000))).await;
        world.start(false);
    }
}

/// Does one thing that may well go wrong.
async fn something(world: &mut World, rng: &mut Rng) {
    let (index, kind) = (rng.usize(0..4), rng.usize(0..2));
    let while_down = Duration::from_millis(rng.u64(50..4000));
    let server = world.server.clone();
    let uid = world.subscriptions.get(&index).map(|subscription| subscription.uid.clone());
    match rng.u32(0..100) {
        0..8 => server.restart(while_down),
        8..14 => server.lock().edit_crd(kind),
        14..17 => server.replace_crd(kind, while_down),
        17..21 => rewind(world, rng).await,
        21..31 => server.lock().shrink_window(kind, rng.usize(1..10)),
        31..35 => server.lock().compact(),
        35..43 => {
            if let Some(uid) = uid {
                world.broker.take_down(&uid, while_down * 2);
            }
        }
        43..46 => {
            if let Some(uid) = uid {
                world.broker.sicken(&uid, while_down);
            }
        }
        46..54 if uid.is_none() => world.join(index),
        54..66 => world.edit(index),
        66..68 => world.leave(index),
        68..71 if uid.is_some() => {
            world.leave(index);
            world.trace.fault(Fault::Recreate, || index.to_string());
            world.join(index);
        }
        71..74 => world.retarget(index),
        74..77 => crash(world, rng, Fault::Crash).await,
        77..80 => crash(world, rng, Fault::CrashBetweenStoreAndAck).await,
        80..83 => crash(world, rng, Fault::CrashAtTheEdge).await,
        83..86 => crash(world, rng, Fault::CrashBeforeAnswer).await,
        86..89 => crash(world, rng, Fault::CrashAfterAnswer).await,
        89..91 => world.disk.fill(while_down),
        91..93 => world.disk.slow_down(while_down),
        93..95 => world.disk.stiffen(while_down),
        95 => lose_power(world, rng).await,
        96..98 => {
            world.trace.fault(Fault::GracefulRestart, String::new);
            let clean = match world.process.take() {
                Some(process) => process.shut_down().await && !world.disk.is_in_trouble(),
                None => false,
            };
            world.start(clean);
        }
        _ => {}
    }
}

/// Kills the process: now, at one of its next ways out, when the broker has stored something and not said so, or around
/// what it asks of its store.
async fn crash(world: &mut World, rng: &mut Rng, how: Fault) {
    if !world.mortal {
        return;
    }
    world.trace.fault(how, String::new);
    let Some(process) = &world.process else { return };
    match how {
        Fault::CrashBetweenStoreAndAck => process.fence.arm(Edge::Stored, rng.u32(1..10)),
        Fault::CrashAtTheEdge => process.fence.arm(Edge::Any, rng.u32(1..40)),
        Fault::CrashBeforeAnswer => process.fence.arm(Edge::Asked, rng.u32(1..6)),
        Fault::CrashAfterAnswer => process.fence.arm(Edge::Answered, rng.u32(1..6)),
        _ => {
            process.fence.close();
            revive(world, rng).await;
        }
    }
}

/// The machine loses power, and with it the last commits, which did not wait for the disk (`docs/decisions/0005`).
async fn lose_power(world: &mut World, rng: &mut Rng) {
    if !world.mortal {
        return;
    }
    world.trace.fault(Fault::PowerLoss, String::new);
    world.hold_back();
    world.pause(Duration::from_millis(rng.u64(1..1500))).await;
    if let Some(process) = world.process.take() {
        process.kill();
    }
    tokio::time::sleep(Duration::from_millis(rng.u64(1..3000))).await;
    world.lose();
    world.start(false);
}

/// Etcd is restored from a backup.
///
/// EXCEPTION: nothing is written before the bridge has asked again. When the new history has passed the position of
/// a Watch before that, nothing tells it from the old one (`docs/guarantees.md`, "After a rewind that leaves none of
/// the three proofs behind"; kubernetes/kubernetes#107457), and what was written in between is lost unseen.
///
/// EXCEPTION: not while memory may be full, nor while what has to be stored cannot be. A Watch without room lets the answer of a probe, or of a LIST, lie for as
/// long as the broker takes, and then opens its stream by that answer: after a rewind meanwhile, in the future (K7).
///
/// EXCEPTION: not before what was told just before a crash is decided and stored once more. Of that the next process knows
/// nothing that could be a proof (`docs/guarantees.md`, "The cluster's history goes backwards").
async fn rewind(world: &mut World, rng: &mut Rng) {
    if world.is_tight() || world.disk.is_in_trouble() || !world.has_recovered() {
        return;
    }
    let back = rng.u64(1..25);
    world.rewind(back);
    let deadline = tokio::time::Instant::now() + NOTICED;
    while !world.has_noticed() {
        world.pause(Duration::from_millis(20)).await;
        revive(world, rng).await;
        if tokio::time::Instant::now() > deadline {
            return world.trace.complain("a rewind was not noticed in time".to_owned());
        }
    }
    world.server.lock().resume_writes();
}

/// Waits until everything is told and settled.
pub(crate) async fn rest(world: &mut World, trace: &Trace) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + REST;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.observe(false);
        if trace.is_broken() {
            return Ok(());
        }
        match world.at_rest() {
            Ok(()) => return Ok(()),
            Err(under_way) if tokio::time::Instant::now() > deadline => {
                return Err(format!("no rest after {REST:?}: {under_way}"));
            }
            Err(_) => {}
        }
    }
}
