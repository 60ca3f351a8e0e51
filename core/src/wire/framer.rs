//! Tells when a message on a stream is whole, without reading or waiting itself. Not every netcat ends the
//! stream after its message, and a shell device's output has no end of its own, so silence is part of the rules.

use alloc::vec::Vec;
use core::time::Duration;

use super::head::{RawHead, payload_start, raw_head};
use super::{WireLimits, address};

/// A silence after which whatever is there is all that will come.
const ANY_SILENCE: Duration = Duration::from_secs(2);
/// The silence after an output that could go on.
const RAW_SILENCE: Duration = Duration::from_millis(300);
/// The silence after an address that could go on.
const ADDRESS_SILENCE: Duration = Duration::from_millis(50);
/// The longest payload that is tried as an address; keeps the work per byte bounded.
const ADDRESS_BYTES_MAX: usize = 256;

/// What is known about the message so far. Depends on the bytes alone, not on how they were split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Nothing is there yet.
    Empty,
    /// The message is whole.
    Whole,
    /// The message is whole if nothing more comes for so long, or if the stream ends.
    WholeAfter(Duration),
    /// The message is longer than the limit. What came after the limit was not kept.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Collects the bytes of one connection until they are a whole message. All work together is in proportion to
/// the bytes, however they were split.
#[derive(Clone, Debug)]
pub struct Framer {
    limits: WireLimits,
    bytes: Vec<u8>,
    /// How many bytes have been looked at.
    seen: usize,
    form: Form,
    framing: Framing,
}

impl Framer {
    /// A framer for one connection.
    pub const fn new(limits: WireLimits) -> Self {
        Self { limits, bytes: Vec::new(), seen: 0, form: Form::Head, framing: Framing::Empty }
    }

    /// Takes bytes as they arrived and tells how the message stands now.
    pub fn push(&mut self, bytes: &[u8]) -> Framing {
        let limit = self.limits.message_bytes;
        let room = limit.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if bytes.len() > room {
            self.framing = Framing::TooLong { limit };
        }
        if !bytes.is_empty() && !matches!(self.framing, Framing::TooLong { .. }) {
            self.framing = self.look();
        }
        self.framing
    }

    /// How the message stands.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// How long a silence makes what is there a whole message; `None` while nothing is there, and when no silence
    /// is needed or none helps.
    pub const fn silence(&self) -> Option<Duration> {
        match self.framing {
            Framing::WholeAfter(silence) => Some(silence),
            Framing::Empty | Framing::Whole | Framing::TooLong { .. } => None,
        }
    }

    /// What has been collected.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has been collected, for [`super::decode`]; also when the stream ended.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn look(&mut self) -> Framing {
        if let Form::Head = self.form {
            let Some(start) = payload_start(&self.bytes) else {
                return Framing::WholeAfter(ANY_SILENCE);
            };
            self.form = Form::of(self.bytes.split(|b| *b == b'|').next().unwrap_or_default(), start);
            self.seen = start;
        }
        if let Form::Result { start } = self.form {
            match raw_head(self.bytes.get(start..).unwrap_or_default()) {
                RawHead::Raw { output, .. } => {
                    self.form = Form::Raw(Tail::Open);
                    self.seen = start + output;
                }
                RawHead::Json => self.form = Form::Json { start, scan: Scan::default() },
                RawHead::Incomplete => return Framing::WholeAfter(ANY_SILENCE),
            }
        }
        let new = self.bytes.get(self.seen..).unwrap_or_default();
        self.seen = self.bytes.len();
        match &mut self.form {
            Form::Address { start, line_end } => {
                *line_end |= new.contains(&b'\n');
                if *line_end { Framing::Whole } else { address_silence(&self.bytes, *start) }
            }
            Form::Json { start, scan } => {
                let start = *start;
                for &byte in new {
                    scan.step(byte);
                }
                if scan.closed_now() {
                    scan.strict = is_strict(self.bytes.get(start..).unwrap_or_default());
                }
                if scan.is_whole() { Framing::Whole } else { Framing::WholeAfter(ANY_SILENCE) }
            }
            Form::Raw(tail) => {
                *tail = new.iter().fold(*tail, |tail, byte| tail.step(*byte));
                Framing::WholeAfter(if *tail == Tail::Closed { RAW_SILENCE } else { ANY_SILENCE })
            }
            Form::Head | Form::Result { .. } | Form::Bare => Framing::WholeAfter(ANY_SILENCE),
        }
    }
}

fn address_silence(bytes: &[u8], start: usize) -> Framing {
    let payload = bytes.get(start..).unwrap_or_default();
    let short = payload.len() <= ADDRESS_BYTES_MAX;
    let valid = short && core::str::from_utf8(payload).is_ok_and(|text| address::read(text).is_some());
    Framing::WholeAfter(if valid { ADDRESS_SILENCE } else { ANY_SILENCE })
}

fn is_strict(payload: &[u8]) -> bool {
    core::str::from_utf8(payload)
        .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// What kind of end the message has; `start` is where its payload begins.
#[derive(Clone, Debug)]
enum Form {
    /// TYPE and FROM are still coming.
    Head,
    /// HELLO, DISCOVER.
    Address { start: usize, line_end: bool },
    /// A RESULT of which too little is there to tell whether its output is raw.
    Result { start: usize },
    /// A shell device's RESULT.
    Raw(Tail),
    /// All other types with a JSON payload.
    Json { start: usize, scan: Scan },
    /// Text has no end of its own, and unknown types may be text.
    Bare,
}

impl Form {
    fn of(kind: &[u8], start: usize) -> Self {
        match kind {
            b"HELLO" | b"DISCOVER" => Self::Address { start, line_end: false },
            b"RESULT" => Self::Result { start },
            b"BID_REQUEST" | b"BID_RESPONSE" | b"TASK" | b"REFUSE" | b"ACCEPT" | b"REJECT" | b"PROGRESS"
            | b"CANCEL" | b"ACK" | b"QUERY" | b"BYE" => Self::Json { start, scan: Scan::default() },
            _ => Self::Bare,
        }
    }
}

/// How raw output ends so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Open,
    /// In a quote.
    Quote,
    /// In `"}`, perhaps followed by white space.
    Closed,
}

impl Tail {
    const fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'"') => Self::Quote,
            (Self::Quote, b'}') => Self::Closed,
            (Self::Closed, byte) if byte.is_ascii_whitespace() => Self::Closed,
            _ => Self::Open,
        }
    }
}

/// Follows strings and brackets of JSON just enough to see the first object close. The strict reader judges it,
/// once.
#[derive(Clone, Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The first object has closed.
    closed: bool,
    /// It has been judged.
    judged: bool,
    /// The strict reader accepted it.
    strict: bool,
    /// Something else than white space stands outside of it.
    stray: bool,
}

impl Scan {
    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ if self.closed => self.stray = true,
            b'{' => self.depth += 1,
            _ if self.depth == 0 => self.stray = true,
            b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                self.closed = self.depth == 0;
            }
            b'"' => self.in_string = true,
            _ => {}
        }
    }

    /// Whether it is time for the strict reader; true once at most.
    fn closed_now(&mut self) -> bool {
        let now = self.closed && !self.judged;
        self.judged |= now;
        now
    }

    const fn is_whole(&self) -> bool {
        self.strict && !self.stray
    }
}
