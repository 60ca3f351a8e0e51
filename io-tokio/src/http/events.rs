//! Server-sent events, read as the WHATWG HTML standard says (section 9.2.6), from chunks that are split anywhere.

use std::error::Error;
use std::fmt;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Event {
    /// What kind it is, where the server says so (`event:`).
    pub name: Option<String>,
    /// Its content; several `data:` lines are joined by newlines.
    pub data: String,
    /// Its place in the stream, where the server says so (`id:`).
    pub id: Option<String>,
}

/// An event was longer than the reader allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLong {
    /// The limit in bytes.
    pub limit: usize,
}

impl fmt::Display for EventTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one server-sent event is longer than {} bytes", self.limit)
    }
}

impl Error for EventTooLong {}

/// Makes events of bytes as they arrive. Holds one unfinished event and what was pushed last, never more. Bytes
/// that are not UTF-8 become U+FFFD; a character may be split over pushes.
#[derive(Clone, Debug)]
pub struct EventReader {
    limit: usize,
    bytes: Vec<u8>,
    /// Where in `bytes` the first line begins that has not been read.
    line: usize,
    /// Up to where `bytes` was searched for the end of that line.
    searched: usize,
    /// A carriage return ended the last line: a line feed that follows belongs to it.
    after_return: bool,
    at_start: bool,
    /// The event so far; `None` for data while there was no `data:` line.
    data: Option<String>,
    name: Option<String>,
    id: Option<String>,
}

impl EventReader {
    /// A reader that gives up on an event with more than `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: Vec::new(),
            line: 0,
            searched: 0,
            after_return: false,
            at_start: true,
            data: None,
            name: None,
            id: None,
        }
    }

    /// Takes bytes as they arrived. Read all events out with [`Self::next_event`] before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.line);
        self.searched -= self.line;
        self.line = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole event; `None`: more bytes are needed.
    ///
    /// # Errors
    ///
    /// If the event is too long. The stream cannot be read on after that.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLong> {
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                if let Some(event) = self.take_event() {
                    return Ok(Some(event));
                }
            } else {
                self.field(&line);
            }
            self.check(0)?;
        }
        self.check(self.bytes.len() - self.line)?;
        Ok(None)
    }

    /// No more bytes come: what is there counts as whole. The standard drops it; a server that forgets the last empty
    /// line meant it.
    pub fn end(&mut self) {
        self.push(b"\n\n");
    }

    fn check(&self, unread: usize) -> Result<(), EventTooLong> {
        let held = [&self.data, &self.name, &self.id].into_iter().flatten().map(String::len).sum::<usize>();
        if held + unread > self.limit { Err(EventTooLong { limit: self.limit }) } else { Ok(()) }
    }

    fn next_line(&mut self) -> Option<String> {
        if self.after_return && self.line < self.bytes.len() {
            self.after_return = false;
            if self.bytes[self.line] == b'\n' {
                self.line += 1;
                self.searched = self.line;
            }
        }
        let end = self.bytes[self.searched..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end.map(|offset| self.searched + offset) else {
            self.searched = self.bytes.len();
            return None;
        };
        // No byte of a longer character is a line end, so a whole line has whole characters.
        let mut line = String::from_utf8_lossy(&self.bytes[self.line..end]).into_owned();
        if std::mem::take(&mut self.at_start) && line.starts_with('\u{feff}') {
            line.remove(0);
        }
        self.after_return = self.bytes[end] == b'\r';
        self.line = end + 1;
        self.searched = self.line;
        Some(line)
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => self.name = Some(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            // A comment (an empty name) is a sign of life; `retry` is for clients that come back by themselves.
            _ => {}
        }
    }

    fn take_event(&mut self) -> Option<Event> {
        let (name, id) = (self.name.take(), self.id.take());
        Some(Event { name, data: self.data.take()?, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<Event> {
        let mut reader = EventReader::new(1000);
        let mut events = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(event) = reader.next_event().unwrap() {
                events.push(event);
            }
        }
        reader.end();
        events.extend(reader.next_event().unwrap());
        events
    }

    fn data(text: &str) -> Event {
        Event { data: text.to_owned(), ..Event::default() }
    }

    #[test]
    fn fields_comments_and_line_ends_of_all_kinds() {
        let stream = b"\xef\xbb\xbf: hello\n\ndata: one\n\ndata:two\r\ndata: three\r\n\r\nevent: end\rid: 7\rdata\r\rretry: 5\nevent: lost\n\ndata: last";
        let named = Event { name: Some("end".to_owned()), data: String::new(), id: Some("7".to_owned()) };
        assert_eq!(read(&[stream]), [data("one"), data("two\nthree"), named, data("last")]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(read(&[b"data: a\xffb\n\n"]), [data("a\u{fffd}b")]);
    }

    #[test]
    fn an_event_over_the_limit_is_an_error_in_one_line_and_in_many() {
        let too_long = Err(EventTooLong { limit: 10 });
        let mut reader = EventReader::new(10);
        reader.push(b"data: 12345678901");
        assert_eq!(reader.next_event(), too_long);
        let mut reader = EventReader::new(10);
        reader.push(b"data: 12345\ndata: 67890\n");
        assert_eq!(reader.next_event(), too_long);
    }

    #[test]
    fn the_limit_is_exact_and_what_was_read_counts_no_more() {
        let mut reader = EventReader::new(10);
        reader.push(b"data: 1\n\ndata: 2\n\ndata: 3456");
        for expected in ["1", "2"] {
            assert_eq!(reader.next_event().unwrap().unwrap().data, expected);
        }
        assert_eq!(reader.next_event(), Ok(None), "ten bytes are held");
        reader.push(b"7");
        assert_eq!(reader.next_event(), Err(EventTooLong { limit: 10 }));
    }

    #[test]
    fn memory_is_bounded_by_one_event_however_many_come() {
        let mut reader = EventReader::new(100);
        for _ in 0..10_000 {
            reader.push(b"data: x\n\n: comment\n");
            while reader.next_event().unwrap().is_some() {}
        }
        assert!(reader.bytes.capacity() < 1000);
    }

    proptest! {
        #[test]
        fn where_the_stream_is_split_changes_nothing(
            lines in prop::collection::vec("(data: ?|event: |id: |: |)[aä😀 :]{0,6}(\r\n|\n|\r)", 0..12),
            cuts in prop::collection::vec(0_usize..200, 0..8),
        ) {
            let stream = lines.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&stream[from..cut]);
                from = cut;
            }
            chunks.push(&stream[from..]);
            prop_assert_eq!(read(&chunks), read(&[&stream]));
        }
    }
}
