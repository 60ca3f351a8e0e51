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
/// a word that JSON does not have (`nan`, `45%`, `0,45`). `None` if there is nothing to mend.
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
                let end = word_end(bytes, start);
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
            // A control character after a backslash is no escape: both are left for JSON to refuse. Mended alone it
            // would make an escaped backslash of the one before.
            b'\\' => at += 1,
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

/// Where the word that begins at `start` ends. A comma before a digit is part of it: in an object a quote follows
/// the comma between two fields, so it can only be a decimal comma.
fn word_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    while let Some(&byte) = bytes.get(end) {
        let decimal_comma = byte == b',' && end > start && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !is_word(byte) && !decimal_comma {
            break;
        }
        end += 1;
    }
    end
}

/// White space as JSON has it.
pub(super) const fn is_space(byte: u8) -> bool {
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
