//! Asks the API server what objects were at single versions, a few at a time and not for long.
//!
//! Before: bridge/src/watch/driver.rs
//! Next: core/src/watch/backfill.rs

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::object::{Object, ResourceVersion};
use tidings_core::watch::Input;
use tidings_core::watch::backfill::{Answer, Ask};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::WatchSettings;
use super::cursor::{Cursor, Unexpected};
use super::decode::{self, Decoded};
use super::request::{Endpoint, Trouble};
use super::scan::TypeMeta;
use crate::clock;

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct BackfillSettings {
    /// Requests per gap; with none, nothing is asked.
    pub requests: u32,
    /// Requests at the same time.
    pub at_once: usize,
    /// Requests per second.
    pub per_second: u32,
    /// After this time nothing more is asked about a gap.
    pub time: Duration,
    /// Objects that wait for answers, in bytes.
    pub bytes: usize,
}

/// What is to be asked, and what was.
pub(super) struct Asks {
    endpoint: Endpoint,
    type_meta: TypeMeta,
    settings: WatchSettings,
    waiting: VecDeque<Ask>,
    running: JoinSet<Input>,
    pace: tokio::time::Interval,
    /// When it is enough. Nothing while nothing is wanted.
    deadline: Option<Instant>,
}

// === impl Asks ===

impl Asks {
    pub(super) fn new(endpoint: Endpoint, type_meta: TypeMeta, settings: WatchSettings) -> Self {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / settings.backfill.per_second.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (waiting, running) = (VecDeque::new(), JoinSet::new());
        Self { endpoint, type_meta, settings, waiting, running, pace, deadline: None }
    }

    /// Asks this when its turn comes.
    pub(super) fn push(&mut self, ask: Ask) {
        self.deadline.get_or_insert_with(|| Instant::now() + self.settings.backfill.time);
        self.waiting.push_back(ask);
    }

    /// No answer is wanted any more.
    pub(super) fn stop(&mut self) {
        self.waiting.clear();
        self.running.abort_all();
        self.deadline = None;
    }

    /// The next answer, or that there will be no more. Nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            let Some(deadline) = self.deadline else { return std::future::pending().await };
            let starts = !self.waiting.is_empty() && self.running.len() < self.settings.backfill.at_once;
            tokio::select! {
                biased;
                Some(answer) = self.running.join_next() => {
                    // What was aborted, nobody wants to know.
                    if let Ok(answer) = answer {
                        return answer;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.stop();
                    return Input::AskedEnough;
                }
                _ = self.pace.tick(), if starts => {
                    if let Some(ask) = self.waiting.pop_front() {
                        let (endpoint, type_meta) = (self.endpoint.clone(), self.type_meta.clone());
                        self.running.spawn(answer(ask, endpoint, type_meta, self.settings));
                    }
                }
            }
        }
    }
}

/// Asks until there is an answer; whoever waits for it ends this when it takes too long.
async fn answer(ask: Ask, endpoint: Endpoint, type_meta: TypeMeta, settings: WatchSettings) -> Input {
    let limit = settings.max_object_bytes.saturating_mul(2);
    let mut failures = 0;
    loop {
        let asked = endpoint.exactly(&ask.key, ask.at, limit);
        let text = tokio::time::timeout(settings.silence_limit, asked).await;
        let answer = match text.unwrap_or(Err(Trouble::Silent(settings.silence_limit))) {
            Ok(text) => read(&text, &ask, &type_meta),
            Err(Trouble::Expired) => Answer::Compacted,
            Err(
                trouble @ (Trouble::Unavailable { .. }
                | Trouble::Unreachable { .. }
                | Trouble::Broken { .. }
                | Trouble::Silent(_)),
            ) => {
                failures += 1;
                let wait = settings.reconnect.delay(failures, clock::jitter());
                tokio::time::sleep(wait.max(trouble.after().unwrap_or_default())).await;
                continue;
            }
            Err(trouble) => {
                tracing::warn!(%trouble, key = %ask.key, at = %ask.at, "unable to recover a version");
                Answer::Failed
            }
        };
        return Input::Answered { number: ask.number, answer };
    }
}

fn read(text: &[u8], ask: &Ask, type_meta: &TypeMeta) -> Answer {
    let Ok(page) = decode::page_with(text, type_meta, |item| match ask.died {
        Some(died) => ended_at(item, died).map_or(Cow::Borrowed(item), Cow::Owned),
        None => Cow::Borrowed(item),
    }) else {
        return Answer::Failed;
    };
    match page.items.into_iter().next() {
        None => Answer::Absent,
        Some(Decoded::Input(Input::Present(object))) if object.meta.key == ask.key => match ask.died {
            Some(died) if object.meta.resource_version != died => {
                let mut object = Object::clone(&object);
                object.meta.resource_version = died;
                Answer::Present(Arc::new(object))
            }
            _ => Answer::Present(object),
        },
        Some(_) => Answer::Failed,
    }
}

/// The object as a watch brings its end: with the version of the deletion.
fn ended_at(text: &[u8], version: ResourceVersion) -> Result<Vec<u8>, Unexpected> {
    let mut found = None;
    Cursor::new(text).members(|cursor, member| {
        if member.key != "metadata" {
            return cursor.skip_value();
        }
        cursor.members(|cursor, member| {
            cursor.skip_value()?;
            if member.key == "resourceVersion" {
                found = Some(member.range_to(cursor));
            }
            Ok(())
        })
    })?;
    let range = found.ok_or(Unexpected)?;
    let (first, last) = (text[range.start] == b',', text[range.end - 1] == b',');
    let member = format!(
        r#"{}"resourceVersion":"{version}"{}"#,
        if first { "," } else { "" },
        if last { "," } else { "" }
    );
    Ok([&text[..range.start], member.as_bytes(), &text[range.end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_carries_the_version_of_its_end_wherever_that_stands() {
        let at = |text: &str| {
            let ended = ended_at(text.as_bytes(), ResourceVersion(7)).ok()?;
            String::from_utf8(ended).ok()
        };
        let annotated =
            r#"{"metadata":{"annotations":{"resourceVersion":"5"},"resourceVersion":"5","uid":"u"}}"#;
        let expected =
            r#"{"metadata":{"annotations":{"resourceVersion":"5"},"resourceVersion":"7","uid":"u"}}"#;
        assert_eq!(at(annotated).as_deref(), Some(expected));
        let last = r#"{"metadata":{"name":"a","resourceVersion":"5"},"spec":{}}"#;
        assert_eq!(at(last).as_deref(), Some(r#"{"metadata":{"name":"a","resourceVersion":"7"},"spec":{}}"#));
        let alone = r#"{"metadata":{"resourceVersion":"5"}}"#;
        assert_eq!(at(alone).as_deref(), Some(r#"{"metadata":{"resourceVersion":"7"}}"#));
        assert_eq!(at(r#"{"metadata":{"name":"a"}}"#), None);
    }
}
