//! A number of bytes as Kubernetes writes it: `64Mi`, `500k`, `1048576`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// A number of bytes that fits into this machine's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(into = "String")]
#[schemars(inline, with = "String", extend("format" = "size"))]
pub struct ByteSize(usize);

/// Text that is not a number of bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No whole number, or a unit that is not one of size.
    #[error("{0:?} is not a size like `64Mi`, `500k` or `1048576`")]
    Malformed(String),
    /// More than can be addressed.
    #[error("{0:?} is more than this machine can address")]
    Range(String),
}

/// Largest first within each system, so that printing finds the shortest form.
const UNITS: [(&str, usize); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

// === impl ByteSize ===

impl ByteSize {
    /// `mebibytes` times 2²⁰ bytes.
    pub const fn from_mebibytes(mebibytes: usize) -> Self {
        Self(mebibytes << 20)
    }

    /// `bytes` bytes.
    pub const fn from_bytes(bytes: usize) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::Malformed(text.to_owned()));
        }
        let count: Option<usize> = digits.parse().ok();
        count
            .and_then(|count| count.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| Error::Range(text.to_owned()))
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// A plain number of bytes is not quoted in a file.
struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size like `64Mi` or a number of bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        usize::try_from(bytes).map(ByteSize).map_err(|_| E::custom(Error::Range(bytes.to_string())))
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        usize::try_from(bytes)
            .map(ByteSize)
            .map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &"a size that is not negative"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_kubernetes_writes_them() {
        for (text, bytes) in
            [("64Mi", 64 << 20), ("500k", 500_000), ("1048576", 1 << 20), ("0", 0), ("2Gi", 2 << 30)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes, "{text}");
        }
    }

    #[test]
    fn a_printed_size_reads_back_as_itself_and_is_short() {
        for (bytes, text) in [(64 << 20, "64Mi"), (500_000, "500k"), (1025, "1025"), (0, "0")] {
            assert_eq!(ByteSize::from_bytes(bytes).to_string(), text);
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes);
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "Mi", "1.5Mi", "-1", "1mb", "1 Mi", "lots"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("is not a size like `64Mi`"), "{text}: {error}");
        }
        let error = "99999999999Ti".parse::<ByteSize>().unwrap_err().to_string();
        assert!(error.contains("more than this machine can address"), "{error}");
    }

    #[test]
    fn a_plain_number_needs_no_quotes() {
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap().get(), 4096);
        assert_eq!(serde_json::from_str::<ByteSize>("\"4Ki\"").unwrap().get(), 4096);
        assert!(serde_json::from_str::<ByteSize>("-1").is_err());
    }
}
