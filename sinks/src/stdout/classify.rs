//! What errors of writing mean: nothing is wrong with a line, so all of them are retries.
//!
//! Before: sinks/src/stdout/client.rs
//! Next: core/src/delivery.rs

use std::io;

use tidings_core::delivery::Outcome;

use crate::sink::{NotReady, retry};

/// What became of lines that could not be written.
pub(super) fn write(error: &io::Error) -> Outcome {
    retry(format!("the output takes no line: {error}"))
}

/// Why lines cannot be written. `OutputClosed` will not get better: whoever read them has gone.
pub(super) fn not_ready(error: &io::Error) -> NotReady {
    let reason = match error.kind() {
        io::ErrorKind::BrokenPipe => "OutputClosed",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "OutputFull",
        _ => "OutputFailed",
    };
    NotReady::new(reason, format!("the output takes no line: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_writing_is_retried_and_says_what_is_wrong() {
        for (kind, reason) in [
            (io::ErrorKind::BrokenPipe, "OutputClosed"),
            (io::ErrorKind::StorageFull, "OutputFull"),
            (io::ErrorKind::PermissionDenied, "OutputFailed"),
        ] {
            let error = io::Error::from(kind);
            assert!(matches!(write(&error), Outcome::Retry { after: None, .. }));
            assert_eq!(not_ready(&error).reason, reason);
        }
    }
}
