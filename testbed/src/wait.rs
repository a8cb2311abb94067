//! Waiting for a condition instead of sleeping.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// Asks `check` again and again until it answers `Ok`, and returns that. After `deadline` fails with `what` and the last
/// error, so that a failed test says what was missing. A check that hangs counts as not yet answered.
pub async fn eventually<T, E, F, Check>(deadline: Duration, what: &str, mut check: F) -> Result<T>
where
    E: Display,
    F: FnMut() -> Check,
    Check: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + deadline;
    let mut last = None;
    loop {
        match timeout_at(end, check()).await {
            Ok(Ok(value)) => return Ok(value),
            // Alternate form: the whole chain of an `anyhow::Error`.
            Ok(Err(error)) => last = Some(format!("{error:#}")),
            Err(_) => {
                last =
                    Some(last.map_or("no answer".into(), |last| format!("no answer; before that: {last}")));
            }
        }
        if Instant::now() >= end {
            bail!("not within {deadline:?}: {what}: {}", last.unwrap_or_default());
        }
        sleep(Duration::from_millis(20).min(end - Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_true_is_answered() {
        let mut tries = 0;
        let answer = eventually(Duration::from_secs(1), "third time", || {
            tries += 1;
            let result = if tries == 3 { Ok(tries) } else { Err("not yet") };
            async move { result }
        });
        assert_eq!(answer.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_names_the_condition_and_the_last_error() {
        let never =
            eventually(Duration::from_secs(1), "the sky is green", || async { Err::<(), _>("it is blue") });
        assert_eq!(never.await.unwrap_err().to_string(), "not within 1s: the sky is green: it is blue");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_ends_at_the_deadline() {
        let never =
            eventually(Duration::from_secs(1), "an answer", std::future::pending::<Result<(), String>>);
        assert_eq!(never.await.unwrap_err().to_string(), "not within 1s: an answer: no answer");
    }
}
