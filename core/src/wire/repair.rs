//! What is mended in JSON that strict reading refused. Nothing is ever closed that was left open, so that a
//! message that was cut off stays no message.

use alloc::string::String;

use super::message::Repairs;

/// Text of bytes that are not UTF-8: each byte that is part of no character becomes U+FFFD.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text
}

/// `text` with raw control characters in strings escaped, and `null` where a value after a colon is missing or is
/// a word that JSON does not have (`nan`). `None` if there is nothing to mend.
pub(super) fn mend(text: &str, repairs: &mut Repairs) -> Option<String> {
    let bytes = text.as_bytes();
    let mut mended = String::new();
    // Everything before it has been copied.
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string(text, at, &mut mended, &mut copied, repairs),
            b':' => {
                let start = at + bytes.iter().skip(at).take_while(|b| is_space(**b)).count();
                let end = start + bytes.iter().skip(start).take_while(|b| is_word(**b)).count();
                let nothing = start == end && matches!(bytes.get(start), Some(b',' | b'}' | b']'));
                let word = text.get(start..end).unwrap_or("");
                if nothing || (start != end && !is_json_scalar(word)) {
                    mended.push_str(text.get(copied..start).unwrap_or(""));
                    mended.push_str("null");
                    copied = end;
                    repairs.missing_values = true;
                }
                at = end;
            }
            _ => {}
        }
    }
    if copied == 0 {
        return None;
    }
    mended.push_str(text.get(copied..).unwrap_or(""));
    Some(mended)
}

/// Goes through a string whose quote was just read; gives the offset after its closing quote.
fn string(
    text: &str,
    mut at: usize,
    mended: &mut String,
    copied: &mut usize,
    repairs: &mut Repairs,
) -> usize {
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            // A control character after a backslash is no escape; the backslash is left for JSON to refuse.
            b'\\' if bytes.get(at + 1).is_some_and(|b| *b >= 0x20) => at += 1,
            0..0x20 => {
                mended.push_str(text.get(*copied..at).unwrap_or(""));
                mended.push_str("\\u00");
                mended.push(char::from(b'0' + (byte >> 4)));
                mended.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
                *copied = at + 1;
                repairs.raw_control_characters = true;
            }
            _ => {}
        }
        at += 1;
    }
    at
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A byte of a number or a bare word, whether or not JSON has it.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'%')
}

fn is_json_scalar(word: &str) -> bool {
    // Also checks numbers by JSON's own rules: no leading zeros or plus signs.
    serde_json::from_str::<serde::de::IgnoredAny>(word).is_ok()
}
