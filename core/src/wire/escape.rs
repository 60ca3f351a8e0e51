//! How text is written so that it arrives: as JSON, or so that what is left after a shell device's `echo`s is
//! the text again.

use alloc::vec::Vec;

/// Appends `text` as the inside of a JSON string, with `backslashes` for each backslash that JSON needs.
pub(super) fn json(out: &mut Vec<u8>, text: &str, backslashes: usize) {
    runs(
        out,
        text,
        |b| b < 0x20 || matches!(b, b'"' | b'\\'),
        |out, byte| {
            repeat(out, b'\\', backslashes);
            match byte {
                b'"' => out.push(b'"'),
                b'\\' => repeat(out, b'\\', backslashes),
                b'\n' => out.push(b'n'),
                b'\r' => out.push(b'r'),
                b'\t' => out.push(b't'),
                0x08 => out.push(b'b'),
                0x0c => out.push(b'f'),
                control => {
                    out.extend_from_slice(b"u00");
                    out.push(b'0' + (control >> 4));
                    out.push(b"0123456789abcdef"[usize::from(control & 15)]);
                }
            }
        },
    );
}

/// Appends `text` so that echoes which interpret escapes give it back; each halves the `backslashes`, and the
/// last sees one. With `quotes`, quotes are escaped too, since grep would end the text there. A NUL cannot be
/// carried by any shell and is dropped.
pub(super) fn echoed(out: &mut Vec<u8>, text: &str, backslashes: usize, quotes: bool) {
    let text = text.trim_start_matches('\0');
    let rest = match text.strip_prefix('-') {
        // The last echo prints the text alone and would take `-n` for an option.
        Some(rest) => {
            octal(out, b'-', backslashes);
            rest
        }
        None => text,
    };
    runs(
        out,
        rest,
        |b| b < 0x20 || b == b'\\' || (quotes && b == b'"'),
        |out, byte| match byte {
            0 => {}
            b'\\' => repeat(out, b'\\', 2 * backslashes),
            b'\n' => {
                repeat(out, b'\\', backslashes);
                out.push(b'n');
            }
            b'\t' => {
                repeat(out, b'\\', backslashes);
                out.push(b't');
            }
            other => octal(out, other, backslashes),
        },
    );
}

/// Appends `text` for echoes that interpret nothing: what cannot be carried is replaced by what looks like it.
/// The last echo prints the text alone: a space keeps it from being taken for an option.
pub(super) fn literal(out: &mut Vec<u8>, text: &str, quotes: bool) {
    if is_echo_option(text) {
        out.push(b' ');
    }
    substituted(out, text, quotes);
}

/// A space for a control character, typographic quotes for plain ones; a NUL is dropped.
fn substituted(out: &mut Vec<u8>, text: &str, quotes: bool) {
    let mut opening = true;
    runs_after(
        out,
        text,
        |b| b < 0x20 || (quotes && b == b'"'),
        |out, byte, before| match byte {
            0 => {}
            b'"' => {
                opening = match before {
                    Some(b'"') => !opening,
                    Some(byte) => byte <= b' ' || matches!(byte, b'(' | b'[' | b'{' | b'\''),
                    None => true,
                };
                out.extend_from_slice(if opening { "“" } else { "”" }.as_bytes());
            }
            _ => out.push(b' '),
        },
    );
}

/// Appends `text` with nothing in it that JSON or an echo would interpret: substituted, and without backslashes.
pub(super) fn plain(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    substituted(out, text, true);
    let written = out.split_off(start);
    for byte in written {
        if byte == b'\\' {
            out.extend_from_slice("＼".as_bytes());
        } else {
            out.push(byte);
        }
    }
}

fn octal(out: &mut Vec<u8>, byte: u8, backslashes: usize) {
    repeat(out, b'\\', backslashes);
    out.extend([b'0', b'0' + (byte >> 6), b'0' + ((byte >> 3) & 7), b'0' + (byte & 7)]);
}

/// Whether `echo` would take all of the text for options, once its NULs are dropped.
fn is_echo_option(text: &str) -> bool {
    let mut bytes = text.bytes().filter(|b| *b != 0).peekable();
    bytes.next() == Some(b'-') && bytes.peek().is_some() && bytes.all(|b| b"neE".contains(&b))
}

fn repeat(out: &mut Vec<u8>, byte: u8, times: usize) {
    out.resize(out.len() + times, byte);
}

/// Copies `text` in runs between the special bytes, all of them ASCII, and lets `write` have those.
fn runs(
    out: &mut Vec<u8>,
    text: &str,
    special: impl Fn(u8) -> bool,
    mut write: impl FnMut(&mut Vec<u8>, u8),
) {
    runs_after(out, text, special, |out, byte, _| write(out, byte));
}

/// As [`runs`]; `write` also gets the byte before.
fn runs_after(
    out: &mut Vec<u8>,
    text: &str,
    special: impl Fn(u8) -> bool,
    mut write: impl FnMut(&mut Vec<u8>, u8, Option<u8>),
) {
    out.reserve(text.len());
    let mut rest = text.as_bytes();
    let mut before = None;
    while let Some(at) = rest.iter().position(|b| special(*b)) {
        let (run, special) = rest.split_at(at);
        out.extend_from_slice(run);
        before = run.last().copied().or(before);
        let Some((&byte, after)) = special.split_first() else { break };
        write(out, byte, before);
        before = Some(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
}
