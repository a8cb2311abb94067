use std::sync::Arc;

use super::*;
use crate::change::{Change, ChangeKind};
use crate::event::EventContext;
use crate::object::{Meta, Object, ObjectKey, ResourceVersion, Uid};
use crate::route::Resource;

fn resource() -> Resource {
    Resource {
        group: "k8sasbackend.com".into(),
        version: "v1".into(),
        kind: "Todo".into(),
        plural: "todos".into(),
        namespaced: true,
    }
}

/// An update of shop/milk with this spec.
fn updated(spec: &str) -> (Event, Change) {
    let context = Arc::new(EventContext::new("test", &"shop/todos".into(), &"s".into(), &resource()));
    let meta = Meta::new(ObjectKey::new(Some("shop"), "milk"), Uid::new("u"), ResourceVersion(7));
    let body = format!(r#"{{"metadata":{{"name":"milk","labels":{{"app":"x"}}}},"spec":{spec}}}"#);
    let change = Change::watched(ChangeKind::Updated, Object { meta, body: body.into() });
    (Event::new(&context, 1, &change), change)
}

fn passes(expression: Expression, spec: &str) -> Result<bool, Error> {
    let (event, change) = updated(spec);
    Filter::new(vec![expression]).passes(&event, &change, &Facts::default())
}

fn attribute(name: &str) -> Attribute {
    Attribute::named(name).unwrap()
}

fn cel(source: &str) -> Expression {
    Expression::Cel(Cel::compile(source).unwrap())
}

#[test]
fn attributes_are_compared() {
    let yes = [
        Expression::Exact(attribute("type"), "com.k8sasbackend.todo.updated".to_owned()),
        Expression::Prefix(attribute("subject"), "shop/".to_owned()),
        Expression::Suffix(attribute("subject"), "/milk".to_owned()),
        Expression::Exact(attribute("reason"), "watch".to_owned()),
    ];
    for expression in &yes {
        assert_eq!(passes(expression.clone(), "{}"), Ok(true), "{expression:?}");
        assert_eq!(passes(Expression::Not(Box::new(expression.clone())), "{}"), Ok(false), "{expression:?}");
    }
    let no = Expression::Exact(attribute("gap"), "true".to_owned());
    assert_eq!(passes(no.clone(), "{}"), Ok(false), "what is not there is not equal");
    assert_eq!(passes(Expression::All(yes.to_vec()), "{}"), Ok(true));
    assert_eq!(passes(Expression::Any(vec![no.clone(), yes[0].clone()]), "{}"), Ok(true));
    assert_eq!(passes(Expression::Any(vec![no.clone()]), "{}"), Ok(false));
    assert_eq!(passes(Expression::All(vec![yes[0].clone(), no]), "{}"), Ok(false));
    assert_eq!(Attribute::named("tpye"), None);
}

#[test]
fn an_attribute_by_name_is_that_of_the_list() {
    let (mut event, _) = updated("{}");
    (event.gap, event.gap_missed, event.generation) = (true, 3, Some(4));
    event.time = Some("2026-01-01T00:00:00Z".into());
    let all = event.attributes();
    assert_eq!(all.len(), ATTRIBUTES.len());
    assert!(all.iter().zip(ATTRIBUTES).all(|((name, _), expected)| *name == expected));
    for (name, value) in &all {
        assert_eq!(event.attribute(name).as_ref(), Some(value));
    }
}

#[test]
fn expressions_look_at_the_object_the_change_and_the_event() {
    let spec =
        r#"{"done":false,"n":3,"when":"2026-01-02T03:04:05Z","tags":["a","b"],"items":[{"q":1},{"q":2}]}"#;
    for (source, expected) in [
        ("object.spec.n > 2 && !object.spec.done", true),
        ("object.metadata.labels['app'] == 'x'", true),
        ("has(object.spec.missing) && object.spec.missing == 1", false),
        ("'b' in object.spec.tags", true),
        ("object.spec.items.all(item, item.q > 0)", true),
        ("object.spec.items.exists(item, item.q > 2)", false),
        ("object.spec.tags.filter(tag, tag.startsWith('a')).size() == 1", true),
        ("object.metadata.name.matches('^m.*k$')", true),
        ("object.metadata.name.upperAscii() == 'MILK'", true),
        ("timestamp(object.spec.when) < timestamp('2026-01-03T00:00:00Z')", true),
        ("change.kind == 'Updated' && change.reason == 'watch' && !change.gap", true),
        ("event.subject == 'shop/milk' && event.type.endsWith('.updated')", true),
        ("true", true),
    ] {
        assert_eq!(passes(cel(source), spec), Ok(expected), "{source}");
    }
}

#[test]
fn an_expression_that_cannot_say_says_why() {
    let fails = |source: &str, spec: &str| passes(cel(source), spec).unwrap_err().to_string();
    let missing = fails("object.spec.missing == 1", "{}");
    assert!(missing.contains("object.spec.missing == 1: ") && missing.contains("missing"), "{missing}");
    let number = fails("object.spec.n", r#"{"n":1}"#);
    assert!(number.contains("gives") && number.contains("int, and not true or false"), "{number}");
    let many = format!(r#"{{"l":[{}]}}"#, vec!["1"; 5000].join(","));
    let costly = fails("object.spec.l.all(a, object.spec.l.all(b, a == b))", &many);
    assert!(costly.contains("steps with this object"), "{costly}");
}

#[test]
fn what_another_demand_excludes_is_excluded_whatever_fails() {
    let (event, change) = updated("{}");
    let (fails, no) = (cel("object.spec.missing == 1"), cel("false"));
    let facts = Facts::default();
    for order in [vec![fails.clone(), no.clone()], vec![no.clone(), fails.clone()]] {
        assert_eq!(Filter::new(order.clone()).passes(&event, &change, &facts), Ok(false));
        assert!(Expression::Any(order).holds(&event, &change, &facts).is_err());
    }
    let yes = cel("true");
    assert!(Filter::new(vec![fails.clone(), yes.clone()]).passes(&event, &change, &facts).is_err());
    assert_eq!(Expression::Any(vec![fails, yes]).holds(&event, &change, &facts), Ok(true));
}

#[test]
fn what_cannot_be_compiled_says_why() {
    let long = format!("'{}' == ''", "x".repeat(MAX_LENGTH));
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    for (source, expected) in [
        ("object.spec.", "is not CEL: "),
        ("", "is not CEL: "),
        (long.as_str(), "is longer than 4096 bytes"),
        (deep.as_str(), "is nested more than 64 deep"),
        ("oldObject.spec.n == 1", "there is no variable \"oldObject\"; there are object, change and event"),
        ("object.spec.s.replace('a', 'aa') == ''", "there is no function \"replace\" here"),
        ("frob(object)", "there is no function \"frob\" here"),
        ("[object]", "gives a value that is never true or false"),
        (
            "object.a.all(a, object.a.all(b, object.a.all(c, a == b && b == c)))",
            "is too costly: comprehensions are nested 3 deep",
        ),
    ] {
        let error = Cel::compile(source).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{source:.40}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn no_expression_is_too_deep_for_the_stack() {
    // 2 MiB, as a worker has: a long sum leans to one side, and each of its terms is evaluated inside the next.
    let many = |term: &str, by: &str, count: usize| vec![term; count].join(by);
    let deep = |count| {
        [
            many("1", "+", count),
            many("1", "==", count),
            many("true", "&&", count),
            format!("object{}", ".a".repeat(count)),
            format!("object{}", "['a']".repeat(count)),
            format!("{}true", "!".repeat(count)),
            format!("{}1", "true?1:".repeat(count)),
            format!("{}true{}", "(".repeat(count), ")".repeat(count)),
        ]
    };
    for count in [60, 500, 2000] {
        for source in deep(count).into_iter().filter(|source| source.len() <= MAX_LENGTH) {
            match Cel::compile(&source) {
                Ok(cel) => drop(passes(Expression::Cel(cel), "{}")),
                Err(error) => assert_eq!(error, Invalid::TooDeep, "{source:.40}"),
            }
        }
    }
    assert!(
        Cel::compile(&many("object.metadata.name == 'a-b-c'", "||", 100)).is_ok(),
        "it is wide, not deep"
    );
    assert_eq!(Cel::compile(&many("1", "+", 2000)), Err(Invalid::TooDeep));
}

#[test]
fn why_an_expression_fails_says_nothing_of_what_is_in_the_object() {
    let spec = r#"{"secret":"hunter2","n":1}"#;
    for source in [
        "object.spec.secret < object.spec.n",
        "timestamp(object.spec.secret) < timestamp('2026-01-01T00:00:00Z')",
        "int(object.spec.secret) == 1",
        "object.spec.secret + 1 == 2",
        "object.spec.n[object.spec.secret] == 1",
        "duration(object.spec.secret) == duration('1s')",
        "object.spec.secret[100] == 'a'",
    ] {
        let error = passes(cel(source), spec).unwrap_err().to_string();
        assert!(error.starts_with(source) && !error.contains("hunter2"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(source in "\\PC{0,80}|[a-z0-9.()\\[\\]{}!?:+*<>=&|'\" -]{0,60}") {
        let _ = Cel::compile(&source);
    }
}
