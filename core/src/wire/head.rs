//! The two heads that tell how a payload is to be read: `TYPE|FROM|`, and the one that a shell device's script
//! prints before the raw output of a RESULT.

use super::error::{DecodeError, DecodeErrorKind};
use crate::id::{DeviceId, ID_BYTES_MAX};

/// The longest TYPE in bytes.
const TYPE_BYTES_MAX: usize = 32;

/// `TYPE|FROM|`, read.
pub(super) struct Head<'a> {
    /// TYPE.
    pub(super) kind: &'a str,
    /// FROM.
    pub(super) from: DeviceId,
    /// Where the payload begins.
    pub(super) payload: usize,
}

/// Reads TYPE and FROM.
pub(super) fn head(bytes: &[u8]) -> Result<Head<'_>, DecodeError> {
    let (kind, rest) = split(bytes).ok_or(DecodeError::new(0, DecodeErrorKind::NoSeparator))?;
    let kind = read_kind(kind).map_err(|offset| DecodeError::new(offset, DecodeErrorKind::Type))?;
    let start = kind.len() + 1;
    let (from, _) = split(rest).ok_or(DecodeError::new(start, DecodeErrorKind::NoSeparator))?;
    // What is not UTF-8 is not in the alphabet of ids either; the replacement character says so.
    let from_text = core::str::from_utf8(from).unwrap_or("\u{fffd}");
    let id =
        DeviceId::new(from_text).map_err(|error| DecodeError::new(start, DecodeErrorKind::From(error)))?;
    Ok(Head { kind, from: id, payload: start + from.len() + 1 })
}

/// Where the payload begins, if both separators are there and near enough for a message; for streams that are
/// still arriving.
pub(super) fn payload_start(bytes: &[u8]) -> Option<usize> {
    let near = bytes.get(..TYPE_BYTES_MAX + ID_BYTES_MAX + 2).unwrap_or(bytes);
    let (kind, rest) = split(near)?;
    let (from, _) = split(rest)?;
    Some(kind.len() + from.len() + 2)
}

/// Whether `text` can be a TYPE.
pub(super) fn is_kind(text: &str) -> bool {
    read_kind(text.as_bytes()).is_ok()
}

/// TYPE as text, or the offset of what is wrong with it.
fn read_kind(kind: &[u8]) -> Result<&str, usize> {
    let fits = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    match kind.iter().position(|b| !fits(b)) {
        Some(bad) => Err(bad),
        None if kind.is_empty() || kind.len() > TYPE_BYTES_MAX => Err(kind.len().min(TYPE_BYTES_MAX)),
        None => core::str::from_utf8(kind).map_err(|error| error.valid_up_to()),
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b'|')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// What the beginning of a RESULT's payload says about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawHead<'a> {
    /// The head of a shell device's script, whole: the output follows raw.
    Raw {
        /// `task_id`; empty when the TASK had none.
        task: &'a [u8],
        /// `device_id`.
        device: &'a [u8],
        /// `status`.
        status: &'a [u8],
        /// Where the output begins in the payload.
        output: usize,
    },
    /// Too little is there to tell.
    Incomplete,
    /// JSON like any other.
    Json,
}

/// Compares the beginning of a RESULT's payload with what the shell script prints. Looks at no more than a few
/// hundred bytes however long the payload is, so that it can be asked again as bytes arrive.
pub(super) fn raw_head(payload: &[u8]) -> RawHead<'_> {
    let mut rest = payload;
    let mut values: [&[u8]; 3] = [b""; 3];
    let parts: [&[u8]; 3] = [b"{\"task_id\": \"", b"\", \"device_id\": \"", b"\", \"status\": \""];
    for (part, value) in parts.into_iter().zip(&mut values) {
        match literal(rest, part) {
            Literal::Rest(after) => rest = after,
            Literal::Incomplete => return RawHead::Incomplete,
            Literal::Differs => return RawHead::Json,
        }
        let end = rest.iter().take(ID_BYTES_MAX + 1).position(|b| matches!(b, b'"' | b'\\' | b'\n'));
        match end {
            Some(end) => (*value, rest) = rest.split_at(end),
            None if rest.len() <= ID_BYTES_MAX => return RawHead::Incomplete,
            None => return RawHead::Json,
        }
    }
    match literal(rest, b"\", \"output\": \"") {
        Literal::Rest(after) => {
            let [task, device, status] = values;
            RawHead::Raw { task, device, status, output: payload.len() - after.len() }
        }
        Literal::Incomplete => RawHead::Incomplete,
        Literal::Differs => RawHead::Json,
    }
}

enum Literal<'a> {
    Rest(&'a [u8]),
    Incomplete,
    Differs,
}

fn literal<'a>(bytes: &'a [u8], literal: &[u8]) -> Literal<'a> {
    match bytes.strip_prefix(literal) {
        Some(rest) => Literal::Rest(rest),
        None if literal.starts_with(bytes) => Literal::Incomplete,
        None => Literal::Differs,
    }
}
