use futures::FutureExt as _;

use super::*;

#[tokio::test]
async fn a_batch_is_done_when_everything_was_sent_and_reported() {
    let batch = Batch::new();
    let (record, tombstone) = (batch.slot(0), batch.slot(0));
    record.report(None);
    tombstone.report(None);
    assert_eq!(batch.done().now_or_never(), None, "more may come");
    let last = batch.slot(1);
    batch.sent();
    assert_eq!(batch.done().now_or_never(), None);
    last.report(None);
    batch.done().await;
    batch.done().await;
    assert!(!batch.is_open() && batch.failures().is_empty());
}

#[test]
fn a_message_has_failed_when_any_of_its_records_has() {
    let batch = Batch::new();
    let slots = [batch.slot(0), batch.slot(1), batch.slot(1), batch.slot(2)];
    batch.sent();
    let reports = [None, None, Some(RDKafkaErrorCode::PurgeQueue), Some(RDKafkaErrorCode::InvalidRecord)];
    for (slot, report) in slots.into_iter().zip(reports) {
        slot.report(report);
    }
    let expected = [(1, RDKafkaErrorCode::PurgeQueue), (2, RDKafkaErrorCode::InvalidRecord)];
    assert_eq!(batch.failures(), BTreeMap::from(expected));
}

#[tokio::test(start_paused = true)]
async fn patience_ends_with_silence_not_with_slowness_and_not_never() {
    let events = Events::new(None);
    let since = Instant::now();
    let mut patience = Patience::new(&events);
    assert_eq!(patience.over().await, Over::Silence);
    assert_eq!(since.elapsed(), SILENCE);

    patience.renew();
    for _ in 0..3 {
        tokio::time::advance(SILENCE / 2).await;
        events.hear();
        assert_eq!(patience.ended(), None);
    }
    while patience.ended().is_none() {
        tokio::time::advance(SILENCE / 2).await;
        events.hear();
    }
    assert_eq!(patience.over().await, Over::End);
    assert!(since.elapsed() < END + SILENCE);
}
