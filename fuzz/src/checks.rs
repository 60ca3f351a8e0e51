//! What must be true of any bytes. Each check panics where it is not.

use bidmesh_core::wire::{
    Body, DecodeError, DecodeErrorKind, Decoded, Dialect, Framer, Framing, Message, WireLimits, decode,
    encode,
};

use crate::shell::Echo;

/// Small, so that the fuzzer reaches the limit.
const LIMITS: WireLimits = WireLimits { message_bytes: 8 * 1024 };
/// Up to this length every prefix is framed on its own; the work is quadratic.
const EVERY_PREFIX_BYTES_MAX: usize = 512;

fn read(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode(bytes, &LIMITS)
}

/// `decode` is total, its errors point into the message and are one short line, and it says the same twice.
pub fn check_decode(bytes: &[u8]) {
    let judgement = read(bytes);
    assert_eq!(judgement, read(bytes));
    match judgement {
        Ok(decoded) => {
            assert!(bytes.len() <= LIMITS.message_bytes);
            if let Body::Result(result) = &decoded.message.body {
                // A byte becomes U+FFFD at worst, which has three.
                assert!(result.output.len() <= 3 * bytes.len());
            }
        }
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            let shown = error.to_string();
            assert!(shown.len() < 500 && !shown.contains('\n'), "{shown}");
        }
    }
}

/// Framing depends on the bytes alone, never on how they were split, and agrees with `decode`.
pub fn check_framing(bytes: &[u8]) {
    let mut whole = Framer::new(LIMITS);
    let framing = whole.push(bytes);
    assert_eq!(whole.bytes(), &bytes[..bytes.len().min(LIMITS.message_bytes)]);
    for size in [1, 2, 7, 64] {
        let mut parts = Framer::new(LIMITS);
        let mut end = 0;
        for part in bytes.chunks(size) {
            end += part.len();
            let so_far = parts.push(part);
            if bytes.len() <= EVERY_PREFIX_BYTES_MAX {
                assert_eq!(so_far, Framer::new(LIMITS).push(&bytes[..end]), "at {end}");
            }
        }
        assert_eq!(parts.framing(), framing, "in pieces of {size}");
        assert_eq!(parts.bytes(), whole.bytes());
    }
    match framing {
        Framing::Empty => assert!(bytes.is_empty()),
        Framing::TooLong { limit } => {
            let why = read(bytes).map_err(|error| error.why);
            assert_eq!(why, Err(DecodeErrorKind::TooLong { limit }));
        }
        Framing::Whole if bytes.len() < LIMITS.message_bytes => {
            let judgement = read(bytes);
            let more = [bytes, b"\n"].concat();
            assert_eq!(read(&more), judgement, "a line end may still come");
            if let Err(DecodeError { why: DecodeErrorKind::Json(reason), .. }) = judgement {
                assert!(!reason.starts_with("EOF"), "whole, yet cut off");
            }
        }
        Framing::Whole | Framing::WholeAfter(_) => {}
    }
}

/// What was read is written and read again as the same; what is written for a shell device is one line, and gives the
/// text back there.
pub fn check_roundtrip(bytes: &[u8]) {
    let Ok(first) = read(bytes) else { return };
    let unlimited = WireLimits::default();
    let written = encode(&first.message, Dialect::Bidmesh).expect("the bidmesh dialect has every type");
    let second = decode(&written, &unlimited).expect("what was written is a message");
    assert!(!second.repairs.any());
    // A BID_REQUEST is written in the form that every device reads, with substitutes; once.
    if !matches!(first.message.body, Body::BidRequest(_)) {
        assert_eq!(second.message, first.message);
    }
    assert_eq!(encode(&second.message, Dialect::Bidmesh).as_ref(), Ok(&written));
    for dialect in [Dialect::Shell, Dialect::ShellLiteral] {
        let Ok(line) = encode(&first.message, dialect) else { continue };
        // The payload of a type that is not known goes out as it came.
        if !matches!(first.message.body, Body::Unknown { .. }) {
            let controls = line.iter().filter(|b| **b < b' ').count();
            assert_eq!(
                (controls, line.last()),
                (1, Some(&b'\n')),
                "{dialect:?}: one line, no control character"
            );
        }
        // Eight bytes for a backslash that JSON doubles, sixteen of them at most for a byte.
        assert!(line.len() <= 24 * bytes.len() + 256);
        if dialect == Dialect::Shell {
            check_shell(&first.message, &line);
        }
    }
}

/// What a shell device's `cut`, `grep` and `echo` make of `line` is the text of `message`.
fn check_shell(message: &Message, line: &[u8]) {
    for echo in [Echo::Mksh, Echo::Dash] {
        if !matches!(message.body, Body::Unknown { .. }) {
            assert_eq!(echo.kind(line).as_deref(), Some(message.body.kind().as_bytes()), "{echo:?}");
        }
        let (text, got) = match &message.body {
            Body::Task(order) => {
                let award = order.award.as_ref().map_or("", |award| award.as_str());
                assert_eq!(echo.task_id(line).as_deref(), Some(award.as_bytes()), "{echo:?}");
                (&order.prompt, echo.task_prompt_file(line))
            }
            Body::Text(text) | Body::SlmPrompt(text) | Body::SlmResult(text) => {
                (text, echo.printed_payload(line))
            }
            Body::Result(result) => {
                let file = echo.printed_payload(line).expect("the message is one line");
                let fields = file.strip_prefix(b"{").expect("the file is JSON");
                // With a space, so that it is not taken for what a shell device prints raw.
                let again = [b"RESULT|A|{ ", fields].concat();
                let read = decode(&again, &WireLimits::default()).expect("the file is the payload");
                assert!(matches!(read.message.body, Body::Result(again) if again.output == result.output));
                continue;
            }
            _ => continue,
        };
        // A shell has no NUL in a variable; its echo ends with a line end of its own.
        let wanted = text.replace('\0', "") + "\n";
        assert_eq!(got.as_deref(), Some(wanted.as_bytes()), "{echo:?}");
    }
}
