use super::*;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) };

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Some("shop"), name)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn retry() -> Outcome {
    Outcome::Retry { reason: "no answer".into(), after: None }
}

fn rejected() -> Outcome {
    Outcome::Rejected { reason: Rejection::Refused("never".into()) }
}

/// Entries a1, a2, a3 of key a and b1 of key b.
fn filled() -> Delivery<&'static str> {
    let mut delivery = Delivery::new(BACKOFF);
    for entry in ["a1", "a2", "b1", "a3"] {
        delivery.push(&key(&entry[..1]), entry);
    }
    delivery
}

fn entries(batch: &[(ObjectKey, &'static str)]) -> Vec<&'static str> {
    batch.iter().map(|(_, entry)| *entry).collect()
}

fn report(
    delivery: &mut Delivery<&'static str>,
    outcomes: &[(&str, Outcome)],
    now: Duration,
) -> Vec<Verdict<&'static str>> {
    let batch = outcomes.iter().map(|(name, outcome)| (key(name), outcome.clone())).collect();
    delivery.report(batch, now, 1.0, &mut Block)
}

/// What is rejected stays, and nothing is given up.
struct Block;

impl Policy<&'static str> for Block {
    fn gives_up(&mut self, _: &&'static str, _: u32, _: &str) -> Option<Rejection> {
        None
    }

    fn resort(&mut self, _: &&'static str, _: &Rejection) -> Resort<&'static str> {
        Resort::Block
    }
}

/// After so many failures an entry is given up; what is given up, or rejected, is left out.
struct Drop(u32);

impl Policy<&'static str> for Drop {
    fn gives_up(&mut self, _: &&'static str, failures: u32, reason: &str) -> Option<Rejection> {
        (failures >= self.0).then(|| Rejection::GivenUp(reason.to_owned()))
    }

    fn resort(&mut self, _: &&'static str, _: &Rejection) -> Resort<&'static str> {
        Resort::Drop
    }
}

/// A smaller one takes the place of what is rejected.
struct Shrink;

impl Policy<&'static str> for Shrink {
    fn gives_up(&mut self, _: &&'static str, _: u32, _: &str) -> Option<Rejection> {
        None
    }

    fn resort(&mut self, entry: &&'static str, _: &Rejection) -> Resort<&'static str> {
        assert_eq!(*entry, "a1");
        Resort::Instead("a1 small")
    }
}

#[test]
fn one_of_a_key_is_under_way_at_a_time() {
    let mut delivery = filled();
    assert_eq!(entries(&delivery.take(seconds(0), 10, 1)), ["a1", "b1"]);
    assert!(delivery.take(seconds(0), 10, 1).is_empty());
    assert_eq!(
        report(&mut delivery, &[("a", Outcome::Acked), ("b", Outcome::Acked)], seconds(0)),
        [Verdict::Settled("a1"), Verdict::Settled("b1")]
    );
    assert_eq!(entries(&delivery.take(seconds(0), 10, 1)), ["a2"]);
    assert_eq!((delivery.pending(), delivery.in_flight()), (2, 1));
}

#[test]
fn a_key_in_trouble_holds_back_only_itself() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 1);
    report(&mut delivery, &[("a", retry()), ("b", Outcome::Acked)], seconds(0));
    delivery.push(&key("b"), "b2");
    assert_eq!(entries(&delivery.take(seconds(0), 10, 1)), ["b2"]);
    report(&mut delivery, &[("b", Outcome::Acked)], seconds(0));
    assert_eq!(delivery.next_attempt(), Some(Duration::from_millis(100)));
    assert_eq!(entries(&delivery.take(seconds(1), 10, 1)), ["a1"]);
}

#[test]
fn a_batch_that_fails_as_a_whole_pauses_the_sink_and_is_tried_again_with_one() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 1);
    report(&mut delivery, &[("a", retry()), ("b", retry())], seconds(0));
    assert!(delivery.take(Duration::from_millis(99), 10, 1).is_empty());
    assert_eq!(delivery.next_attempt(), Some(Duration::from_millis(100)));
    let probe = delivery.take(Duration::from_millis(100), 10, 1);
    assert_eq!(probe.len(), 1);
    assert!(delivery.take(Duration::from_millis(100), 10, 1).is_empty());
    let name = probe[0].0.name().to_owned();
    report(&mut delivery, &[(&name, Outcome::Acked)], seconds(1));
    assert_eq!(delivery.take(seconds(1), 10, 1).len(), 2);
}

#[test]
fn backoff_doubles_up_to_its_bound() {
    let delays: Vec<_> = [1, 2, 3, 9, 10, 60].map(|failures| BACKOFF.delay(failures, 1.0).as_millis()).into();
    assert_eq!(delays, [100, 200, 400, 25_600, 30_000, 30_000]);
    assert_eq!(BACKOFF.delay(1, 0.0), Duration::from_millis(50));
}

#[test]
fn the_brokers_own_time_is_respected() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 1);
    let later = Outcome::Retry { reason: "slow down".into(), after: Some(seconds(7)) };
    report(&mut delivery, &[("a", later), ("b", Outcome::Acked)], seconds(0));
    assert!(delivery.take(seconds(6), 10, 1).is_empty());
    assert_eq!(entries(&delivery.take(seconds(7), 10, 1)), ["a1"]);
}

#[test]
fn a_rejected_entry_blocks_its_key_until_it_is_unblocked() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 1);
    let verdicts = report(&mut delivery, &[("a", rejected()), ("b", Outcome::Acked)], seconds(0));
    assert_eq!(
        verdicts,
        [
            Verdict::Blocked { entry: "a1", reason: Rejection::Refused("never".into()) },
            Verdict::Settled("b1")
        ]
    );
    assert!(delivery.take(seconds(100), 10, 1).is_empty());
    assert_eq!((delivery.pending(), delivery.blocked().len()), (3, 1));
    delivery.unblock();
    assert_eq!(entries(&delivery.take(seconds(100), 10, 1)), ["a1"]);
}

/// What is rejected leaves with all of its key.
struct Withdraw;

impl Policy<&'static str> for Withdraw {
    fn gives_up(&mut self, _: &&'static str, _: u32, _: &str) -> Option<Rejection> {
        None
    }

    fn resort(&mut self, _: &&'static str, _: &Rejection) -> Resort<&'static str> {
        Resort::Withdraw
    }
}

#[test]
fn what_waits_for_its_next_attempt_is_tried_at_once_when_the_sink_is_another() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 1);
    let later = Outcome::Retry { reason: "busy".into(), after: Some(seconds(1000)) };
    report(&mut delivery, &[("a", later), ("b", Outcome::Acked)], seconds(0));
    assert!(delivery.take(seconds(1), 10, 1).is_empty());
    delivery.unblock();
    assert_eq!(entries(&delivery.take(seconds(1), 10, 1)), ["a1"]);
    assert!(delivery.take(seconds(2000), 10, 1).is_empty(), "it is under way once");
}

#[test]
fn a_rejected_entry_may_leave_with_all_that_waits_on_its_key() {
    for of_key in [1, 10] {
        let mut delivery = filled();
        let batch = delivery.take(seconds(0), 10, of_key);
        let outcomes = batch.into_iter().map(|(name, entry)| match entry {
            "a1" => (name, rejected()),
            _ => (name, Outcome::Acked),
        });
        let verdicts = delivery.report(outcomes.collect(), seconds(0), 1.0, &mut Withdraw);
        let reason = Rejection::Refused("never".into());
        let withdrawn = Verdict::Withdrawn { entries: vec!["a1", "a2", "a3"], reason };
        assert_eq!(verdicts, [withdrawn, Verdict::Settled("b1")]);
        assert_eq!((delivery.pending(), delivery.in_flight(), delivery.next_attempt()), (0, 0, None));
        delivery.push(&key("a"), "a1");
        assert_eq!(entries(&delivery.take(seconds(0), 10, of_key)), ["a1"]);
    }
}

#[test]
fn another_entry_may_take_the_place_of_a_rejected_one() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 1);
    let too_large = Outcome::Rejected { reason: Rejection::TooLarge { size: 2, limit: 1 } };
    let verdicts = delivery.report(vec![(key("a"), too_large)], seconds(0), 1.0, &mut Shrink);
    assert_eq!(verdicts, []);
    assert_eq!(entries(&delivery.take(seconds(0), 10, 1)), ["a1 small"]);
}

#[test]
fn what_is_given_up_is_left_out_and_its_key_goes_on() {
    let mut delivery = filled();
    for attempt in 1..=2 {
        delivery.take(seconds(attempt), 10, 1);
        let batch = vec![(key("a"), retry()), (key("b"), Outcome::Acked)];
        let verdicts = delivery.report(batch, seconds(attempt), 1.0, &mut Drop(2));
        let reason = Rejection::GivenUp("no answer".into());
        match attempt {
            1 => assert_eq!(verdicts.len(), 2),
            _ => assert_eq!(verdicts, [Verdict::Dropped { entry: "a1", reason }]),
        }
    }
    assert_eq!(entries(&delivery.take(seconds(9), 10, 1)), ["a2"]);
    assert_eq!(delivery.pending(), 2);
}

#[test]
fn several_of_a_key_are_under_way_together_where_the_sink_keeps_their_order() {
    let mut delivery = filled();
    assert_eq!(entries(&delivery.take(seconds(0), 3, 10)), ["a1", "a2", "a3"]);
    assert_eq!(entries(&delivery.take(seconds(0), 10, 10)), ["b1"]);
    delivery.push(&key("a"), "a4");
    assert!(delivery.take(seconds(0), 10, 10).is_empty(), "of the key there is a batch under way");
    let acked = ["a", "a", "a"].map(|name| (name, Outcome::Acked));
    assert_eq!(report(&mut delivery, &acked, seconds(0)).len(), 3);
    assert_eq!(entries(&delivery.take(seconds(0), 10, 10)), ["a4"]);
    assert_eq!((delivery.pending(), delivery.in_flight()), (2, 2));
}

#[test]
fn everything_behind_a_failure_of_its_key_is_sent_again_in_order() {
    for (outcome, blocked) in [(retry(), false), (rejected(), true)] {
        let mut delivery = filled();
        assert_eq!(entries(&delivery.take(seconds(0), 10, 10)), ["a1", "a2", "a3", "b1"]);
        let outcomes = [("a", Outcome::Acked), ("a", outcome), ("a", Outcome::Acked), ("b", Outcome::Acked)];
        let verdicts = report(&mut delivery, &outcomes, seconds(0));
        assert_eq!((&verdicts[0], verdicts.len()), (&Verdict::Settled("a1"), 3));
        assert_eq!((delivery.pending(), delivery.blocked().len()), (2, usize::from(blocked)));
        delivery.unblock();
        assert_eq!(entries(&delivery.take(seconds(1), 10, 10)), ["a2", "a3"]);
    }
}

#[test]
fn a_smaller_one_in_the_place_of_a_large_one_goes_before_what_follows() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10, 10);
    let outcomes = [("a", rejected()), ("a", Outcome::Acked), ("a", Outcome::Acked), ("b", Outcome::Acked)];
    let batch = outcomes.iter().map(|(name, outcome)| (key(name), outcome.clone())).collect();
    delivery.report(batch, seconds(0), 1.0, &mut Shrink);
    assert_eq!(entries(&delivery.take(seconds(0), 10, 10)), ["a1 small", "a2", "a3"]);
}

/// What is rejected leaves the line.
struct Aside;

impl Policy<&'static str> for Aside {
    fn gives_up(&mut self, _: &&'static str, failures: u32, reason: &str) -> Option<Rejection> {
        (failures == 3).then(|| Rejection::GivenUp(reason.to_owned()))
    }

    fn resort(&mut self, _: &&'static str, _: &Rejection) -> Resort<&'static str> {
        Resort::Aside
    }
}

#[test]
fn what_is_put_aside_leaves_the_line_with_the_number_of_its_attempts() {
    let aside = |outcomes: &[Outcome]| {
        let (mut delivery, mut now) = (filled(), Duration::ZERO);
        let mut verdicts = Vec::new();
        for outcome in outcomes {
            now += seconds(60);
            let batch = delivery.take(now, 1, 1);
            let batch = batch.into_iter().map(|(key, _)| (key, outcome.clone())).collect();
            verdicts = delivery.report(batch, now, 1.0, &mut Aside);
        }
        (verdicts, delivery)
    };
    for (outcomes, expected) in [(vec![rejected()], 1), (vec![retry(), retry(), retry()], 3)] {
        let (verdicts, mut delivery) = aside(&outcomes);
        assert!(
            matches!(&verdicts[..], [Verdict::Aside { entry: "a1", attempts, .. }] if *attempts == expected),
            "{verdicts:?}"
        );
        assert_eq!((delivery.pending(), delivery.held_back()), (3, 0));
        assert_eq!(entries(&delivery.take(seconds(600), 8, 1))[0], "b1");
    }
}

#[test]
fn a_person_can_have_one_blocked_key_tried_again_or_leave_out_what_blocks_it() {
    let mut delivery = filled();
    delivery.take(seconds(0), 8, 1);
    report(&mut delivery, &[("a", rejected()), ("b", rejected())], seconds(0));
    assert!(!delivery.unblock_key(&key("c")));
    assert!(delivery.unblock_key(&key("a")));
    assert_eq!(entries(&delivery.take(seconds(0), 8, 1)), ["a1"]);
    report(&mut delivery, &[("a", rejected())], seconds(0));

    assert_eq!((delivery.blocking(&key("a")), delivery.blocking(&key("c"))), (Some(&"a1"), None));
    assert_eq!((delivery.skip(&key("a")), delivery.skip(&key("a"))), (Some("a1"), None));
    assert_eq!(delivery.skip(&key("b")), Some("b1"));
    assert_eq!((delivery.pending(), delivery.blocked().len()), (2, 0));
    assert_eq!(entries(&delivery.take(seconds(0), 8, 8)), ["a2", "a3"]);
}
