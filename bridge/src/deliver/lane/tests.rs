//! One lane with a sink that is made for the test, in paused time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use tidings_config::sink::stdout::StdoutFormat;
use tidings_core::change::{Change, ChangeKind};
use tidings_core::delivery::{Backoff, Outcome, Rejection};
use tidings_core::event::EventContext;
use tidings_core::known::Slot;
use tidings_core::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use tidings_core::route::Resource;
use tidings_crds::subscription::OnReject;
use tidings_sinks::message::Message;
use tidings_sinks::sink::Sink;
use tidings_sinks::stdout::encode::StdoutEncoder;
use tidings_sinks::{Encoder, Target};
use tokio::time::Instant;

use super::outlet::RECHECK;
use super::*;
use crate::deliver::{DeliverySettings, Lane, Orders, RetryOrder, Targets};
use crate::journal::{Journal, Memory};
use crate::metrics::Metrics;
use crate::state::record::Recipient;

/// A broker that is away until it is told otherwise.
#[derive(Default)]
struct Away {
    back: AtomicBool,
    /// It says that it is well, and takes nothing.
    lies: AtomicBool,
    /// It takes a while to say no.
    slow: AtomicBool,
    /// It says that it will never take what it is given.
    refuses: AtomicBool,
    attempts: AtomicU64,
    checks: AtomicU64,
    /// What it took.
    taken: Mutex<Vec<Message>>,
}

const SLOW: Duration = Duration::from_secs(10);

#[async_trait]
impl Sink for Away {
    async fn check(&self) -> Result<(), NotReady> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        let well = self.back.load(Ordering::Relaxed) || self.lies.load(Ordering::Relaxed);
        if well { Ok(()) } else { Err(NotReady::new("Unreachable", "it is away")) }
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.slow.load(Ordering::Relaxed) {
            tokio::time::sleep(SLOW).await;
        }
        let outcome = if self.back.load(Ordering::Relaxed) {
            self.taken.lock().unwrap().extend_from_slice(messages);
            Outcome::Acked
        } else if self.refuses.load(Ordering::Relaxed) {
            Outcome::Rejected { reason: Rejection::Refused("it is not wanted".to_owned()) }
        } else {
            Outcome::Retry { reason: "it is away".to_owned(), after: None }
        };
        vec![outcome; messages.len()]
    }

    async fn close(&self, _deadline: Duration) {}
}

/// A lane to `sink` with one Change to tell, tried at most every half an hour.
async fn lane(sink: Arc<Away>) -> (Lane, Journal) {
    lane_with(sink, settings()).await
}

fn settings() -> DeliverySettings {
    let max = Duration::from_mins(30);
    DeliverySettings::new(16, Backoff { first: Duration::from_millis(100), max })
}

async fn lane_with(sink: Arc<Away>, settings: DeliverySettings) -> (Lane, Journal) {
    lane_to(target(sink).into(), settings).await
}

fn target(sink: Arc<Away>) -> Target {
    let encoder = Encoder::Stdout(StdoutEncoder::new(StdoutFormat::Json, false));
    Target { encoder, sink, ordered: false }
}

async fn lane_to(targets: Targets, settings: DeliverySettings) -> (Lane, Journal) {
    let metrics = Metrics::default().delivery("shop/orders");
    let lane = Lane::start(1, targets, settings, metrics, Clock::start());

    let journal = Journal::new(Memory::new(1 << 20));
    journal.follow(Slot(0), lane.sender().wake());
    let resource = Resource {
        group: "example.com".to_owned(),
        version: "v1".to_owned(),
        kind: "Order".to_owned(),
        plural: "orders".to_owned(),
        namespaced: true,
    };
    let context = Arc::new(EventContext::new("test", &"shop/orders".into(), &"uid".into(), &resource));
    let source = Source { watch: 1, journal: journal.clone(), slot: Slot(0), context, chunks: None };
    lane.sender().source(SourceChange::Follow(Arc::new(source))).await;
    journal.append(vec![record("milk", 1)], Some(ResourceVersion(1)));
    (lane, journal)
}

fn record(name: &str, version: u64) -> JournalRecord {
    let meta = Meta::new(ObjectKey::new(Some("shop"), name), Uid::new("u"), ResourceVersion(version));
    let change = Change::watched(ChangeKind::Added, Object { meta, body: "{}".into() });
    let to = vec![Recipient { slot: Slot(0), generation: 1 }];
    JournalRecord { number: 0, change: change.into(), to, before: None, decided: 1 }
}

/// How long the Change of `journal` is not settled from now on.
async fn settled_after(journal: &Journal) -> Duration {
    let started = Instant::now();
    while journal.standing(Slot(0)).open > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_back_is_not_kept_waiting() {
    let sink = Arc::new(Away::default());
    let (_lane, journal) = lane(sink.clone()).await;
    let hours = Duration::from_hours(2);
    assert!(tokio::time::timeout(hours, settled_after(&journal)).await.is_err());
    let (attempts, checks) = (sink.attempts.load(Ordering::Relaxed), sink.checks.load(Ordering::Relaxed));
    assert!(attempts < 40, "{attempts} attempts in two hours");
    assert!((3600..8000).contains(&checks), "{checks} checks in two hours");
    sink.back.store(true, Ordering::Relaxed);
    let waited = settled_after(&journal).await;
    assert!(waited <= RECHECK + Duration::from_millis(100), "{waited:?}");
}

/// Somebody put the sink right by writing another one: what waited does not wait for what the first one made of it.
#[tokio::test(start_paused = true)]
async fn another_sink_is_not_kept_waiting() {
    for (slow, refuses) in [(false, false), (true, false), (true, true)] {
        let sink = Arc::new(Away::default());
        let (lane, journal) = lane(sink.clone()).await;
        let minutes = Duration::from_mins(5);
        assert!(tokio::time::timeout(minutes, settled_after(&journal)).await.is_err());
        if slow {
            // Its last word comes when the other one has said that it is well.
            sink.slow.store(true, Ordering::Relaxed);
            let attempts = sink.attempts.load(Ordering::Relaxed);
            while sink.attempts.load(Ordering::Relaxed) == attempts {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sink.refuses.store(refuses, Ordering::Relaxed);
        }
        let other = Arc::new(Away::default());
        other.back.store(true, Ordering::Relaxed);
        lane.retarget(target(other).into(), settings());
        let waited = tokio::time::timeout(minutes, settled_after(&journal)).await.unwrap();
        assert!(waited <= SLOW + Duration::from_millis(100), "{waited:?} with {slow}, {refuses}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_says_it_is_well_and_takes_nothing_is_not_hammered() {
    let sink = Arc::new(Away::default());
    sink.lies.store(true, Ordering::Relaxed);
    let (lane, journal) = lane(sink.clone()).await;
    assert!(tokio::time::timeout(Duration::from_hours(2), settled_after(&journal)).await.is_err());
    let attempts = sink.attempts.load(Ordering::Relaxed);
    assert!(attempts < 40, "{attempts} attempts in two hours");
    let report = lane.report();
    assert_eq!((report.sink, report.failing.as_deref()), (Some(Ok(())), Some("it is away")));
    sink.back.store(true, Ordering::Relaxed);
    settled_after(&journal).await;
    assert_eq!(lane.report().failing, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_left_out_and_counted_where_that_is_wanted() {
    let sink = Arc::new(Away::default());
    sink.refuses.store(true, Ordering::Relaxed);
    let (lane, journal) = lane_with(sink, DeliverySettings { on_reject: OnReject::Drop, ..settings() }).await;
    settled_after(&journal).await;
    let report = lane.report();
    assert_eq!((report.acked, report.rejected, report.dropped, report.blocked_keys), (0, 1, 1, 0));
    assert_eq!(report.last_error.unwrap().1, "shop/milk: it is not wanted");
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_for_long_enough_is_given_up() {
    let attempts = DeliverySettings { max_attempts: Some(3), ..settings() };
    let age = DeliverySettings { max_age: Some(Duration::from_hours(1)), ..settings() };
    for (settings, why) in [(attempts, "given up: 3 attempts failed"), (age, "given up: it is ")] {
        let sink = Arc::new(Away::default());
        let (lane, _journal) = lane_with(sink.clone(), settings).await;
        while lane.report().blocked_keys == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let blocked = lane.report().blocked;
        assert!(
            blocked[0].reason.starts_with(why) && blocked[0].reason.contains("it is away"),
            "{blocked:?}"
        );
        let attempts = sink.attempts.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_hours(10)).await;
        assert_eq!(sink.attempts.load(Ordering::Relaxed), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_suspended_is_sent_nothing_until_the_end_of_that() {
    let sink = Arc::new(Away::default());
    sink.back.store(true, Ordering::Relaxed);
    let (lane, journal) = lane_with(sink.clone(), DeliverySettings { suspended: true, ..settings() }).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!((sink.attempts.load(Ordering::Relaxed), journal.standing(Slot(0)).open), (0, 1));
    assert!(lane.report().suspended);
    lane.resettle(settings());
    settled_after(&journal).await;
}

/// Waits until the lane says so.
async fn until(lane: &Lane, is: impl Fn(&LaneReport) -> bool) -> LaneReport {
    loop {
        let report = lane.report();
        if is(&report) {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_settled_when_its_sink_has_it_and_says_why_it_is_there() {
    let (sink, dead) = (Arc::new(Away::default()), Arc::new(Away::default()));
    sink.refuses.store(true, Ordering::Relaxed);
    let dead_letters = Some(target(dead.clone()));
    let targets = Targets { main: target(sink), dead_letters, name: "Sink company".into() };
    let settings = DeliverySettings { on_reject: OnReject::DeadLetter, ..settings() };
    let (lane, journal) = lane_to(targets, settings).await;
    let report = until(&lane, |report| report.dead_letters == 1 && report.retried > 0).await;
    assert!(matches!(&report.dead_letter_sink, Some(Err(not_ready)) if not_ready.reason == "Unreachable"));
    assert_eq!((journal.standing(Slot(0)).open, report.blocked_keys, report.rejected), (1, 0, 1));

    dead.back.store(true, Ordering::Relaxed);
    settled_after(&journal).await;
    let well = |report: &LaneReport| report.dead_lettered == 1 && report.dead_letter_sink == Some(Ok(()));
    let report = until(&lane, well).await;
    assert_eq!((report.acked, report.dead_letters), (0, 0));
    let taken = dead.taken.lock().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&taken[0].body).unwrap();
    assert_eq!((&event["id"], &event["deadletterreason"]), (&"u.1".into(), &"Refused".into()));
    assert_eq!(
        (&event["deadlettererror"], &event["deadletterattempts"]),
        (&"it is not wanted".into(), &"1".into())
    );
    assert_eq!(event["deadlettersink"], "Sink company");
}

#[tokio::test(start_paused = true)]
async fn what_blocks_its_key_is_tried_again_when_a_person_says_so() {
    let sink = Arc::new(Away::default());
    sink.refuses.store(true, Ordering::Relaxed);
    let (lane, journal) = lane(sink.clone()).await;
    until(&lane, |report| report.blocked_keys == 1).await;
    sink.back.store(true, Ordering::Relaxed);
    let retry = |token: &str, key: &str| {
        let (token, key) = (token.to_owned(), Some(ObjectKey::new(Some("shop"), key)));
        Orders { retry: Some(RetryOrder { token, key }), ..Orders::default() }
    };
    lane.order(retry("1", "bread"));
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(lane.report().blocked_keys, 1);
    lane.order(retry("2", "milk"));
    settled_after(&journal).await;
    assert_eq!(until(&lane, |report| report.acked == 1).await.blocked, []);
}

#[tokio::test(start_paused = true)]
async fn what_blocks_its_key_is_left_out_when_a_person_names_it() {
    let skip = |id: &str| Orders { skip: [id.to_owned()].into(), ..Orders::default() };
    let sink = Arc::new(Away::default());
    sink.refuses.store(true, Ordering::Relaxed);
    let (lane, journal) = lane(sink.clone()).await;
    let report = until(&lane, |report| report.blocked_keys == 1).await;
    assert_eq!(report.blocked[0].id, "u.1");
    lane.order(skip("u.2"));
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(journal.standing(Slot(0)).open, 1);
    lane.order(skip("u.1"));
    settled_after(&journal).await;
    assert_eq!(until(&lane, |report| report.dropped == 1).await.blocked_keys, 0);

    // After a restart the order is there first.
    let (lane, journal) = self::lane(sink).await;
    lane.order(skip("u.1"));
    settled_after(&journal).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_refused_event_is_not_in_memory_and_comes_in_order_afterwards() {
    let sink = Arc::new(Away::default());
    sink.refuses.store(true, Ordering::Relaxed);
    let (lane, journal) = lane(sink.clone()).await;
    until(&lane, |report| report.blocked_keys == 1).await;
    sink.refuses.store(false, Ordering::Relaxed);
    sink.back.store(true, Ordering::Relaxed);

    // Far more than a lane holds.
    let other = Recipient { slot: Slot(1), generation: 1 };
    journal.follow(other.slot, Arc::new(Notify::new()));
    let mut behind: Vec<_> = (2..=2000).map(|version| record("milk", version)).collect();
    for record in &mut behind {
        record.to.push(other);
    }
    journal.append(behind, Some(ResourceVersion(2000)));
    let all = Room { changes: usize::MAX, bytes: usize::MAX };
    let Taken::Changes(behind) = journal.take(other.slot, all) else { panic!("they are there") };
    journal.append(vec![record("bread", 2001)], Some(ResourceVersion(2001)));
    let report = until(&lane, |report| report.acked == 1).await;
    assert_eq!((report.pending, report.blocked_keys), (2000, 1), "another key goes on");
    let held = behind.iter().filter(|record| Arc::strong_count(record) > 2).count();
    assert_eq!(held, 0, "the Journal has them, and nobody else but this test");

    let retry = RetryOrder { token: "1".to_owned(), key: None };
    lane.order(Orders { retry: Some(retry), ..Orders::default() });
    tokio::time::timeout(Duration::from_hours(1), settled_after(&journal)).await.unwrap();
    let taken = sink.taken.lock().unwrap();
    let version = |message: &Message| -> u64 {
        let event: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        event["id"].as_str().unwrap().strip_prefix("u.").unwrap().parse().unwrap()
    };
    assert_eq!(taken[1..].iter().map(version).collect::<Vec<_>>(), (1..=2000).collect::<Vec<_>>());
}
