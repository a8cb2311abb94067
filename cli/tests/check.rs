//! `tidings check`: what is wrong with resources in files is said with file, line and path.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::{stderr, stdout, tidings};

const GOOD: &str = "\
apiVersion: tidings.dev/v1alpha1
kind: Subscription
metadata:
  name: orders
spec:
  sources:
  - apiVersion: k8sasbackend.com/v1
    kind: Todo
  sink:
    stdout: {}
";

const BROKEN: &str = "\
# Three resources, and one that is not ours.
apiVersion: v1
kind: List
items:
- apiVersion: tidings.dev/v1alpha1
  kind: Subscription
  metadata: {name: orders, namespace: shop}
  spec:
    on: [Added]
    sources:
    - apiVersion: v1
      kind: Secret
    sink:
      kafka:
        brokers: ['a:9092']
        tpoic: orders
- apiVersion: v1
  kind: ConfigMap
---
apiVersion: tidings.dev/v1alpha1
kind: Sink
metadata:
  name: receiver
spec:
  http:
    url: http://receiver
    auth:
      tokenSecretRef: {name: receiver, key: token}
";

fn check(arguments: &[&str], folder: &Path) -> Output {
    tidings([&["check"], arguments].concat()).current_dir(folder).output().unwrap()
}

#[test]
fn what_is_well_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.yaml"), GOOD).unwrap();
    let output = check(&["good.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "1 resource in 1 file: 0 errors, 0 warnings\n");
}

#[test]
fn every_finding_is_a_line_with_file_line_and_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("broken.yaml"), BROKEN).unwrap();
    let output = check(&["broken.yaml"], folder.path());
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(1), ""));
    assert_eq!(
        stdout(&output),
        "\
broken.yaml:9: error: Subscription shop/orders: spec.on: kubectl and helm read this key as true or false, as YAML 1.1 does: put it in quotes
broken.yaml:11: error: Subscription shop/orders: spec.sources[0]: Secrets cannot be a source: their content would go to a broker
broken.yaml:16: error: Subscription shop/orders: spec.sink.kafka.tpoic: there is no such field; did you mean `topic`?
broken.yaml:26: warning: Sink default/receiver: spec.http.url: by `http://`, whoever is on the way reads the credentials; `https://` is encrypted
2 resources in 1 file: 3 errors, 1 warning; 1 of other kinds skipped
"
    );
}

#[test]
fn the_reference_shows_what_is_really_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("broken.yaml"), BROKEN).unwrap();
    let page = include_str!("../../docs/reference/check.md");
    for arguments in [["broken.yaml"].as_slice(), &["broken.yaml", "-o", "json"]] {
        let said = stdout(&check(arguments, folder.path()));
        assert!(page.contains(&said), "docs/reference/check.md does not have this:\n{said}");
    }
}

#[test]
fn json_has_all_of_it_in_one_document() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("broken.yaml"), BROKEN).unwrap();
    fs::write(folder.path().join("no.yaml"), "a: [\n").unwrap();
    let output = check(&["broken.yaml", "no.yaml", "-o", "json"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let counts = ["files", "errors", "warnings", "skipped"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [2, 4, 1, 1]);
    let orders = &report["resources"][0];
    assert_eq!(
        (&orders["file"], &orders["document"], &orders["line"]),
        (&"broken.yaml".into(), &1.into(), &5.into())
    );
    assert_eq!(orders["errors"][2]["path"], "spec.sink.kafka.tpoic");
    assert_eq!(orders["errors"][2]["line"], 16);
    assert_eq!(report["resources"][1]["warnings"][0]["path"], "spec.http.url");
    assert_eq!(report["unreadable"][0]["file"], "no.yaml");
}

#[test]
fn resources_are_checked_together_whatever_file_they_are_in() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deploy")).unwrap();
    let nats = GOOD.replace("stdout: {}", "{ref: {name: company, namespace: ops}, nats: {}}");
    fs::write(folder.path().join("deploy/a.yaml"), &nats).unwrap();
    fs::write(folder.path().join("deploy/b.json"), include_str!("support/sink.json")).unwrap();
    fs::write(folder.path().join("deploy/c.txt"), "not looked at").unwrap();
    let output = check(&["deploy", "-n", "shop"], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "\
deploy/a.yaml:10: error: Subscription shop/orders: spec.sink.ref: the Sink ops/company does not let the namespace shop in (its spec.allowedNamespaces)
2 resources in 2 files: 1 error, 0 warnings
"
    );
    let output = check(&["deploy", "-n", "ops"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn standard_input_is_a_file_like_others() {
    let mut child = tidings(["check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(BROKEN.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).starts_with("standard input:9: error: Subscription shop/orders: "),
        "{}",
        stdout(&output)
    );
}

#[test]
fn what_is_no_yaml_is_told_and_the_rest_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("twice.yaml"), format!("a: 1\na: 2\n---\n{GOOD}---\nb: [\n")).unwrap();
    let output = check(&["twice.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stdout(&output),
        "\
twice.yaml:2: error: duplicate mapping key: a not allowed here
twice.yaml:15: error: unclosed bracket '['
1 resource in 1 file: 2 errors, 0 warnings
"
    );
}

#[test]
fn warnings_are_failures_only_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), GOOD.to_owned() + "  suspend: true\n").unwrap();
    assert_eq!(check(&["a.yaml"], folder.path()).status.code(), Some(0));
    let output = check(&["a.yaml", "--strict"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("a.yaml:11: warning: "), "{}", stdout(&output));
}

#[test]
fn a_file_that_cannot_be_read_is_a_wrong_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(&["missing.yaml"], folder.path());
    assert_eq!((output.status.code(), &*stdout(&output)), (Some(2), ""));
    assert!(stderr(&output).starts_with("error: failed to read missing.yaml: "), "{}", stderr(&output));
}

#[test]
fn the_examples_are_well() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let output = check(&["--strict", "sinks", "todo"], Path::new(examples));
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}
