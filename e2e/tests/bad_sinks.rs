//! Mistakes that people make with a sink: each has its own reason in the condition, soon, with words that name what is to be
//! put right; and soon after it was put right, Events arrive. One table, for every kind of broker, with TLS and credentials.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[path = "support/leaks.rs"]
mod leaks;
#[path = "bad_sinks/mistake.rs"]
mod mistake;
mod support;
#[path = "conformance/trial.rs"]
mod trial;
#[path = "conformance/world.rs"]
mod world;

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial as Test};
use serde_json::json;
use tidings_testbed::receiver::{Kind, Security};
use tidings_testbed::wait::eventually;
use tokio::runtime::Runtime;

use self::mistake::{Expected, Mistake};
use self::support::SOON;
use self::trial::{ORDERS, Trial};
use self::world::{Manner, World};

/// Within which a mistake is to be in the condition, and an Event arrives after it was put right.
const NOTICED: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 8;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let mut tests = Vec::new();
    for mistake in Mistake::ALL {
        for kind in Kind::ALL {
            let name = format!("{}::{}", kind.field(), mistake.name());
            match mistake.expected(kind) {
                Ok(expected) => tests.push(Test::test(name, move || run(mistake, kind, &expected))),
                Err(why) => println!("no test {name}: {why}"),
            }
        }
    }
    libtest_mimic::run(&arguments, tests).exit();
}

fn run(mistake: Mistake, kind: Kind, expected: &Expected) -> Result<(), Failed> {
    let test = async {
        let mut trial = Trial::begin(World::of(kind), Security::Secured, Manner::Calm).await?;
        let outcome = is_said_and_over_when_put_right(&mut trial, mistake, expected).await;
        trial.end(outcome).await
    };
    RUNTIME.block_on(test).map_err(|error| format!("{error:#}").into())
}

async fn is_said_and_over_when_put_right(
    trial: &mut Trial<'static>,
    mistake: Mistake,
    expected: &Expected,
) -> Result<()> {
    trial.put("milk", "one").await?;
    let prepared = mistake.make(trial).await?;
    trial.subscribe(&prepared.wrong, json!({})).await?;
    let named = expected.named(trial, &prepared);
    let said = || async {
        let status = trial.stage.subscriptions().get(ORDERS).await?.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|condition| condition.type_ == "SinkReady");
        let Some(ready) = ready else { bail!("it says nothing of its sink") };
        ensure!(ready.status == "False" && ready.reason == expected.reason, "{ready:?}");
        ensure!(ready.message.contains(&named), "{:?} does not name {named:?}", ready.message);
        ensure!(trial.counts("routed_total").await? == 1, "nothing was to be told yet");
        Ok(())
    };
    eventually(NOTICED, &format!("the reason is {}", expected.reason), said).await?;
    ensure!(trial.heard().is_empty(), "something arrived");

    mistake.put_right(trial, &prepared).await?;
    eventually(NOTICED, "an Event arrives", || async {
        ensure!(!trial.heard().is_empty(), "none did");
        Ok(())
    })
    .await?;
    trial.hears(trial.put("milk", "two").await?).await?;
    eventually(SOON, "the condition is over", || trial.delivers()).await?;
    trial.agrees().await
}
