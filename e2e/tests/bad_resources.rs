//! What people do wrong in a Subscription or a Sink, and what each of those that look at it says: the schema of a real API
//! server, as kubectl asks it; `tidings check`; and, where the schema lets it through, the bridge.
//!
//! `bad_resources/table.yaml` is the table. `bad_resources/expected.md` holds all words; to write it anew:
//! `UPDATE_EXPECT=1 cargo test -p tidings-e2e --test bad_resources`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "bad_resources/answer.rs"]
mod answer;
#[path = "bad_resources/row.rs"]
mod row;
mod support;

use std::fmt::Write as _;

use expect_test::expect_file;

use self::answer::{Answer, bridge, check, schema};
use self::row::Row;
use self::support::Stage;

/// In no message: it stands for a password that somebody wrote where it does not belong.
const PASSWORD: &str = "h3Zq-secret";

/// What all say of one row.
struct Answers {
    schema: Answer,
    check: Answer,
    /// Nothing where the schema does not let it through.
    bridge: Option<Answer>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_told_by_all_who_look_with_its_path() {
    let rows = row::table();
    assert!(rows.len() >= 60, "there are only {}", rows.len());
    let stage = support::stage("bad").await;
    let mut page = "\
# What is said of bad resources

Written by `e2e/tests/bad_resources.rs` from `table.yaml`. *Schema*: the API server, as `kubectl apply` asks it. *Check*: `tidings check`.
*Bridge*: the condition `Accepted` of a Subscription, `Reachable` of a Sink, with reason `Invalid`, where the schema lets it through
and no webhook is there.
"
    .to_owned();
    let mut answers = Vec::new();
    for row in &rows {
        answers.push(Answers::to(row, &stage).await);
    }
    let mut wrong = Vec::new();
    for (row, mut answers) in rows.iter().zip(answers) {
        // The bridge has looked at all of them meanwhile.
        if answers.schema.is_silent() {
            answers.bridge = Some(bridge(row, &stage).await);
        }
        if let Err(why) = answers.agree(row) {
            wrong.push(format!("{}: {why}", row.name));
        }
        answers.write(row, &mut page);
    }
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
    expect_file!["bad_resources/expected.md"].assert_eq(&page);
}

// === impl Answers ===

impl Answers {
    async fn to(row: &Row, stage: &Stage) -> Self {
        let schema = schema(row, stage).await;
        let check = check(row, stage).await;
        Self { schema, check, bridge: None }
    }

    /// What has to hold whatever the words are.
    fn agree(&self, row: &Row) -> Result<(), String> {
        let Self { schema, check, bridge } = self;
        let mut paths: Vec<_> = check.paths();
        paths.sort_unstable();
        let mut expected = row.at.clone();
        expected.sort_unstable();
        if paths != expected {
            return Err(format!("check is to name {expected:?}, and says {check:?}"));
        }
        if let Some(bridge) = bridge.as_ref().filter(|bridge| *bridge != check) {
            return Err(format!("the bridge says {bridge:?}, and check {check:?}"));
        }
        if bridge.is_none() && schema.is_silent() {
            return Err("nobody says anything".to_owned());
        }
        let told = format!("{check:?} {bridge:?}");
        if told.contains(PASSWORD) { Err("a password is repeated".to_owned()) } else { Ok(()) }
    }

    fn write(&self, row: &Row, page: &mut String) {
        let Self { schema, check, bridge } = self;
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n", row.name);
        for line in schema.lines() {
            let _ = writeln!(page, "- schema: {line}");
        }
        for line in check.lines() {
            let _ = writeln!(page, "- check: {line}");
        }
        if bridge.is_some() {
            let _ = writeln!(page, "- bridge: the same");
        }
    }
}
