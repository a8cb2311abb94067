//! `tidings explain`, the program: what a Subscription makes of an object.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use serde_json::Value;
use support::{stderr, stdout, tidings};
use tempfile::TempDir;

const SUBSCRIPTION: &str = "\
apiVersion: tidings.dev/v1alpha1
kind: Subscription
metadata: {name: gold, namespace: shop}
spec:
  sources:
  - apiVersion: k8sasbackend.com/v1
    kind: Todo
    labelSelector: {matchLabels: {tier: gold}}
  - {apiVersion: k8sasbackend.com/v1, kind: Todo, names: [bread]}
  filters:
  - cel: object.spec.message != 'quiet'
  - not: {suffix: {subject: /noise}}
  - cel: object.spec.priority > 3
  sink:
    kafka: {brokers: ['kafka:9092'], topic: 'todos-{change}'}
";

fn todo(name: &str, tier: &str, message: &str) -> String {
    format!(
        "apiVersion: k8sasbackend.com/v1\nkind: Todo\nmetadata:\n  name: {name}\n  namespace: shop\n  \
         labels: {{tier: {tier}}}\n  resourceVersion: '7'\n  uid: u\nspec: {{message: {message}}}\n"
    )
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn explain(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        tidings([&["explain", "s.yaml"], arguments].concat()).current_dir(folder.path()).output().unwrap();
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn what_is_told_is_shown_with_every_reason_and_the_message() {
    let folder = folder(&[("s.yaml", SUBSCRIPTION), ("new.yaml", &todo("milk", "gold", "loud"))]);
    let (code, told, errors) = explain(&folder, &["--object", "new.yaml", "--cluster-name", "blue"]);
    assert_eq!((code, &*errors), (Some(0), ""));
    for line in [
        "Subscription shop/gold: Todo shop/milk",
        "  selected          namespace shop, label tier is gold",
        "  not selected      namespace shop, names bread: its name is milk",
        "  change            added",
        "  spec.changeTypes  yes: added is among them",
        "  spec.filters[0]   yes: object.spec.message != 'quiet'",
        "  spec.filters[1]   yes: not (subject ends with \"/noise\")",
        "  spec.filters[2]   cannot say, so yes: object.spec.priority > 3: there is no priority",
        "  told              yes",
        "  destination       todos-added",
        "  key               shop/milk",
        "  header            ce_type: com.k8sasbackend.todo.added",
        "  header            ce_source: /clusters/blue/apis/k8sasbackend.com/todos",
        "  header            ce_id: u.7",
    ] {
        assert!(told.lines().any(|told| told == line), "{line:?} is not in\n{told}");
    }
    assert!(told.contains("\"message\":\"loud\""), "{told}");
}

#[test]
fn what_is_left_out_says_why() {
    let files = [
        ("s.yaml", SUBSCRIPTION),
        ("gold.yaml", &todo("milk", "gold", "quiet")),
        ("tin.yaml", &todo("milk", "tin", "loud")),
    ];
    let folder = folder(&files);
    let json = |arguments: &[&str]| -> Value {
        let (code, told, errors) = explain(&folder, &[arguments, &["-o", "json"]].concat());
        assert_eq!((code, &*errors), (Some(0), ""));
        serde_json::from_str::<Value>(&told).unwrap()[0].take()
    };
    let quiet = json(&["--object", "gold.yaml"]);
    assert_eq!(
        (&quiet["told"], &quiet["change"], &quiet["message"]),
        (&false.into(), &"added".into(), &Value::Null)
    );
    assert_eq!(quiet["demands"][1]["holds"], false);
    let tin = json(&["--object", "tin.yaml"]);
    assert_eq!((&tin["told"], &tin["change"]), (&false.into(), &Value::Null));
    assert_eq!(tin["scopes"][0]["misses"][0], "label tier is gold, and it is \"tin\"");
    let left = json(&["--object", "tin.yaml", "--old", "gold.yaml"]);
    assert_eq!((&left["told"], &left["change"]), (&true.into(), &"left".into()));
    assert_eq!(left["message"]["destination"], "todos-left");
    let gone = json(&["--object", "gold.yaml", "--deleted"]);
    assert_eq!(gone["change"], "deleted");
}

#[test]
fn what_cannot_be_explained_names_what_to_mend() {
    let broken = SUBSCRIPTION.replace("tier: gold", "tier: '-'");
    let sink = SUBSCRIPTION
        .replace("kafka: {brokers: ['kafka:9092'], topic: 'todos-{change}'}", "ref: {name: there}");
    let files = [
        ("s.yaml", &*broken),
        ("sink.yaml", &*sink),
        ("new.yaml", &todo("bread", "gold", "loud")),
        ("other.yaml", &todo("milk", "gold", "loud")),
        ("two.yaml", "{}\n---\n{}\n"),
    ];
    let folder = folder(&files);
    let fails = |arguments: &[&str]| {
        let output = tidings([&["explain"], arguments].concat()).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let wrong = fails(&["s.yaml", "--object", "new.yaml"]);
    assert!(wrong.contains("shop/gold is wrong:") && wrong.contains("matchLabels[tier]"), "{wrong}");
    assert!(fails(&["sink.yaml", "--object", "two.yaml"]).contains("two.yaml has 2 objects: one is needed"));
    let other = fails(&["sink.yaml", "--object", "new.yaml", "--old", "other.yaml"]);
    assert!(other.contains("--old is shop/milk, and --object is shop/bread"), "{other}");
    let none = fails(&["sink.yaml", "--object", "new.yaml", "--subscription", "silver"]);
    assert!(none.contains("a Subscription called silver in sink.yaml"), "{none}");
    let output = tidings(["explain", "sink.yaml", "--object", "new.yaml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(stdout(&output).contains("the Sink shop/there decides how it is written"), "{}", stdout(&output));
}
