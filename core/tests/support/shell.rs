//! What a shell device makes of a message, as `docs/protocol.md` describes it: `cut`, `grep -o` and an `echo`
//! that interprets escapes, or one that does not. Works on bytes, as the programs do.

use std::ops::RangeBounds;

/// The `echo` of a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// mksh: C's escapes, `\e`, octal, `\x`, `\u`; the options `-n`, `-e`, `-E`.
    Mksh,
    /// dash: C's escapes and octal; the option `-n`.
    Dash,
    /// bash, busybox: no escapes; the options `-n`, `-e`, `-E`.
    Literal,
}

impl Echo {
    /// What `echo "$text"` prints.
    fn print(self, text: &[u8]) -> Vec<u8> {
        if self.is_option(text) {
            return if text.contains(&b'n') { Vec::new() } else { b"\n".to_vec() };
        }
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != b'\\' || self == Self::Literal {
                out.push(byte);
                continue;
            }
            let Some((&escape, after)) = rest.split_first() else {
                out.push(b'\\');
                break;
            };
            rest = after;
            match escape {
                b'a' => out.push(7),
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'v' => out.push(11),
                b'\\' => out.push(b'\\'),
                b'c' => return out,
                b'0' => {
                    let digits = rest.iter().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
                    let (octal, after) = rest.split_at(digits);
                    let value = octal.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                    out.push(value.to_le_bytes()[0]);
                    rest = after;
                }
                b'e' if self == Self::Mksh => out.push(0x1b),
                // A text that got here was not written for this device; where it matters the digits are enough.
                b'x' | b'u' | b'U' if self == Self::Mksh => out.push(b'?'),
                other => out.extend([b'\\', other]),
            }
        }
        out.push(b'\n');
        out
    }

    fn is_option(self, text: &[u8]) -> bool {
        let letters: &[u8] = if self == Self::Dash { b"n" } else { b"neE" };
        text.strip_prefix(b"-").is_some_and(|rest| {
            !rest.is_empty()
                && rest.iter().all(|b| letters.contains(b))
                && (self != Self::Dash || rest.len() == 1)
        })
    }

    /// `$(echo "$text" | filter)`: a variable again, without NUL and without newlines at its end.
    fn pipe(self, text: &[u8], filter: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        substituted(&filter(&self.print(text)))
    }

    /// The type of a message, or `None` if the listener logs `Unknown message type`.
    pub(crate) fn kind(self, message: &[u8]) -> Option<Vec<u8>> {
        let kind = self.pipe(&substituted(message), |text| cut(text, b'|', 0..=0));
        (!kind.contains(&b'\n')).then_some(kind)
    }

    /// The payload after its first two echoes, or `None` if its message has no type.
    fn payload(self, message: &[u8]) -> Option<Vec<u8>> {
        self.kind(message)?;
        let message = substituted(message);
        let payload = self.pipe(&message, |text| cut(text, b'|', 2..));
        Some(self.pipe(&payload, <[u8]>::to_vec))
    }

    /// The file that the model script gets for a TASK.
    pub(crate) fn task_prompt_file(self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.print(&self.field(message, b"\"prompt\":")?))
    }

    /// The `task_id` of a TASK: the name of its files, and what its RESULT repeats.
    pub(crate) fn task_id(self, message: &[u8]) -> Option<Vec<u8>> {
        self.field(message, b"\"task_id\":")
    }

    fn field(self, message: &[u8], key: &[u8]) -> Option<Vec<u8>> {
        let payload = self.payload(message)?;
        Some(self.pipe(&payload, |text| cut(&grep_field(text, key), b'"', 3..=3)))
    }

    /// What is printed of bare text (the prompt file of SLM_PROMPT, the log of TEXT), and the file of a RESULT.
    pub(crate) fn printed_payload(self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.print(&self.payload(message)?))
    }
}

/// Command substitution.
fn substituted(text: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = text.iter().copied().filter(|b| *b != 0).collect();
    while text.last() == Some(&b'\n') {
        text.pop();
    }
    text
}

/// `cut -d SEPARATOR -f FIELDS`, counted from 0; a line without the separator as it is.
fn cut(text: &[u8], separator: u8, chosen: impl RangeBounds<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines(text) {
        let fields: Vec<&[u8]> = line.split(|b| *b == separator).collect();
        if fields.len() == 1 {
            out.extend_from_slice(line);
        } else {
            let indexed = fields.into_iter().enumerate();
            let kept: Vec<&[u8]> = indexed.filter(|(at, _)| chosen.contains(at)).map(|(_, f)| f).collect();
            out.extend(kept.join(&separator));
        }
        out.push(b'\n');
    }
    out
}

/// `grep -o '"KEY": *"[^"]*"'`.
fn grep_field(text: &[u8], key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines(text) {
        let mut rest = line;
        while let Some(at) = rest.windows(key.len()).position(|window| window == key) {
            let spaces = rest[at + key.len()..].iter().take_while(|b| **b == b' ').count();
            let value = at + key.len() + spaces;
            let inside = rest.get(value..).and_then(|value| value.strip_prefix(b"\""));
            match inside.and_then(|inside| inside.iter().position(|b| *b == b'"')) {
                Some(end) => {
                    let end = value + end + 2;
                    out.extend_from_slice(&rest[at..end]);
                    out.push(b'\n');
                    rest = &rest[end..];
                }
                None => rest = &rest[at + key.len()..],
            }
        }
    }
    out
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|b| *b == b'\n')
}
