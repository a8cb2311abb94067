//! What is said of dead letters: on standard output what becomes of each, on standard error that it takes a while.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tidings_bridge::redrive::{End, Said, Tally, Told};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::RedriveOutput;
use crate::output;

/// After this, and again and again, it is said how far it is.
const WORD: Duration = Duration::from_secs(2);

/// Tells a person, or a program.
pub(super) struct Report {
    output: RedriveOutput,
    dry_run: bool,
    /// A table has to be known before it is written.
    rows: Vec<[String; 6]>,
    /// Why nothing can be told any more.
    failure: Option<anyhow::Error>,
    stop: CancellationToken,
    word: Instant,
}

// === impl Report ===

impl Report {
    pub(super) fn new(output: RedriveOutput, dry_run: bool, stop: CancellationToken) -> Self {
        Self { output, dry_run, rows: Vec::new(), failure: None, stop, word: Instant::now() }
    }

    pub(super) fn take(&mut self, said: Said) {
        match said {
            Said::Read(tally) => {
                if self.word.elapsed() >= WORD {
                    self.word = Instant::now();
                    // Nobody is left to be told of a failure to tell.
                    let _ = writeln!(io::stderr(), "read {}, sent {}", tally.read(), tally.sent);
                }
            }
            Said::Told(told) => match (self.output, self.dry_run) {
                (RedriveOutput::Json, _) => self.print(&format!("{}\n", as_json(&told))),
                (RedriveOutput::Table, true) => self.rows.push(row(&told)),
                (RedriveOutput::Table, false) => self.print(&line(&told)),
            },
        }
    }

    /// Says the rest.
    pub(super) fn end(mut self, tally: Tally) -> Result<()> {
        if self.output == RedriveOutput::Table {
            if !self.rows.is_empty() {
                let table = table(&self.rows);
                self.print(&table);
            }
            self.print(&sum(tally, self.dry_run));
        }
        self.failure.map_or(Ok(()), Err)
    }

    fn print(&mut self, text: &str) {
        if let Err(error) = output::print(text.as_bytes()) {
            self.failure.get_or_insert(error);
            // Nothing is sent that nobody would hear of.
            self.stop.cancel();
        }
    }
}

fn line(Told { place, content, end }: &Told) -> String {
    let (key, id) = (content.attribute("subject"), content.attribute("id"));
    match end {
        End::Listed => format!("{key}: would be sent: {id}\n"),
        End::Sent => format!("{key}: sent: {id}\n"),
        End::Refused(reason) => format!("{key}: refused again: {reason}: {id}\n"),
        End::Unreadable(reason) => format!("{key}: cannot be sent as it was: {reason}: {place}\n"),
    }
}

fn row(Told { place: _, content, end }: &Told) -> [String; 6] {
    let error = match end {
        End::Unreadable(reason) => format!("cannot be sent as it was: {reason}"),
        _ => content.attribute("deadlettererror").to_owned(),
    };
    let [id, key, kind, reason, attempts] =
        ["id", "subject", "type", "deadletterreason", "deadletterattempts"]
            .map(|name| content.attribute(name).to_owned());
    [id, key, kind, reason, attempts, error]
}

fn table(rows: &[[String; 6]]) -> String {
    let head = ["ID", "KEY", "TYPE", "REASON", "ATTEMPTS", "ERROR"].map(str::to_owned);
    let lines = || std::iter::once(&head).chain(rows);
    let widths: [usize; 6] = std::array::from_fn(|column| {
        lines().map(|line| line[column].chars().count()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for line in lines() {
        let (last, before) = (&line[5], &line[..5]);
        for (cell, width) in before.iter().zip(widths) {
            let _ = write!(text, "{cell:width$}  "); // writing to a String does not fail
        }
        text += last;
        text.push('\n');
    }
    text
}

fn sum(tally: Tally, dry_run: bool) -> String {
    let Tally { listed, sent, refused, unreadable, unwanted, others } = tally;
    if tally.read() == 0 {
        return "there are no dead letters\n".to_owned();
    }
    let mut parts = vec![if dry_run { format!("{listed} would be sent") } else { format!("{sent} sent") }];
    for (count, what) in [
        (refused, "refused again"),
        (unreadable, "not readable"),
        (unwanted, "not asked for"),
        (others, "of others, which are left alone"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{}\n", parts.join(", "))
}

fn as_json(Told { place, content, end }: &Told) -> serde_json::Value {
    let (end, problem) = match end {
        End::Listed => ("Listed", None),
        End::Sent => ("Sent", None),
        End::Refused(reason) => ("Refused", Some(reason)),
        End::Unreadable(reason) => ("Unreadable", Some(reason)),
    };
    let [id, key, kind, sequence, reason, error, sink] =
        ["id", "subject", "type", "sequence", "deadletterreason", "deadlettererror", "deadlettersink"]
            .map(|name| content.attribute(name));
    json!({
        "id": id,
        "key": key,
        "type": kind,
        "sequence": sequence,
        "reason": reason,
        "error": error,
        "attempts": content.attribute("deadletterattempts").parse::<u64>().ok(),
        "sink": sink,
        "destination": content.attribute("deadletterplace"),
        "place": place,
        "end": end,
        "problem": problem,
    })
}
