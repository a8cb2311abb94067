//! How it is told.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};
use tidings_core::change::ChangeKind;
use tidings_sinks::message::Message;

use super::{Demand, Explained, Scope};
use crate::args::TextOrJson;
use crate::output::Style;

/// What becomes of an object with each Subscription.
pub(super) struct Report<'a>(pub(super) &'a [Explained]);

// === impl Report ===

impl Report<'_> {
    /// For people, or for programs.
    pub(super) fn render(&self, output: TextOrJson) -> Result<String> {
        match output {
            TextOrJson::Json => {
                let all: Vec<_> = self.0.iter().map(Explained::to_json).collect();
                Ok(serde_json::to_string_pretty(&all)? + "\n")
            }
            TextOrJson::Text => {
                let style = Style::of_stdout();
                let all: Vec<_> = self.0.iter().map(|explained| explained.to_text(style)).collect();
                Ok(all.join("\n"))
            }
        }
    }
}

// === impl Explained ===

impl Explained {
    fn to_text(&self, style: Style) -> String {
        let Self { subscription, object, change, scopes, demands, told, message, place } = self;
        let Style { bold, plain, .. } = style;
        let mut text = format!("{bold}Subscription {subscription}: {object}{plain}\n");
        let mut line = |what: &str, value: &str| {
            let written = writeln!(text, "  {what:<18}{value}");
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        };
        if scopes.is_empty() {
            line("not selected", "no source has this kind in this version");
        }
        for Scope { words, misses } in scopes {
            let value =
                if misses.is_empty() { words.clone() } else { format!("{words}: {}", misses.join("; ")) };
            line(if misses.is_empty() { "selected" } else { "not selected" }, &value);
        }
        let Some(change) = change else {
            line("told", "no: it is no member of the selection");
            return text;
        };
        line("change", change.as_str());
        for Demand { path, words, holds } in demands {
            let value = match holds {
                Ok(true) => format!("yes: {words}"),
                Ok(false) => format!("no: {words}"),
                Err(problem) => format!("cannot say, so yes: {problem}"),
            };
            line(path, &value);
        }
        line("told", if *told { "yes" } else { "no" });
        match message {
            Err(problem) => line("message", problem),
            Ok(_) if !told => {}
            Ok(message) => {
                line("to", place);
                for (what, value) in parts(message) {
                    line(what, value);
                }
                for (name, value) in message.headers.iter() {
                    line("header", &format!("{name}: {value}"));
                }
                line("body", &String::from_utf8_lossy(&message.body));
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let Self { subscription, object, change, scopes, demands, told, message, place } = self;
        let scopes = scopes.iter().map(
            |Scope { words, misses }| json!({"scope": words, "selects": misses.is_empty(), "misses": misses}),
        );
        let demands = demands.iter().map(|Demand { path, words, holds }| match holds {
            Ok(holds) => json!({"path": path, "demand": words, "holds": holds}),
            Err(problem) => json!({"path": path, "demand": words, "holds": null, "problem": problem}),
        });
        let message = message.as_ref().ok().filter(|_| *told).map(|message| {
            let headers = message.headers.iter().map(|(name, value)| json!({"name": name, "value": value}));
            json!({
                "destination": message.destination, "key": message.record_key,
                "headers": headers.collect::<Vec<_>>(), "body": String::from_utf8_lossy(&message.body),
            })
        });
        json!({
            "subscription": subscription, "object": object, "change": change.map(ChangeKind::as_str),
            "scopes": scopes.collect::<Vec<_>>(), "demands": demands.collect::<Vec<_>>(), "told": told,
            "to": place, "message": message,
        })
    }
}

/// What a message has besides headers and body, where it has it.
fn parts(message: &Message) -> impl Iterator<Item = (&'static str, &str)> {
    let parts = [("destination", message.destination.as_str()), ("key", message.record_key.as_str())];
    parts.into_iter().filter(|(_, value)| !value.is_empty())
}
