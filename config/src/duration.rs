//! A length of time as people write it: `30s`, `100ms`, `1h30m`.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::fmt::friendly::{Spacing, SpanPrinter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of time, never negative, exact to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, with = "String", extend("format" = "duration"))]
pub struct Duration(std::time::Duration);

/// Text that is not a duration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No number with a unit, or a unit that is not one of time.
    #[error("{0:?} is not a duration like `30s`, `100ms` or `1h30m`")]
    Malformed(String),
    /// Below zero, or longer than can be counted.
    #[error("{0:?} is out of range: a duration is not negative and below 584 million years")]
    Range(String),
}

// === impl Duration ===

impl Duration {
    /// `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }

    /// As the standard library has it.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Duration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // jiff also reads ISO 8601 (`PT30S`) and `00:00:30`; one spelling is enough for people to learn.
        if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') || text.contains(':') {
            return Err(Error::Malformed(text.to_owned()));
        }
        let signed: SignedDuration = text.parse().map_err(|_| Error::Malformed(text.to_owned()))?;
        signed.try_into().map(Self).map_err(|_| Error::Range(text.to_owned()))
    }
}

impl TryFrom<String> for Duration {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = SpanPrinter::new().spacing(Spacing::None);
        f.write_str(&printer.unsigned_duration_to_string(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in
            [("30s", 30_000), ("100ms", 100), ("1h30m", 5_400_000), ("4m50s", 290_000), ("0s", 0)]
        {
            assert_eq!(text.parse::<Duration>().unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn a_printed_duration_reads_back_as_itself() {
        for millis in [0, 1, 25, 1000, 90_000, 290_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(duration.to_string().parse::<Duration>().unwrap(), duration, "{duration}");
        }
        assert_eq!(Duration::from_secs(290).to_string(), "4m50s");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "30", "s", "30 parsecs", "PT30S", "00:00:30", "ten seconds", "1M2"] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(error.contains("is not a duration like `30s`"), "{text}: {error}");
        }
        assert!("-1s".parse::<Duration>().unwrap_err().to_string().contains("not negative"));
    }
}
