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
    delivery.report(batch, now, 1.0, |_, _| None)
}

#[test]
fn one_of_a_key_is_under_way_at_a_time() {
    let mut delivery = filled();
    assert_eq!(entries(&delivery.take(seconds(0), 10)), ["a1", "b1"]);
    assert!(delivery.take(seconds(0), 10).is_empty());
    assert_eq!(
        report(&mut delivery, &[("a", Outcome::Acked), ("b", Outcome::Acked)], seconds(0)),
        [Verdict::Settled("a1"), Verdict::Settled("b1")]
    );
    assert_eq!(entries(&delivery.take(seconds(0), 10)), ["a2"]);
    assert_eq!((delivery.pending(), delivery.in_flight()), (2, 1));
}

#[test]
fn a_key_in_trouble_holds_back_only_itself() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10);
    report(&mut delivery, &[("a", retry()), ("b", Outcome::Acked)], seconds(0));
    delivery.push(&key("b"), "b2");
    assert_eq!(entries(&delivery.take(seconds(0), 10)), ["b2"]);
    report(&mut delivery, &[("b", Outcome::Acked)], seconds(0));
    assert_eq!(delivery.next_attempt(), Some(Duration::from_millis(100)));
    assert_eq!(entries(&delivery.take(seconds(1), 10)), ["a1"]);
}

#[test]
fn a_batch_that_fails_as_a_whole_pauses_the_sink_and_is_tried_again_with_one() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10);
    report(&mut delivery, &[("a", retry()), ("b", retry())], seconds(0));
    assert!(delivery.take(Duration::from_millis(99), 10).is_empty());
    assert_eq!(delivery.next_attempt(), Some(Duration::from_millis(100)));
    let probe = delivery.take(Duration::from_millis(100), 10);
    assert_eq!(probe.len(), 1);
    assert!(delivery.take(Duration::from_millis(100), 10).is_empty());
    let name = probe[0].0.name().to_owned();
    report(&mut delivery, &[(&name, Outcome::Acked)], seconds(1));
    assert_eq!(delivery.take(seconds(1), 10).len(), 2);
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
    delivery.take(seconds(0), 10);
    let later = Outcome::Retry { reason: "slow down".into(), after: Some(seconds(7)) };
    report(&mut delivery, &[("a", later), ("b", Outcome::Acked)], seconds(0));
    assert!(delivery.take(seconds(6), 10).is_empty());
    assert_eq!(entries(&delivery.take(seconds(7), 10)), ["a1"]);
}

#[test]
fn a_rejected_entry_blocks_its_key_until_it_is_unblocked() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10);
    let verdicts = report(&mut delivery, &[("a", rejected()), ("b", Outcome::Acked)], seconds(0));
    assert_eq!(
        verdicts,
        [
            Verdict::Blocked { entry: "a1", reason: Rejection::Refused("never".into()) },
            Verdict::Settled("b1")
        ]
    );
    assert!(delivery.take(seconds(100), 10).is_empty());
    assert_eq!((delivery.pending(), delivery.blocked().len()), (3, 1));
    delivery.unblock();
    assert_eq!(entries(&delivery.take(seconds(100), 10)), ["a1"]);
}

#[test]
fn another_entry_may_take_the_place_of_a_rejected_one() {
    let mut delivery = filled();
    delivery.take(seconds(0), 10);
    let too_large = Outcome::Rejected { reason: Rejection::TooLarge { size: 2, limit: 1 } };
    let verdicts = delivery.report(vec![(key("a"), too_large)], seconds(0), 1.0, |entry, _| {
        assert_eq!(*entry, "a1");
        Some("a1 small")
    });
    assert_eq!(verdicts, []);
    assert_eq!(entries(&delivery.take(seconds(0), 10)), ["a1 small"]);
}
