//! The loop, with letters and a sink that do as they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tidings_config::sink::stdout::StdoutFormat;
use tidings_core::delivery::Rejection;
use tidings_core::route::Kind;
use tidings_sinks::Encoder;
use tidings_sinks::message::Message;
use tidings_sinks::sink::Sink;
use tidings_sinks::stdout::encode::StdoutEncoder;

use super::*;

const OURS: &str = "shop/all";

/// Dead letters in memory.
#[derive(Default)]
struct Drawer {
    letters: VecDeque<Letter>,
    fates: BTreeMap<u64, Fate>,
    unconsumable: bool,
    /// What is said instead of an end.
    trouble: Option<NotReady>,
    /// Cancelled when the last one is given.
    stop: CancellationToken,
    stops: bool,
}

/// A sink that answers as it is told, by id, and takes everything else.
#[derive(Default)]
struct Answers {
    by_id: Mutex<BTreeMap<String, VecDeque<Outcome>>>,
    /// Ids in the order of calls, each call for itself.
    calls: Mutex<Vec<Vec<String>>>,
}

#[async_trait]
impl Letters for Drawer {
    async fn next(&mut self) -> Result<Option<Letter>, NotReady> {
        let next = self.letters.pop_front();
        if self.stops && self.letters.is_empty() {
            self.stop.cancel();
        }
        if next.is_none() { self.trouble.take().map_or(Ok(None), Err) } else { Ok(next) }
    }

    async fn settle(&mut self, receipt: Receipt, fate: Fate) -> Result<(), NotReady> {
        if self.unconsumable && fate == Fate::Consumed {
            return Err(NotReady::new("Unreachable", "gone"));
        }
        assert_eq!(self.fates.insert(receipt.0, fate), None, "settled twice");
        Ok(())
    }

    async fn close(&mut self) -> Result<(), NotReady> {
        Ok(())
    }
}

#[async_trait]
impl Sink for Answers {
    async fn check(&self) -> Result<(), NotReady> {
        Ok(())
    }

    async fn deliver(&self, messages: &[Message]) -> Vec<Outcome> {
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        let mut by_id = self.by_id.lock().unwrap();
        let answer = |id: &String| by_id.get_mut(id).and_then(VecDeque::pop_front).unwrap_or(Outcome::Acked);
        let outcomes = ids.iter().map(answer).collect();
        self.calls.lock().unwrap().push(ids);
        outcomes
    }

    async fn close(&self, _deadline: Duration) {}
}

impl Drawer {
    /// Letters with these ids about these keys.
    fn with(letters: &[(&str, &str)]) -> Self {
        let mut drawer = Self::default();
        for (id, key) in letters {
            drawer.add(OURS, id, key);
        }
        drawer
    }

    fn add(&mut self, subscription: &str, id: &str, key: &str) {
        let attributes = [
            ("specversion", "1.0"),
            ("id", id),
            ("source", "/clusters/blue/apis/k8sasbackend.com/todos"),
            ("type", "com.k8sasbackend.todo.added"),
            ("subject", key),
            ("partitionkey", key),
            ("datacontenttype", "application/json"),
            ("sequence", "000000000000.00000000000000000007"),
            ("subscription", subscription),
            ("k8suid", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"),
            ("reason", "watch"),
            ("traceparent", "00-1-1-00"),
            ("deadletterreason", "Refused"),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let content = Content { attributes, data: Bytes::from_static(b"{}") };
        self.put(Ok(content));
    }

    fn put(&mut self, content: Result<Content, tidings_sinks::decode::Error>) {
        let receipt = Receipt(self.letters.len() as u64);
        self.letters.push_back(Letter { receipt, place: "the drawer".to_owned(), content });
    }
}

fn refused() -> Outcome {
    Outcome::Rejected { reason: Rejection::Refused("no".to_owned()) }
}

fn later() -> Outcome {
    Outcome::Retry { reason: "away".to_owned(), after: None }
}

/// Runs it, and answers what was told (id and end), what was called, and how it ended.
async fn run(
    drawer: &mut Drawer,
    choice: Choice,
    answers: &[(&str, &[Outcome])],
) -> (Vec<(String, End)>, Vec<Vec<String>>, Tally, Result<(), Error>) {
    let sink = Arc::new(Answers::default());
    for (id, outcomes) in answers {
        sink.by_id.lock().unwrap().insert((*id).to_owned(), outcomes.iter().cloned().collect());
    }
    let encoder = Encoder::Stdout(StdoutEncoder::new(StdoutFormat::Json, false));
    let target = Target { encoder, sink: sink.clone(), ordered: false };
    let kinds = vec![Kind::new("k8sasbackend.com/v1", "Todo")];
    let recipient = Recipient { subscription: OURS.into(), uid: "uid".into(), kinds };
    let mut told = Vec::new();
    let stop = drawer.stop.clone();
    let redrive = Redrive {
        letters: drawer,
        target: &target,
        recipient: &recipient,
        choice: &choice,
        stop: &stop,
        tell: |said| {
            if let Said::Told(letter) = said {
                told.push((letter.content.attribute("id").to_owned(), letter.end));
            }
        },
    };
    let (tally, outcome) = redrive.run().await;
    let calls = sink.calls.lock().unwrap().clone();
    (told, calls, tally, outcome)
}

fn fates(drawer: &Drawer) -> Vec<Fate> {
    drawer.fates.values().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn only_what_the_sink_has_is_consumed() {
    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b"), ("3", "c")]);
    let (told, calls, tally, outcome) = run(&mut drawer, Choice::default(), &[("2", &[refused()])]).await;
    outcome.unwrap();
    assert_eq!(fates(&drawer), [Fate::Consumed, Fate::Left, Fate::Consumed]);
    assert_eq!(calls, [["1", "2", "3"]], "different keys go together");
    let ends: Vec<_> = told.iter().map(|(id, end)| (id.as_str(), end.clone())).collect();
    assert_eq!(ends, [("1", End::Sent), ("2", End::Refused("no".to_owned())), ("3", End::Sent)]);
    assert_eq!((tally.sent, tally.refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn of_one_key_one_goes_after_the_other() {
    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b"), ("3", "a"), ("4", "b"), ("5", "a")]);
    let (_, calls, ..) = run(&mut drawer, Choice::default(), &[("1", &[later()])]).await;
    assert_eq!(calls, [vec!["1", "2"], vec!["1"], vec!["3", "4"], vec!["5"]]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_asked_a_few_times_and_then_nothing_more_is_tried() {
    let away: Vec<_> = (0..ATTEMPTS).map(|_| later()).collect();
    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b"), ("3", "a")]);
    let (_, calls, tally, outcome) = run(&mut drawer, Choice::default(), &[("1", &away)]).await;
    assert!(matches!(outcome, Err(Error::Sink(reason)) if reason == "away"));
    assert_eq!((calls.len(), tally.sent), (ATTEMPTS as usize, 1));
    assert_eq!(drawer.fates, [(1, Fate::Consumed)].into());
}

#[tokio::test(start_paused = true)]
async fn what_is_of_others_is_passed_and_what_is_not_wanted_is_left() {
    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b"), ("3", "b")]);
    drawer.add("shop/other", "4", "a");
    drawer.put(Err(tidings_sinks::decode::Error::NotCloudEvent));
    let keys = Choice { keys: ["b".to_owned()].into(), ids: ["3".to_owned()].into(), ..Choice::default() };
    let (_, calls, tally, outcome) = run(&mut drawer, keys, &[]).await;
    outcome.unwrap();
    assert_eq!(calls, [["3"]]);
    assert_eq!(fates(&drawer), [Fate::Left, Fate::Left, Fate::Consumed, Fate::Passed, Fate::Passed]);
    assert_eq!((tally.unwanted, tally.others, tally.read()), (2, 2, 5));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_sends_and_consumes_nothing_and_no_more_than_the_limit_is_read() {
    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b"), ("3", "c")]);
    let choice = Choice { dry_run: true, limit: Some(2), ..Choice::default() };
    let (told, calls, ..) = run(&mut drawer, choice, &[]).await;
    assert_eq!(told, [("1".to_owned(), End::Listed), ("2".to_owned(), End::Listed)]);
    assert_eq!((calls.len(), fates(&drawer)), (0, vec![Fate::Left, Fate::Left]));

    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b"), ("3", "c")]);
    let choice = Choice { limit: Some(2), ..Choice::default() };
    let (_, calls, ..) = run(&mut drawer, choice, &[]).await;
    assert_eq!((calls, drawer.letters.len()), (vec![vec!["1".to_owned(), "2".to_owned()]], 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_as_it_was_stays_and_is_said() {
    let mut drawer = Drawer::with(&[("1", "a"), ("2", "b")]);
    let Ok(content) = &mut drawer.letters[0].content else { panic!() };
    content.attributes.insert("future".to_owned(), "1".to_owned());
    let (told, calls, tally, outcome) = run(&mut drawer, Choice::default(), &[]).await;
    outcome.unwrap();
    assert!(matches!(&told[0].1, End::Unreadable(why) if why.contains("attribute future")), "{told:?}");
    assert_eq!((calls, tally.unreadable), (vec![vec!["2".to_owned()]], 1));
    assert_eq!(fates(&drawer), [Fate::Left, Fate::Consumed]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_consumed_ends_it() {
    let mut drawer = Drawer { unconsumable: true, ..Drawer::with(&[("1", "a"), ("2", "a")]) };
    let (_, calls, _, outcome) = run(&mut drawer, Choice::default(), &[]).await;
    assert!(matches!(outcome, Err(Error::Letters(_))));
    assert_eq!(calls, [["1"]]);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_the_place_fails_goes_out() {
    let trouble = Some(NotReady::new("Busy", "somebody else"));
    let mut drawer = Drawer { trouble, ..Drawer::with(&[("1", "a"), ("2", "b")]) };
    let (_, calls, tally, outcome) = run(&mut drawer, Choice::default(), &[]).await;
    assert!(matches!(outcome, Err(Error::Letters(why)) if why.reason == "Busy"));
    assert_eq!((calls, tally.sent), (vec![vec!["1".to_owned(), "2".to_owned()]], 2));
}

#[tokio::test(start_paused = true)]
async fn who_stops_it_has_nothing_more_sent() {
    let mut drawer = Drawer { stops: true, ..Drawer::with(&[("1", "a"), ("2", "a"), ("3", "b")]) };
    let (_, calls, tally, outcome) = run(&mut drawer, Choice::default(), &[]).await;
    assert!(matches!(outcome, Err(Error::Stopped)));
    assert_eq!((calls, tally.sent), (vec![vec!["1".to_owned()]], 1));
    assert_eq!(drawer.fates, [(0, Fate::Consumed)].into());
}
