//! Splits a stream of bytes into lines of bounded length.
//!
//! Before: bridge/src/watch/reader.rs
//! Next: bridge/src/watch/scan.rs

/// How much of a line that is too long is kept, to read from it whose it is.
const PREFIX: usize = 256 * 1024;

/// Collects what came in until a line is whole.
pub(super) struct LineSplitter {
    /// The longest line that is kept whole, in bytes.
    limit: usize,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The length of the line that is being skipped, with what was dropped.
    skipped: Option<usize>,
}

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    /// It was longer than the limit, and is gone but for its beginning.
    TooLong {
        prefix: &'a [u8],
        length: usize,
    },
}

// === impl LineSplitter ===

impl LineSplitter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), skipped: None }
    }

    /// Takes in `chunk` and calls `each` for every line that is complete with it. Lines that lie within the
    /// chunk are not copied.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.partial.is_empty() && line.len() <= self.limit {
                each(Line::Whole(line));
                continue;
            }
            self.extend(line);
            match self.skipped.take() {
                Some(length) => each(Line::TooLong { prefix: &self.partial, length }),
                None => each(Line::Whole(&self.partial)),
            }
            self.partial.clear();
            // One large object must not hold its memory for ever.
            self.partial.shrink_to(PREFIX);
        }
        self.extend(chunk);
    }

    fn extend(&mut self, part: &[u8]) {
        if let Some(length) = &mut self.skipped {
            *length += part.len();
        } else if self.partial.len() + part.len() > self.limit {
            self.skipped = Some(self.partial.len() + part.len());
            let room = PREFIX.min(self.limit).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&part[..room.min(part.len())]);
            self.partial.truncate(PREFIX);
            self.partial.shrink_to_fit();
        } else {
            self.partial.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole line, or the beginning of one with its length.
    type Split = Result<Vec<u8>, (Vec<u8>, usize)>;

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<Split> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::new(limit);
        for chunk in chunks {
            splitter.feed(chunk, |line| {
                lines.push(match line {
                    Line::Whole(line) => Ok(line.to_vec()),
                    Line::TooLong { prefix, length } => Err((prefix.to_vec(), length)),
                });
            });
        }
        lines
    }

    #[test]
    fn lines_are_found_wherever_chunks_end() {
        let text = b"one\ntwo\n\nthree\n";
        let expected: Vec<_> = ["one", "two", "", "three"].map(|l| Ok(l.as_bytes().to_vec())).into();
        for cut in 0..text.len() {
            assert_eq!(split(100, &[&text[..cut], &text[cut..]]), expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_is_whole() {
        let expected = vec![Err((b"01234".to_vec(), 12)), Ok(b"next".to_vec())];
        assert_eq!(split(5, &[b"0123456789ab\nnext\n"]), expected);
        assert_eq!(split(5, &[b"0123", b"4567", b"89ab", b"\nne", b"xt\n"]), {
            let mut expected = expected;
            expected[0] = Err((b"01234".to_vec(), 12));
            expected
        });
    }

    #[test]
    fn a_torn_last_line_is_never_a_line() {
        assert_eq!(split(100, &[b"one\ntw"]), [Ok(b"one".to_vec())]);
    }
}
