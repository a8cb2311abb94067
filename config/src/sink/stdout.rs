//! Settings of the stdout sink.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Events go to the standard output of the bridge, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StdoutSettings {
    /// What a line shows: `Summary` (columns for people), `Json` (the whole CloudEvent) or `Object` (only its
    /// data).
    #[serde(default)]
    pub format: StdoutFormat,
}

/// What a line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StdoutFormat {
    /// Columns for people: time, change, resource, object, reason, id.
    #[default]
    Summary,
    /// The CloudEvent in structured mode.
    Json,
    /// Only the data of the Event: the object.
    Object,
}

/// Settings that can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidStdout {
    /// What a line shows.
    pub format: StdoutFormat,
}

// === impl StdoutSettings ===

impl StdoutSettings {
    /// Whatever can be written down here is valid.
    pub fn validate(&self) -> ValidStdout {
        let Self { format } = self;
        ValidStdout { format: *format }
    }
}
