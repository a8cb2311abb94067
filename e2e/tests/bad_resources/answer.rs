//! What each of those who look at a resource says of it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{bail, ensure};
use kube::Client;
use serde_json::Value;
use tidings_testbed::wait::eventually;

use crate::row::Row;
use crate::support::{Stage, program};

/// Within which the bridge has to say what is wrong.
const NOTICED: Duration = Duration::from_secs(15);
/// The most that is shown of one message, in characters: the API server repeats what it was given.
const MAX_SHOWN: usize = 240;

/// Everything that one of them says: path and words, or only words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(Vec<(String, String)>);

/// What an API server says that is asked as kubectl asks it, by strict validation.
pub(crate) async fn schema(row: &Row, stage: &Stage) -> Answer {
    let path = format!("{}?fieldValidation=Strict", collection(row, &stage.namespace));
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(&row.object()).unwrap()).unwrap();
    let status = match stage.cluster.client.request::<Value>(request).await {
        Ok(_) => return Answer(Vec::new()),
        Err(kube::Error::Api(status)) => status,
        Err(other) => panic!("{}: {other}", row.name),
    };
    // It says so beside every mistake in the form, and it names none.
    let is_noise =
        |(_, message): &(String, String)| message.contains("some validation rules were not checked");
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let cause = |cause: kube::core::response::StatusCause| (cause.field, cause.message);
    let mut told: Vec<_> = causes.into_iter().map(cause).filter(|told| !is_noise(told)).collect();
    if told.is_empty() {
        told.push((String::new(), status.message));
    }
    told.sort();
    Answer(told)
}

/// What the command line says of a file.
pub(crate) async fn check(row: &Row, stage: &Stage) -> Answer {
    let mut command = Command::new(program().await);
    command.args(["check", "-", "-o", "json", "-n", &stage.namespace]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&row.object()).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}: it is not refused", row.name);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = report["resources"][0]["errors"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut told: Vec<_> = errors.map(|error| (text(&error["path"]), text(&error["message"]))).collect();
    told.sort();
    Answer(told)
}

/// What the bridge says in the status of a resource that is there.
pub(crate) async fn bridge(row: &Row, stage: &Stage) -> Answer {
    let path = format!("{}/{}", collection(row, &stage.namespace), row.resource());
    let condition = if row.kind == "Sink" { "Reachable" } else { "Accepted" };
    let what = format!("{condition} of {} is False", row.name);
    let told = eventually(NOTICED, &what, || async {
        let object = get(&stage.cluster.client, &path).await?;
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let Some(found) = conditions.into_iter().find(|found| found["type"] == condition) else {
            bail!("there is none yet: {}", object["status"]);
        };
        ensure!(found["status"] == "False" && found["reason"] == "Invalid", "{found}");
        Ok(found["message"].as_str().unwrap_or_default().to_owned())
    });
    let told = match told.await {
        Ok(told) => told,
        Err(error) => format!("{error:#}"),
    };
    let line = |line: &str| {
        let (path, message) = line.split_once(": ").unwrap_or(("", line));
        (path.to_owned(), message.to_owned())
    };
    let mut told: Vec<_> = told.lines().map(line).collect();
    told.sort();
    Answer(told)
}

async fn get(client: &Client, path: &str) -> anyhow::Result<Value> {
    Ok(client.request(http::Request::get(path).body(Vec::new())?).await?)
}

fn collection(row: &Row, namespace: &str) -> String {
    let plural = if row.kind == "Sink" { "sinks" } else { "subscriptions" };
    format!("/apis/tidings.dev/v1alpha1/namespaces/{namespace}/{plural}")
}

// === impl Answer ===

impl Answer {
    pub(crate) fn is_silent(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.iter().map(|(path, _)| path.clone()).collect()
    }

    /// As a page shows it.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.is_silent() {
            return vec!["lets it through".to_owned()];
        }
        let line = |(path, message): &(String, String)| {
            let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
            let message = message.replace('\n', " ");
            match message.char_indices().nth(MAX_SHOWN) {
                Some((end, _)) => format!("{place}{}…", &message[..end]),
                None => format!("{place}{message}"),
            }
        };
        self.0.iter().map(line).collect()
    }
}
