//! Somebody who writes all the time: good Subscriptions and broken ones in turn, through the API server. Nothing is stored, so
//! that it goes fast; the webhook is asked all the same.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kube::core::Status;
use tidings_testbed::api_server;
use tokio::task::JoinSet;

use super::{BROKEN, broken, create, subscription};

/// What became of what was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Good ones that were accepted, and broken ones that were refused for every mistake.
    pub(crate) right: u64,
    /// Good ones that were refused.
    pub(crate) refused: u64,
    /// Broken ones that were accepted.
    pub(crate) accepted: u64,
    /// Either, where the API server got no answer.
    pub(crate) unanswered: u64,
    /// Some of what went wrong, in words.
    pub(crate) words: Vec<String>,
}

pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

// === impl Load ===

impl Load {
    /// So many write at once.
    pub(crate) async fn start(kubeconfig: &Path, namespace: &'static str, workers: usize) -> Self {
        let mut load = Self {
            tally: Arc::default(),
            count: Arc::default(),
            stop: Arc::default(),
            workers: JoinSet::new(),
        };
        for worker in 0..workers {
            let client = api_server::client(kubeconfig).await.unwrap();
            let (tally, count, stop) = (load.tally.clone(), load.count.clone(), load.stop.clone());
            load.workers.spawn(async move {
                let good = subscription(&format!("good-{worker}"), serde_json::json!({}));
                let bad = broken(&format!("bad-{worker}"));
                while !stop.load(Ordering::Relaxed) {
                    let answer = create(&client, namespace, &good, "?dryRun=All").await;
                    tally.lock().unwrap().good(answer.map(drop));
                    let answer = create(&client, namespace, &bad, "?dryRun=All").await;
                    tally.lock().unwrap().bad(answer.map(drop));
                    count.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// How many were written so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.unwrap();
        }
        self.tally.lock().unwrap().clone()
    }
}

// === impl Tally ===

impl Tally {
    fn good(&mut self, answer: kube::Result<()>) {
        match answer {
            Ok(()) => self.right += 1,
            Err(error) if is_unanswered(&error) => self.no_answer(&error),
            Err(error) => {
                self.refused += 1;
                self.say(&error);
            }
        }
    }

    fn bad(&mut self, answer: kube::Result<()>) {
        match answer {
            Ok(()) => {
                self.accepted += 1;
                self.say(&"a broken one was accepted");
            }
            Err(kube::Error::Api(status)) if is_refused_for_everything(&status) => self.right += 1,
            Err(error) => self.no_answer(&error),
        }
    }

    fn no_answer(&mut self, error: &kube::Error) {
        self.unanswered += 1;
        self.say(error);
    }

    fn say(&mut self, words: &dyn fmt::Display) {
        if self.words.len() < 20 {
            self.words.push(words.to_string());
        }
    }
}

fn is_refused_for_everything(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.map(|cause| cause.field.as_str()).eq(BROKEN)
}

fn is_unanswered(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 500 && status.message.contains("failed calling webhook"))
}
