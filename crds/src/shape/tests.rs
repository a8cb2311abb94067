use serde_json::json;

use super::*;
use crate::subscription::Subscription;

/// What is said of the form of a Subscription with this spec.
fn mistakes(spec: Value) -> Mistakes {
    let definition = serde_json::to_value(Subscription::definition()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let (mut spec, mut mistakes) = (spec, Mistakes::default());
    check(schema, &mut spec, "spec", &mut mistakes);
    mistakes
}

fn good() -> Value {
    json!({"sources": [{"apiVersion": "v1", "kind": "Pod"}], "sink": {"stdout": {}}})
}

fn with(path: &str, value: Value) -> Mistakes {
    let mut spec = good();
    *spec.pointer_mut(path).unwrap() = value;
    mistakes(spec)
}

fn lines(errors: &FieldErrors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_said_of_what_is_well_formed() {
    assert_eq!(mistakes(good()), Mistakes::default());
}

#[test]
fn fields_that_do_not_exist_are_named_with_the_nearest_one() {
    let mut spec = good();
    spec["delivry"] = json!({});
    spec["sources"][0]["x y"] = json!(1);
    let found = mistakes(spec);
    assert_eq!(
        lines(&found.unknown),
        [
            "spec.delivry: there is no such field; did you mean `delivery`?",
            "spec.sources[0][\"x y\"]: there is no such field",
        ]
    );
    assert_eq!((found.form, found.bounds), (Vec::new(), Vec::new()));
}

#[test]
fn every_value_of_another_type_is_named() {
    let found = mistakes(json!({
        "sources": [{"apiVersion": 1, "kind": ["Pod"]}, "Pod", null],
        "sink": {"stdout": []}, "suspend": "yes", "delivery": {"maxInFlight": 1.5},
    }));
    assert_eq!(
        lines(&found.form),
        [
            "spec.delivery.maxInFlight: must be a whole number, and not 1.5",
            "spec.sink.stdout: must be an object, and not a list",
            "spec.sources[0].apiVersion: must be a text, and not 1 without quotes",
            "spec.sources[0].kind: must be a text, and not a list",
            "spec.sources[1]: must be an object, and not a text",
            "spec.sources[2]: must be an object, and is empty (null)",
            "spec.suspend: must be true or false, and not a text",
        ]
    );
}

#[test]
fn what_is_missing_is_named_where_it_belongs() {
    assert_eq!(lines(&mistakes(json!({})).form), ["spec.sink: is needed", "spec.sources: is needed"]);
    assert_eq!(
        lines(&with("/sources/0", json!({"kind": "Pod"})).form),
        ["spec.sources[0].apiVersion: is needed"]
    );
}

#[test]
fn a_null_is_as_if_the_field_were_left_out() {
    let mut spec = good();
    spec["on"] = Value::Null;
    spec["event"] = json!({"mode": null});
    spec["delivery"] = json!({"deadLetter": null});
    assert_eq!(mistakes(spec.clone()), Mistakes::default());
    spec["sink"] = Value::Null;
    assert_eq!(lines(&mistakes(spec).form), ["spec.sink: is needed"]);
}

#[test]
fn words_that_mean_nothing_are_told_with_those_that_do() {
    let mut spec = good();
    spec["on"] = json!(["Added", "added"]);
    assert_eq!(
        lines(&mistakes(spec).form),
        ["spec.on[1]: \"added\" is none of Snapshot, Added, Updated, Deleted, Left; did you mean `Added`?"]
    );
}

#[test]
fn bounds_are_told_and_what_is_absurdly_long_is_not_repeated() {
    let long = "x".repeat(10_000_000);
    let found = with("/sources/0/kind", json!(long));
    assert_eq!(lines(&found.bounds), ["spec.sources[0].kind: has at most 63 characters, and not 10000000"]);
    let mut spec = good();
    spec["on"] = json!(["Left", "Left"]);
    spec["delivery"] = json!({"maxInFlight": 0, "maxAge": "soon"});
    spec["sources"] = json!([]);
    spec["event"] = json!({"mode": long});
    let found = mistakes(spec);
    assert_eq!(
        lines(&found.bounds),
        [
            "spec.delivery.maxAge: does not match ^[0-9][0-9a-z. ]*$",
            "spec.delivery.maxInFlight: 0 is not from 1 to 65536",
            "spec.on[1]: \"Left\" is there twice",
            "spec.sources: 0 entries are fewer than the 1 that are needed",
        ]
    );
    assert!(found.form[0].problem.len() < 200, "{}", found.form[0].problem.len());
}

#[test]
fn numbers_that_no_type_holds_are_no_numbers_of_it() {
    let mut spec = good();
    spec["delivery"] = json!({"maxInFlight": 99_999_999_999_u64});
    assert_eq!(
        lines(&mistakes(spec).form),
        ["spec.delivery.maxInFlight: 99999999999 is not from 1 to 65536"]
    );
}

#[test]
fn an_object_has_as_many_entries_as_it_should() {
    let schema = json!({
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": "string"},
    });
    let told = |mut value: Value| {
        let mut mistakes = Mistakes::default();
        check(&schema, &mut value, "spec.a", &mut mistakes);
        lines(&mistakes.bounds)
    };
    assert_eq!(told(json!({})), ["spec.a: 0 entries are fewer than the 1 that are needed"]);
    assert_eq!(told(json!({"a": "b"})), [""; 0]);
    assert_eq!(
        told(json!({"a": "b", "c": "d"})),
        ["spec.a: 2 entries are more than the 1 that are possible"]
    );
}
