use tidings_core::object::ObjectKey;

use super::*;
use crate::encode::tests::assert_same_attributes;
use crate::fixture::{self, todo};

fn line_of(format: StdoutFormat, colour: bool, event: &Event) -> String {
    let message = StdoutEncoder::new(format, colour).encode(event);
    assert_eq!(message.key, event.key);
    let line = String::from_utf8(message.body.to_vec()).unwrap();
    assert_eq!(line.matches(['\n', '\r']).count(), 1, "{line:?}");
    line.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn a_summary_has_the_columns_people_look_for() {
    let line = line_of(StdoutFormat::Summary, false, &todo("milk"));
    assert_eq!(
        line,
        format!(
            "2026-01-02T00:00:00Z  updated   todos.v1.k8sasbackend.com  shop/milk  watch  {}.42",
            fixture::uid("milk")
        )
    );
}

#[test]
fn a_summary_keeps_its_columns_without_a_time() {
    let line = line_of(StdoutFormat::Summary, false, &Event { time: None, ..todo("milk") });
    assert!(line.starts_with("-                     updated   todos"), "{line}");
}

#[test]
fn a_summary_says_what_is_missing_before_it() {
    let of =
        |gap, gap_missed| line_of(StdoutFormat::Summary, false, &Event { gap, gap_missed, ..todo("milk") });
    assert!(of(true, 0).ends_with("  gap"));
    assert!(of(true, 3).ends_with("  gap of 3"));
    assert!(of(false, 0).ends_with(".42"));
}

#[test]
fn only_a_summary_has_colours_and_only_when_asked() {
    for change in ChangeKind::ALL {
        let event = Event { change, ..todo("milk") };
        let coloured = line_of(StdoutFormat::Summary, true, &event);
        assert!(coloured.contains(&format!("m{:<8}\x1b[0m", change.as_str())), "{coloured:?}");
        assert!(!line_of(StdoutFormat::Summary, false, &event).contains('\x1b'));
        assert!(!line_of(StdoutFormat::Json, true, &event).contains('\x1b'));
        assert!(!line_of(StdoutFormat::Object, true, &event).contains('\x1b'));
    }
}

#[test]
fn json_is_the_whole_cloudevent() {
    let event = todo("milk");
    let line = line_of(StdoutFormat::Json, false, &event);
    assert_same_attributes(&serde_json::from_str(&line).unwrap(), &event);
}

#[test]
fn an_object_of_many_lines_is_one_line() {
    let body = "{\n  \"spec\": {\r\n    \"text\": \"a\\nb\"\n  }\n}\n";
    let event = fixture::updated(&todo("x").context, ObjectKey::new(Some("shop"), "milk"), 1, body);
    let line = line_of(StdoutFormat::Object, false, &event);
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read, serde_json::json!({"spec": {"text": "a\nb"}}));
    line_of(StdoutFormat::Json, false, &event);
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let line = line_of(StdoutFormat::Summary, false, &todo("evil\x1b[2Jname\nnext"));
    assert!(!line.contains('\x1b'), "{line:?}");
}
