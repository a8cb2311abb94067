//! A forward walk over JSON text that the API server wrote, with no allocation.
//!
//! It understands what such text has: no byte order mark, plain keys. Anything else is [`Unexpected`], and the
//! caller parses in full. It does not validate what it skips: a stream of the API server is trusted to be JSON.

use std::ops::Range;

/// The text is not what a fast walk can deal with.
#[derive(Debug)]
pub(super) struct Unexpected;

/// A place in the text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// A member of an object whose value is about to be read.
pub(super) struct Member<'a> {
    pub(super) key: &'a str,
    start: usize,
    /// The comma before it, unless it is the first.
    comma: Option<usize>,
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&mut self) -> Result<u8, Unexpected> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Unexpected),
            }
        }
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Unexpected> {
        if self.peek()? != byte {
            return Err(Unexpected);
        }
        self.at += 1;
        Ok(())
    }

    /// A value, as it is written.
    pub(super) fn raw_value(&mut self) -> Result<&'a str, Unexpected> {
        self.peek()?;
        let start = self.at;
        self.skip_value()?;
        std::str::from_utf8(&self.text[start..self.at]).map_err(|_| Unexpected)
    }

    /// A key and its colon.
    pub(super) fn key(&mut self) -> Result<&'a str, Unexpected> {
        let key = self.text()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// A string without escapes.
    pub(super) fn text(&mut self) -> Result<&'a str, Unexpected> {
        self.expect(b'"')?;
        let rest = self.text.get(self.at..).ok_or(Unexpected)?;
        let end = memchr::memchr2(b'"', b'\\', rest).ok_or(Unexpected)?;
        if rest[end] == b'\\' {
            return Err(Unexpected);
        }
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| Unexpected)
    }

    pub(super) fn text_or_null(&mut self) -> Result<Option<&'a str>, Unexpected> {
        if self.peek()? == b'"' { self.text().map(Some) } else { self.literal(b"null").map(|()| None) }
    }

    pub(super) fn number(&mut self) -> Result<u64, Unexpected> {
        self.peek()?;
        let rest = &self.text[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if matches!(rest.get(digits), Some(b'.' | b'e' | b'E')) {
            return Err(Unexpected);
        }
        self.at += digits;
        std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok()).ok_or(Unexpected)
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Unexpected> {
        self.peek()?;
        if !self.text[self.at..].starts_with(literal) {
            return Err(Unexpected);
        }
        self.at += literal.len();
        Ok(())
    }

    /// Goes over a value of any kind.
    pub(super) fn skip_value(&mut self) -> Result<(), Unexpected> {
        match self.peek()? {
            b'"' => self.skip_text(),
            b'{' | b'[' => self.skip_nested(),
            _ => {
                let rest = &self.text[self.at..];
                let end = memchr::memchr3(b',', b'}', b']', rest).ok_or(Unexpected)?;
                if end == 0 {
                    return Err(Unexpected);
                }
                self.at += end;
                Ok(())
            }
        }
    }

    fn skip_text(&mut self) -> Result<(), Unexpected> {
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).ok_or(Unexpected)?;
            let next = memchr::memchr2(b'"', b'\\', rest).ok_or(Unexpected)?;
            if rest[next] == b'"' {
                self.at += next + 1;
                return Ok(());
            }
            self.at += next + 2;
        }
    }

    fn skip_nested(&mut self) -> Result<(), Unexpected> {
        let mut depth = 0_usize;
        loop {
            match self.text.get(self.at).ok_or(Unexpected)? {
                b'"' => {
                    self.skip_text()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Calls `each` for every member of an object, to read its value.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, &Member<'a>) -> Result<(), Unexpected>,
    ) -> Result<(), Unexpected> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        let mut comma = None;
        loop {
            self.peek()?;
            let start = self.at;
            let key = self.key()?;
            each(self, &Member { key, start, comma })?;
            match self.peek()? {
                b',' => comma = Some(self.at),
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Unexpected),
            }
            self.at += 1;
        }
    }

    /// Calls `each` for every element of an array, to read it.
    pub(super) fn elements(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Unexpected>,
    ) -> Result<(), Unexpected> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Unexpected),
            }
        }
    }
}

// === impl Member ===

impl Member<'_> {
    /// The text of the member, its value having been read, with the comma that goes when it goes.
    pub(super) fn range_to(&self, cursor: &mut Cursor<'_>) -> Range<usize> {
        let end = cursor.at;
        match (cursor.peek(), self.comma) {
            (Ok(b','), _) => self.start..cursor.at + 1,
            (_, Some(comma)) => comma..end,
            (_, None) => self.start..end,
        }
    }
}
