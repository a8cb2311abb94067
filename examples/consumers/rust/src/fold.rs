//! What is left when Events are folded: the objects that exist, as the cluster holds them.
//!
//! The rule is that of `docs/guarantees.md`, "What a consumer has to do". It is kept in `SQLite`, so that an Event is
//! acknowledged only when what it says would survive this process. An application has a table of its own in this place.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cloudevents::{AttributesReader, Data, Event};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{Map, Value};

/// What an Event says of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// It exists, with this content.
    Exists,
    /// It is gone, or is none of ours any more.
    Gone,
}

/// The objects that exist, in a file.
pub(crate) struct Fold {
    connection: Connection,
}

/// An object that is gone keeps its row, without data: a late repeat must not bring it back. `ids` are those that had
/// this very sequence, separated by spaces, which no id has.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS objects (
    subscription TEXT, source TEXT, subject TEXT,
    sequence TEXT NOT NULL, ids TEXT NOT NULL, data TEXT,
    PRIMARY KEY (subscription, source, subject)
)";
const FIND: &str = "SELECT sequence, ids FROM objects WHERE (subscription, source, subject) = (?1, ?2, ?3)";
const PUT: &str = "INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const EXISTING: &str = "SELECT subject, data FROM objects WHERE data IS NOT NULL";

// === impl Says ===

impl Says {
    /// Fails unless `event` is one of Tidings that this code understands.
    pub(crate) fn of(event: &Event) -> Result<Self> {
        for name in ["sequence", "subscription"] {
            attribute(event, name)?;
        }
        event.subject().context("there is no attribute subject")?;
        match change(event) {
            "snapshot" | "added" | "updated" => Ok(Self::Exists),
            "deleted" | "left" => Ok(Self::Gone),
            _ => bail!("the type {:?} does not end in a change that is known here", event.ty()),
        }
    }
}

// === impl Fold ===

impl Fold {
    /// What is in the file, or nothing yet.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("open {}", path.display()))?;
        connection.execute(SCHEMA, [])?;
        Ok(Self { connection })
    }

    /// Takes in all of `events` or none, and answers of each whether it was news. When this returns, it is stored.
    pub(crate) fn take(&mut self, events: &[Event]) -> Result<Vec<bool>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let news = events.iter().map(|event| take(&transaction, event)).collect::<Result<_>>()?;
        transaction.commit()?;
        Ok(news)
    }

    /// What exists, by namespace/name. Where one place has several kinds, names need `source` beside them.
    pub(crate) fn objects(&self) -> Result<Map<String, Value>> {
        let mut statement = self.connection.prepare(EXISTING)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (subject, data) = row?;
            Ok((subject, serde_json::from_str(&data)?))
        })
        .collect()
    }
}

/// `snapshot`, `added`, `updated`, `deleted` or `left`.
pub(crate) fn change(event: &Event) -> &str {
    event.ty().rsplit('.').next().unwrap_or_default()
}

fn take(connection: &Connection, event: &Event) -> Result<bool> {
    let (sequence, subscription) = (attribute(event, "sequence")?, attribute(event, "subscription")?);
    let (source, subject) = (event.source(), event.subject().unwrap_or_default());
    let known = connection.query_row(FIND, params![subscription, source, subject], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    let (known, ids) = known.optional()?.unwrap_or_default();
    // Sequences are compared as text. With an equal one the order of arrival counts, but for repeats.
    let ids = match sequence.cmp(&known) {
        std::cmp::Ordering::Less => return Ok(false),
        std::cmp::Ordering::Equal if ids.split(' ').any(|id| id == event.id()) => return Ok(false),
        std::cmp::Ordering::Equal => format!("{ids} {}", event.id()),
        std::cmp::Ordering::Greater => event.id().to_owned(),
    };
    let data = match Says::of(event)? {
        Says::Exists => event.data().map(text),
        Says::Gone => None,
    };
    connection.execute(PUT, params![subscription, source, subject, sequence, ids, data])?;
    Ok(true)
}

fn attribute(event: &Event, name: &str) -> Result<String> {
    let value = event.extension(name).with_context(|| format!("there is no attribute {name}"))?;
    Ok(value.to_string())
}

fn text(data: &Data) -> String {
    match data {
        Data::Json(value) => value.to_string(),
        Data::String(text) => text.clone(),
        Data::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
#[path = "fold/tests.rs"]
mod tests;
