//! Whatever somebody writes into a spec: the validator ends, never panics, names paths that there could be, and refuses what a real
//! API server refuses.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anyhow::{Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tidings_crds::check::{Checked, check};
use tidings_crds::print::definitions;
use tidings_testbed::shared;
use tidings_testbed::wait::eventually;

/// How many resources are shown to an API server.
const SHOWN: usize = 300;

/// Words that mean something somewhere, and what people break things with.
const WORDS: [&str; 24] = [
    "sources",
    "sink",
    "nats",
    "kafka",
    "rabbitmq",
    "http",
    "stdout",
    "ref",
    "name",
    "kind",
    "Todo",
    "v1",
    "Secret",
    "a.dev/v1",
    "nats://a",
    "a:9092",
    "https://a/b",
    "{name}",
    "{name}/../{x",
    "\0\r\n",
    "10s",
    "DeadLetter",
    "ü🎁",
    "",
];

/// Any JSON, with some words that are known.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned), ".{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        Just("x".repeat(100_000).into()),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// A resource with nothing wrong in it, from the reference.
fn any_good() -> impl Strategy<Value = Value> {
    let text = concat!(
        include_str!("../../docs/reference/examples/subscription.yaml"),
        "---\n",
        include_str!("../../docs/reference/examples/sink.yaml")
    );
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    proptest::sample::select(all)
}

/// What is done to one part of a spec.
#[derive(Clone, Debug)]
enum Change {
    /// Another value is there.
    Replace(Value),
    /// It is gone.
    Remove,
    /// A field or an item more is in it.
    Add(String, Value),
    /// What is in a list is there again.
    Double,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_json().prop_map(Change::Replace),
        Just(Change::Remove),
        (proptest::sample::select(WORDS.as_slice()), any_json())
            .prop_map(|(name, value)| Change::Add(name.to_owned(), value)),
        Just(Change::Double),
    ]
}

/// Pointers to everything in `value`.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    places.push(at.to_owned());
    let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
    for (name, value) in value.as_object().into_iter().flatten() {
        self::places(value, &format!("{at}/{}", escape(name)), places);
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        self::places(value, &format!("{at}/{index}"), places);
    }
}

fn apply(object: &mut Value, place: Index, change: Change) {
    let mut all = Vec::new();
    places(&object["spec"], "/spec", &mut all);
    let place = place.get(&all).clone();
    let (parent, name) = place.rsplit_once('/').unwrap();
    match change {
        Change::Replace(value) => *object.pointer_mut(&place).unwrap() = value,
        Change::Remove => match object.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(name)),
            Some(Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
            _ => {}
        },
        Change::Add(name, value) => match object.pointer_mut(&place).unwrap() {
            Value::Object(fields) => drop(fields.insert(name, value)),
            Value::Array(items) => items.push(value),
            _ => {}
        },
        Change::Double => {
            if let Some(Value::Array(items)) = object.pointer_mut(&place) {
                items.extend(items.clone());
            }
        }
    }
}

/// What has to hold of an answer, whatever was asked.
fn is_sound(object: &Value, checked: &Checked) -> Result<(), TestCaseError> {
    let Checked { errors, warnings, meaning, .. } = checked;
    prop_assert_eq!(errors.is_empty(), meaning.is_some(), "{:?}", checked);
    let written = object.to_string();
    for error in errors {
        prop_assert!(error.problem.len() < 1100, "{}", error.problem.len());
        prop_assert!(
            !error.problem.is_empty() && !error.path.contains(' ') || written.contains(' '),
            "{error:?}"
        );
        // It begins at the top, and leads as far into what is written as that goes.
        let top = error.path.split(['.', '[']).next().unwrap_or_default();
        prop_assert!(["apiVersion", "kind", "metadata", "spec"].contains(&top), "{error:?}");
        prop_assert!(leads_there(object, &error.path), "{error:?} in {object}");
    }
    for warning in warnings {
        prop_assert!(warning.path.starts_with("spec."), "{warning:?}");
    }
    Ok(())
}

/// Whether the path exists, but for its last name, which may be what is missing. What is an item in it is there.
fn leads_there(object: &Value, path: &str) -> bool {
    let mut value = object;
    let mut rest = path;
    loop {
        // A name in quotes is the last one.
        if rest.is_empty() || rest.starts_with("[\"") {
            return true;
        }
        let next = if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            rest = after;
            index.parse::<usize>().ok().and_then(|index| value.get(index))
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let Some(end) = name.find(['.', '[']) else { return value.is_object() };
            rest = &name[end..];
            value.get(&name[..end])
        };
        let Some(next) = next else { return false };
        value = next;
    }
}

/// Good resources, changed in a few places.
fn any_changed() -> impl Strategy<Value = Value> {
    (any_good(), proptest::collection::vec((any::<Index>(), any_change()), 1..4)).prop_map(
        |(mut object, changes)| {
            for (place, change) in changes {
                if !object["spec"].is_null() {
                    apply(&mut object, place, change);
                }
            }
            object
        },
    )
}

/// Why an API server refuses it, asked as kubectl asks; nothing is stored.
async fn refused(client: &Client, namespace: &str, object: &Value) -> Result<Option<String>> {
    let plural = if object["kind"] == "Sink" { "sinks" } else { "subscriptions" };
    let path = format!(
        "/apis/tidings.dev/v1alpha1/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict"
    );
    let request = http::Request::post(path).header("content-type", "application/json");
    match client.request::<Value>(request.body(serde_json::to_vec(object)?)?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Ok(Some(status.message)),
        Err(other) => bail!("{object}: {other}"),
    }
}

#[tokio::test]
async fn what_an_api_server_refuses_is_refused() -> Result<()> {
    let client = shared::testbed().await?.control_plane.client().await?;
    let definitions_api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions() {
        definitions_api
            .patch(&definition.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&definition))
            .await?;
    }
    let namespace = shared::namespace(&client, "arbitrary").await?;
    let mut runner = TestRunner::default();
    let good = any_good().new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
    eventually(std::time::Duration::from_secs(20), "the definitions are served", || async {
        match refused(&client, &namespace, &good).await? {
            None => Ok(()),
            Some(why) => bail!("{why}"),
        }
    })
    .await?;
    let mut count = 0;
    for _ in 0..SHOWN {
        let object = any_changed().new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        let Some(why) = refused(&client, &namespace, &object).await? else { continue };
        count += 1;
        let checked = check(object.clone(), &namespace);
        if checked.is_none_or(|checked| checked.errors.is_empty()) {
            bail!("nothing is said of this, and an API server says: {why}\n{object:#}");
        }
    }
    assert!(count > SHOWN / 4, "only {count} of {SHOWN} were refused");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_json_for_a_spec_is_answered(spec in any_json(), kind in proptest::sample::select(vec!["Subscription", "Sink"])) {
        let object = json!({
            "apiVersion": "tidings.dev/v1alpha1", "kind": kind, "metadata": {"name": "any"}, "spec": spec,
        });
        let checked = check(object.clone(), "shop").unwrap();
        is_sound(&object, &checked)?;
    }

    #[test]
    fn a_good_spec_that_was_changed_anywhere_is_answered(object in any_changed()) {
        let checked = check(object.clone(), "shop").unwrap();
        is_sound(&object, &checked)?;
    }

    #[test]
    fn any_json_at_all_is_answered(object in any_json()) {
        let ours = object["apiVersion"].as_str().is_some_and(|version| version.starts_with("tidings.dev/"));
        prop_assert_eq!(check(object, "shop").is_some(), ours);
    }
}
