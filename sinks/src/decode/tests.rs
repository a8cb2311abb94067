use tidings_config::sink::ContentMode;
use tidings_config::sink::nats::NatsSettings;
use tidings_core::delivery::Rejection;
use tidings_core::event::Death;

use super::*;
use crate::fixture::todo;
use crate::nats::encode::NatsEncoder;

/// What a stream of NATS holds of a dead letter.
fn letter(event: Event, mode: ContentMode) -> Result<Content, Error> {
    let address = NatsSettings::default().address("", &mut Vec::new()).unwrap();
    let reason = Rejection::Refused("50 % of \"ä\" are refused".to_owned());
    let death = Arc::new(Death::new(&reason, 3, "http://shop".into(), "shop/milk"));
    let message = NatsEncoder::new(&address, mode).encode(&event.to_dead_letter(death));
    let headers = message.headers.iter().map(|(name, value)| (&**name, value));
    let kind = message.headers.get("content-type");
    let content = Content::read("ce-", kind, headers, &message.body)?;
    if mode == ContentMode::Binary { content.decoded() } else { Ok(content) }
}

fn recipient() -> Recipient {
    let kinds = vec![Kind::new("k8sasbackend.com/v1", "Todo")];
    Recipient { subscription: "shop/all.todos".into(), uid: "sub-uid".into(), kinds }
}

/// The same for whoever it is sent to.
fn same(event: &Event, other: &Event) -> bool {
    (event.attributes(), &event.data, &event.context) == (other.attributes(), &other.data, &other.context)
}

#[test]
fn a_dead_letter_is_read_back_as_the_event_it_was() {
    for mode in [ContentMode::Binary, ContentMode::Structured] {
        let mut event = todo("milk");
        (event.gap, event.gap_missed) = (true, 7);
        // What nobody would write like this, and must not be written anew.
        event.data =
            r#"{ "apiVersion": "k8sasbackend.com/v1", "kind" : "Todo", "n": 1.00, "t": "\u00e4/\/" }"#.into();
        let content = letter(event.clone(), mode).unwrap();
        assert!(content.is_dead_letter_of("shop/all.todos") && !content.is_dead_letter_of("shop/all"));
        assert_eq!(content.attribute("deadlettererror"), "50 % of \"ä\" are refused");
        let read = content.event(&recipient()).unwrap();
        assert!(same(&event, &read), "{mode:?}: {read:?}");
    }
}

#[test]
fn every_change_and_reason_is_known() {
    for change in ChangeKind::ALL {
        let event = Event { change, ..todo("milk") };
        assert!(same(
            &event,
            &letter(event.clone(), ContentMode::Binary).unwrap().event(&recipient()).unwrap()
        ));
    }
    // A new one does not compile here, and belongs into `reason` above.
    let known = |reason: Reason| match reason {
        Reason::Watch | Reason::Snapshot | Reason::Reconcile | Reason::Selection => reason,
        // Told by the same word; they differ in the id alone, which is read as it is.
        Reason::Entered => Reason::Selection,
    };
    let all = [Reason::Watch, Reason::Snapshot, Reason::Reconcile, Reason::Selection, Reason::Entered];
    for reason in all.map(known) {
        assert_eq!(super::reason(reason.as_str()), Some(reason));
    }
}

#[test]
fn data_that_does_not_say_what_it_is_is_of_the_kind_that_is_selected() {
    let event = Event { data: r#"{"metadata":{}}"#.into(), ..todo("milk") };
    let content = letter(event.clone(), ContentMode::Binary).unwrap();
    assert!(same(&event, &content.event(&recipient()).unwrap()));
    let nobody = Recipient { kinds: Vec::new(), ..recipient() };
    assert!(matches!(content.event(&nobody), Err(Error::Attribute(name)) if name == "source"));
}

#[test]
fn what_could_not_be_sent_as_it_was_is_refused_by_name() {
    for (name, value) in
        [("future", "1"), ("partitionkey", "other"), ("reason", "whim"), ("gap", "maybe"), ("type", "added")]
    {
        let mut content = letter(todo("milk"), ContentMode::Binary).unwrap();
        content.attributes.insert(name.to_owned(), value.to_owned());
        let error = content.event(&recipient()).unwrap_err();
        assert!(matches!(&error, Error::Attribute(wrong) if wrong == name), "{name}: {error}");
    }
    let mut content = letter(todo("milk"), ContentMode::Binary).unwrap();
    content.attributes.remove("k8suid");
    assert!(matches!(content.event(&recipient()), Err(Error::Attribute(name)) if name == "k8suid"));
}

#[test]
fn what_is_no_event_is_said_to_be_none() {
    let body = Bytes::from_static(b"{}");
    assert!(matches!(Content::read("ce-", None, [("a", "b")], &body), Err(Error::NotCloudEvent)));
    let structured = Some("application/cloudevents+json; charset=UTF-8");
    assert!(matches!(Content::read("ce-", structured, [], &body), Err(Error::Malformed(_))));
    let body = Bytes::from_static(br#"{"data":1}"#);
    assert!(matches!(Content::read("ce-", structured, [], &body), Err(Error::NotCloudEvent)));
}
