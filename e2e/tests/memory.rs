//! The memory of a bridge stays inside the formula of its design, whatever it has to do. Smaller cases than those of
//! `cargo xtask bench memory`, with a smaller Journal, so that what grows without a bound shows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use tidings_testbed::memory::{Case, Done};
use tidings_testbed::replay::Load;

/// The smallest that can be set: the longest object has to fit.
const TAIL: u64 = 8 << 20;

/// Runs the case and compares. What is mapped of the program's file does not count: a build for tests is large.
async fn stays_inside(load: Load, subscriptions: u64, dead: bool) {
    let case = Case { load, subscriptions, dead, tail: TAIL };
    let Done { bridge, usage, .. } = case.run(support::program().await).await.unwrap();
    let (taken, bound) = (usage.peak - usage.file, case.bound());
    eprintln!("{} KiB of {} KiB", taken >> 10, bound >> 10);
    assert!(taken <= bound, "{taken} bytes are more than {bound}\n{}", bridge.log_tail());
}

#[tokio::test]
async fn many_objects_take_little_more_than_their_names() {
    stays_inside(Load { events: 20_000, objects: 20_000, size: 1024, in_flight: 256 }, 1, false).await;
}

#[tokio::test]
async fn large_objects_take_the_memory_of_a_few() {
    stays_inside(Load { events: 60, objects: 20, size: 1_000_000, in_flight: 256 }, 1, false).await;
}

#[tokio::test]
async fn what_a_dead_sink_does_not_take_is_not_in_memory() {
    stays_inside(Load { events: 40_000, objects: 1000, size: 1024, in_flight: 256 }, 1, true).await;
}

#[tokio::test]
async fn many_subscriptions_share_what_they_wait_for() {
    stays_inside(Load { events: 600, objects: 100, size: 1024, in_flight: 16 }, 64, false).await;
}
