//! What every sink is held to, through the whole bridge: each case, with each kind of broker, in clear and with TLS and
//! credentials. Each ends with the rules of chaos, and with a search for the credentials that were used.
//!
//! A case is a function; [`CASES`] has them all, and a test is called `nats::secured::what_is_acked_is_there_once`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "conformance/breaks.rs"]
mod breaks;
#[path = "support/leaks.rs"]
mod leaks;
#[path = "conformance/network.rs"]
mod network;
#[path = "conformance/refuses.rs"]
mod refuses;
mod support;
#[path = "conformance/trial.rs"]
mod trial;
#[path = "conformance/well.rs"]
mod well;
#[path = "conformance/world.rs"]
mod world;

use std::sync::LazyLock;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial as Test};
use tidings_testbed::receiver::{Kind, Security};
use tokio::runtime::Runtime;

use self::trial::Trial;
use self::world::{Manner, World};

/// A [`Case`] that is called like its function.
macro_rules! case {
    ($manner:ident, $module:ident::$name:ident) => {
        case!($manner, $module::$name, |_, _| Ok(()))
    };
    ($manner:ident, $module:ident::$name:ident, $applies:expr) => {
        Case {
            name: stringify!($name),
            manner: Manner::$manner,
            applies: $applies,
            run: |trial| Box::pin($module::$name(trial)),
        }
    };
}
/// Something that every sink is held to.
struct Case {
    name: &'static str,
    manner: Manner,
    /// Why it makes no sense for some, where that is so.
    applies: fn(Kind, Security) -> Result<(), &'static str>,
    run: for<'a> fn(&'a mut Trial<'static>) -> LocalBoxFuture<'a, Result<()>>,
}

/// Those that have a broker alone are among the others, so that few wait for each other.
const CASES: &[Case] = &[
    case!(Calm, well::what_is_acked_is_there_once),
    case!(Upsetting, breaks::a_broker_that_is_killed_in_the_middle_of_a_batch_loses_nothing),
    case!(Calm, well::a_slow_network_delays_and_loses_nothing),
    case!(Closing, breaks::a_bridge_that_is_stopped_loses_nothing_and_repeats_nothing),
    case!(Calm, refuses::what_is_refused_blocks_its_object_alone_until_it_is_left_out),
    case!(Upsetting, breaks::a_broker_that_restarts_loses_nothing),
    case!(Calm, network::a_connection_that_is_cut_loses_nothing),
    case!(Calm, refuses::what_is_refused_goes_to_the_dead_letters_with_the_reason),
    case!(Upsetting, breaks::a_broker_that_is_paused_loses_nothing),
    case!(Calm, refuses::what_is_too_large_is_told_as_a_reference),
    case!(Calm, network::an_object_is_told_in_order_however_often_it_is_tried),
    case!(Upsetting, breaks::a_password_that_changes_is_followed_and_nothing_is_lost, breaks::has_passwords),
    case!(Calm, network::what_is_told_again_has_the_id_it_had),
    case!(Calm, well::a_missing_target_is_said_and_waited_for),
];

/// Most of them wait most of the time.
const AT_ONCE: usize = 16;

/// What brokers are started in has to outlive every test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let mut tests = Vec::new();
    for case in CASES {
        for kind in Kind::ALL {
            for security in Security::ALL {
                let name = format!("{}::{}::{}", kind.field(), security.name(), case.name);
                match (case.applies)(kind, security) {
                    Ok(()) => tests.push(Test::test(name, move || run(case, kind, security))),
                    Err(why) => println!("no test {name}: {why}"),
                }
            }
        }
    }
    libtest_mimic::run(&arguments, tests).exit();
}

fn run(case: &'static Case, kind: Kind, security: Security) -> Result<(), Failed> {
    let test = async {
        let mut trial = Trial::begin(World::of(kind), security, case.manner).await?;
        let outcome = async {
            (case.run)(&mut trial).await?;
            trial.agrees().await
        };
        let outcome = outcome.await;
        trial.end(outcome).await
    };
    RUNTIME.block_on(test).map_err(|error| format!("{error:#}").into())
}
