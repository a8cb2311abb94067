use super::*;
use crate::object::{Meta, Object};

const UID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

fn todos() -> Resource {
    Resource {
        group: "k8sasbackend.com".into(),
        version: "v1".into(),
        kind: "Todo".into(),
        plural: "todos".into(),
        namespaced: true,
    }
}

fn context(resource: &Resource) -> Arc<EventContext> {
    Arc::new(EventContext::new("blue", &"shop/orders".into(), &"sub-uid".into(), resource))
}

fn change(kind: ChangeKind, reason: Reason) -> Change {
    let meta = Meta {
        generation: Some(2),
        created: Some("2026-01-01T00:00:00Z".into()),
        modified: Some("2026-01-02T00:00:00Z".into()),
        ..Meta::new(ObjectKey::new(Some("shop"), "milk"), Uid::new(UID), ResourceVersion(42))
    };
    let object = Object { meta, body: Bytes::from_static(b"{}") };
    Change { reason, ..Change::watched(kind, object) }
}

fn concluded_delete() -> Change {
    Change {
        content: Content::Identity {
            key: ObjectKey::new(Some("shop"), "milk"),
            uid: Uid::new(UID),
            resource_version: ResourceVersion(42),
            gone_at: ResourceVersion(45),
        },
        gap: true,
        ..change(ChangeKind::Deleted, Reason::Reconcile)
    }
}

#[test]
fn the_id_names_the_version_and_its_cause() {
    let id = |kind, reason| event_id(&change(kind, reason), 3);
    assert_eq!(id(ChangeKind::Added, Reason::Watch), format!("{UID}.42"));
    assert_eq!(id(ChangeKind::Updated, Reason::Reconcile), format!("{UID}.42"));
    assert_eq!(id(ChangeKind::Snapshot, Reason::Snapshot), format!("{UID}.42.s3"));
    assert_eq!(id(ChangeKind::Added, Reason::Selection), format!("{UID}.42.s3"));
    assert_eq!(id(ChangeKind::Left, Reason::Selection), format!("{UID}.42.s3.left"));
    let rewound = Change { epoch: Epoch(7), ..change(ChangeKind::Added, Reason::Watch) };
    assert_eq!(event_id(&rewound, 3), format!("e7.{UID}.42"));
}

#[test]
fn an_observed_and_a_concluded_delete_have_the_same_id() {
    let observed = event_id(&change(ChangeKind::Deleted, Reason::Watch), 1);
    assert_eq!(observed, event_id(&concluded_delete(), 1));
    assert_eq!(observed, format!("{UID}.deleted"));
}

#[test]
fn a_sequence_sorts_as_text_by_epoch_then_version_then_concluded_delete() {
    let at = |epoch, version| {
        let mut change = concluded_delete();
        change.epoch = Epoch(epoch);
        let Content::Identity { gone_at, .. } = &mut change.content else { unreachable!() };
        *gone_at = ResourceVersion(version);
        sequence(&change)
    };
    let updated = sequence(&change(ChangeKind::Updated, Reason::Watch));
    assert_eq!(updated, "000000000000.00000000000000000042");
    assert!(updated < at(0, 42));
    assert!(at(0, 42) < at(0, 43));
    assert!(at(0, 9) < at(0, 10));
    assert!(at(0, u64::MAX) < at(1_790_000_000, 1));
}

#[test]
fn a_concluded_delete_carries_the_identity_as_data() {
    let event = Event::new(&context(&todos()), 3, &concluded_delete());
    let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!(
        data,
        serde_json::json!({"apiVersion": "k8sasbackend.com/v1", "kind": "Todo",
            "metadata": {"name": "milk", "namespace": "shop", "uid": UID, "resourceVersion": "42"}})
    );
    assert_eq!(event.time, None);
}

#[test]
fn a_reference_keeps_every_attribute_and_only_the_identity() {
    let event = Event::new(&context(&todos()), 3, &change(ChangeKind::Updated, Reason::Watch));
    let reference = event.to_reference();
    assert_eq!(reference.attributes(), event.attributes());
    let data: serde_json::Value = serde_json::from_slice(&reference.data).unwrap();
    assert_eq!(data["metadata"]["resourceVersion"], "42");
    assert_eq!(data.get("spec"), None);
}

#[test]
fn source_and_type_come_from_the_resource() {
    let event = Event::new(&context(&todos()), 3, &change(ChangeKind::Added, Reason::Watch));
    assert_eq!(event.context.source, "/clusters/blue/apis/k8sasbackend.com/todos");
    assert_eq!(event.event_type(), "com.k8sasbackend.todo.added");
    let pods = Resource { group: String::new(), kind: "Pod".into(), plural: "pods".into(), ..todos() };
    let event = Event::new(&context(&pods), 3, &change(ChangeKind::Deleted, Reason::Watch));
    assert_eq!(event.context.source, "/clusters/blue/apis/core/pods");
    assert_eq!(event.event_type(), "io.k8s.core.pod.deleted");
}

#[test]
fn time_is_that_of_the_change() {
    let time = |kind| Event::new(&context(&todos()), 3, &change(kind, Reason::Watch)).time.map(String::from);
    assert_eq!(time(ChangeKind::Added).as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(time(ChangeKind::Updated).as_deref(), Some("2026-01-02T00:00:00Z"));
    assert_eq!(time(ChangeKind::Deleted), None);
}

#[test]
fn attributes_survive_any_binding_unencoded() {
    let mut with_gap = change(ChangeKind::Updated, Reason::Reconcile);
    with_gap.gap = true;
    with_gap.gap_missed = 2;
    let event = Event::new(&context(&todos()), 3, &with_gap);
    let attributes = event.attributes();
    for (name, value) in &attributes {
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
        assert!(name.len() <= 20, "{name}");
        assert!(value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'%'), "{name}: {value}");
    }
    let value = |name| attributes.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_ref());
    assert_eq!(value("gap"), Some("true"));
    assert_eq!(value("gapmissed"), Some("2"));
    assert_eq!(value("subject"), value("partitionkey"));
    assert_eq!(value("k8sgeneration"), Some("2"));
}

#[test]
fn the_writers_traceparent_is_passed_on_and_garbage_is_not() {
    let with = |text: &str| {
        let mut change = change(ChangeKind::Added, Reason::Watch);
        let Content::Object(object) = &mut change.content else { unreachable!() };
        Arc::make_mut(object).meta.traceparent = Some(text.into());
        Event::new(&context(&todos()), 3, &change).traceparent
    };
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(&*with(given), given);
    let derived = with("bad value\r\n");
    assert!(is_traceparent(&derived), "{derived}");
    assert_eq!(derived, with("other garbage"));
}
