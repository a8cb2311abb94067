use rdkafka::types::RDKafkaRespErr;
use tidings_core::object::ObjectKey;

use super::*;

fn circumstances(batch_bytes: usize) -> Circumstances {
    Circumstances { limit: Some(1000), batch_bytes, compressed: false }
}

fn message(destination: &str, body: usize) -> Message {
    Message {
        id: "1".to_owned(),
        destination: destination.to_owned(),
        key: ObjectKey::new(None, "x"),
        record_key: "key".to_owned(),
        tombstone: false,
        headers: [("ce_id", "1")].into_iter().collect(),
        body: vec![b' '; body].into(),
    }
}

/// What a record is told that failed with any code of librdkafka and of brokers; by what the reason begins with.
const MEANINGS: [(&str, &[i32]); 14] = [
    ("there is no topic todos", &[-188, 3, 100]),
    ("the user may not write to the topic todos", &[29]),
    ("the user may write to no topic, ", &[31]),
    ("the brokers take nothing more", &[-184]),
    ("no acknowledgement in time", &[-192, -185, -166, -152, -151, 7]),
    ("the producer has to begin anew: ", &[-150, -148, -144, 45, 46, 47, 49, 59, 90]),
    ("the connection was lost: ", &[-197, -195, -193, -187, -181, -169, -146, -137, 13, 33, 34, 58]),
    (
        "the topic todos takes nothing now: ",
        &[-190, -183, 5, 6, 8, 9, 14, 15, 16, 19, 20, 41, 44, 56, 57, 72, 74, 75, 77, 80, 83, 89],
    ),
    ("the brokers do not take it: ", &[-198, -165, 2, 21, 32, 35, 42, 43, 76]),
    ("librdkafka cannot send it now: ", &[-194, -164, -163, -153]),
    ("TooLarge", &[4, 10, 18]),
    ("the brokers take nothing for a topic called todos", &[17]),
    ("the topic todos does not take such records", &[87]),
    // What only consumers, transactions and administrators are told.
    (
        "an error of unknown meaning: ",
        &[
            -199, -196, -191, -189, -186, -182, -180, -179, -178, -177, -176, -175, -174, -173, -172, -171,
            -170, -168, -167, -162, -161, -160, -159, -158, -157, -156, -155, -154, -149, -147, -145, -143,
            -142, -141, -140, -139, -138, -1, 1, 11, 12, 22, 23, 24, 25, 26, 27, 28, 30, 36, 37, 38, 39, 40,
            48, 50, 51, 52, 53, 54, 55, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 73, 78, 79, 81, 82,
            84, 85, 86, 88, 91, 92, 93, 94, 95, 96, 97, 99, 110, 111, 112, 113, 117, 118, 129,
        ],
    ),
];

#[test]
fn every_code_has_its_meaning() {
    let mut seen = 0;
    // The marks of beginning and end around them are not codes.
    for number in (-199..=-101).chain([-1]).chain(1..=129) {
        let Ok(code) = RDKafkaRespErr::try_from(number).map(Code::from) else { continue };
        let outcome = report(code, &message("todos", 1000), circumstances(10));
        let told = match &outcome {
            Outcome::Retry { reason, after: None }
            | Outcome::Rejected { reason: Rejection::Refused(reason) } => reason.clone(),
            Outcome::Rejected { reason: Rejection::TooLarge { .. } } => "TooLarge".to_owned(),
            other => panic!("{number}: {other:?}"),
        };
        let meaning = MEANINGS.iter().find(|(_, codes)| codes.contains(&number));
        let (expected, _) =
            meaning.unwrap_or_else(|| panic!("{number} is not in the table: {code:?}: {told}"));
        assert!(told.starts_with(expected), "{number}: {code:?}: {told}");
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn only_what_is_wrong_with_the_message_itself_is_rejected() {
    let rejected = (-199..=200).filter(|number| {
        RDKafkaRespErr::try_from(*number).is_ok_and(|code| {
            matches!(
                report(code.into(), &message("todos", 1000), circumstances(10)),
                Outcome::Rejected { .. }
            )
        })
    });
    assert_eq!(rejected.collect::<Vec<_>>(), [4, 10, 17, 18, 87]);
}

#[test]
fn a_message_is_not_judged_by_the_company_it_keeps() {
    let message = message("todos", 1000);
    let size = wire_size(&message);
    let told = |batch_bytes| report(Code::MessageSizeTooLarge, &message, circumstances(batch_bytes));
    assert!(matches!(told(size), Outcome::Retry { .. }));
    let reason = Rejection::TooLarge { size, limit: 1000 };
    assert_eq!(told(size - 1), Outcome::Rejected { reason });
    assert!(is_crowded(Code::MessageSizeTooLarge, &message, circumstances(size)));
    assert!(!is_crowded(Code::MessageSizeTooLarge, &message, circumstances(size - 1)));
    assert!(!is_crowded(Code::QueueFull, &message, circumstances(size)));
}

#[test]
fn what_cannot_arrive_is_not_sent() {
    let told = |message: &Message, limit, compressed| {
        before(message, Circumstances { limit, batch_bytes: 10, compressed })
    };
    let small = message("todos", 100);
    let size = wire_size(&small);
    assert_eq!(told(&small, None, false), None);
    assert_eq!(told(&small, Some(size), false), None);
    let reason = Rejection::TooLarge { size, limit: size - 1 };
    assert_eq!(told(&small, Some(size - 1), false), Some(Outcome::Rejected { reason }));
    assert_eq!(told(&small, Some(size - 1), true), None);
    assert!(matches!(
        told(&message("todos", MAX_RECORD), None, true),
        Some(Outcome::Rejected { reason: Rejection::TooLarge { limit: MAX_RECORD, .. } })
    ));
    for topic in ["", ".", "..", &"x".repeat(250)] {
        assert!(matches!(
            told(&message(topic, 1), None, true),
            Some(Outcome::Rejected { reason: Rejection::Refused(_) })
        ));
    }
    assert_eq!(told(&message(&"x".repeat(249), 1), None, true), None);
}

#[test]
fn lengths_take_as_many_bytes_as_records_give_them() {
    for (length, bytes) in [(0, 1), (1, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1 << 20, 4)] {
        assert_eq!(varint(length), bytes, "{length}");
    }
}

#[test]
fn the_broker_is_found_in_what_librdkafka_says() {
    let brokers = ["first:1".to_owned()];
    for (reason, expected) in [
        ("sasl_ssl://10.0.0.1:9093/bootstrap: SASL authentication error: x", "10.0.0.1:9093"),
        ("ssl://broker:9093/3: SSL handshake failed: y", "broker:9093"),
        ("1/1 brokers are down", "first:1"),
        ("", "first:1"),
    ] {
        assert_eq!(peer(reason, &brokers), expected);
    }
}

#[test]
fn a_partition_lacks_replicas_only_as_the_brokers_count() {
    let weakest = |in_sync, replicas| Weakest { partition: 3, in_sync, replicas };
    for (in_sync, replicas, wanted, lacks) in
        [(3, 3, 2, 0), (2, 3, 2, 0), (1, 3, 2, 1), (1, 1, 2, 0), (0, 1, 1, 1)]
    {
        assert_eq!(weakest(in_sync, replicas).lacks(wanted), lacks, "{in_sync} of {replicas}, {wanted}");
    }
    let told = too_few("todos", weakest(1, 3), 2);
    assert_eq!(told.reason, "NotEnoughReplicas");
    assert_eq!(
        told.message,
        "of the topic todos, the partition 3 has 1 of 3 replicas in sync, and min.insync.replicas wants 2"
    );
}
