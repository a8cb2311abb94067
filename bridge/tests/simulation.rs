//! The bridge in a world that goes wrong: the real pipeline between a simulated API server and a simulated broker, in
//! virtual time, with faults by the seed. The same seed is the same schedule, always.
//!
//! A failure names its seed. To see what happened, and to run more:
//!
//! ```sh
//! TIDINGS_SIMULATION_SEED=17 cargo test -p tidings-bridge --test simulation
//! TIDINGS_SIMULATION_SEEDS=100000 cargo test -p tidings-bridge --test simulation
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is a test")]

#[path = "simulation/api_server.rs"]
mod api_server;
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/coverage.rs"]
mod coverage;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/etcd.rs"]
mod etcd;
#[path = "simulation/event.rs"]
mod event;
#[path = "simulation/fence.rs"]
mod fence;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/stories.rs"]
mod stories;
#[path = "simulation/subscription.rs"]
mod subscription;
#[path = "simulation/topic.rs"]
mod topic;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/world.rs"]
mod world;
#[path = "simulation/writer.rs"]
mod writer;

use runner::Seeds;
use trace::Fault;

/// Schedules in a normal run.
const SEEDS: u64 = 1000;

#[test]
fn no_schedule_breaks_a_promise() {
    let seeds = Seeds::wanted(SEEDS);
    let summary = runner::run(&seeds);
    println!("{summary}");
    if seeds.are_many() {
        let never: Vec<_> = Fault::ALL.iter().filter(|fault| !summary.counts.contains_key(fault)).collect();
        assert!(never.is_empty(), "never happened: {never:?}");
    }
}

#[test]
fn a_seed_is_the_same_schedule_always() {
    for seed in 0..20 {
        let (first, second) = (schedule::run(seed, true), schedule::run(seed, true));
        for (at, (first, second)) in first.lines.iter().zip(&second.lines).enumerate() {
            assert_eq!(first, second, "seed {seed} differs in line {at}");
        }
        assert_eq!(first.lines.len(), second.lines.len(), "seed {seed}");
    }
}

/// The end of a uid tells lives apart.
fn short(uid: &str) -> &str {
    uid.rsplit('-').next().unwrap_or(uid).trim_start_matches('0')
}
