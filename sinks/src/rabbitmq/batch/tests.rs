use bytes::Bytes;
use tidings_core::object::ObjectKey;

use super::*;

fn message(exchange: &str, routing_key: &str) -> Message {
    Message {
        id: "id".to_owned(),
        destination: format!("{exchange}\n{routing_key}"),
        key: ObjectKey::new(None, "milk"),
        record_key: String::new(),
        tombstone: false,
        headers: [(":type", "t"), ("ce-long", &*"x".repeat(1000))].into_iter().collect(),
        body: Bytes::from_static(b"body"),
    }
}

#[test]
fn what_amqp_cannot_carry_is_rejected_before_it_ends_the_connection() {
    let long = "x".repeat(256);
    assert_eq!(unsendable(&message("todos", &long[1..]), None), None);
    for (message, what) in [
        (message("todos", &long), "the routing key has 256 bytes"),
        (message(&long, "a"), "the exchange has 256 bytes"),
        (Message { id: long.clone(), ..message("todos", "a") }, "the message id has 256 bytes"),
        (
            Message { headers: [(":type", &long)].into_iter().collect(), ..message("todos", "a") },
            "the type has 256 bytes",
        ),
    ] {
        match unsendable(&message, None) {
            Some(Answer { outcome: Outcome::Rejected { reason: Rejection::Refused(reason) }, .. }) => {
                assert!(reason.starts_with(what), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    let reason = Rejection::TooLarge { size: 4, limit: 3 };
    assert_eq!(unsendable(&message("todos", "a"), Some(3)), Some(Outcome::Rejected { reason }.into()));
}

#[test]
fn what_came_back_is_not_acked_whichever_confirm_brought_it() {
    let message = message("todos", "a");
    let confirmed = |word, returned: Option<&str>| Confirmed {
        word,
        returned: returned.map(|id| Return { id: id.to_owned(), text: "NO_ROUTE".to_owned() }),
    };
    let ack = |returned| Reply::Confirmed(confirmed(Word::Ack, returned));
    let silence = || Reply::Silence("no confirm in time".to_owned());
    for (replies, own, expected) in [
        (vec![ack(None)], None, true),
        (vec![ack(None), ack(Some("id"))], None, false),
        (vec![ack(Some("other"))], Some("other"), true),
        // The next confirm might have brought it.
        (vec![ack(Some("other")), silence()], Some("other"), false),
        (vec![ack(None), silence()], None, true),
    ] {
        let answer = Returned::of(&replies).answer(&confirmed(Word::Ack, own), &message);
        assert_eq!(answer.outcome == Outcome::Acked, expected, "{answer:?}");
    }
    let of = |word| Returned::of(&[]).answer(&confirmed(word, None), &message);
    assert_eq!(of(Word::Nack), Answer::retry("the broker could not store it (nack)"));
    assert_eq!(of(Word::Nothing), Answer::retry("the channel has no confirms"));
}
