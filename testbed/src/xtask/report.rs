//! Rows of results: a table for people, JSON for machines. The format of every benchmark and of chaos.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::table;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) scenario: &'static str,
    pub(super) variant: String,
    pub(super) metric: String,
    pub(super) value: f64,
    pub(super) unit: String,
    /// What it should be, where there is such a thing.
    pub(super) goal: Option<f64>,
    /// Whether it is.
    pub(super) met: Option<bool>,
}

/// Whether a goal is a ceiling or a floor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub(super) fn new(
        scenario: &'static str,
        variant: impl Into<String>,
        metric: impl Into<String>,
        value: f64,
        unit: impl Into<String>,
        goal: Option<Goal>,
    ) -> Self {
        let (goal, met) = match goal {
            None => (None, None),
            Some(Goal::AtMost(most)) => (Some(most), Some(value <= most)),
            Some(Goal::AtLeast(least)) => (Some(least), Some(value >= least)),
        };
        let (variant, metric, unit) = (variant.into(), metric.into(), unit.into());
        Self { scenario, variant, metric, value, unit, goal, met }
    }
}

/// Prints the rows, and writes them to `json` where that is given.
pub(super) fn publish(rows: &[Row], json: Option<&Path>) -> Result<()> {
    let number = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    let cells: Vec<[String; 7]> = rows
        .iter()
        .map(|row| {
            let met = row.met.map_or("", |met| if met { "met" } else { "missed" });
            [
                row.scenario.to_owned(),
                row.variant.clone(),
                row.metric.clone(),
                number(row.value),
                row.unit.clone(),
                row.goal.map(number).unwrap_or_default(),
                met.to_owned(),
            ]
        })
        .collect();
    table::print(["scenario", "variant", "metric", "value", "unit", "goal", ""], &["value", "goal"], &cells);
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(rows)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
