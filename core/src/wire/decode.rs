//! Bytes as they came from a connection, read.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::time::Duration;

use super::WireLimits;
use super::error::{DecodeError, DecodeErrorKind};
use super::fields::{
    AwardFields, BidFields, BidRequestFields, Kept, MarkerFields, ProgressFields, RefusalFields,
    ResultFields, Short, TaskFields, Value, capacity,
};
use super::head::{RawHead, head, raw_head};
use super::message::{
    Accept, Bid, BidRequest, Body, Decoded, Marker, Message, Progress, Query, Reason, Refuse, Reject,
    Repairs, Speed, Status, TaskOrder, TaskResult, Text,
};
use super::{address, repair};
use crate::id::{AwardId, BootId, IdError, TaskId};

/// The longest pause that a peer can ask for by `retry_after_ms`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 64;
/// Stands for a reason that is missing or unreadable.
const REASON_UNSPECIFIED: &str = "unspecified";
/// The longest reason of the JSON reader that is kept, in characters: it can quote the message.
const JSON_REASON_CHARS_MAX: usize = 120;

/// Reads one message from all the bytes of a connection: with or without a line end, whatever stands in the
/// payload. Takes time and memory in proportion to the bytes. A type that is not known is no error.
///
/// # Errors
/// If the bytes are no message, or one that was cut off; the error says where.
pub fn decode(bytes: &[u8], limits: &WireLimits) -> Result<Decoded, DecodeError> {
    let limit = limits.message_bytes;
    if bytes.len() > limit {
        return Err(DecodeError::new(limit, DecodeErrorKind::TooLong { limit }));
    }
    let head = head(bytes)?;
    let mut payload = Payload {
        bytes: bytes.get(head.payload..).unwrap_or_default(),
        start: head.payload,
        repairs: Repairs::default(),
    };
    let (marker, body) = payload.body(head.kind)?;
    Ok(Decoded { message: Message { from: head.from, marker, body }, repairs: payload.repairs })
}

type Content = (Option<Marker>, Body);

/// What follows `TYPE|FROM|`.
struct Payload<'a> {
    bytes: &'a [u8],
    /// Its offset in the message.
    start: usize,
    repairs: Repairs,
}

impl<'a> Payload<'a> {
    fn body(&mut self, kind: &str) -> Result<Content, DecodeError> {
        match kind {
            "HELLO" => self.address().map(|(marker, address)| (marker, Body::Hello(address))),
            "DISCOVER" => self.address().map(|(marker, address)| (marker, Body::Discover(address))),
            "TEXT" => Ok((None, Body::Text(self.bare()))),
            "SLM_PROMPT" => Ok((None, Body::SlmPrompt(self.bare()))),
            "SLM_RESULT" => Ok((None, Body::SlmResult(self.bare()))),
            "RESULT" => match raw_head(self.bytes) {
                RawHead::Raw { task, device, status, output } => {
                    self.raw_result(task, device, status, output)
                }
                RawHead::Incomplete | RawHead::Json => self.json(result),
            },
            "BID_REQUEST" => self.json(bid_request),
            "BID_RESPONSE" => self.json(bid),
            "TASK" => self.json(task),
            "REFUSE" => self.json(refuse),
            "ACCEPT" => self.json(|at, text| award(at, text, |award, _| Body::Accept(Accept { award }))),
            "REJECT" => self.json(reject),
            "PROGRESS" => self.json(progress),
            "CANCEL" => self.json(|at, text| award(at, text, |award, _| Body::Cancel(award))),
            "ACK" => self.json(|at, text| award(at, text, |award, _| Body::Ack(award))),
            "QUERY" => {
                self.json(|at, text| award(at, text, |award, have| Body::Query(Query { award, have })))
            }
            "BYE" => self.json(bye),
            unknown => Ok((None, Body::Unknown { kind: unknown.into(), payload: self.bare() })),
        }
    }

    fn text(&mut self) -> Cow<'a, str> {
        match core::str::from_utf8(self.bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => {
                self.repairs.not_utf8 = true;
                Cow::Owned(repair::lossy(self.bytes))
            }
        }
    }

    /// Bare text, without the line end that the sender's `echo` adds.
    fn bare(&mut self) -> Text {
        let text = self.text();
        let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        Arc::from(line)
    }

    fn address(&mut self) -> Result<(Option<Marker>, super::message::Advertised), DecodeError> {
        let start = self.start;
        address::read(&self.text())
            .map(|(address, marker)| (marker, address))
            .ok_or(DecodeError::new(start, DecodeErrorKind::Address))
    }

    /// Strict JSON, then what repair makes of it. If that fails too, the strict reader's error tells why.
    fn json(
        &mut self,
        read: impl Fn(At<'_>, &str) -> Result<Content, DecodeError>,
    ) -> Result<Content, DecodeError> {
        let text = self.text();
        let exact = !self.repairs.not_utf8;
        // serde would also fill a struct from an array.
        let object = text.bytes().take_while(|b| repair::is_space(*b)).count();
        if text.as_bytes().get(object) != Some(&b'{') {
            return Err(DecodeError::new(self.start + object, DecodeErrorKind::NoObject));
        }
        let strict = match read(At { start: self.start, text: &text, exact }, &text) {
            Err(error) if matches!(error.why, DecodeErrorKind::Json(_)) => error,
            other => return other,
        };
        let mut repairs = self.repairs;
        let Some(mended) = repair::mend(&text, &mut repairs) else {
            return Err(strict);
        };
        match read(At { start: self.start, text: &mended, exact: false }, &mended) {
            Err(error) if matches!(error.why, DecodeErrorKind::Json(_)) => Err(strict),
            other => {
                self.repairs = repairs;
                other
            }
        }
    }

    /// The output of a shell device stands in its RESULT as the program printed it: only its two ends are known.
    fn raw_result(
        &mut self,
        task: &[u8],
        device: &[u8],
        status: &[u8],
        output: usize,
    ) -> Result<Content, DecodeError> {
        let Some(raw) = self.bytes.trim_ascii_end().get(output..).and_then(|raw| raw.strip_suffix(b"\"}"))
        else {
            // More fields after the output are not the script's work, so escapes mean what they mean in JSON.
            let strict = core::str::from_utf8(self.bytes)
                .ok()
                .and_then(|text| result(At { start: self.start, text, exact: true }, text).ok());
            let end = self.start + self.bytes.len();
            return strict.ok_or(DecodeError::new(end, DecodeErrorKind::CutOff));
        };
        let text = |bytes| String::from_utf8_lossy(bytes);
        let task = text(task);
        let award = if task.is_empty() {
            None
        } else {
            // The head is `{"task_id": "`.
            let id = AwardId::new(&task).map_err(|error| {
                DecodeError::new(self.start + 13, DecodeErrorKind::Id { field: "task_id", error })
            })?;
            Some(id)
        };
        let (output, not_utf8) = match core::str::from_utf8(raw) {
            Ok(output) => (Text::from(output), false),
            Err(_) => (Text::from(repair::lossy(raw)), true),
        };
        self.repairs.not_utf8 = core::str::from_utf8(self.bytes).is_err();
        let result = TaskResult {
            award,
            device: Some(Arc::from(&*text(device))),
            status: Status::read(&text(status)).unwrap_or(Status::Error),
            output,
            output_was_not_utf8: not_utf8,
            speed: None,
        };
        Ok((None, Body::Result(result)))
    }
}

/// Where the text that is read lies in the message.
#[derive(Clone, Copy)]
struct At<'a> {
    start: usize,
    text: &'a str,
    /// Whether offsets in the text are offsets in the message; not so after a repair.
    exact: bool,
}

impl At<'_> {
    fn parse<'t, T: serde::Deserialize<'t>>(self, text: &'t str) -> Result<T, DecodeError> {
        serde_json::from_str(text).map_err(|error| {
            let line_start = match error.line().checked_sub(2) {
                Some(before) => text.match_indices('\n').nth(before).map_or(0, |(at, _)| at + 1),
                None => 0,
            };
            let read = (line_start + error.column()).min(text.len());
            let whole = error.to_string();
            let reason = whole.split(" at line ").next().unwrap_or(&whole);
            let short: String = reason.chars().take(JSON_REASON_CHARS_MAX).collect();
            DecodeError::new(self.offset(read.saturating_sub(1)), DecodeErrorKind::Json(short))
        })
    }

    fn offset(self, in_text: usize) -> usize {
        if self.exact { self.start + in_text } else { self.start }
    }

    /// An id that may be absent; shell devices write an empty one when they were given none.
    fn id<T>(
        self,
        field: &'static str,
        text: Option<Short<'_>>,
        new: fn(&str) -> Result<T, IdError>,
    ) -> Result<Option<T>, DecodeError> {
        let Some(Short(text)) = text else { return Ok(None) };
        if text.is_empty() {
            return Ok(None);
        }
        new(&text).map(Some).map_err(|error| {
            // Unescaped text borrows from the payload, so its address tells where it stands.
            let within = (text.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
            let offset = within.filter(|at| *at < self.text.len()).map_or(self.start, |at| self.offset(at));
            DecodeError::new(offset, DecodeErrorKind::Id { field, error })
        })
    }

    fn award(self, text: Option<Short<'_>>) -> Result<AwardId, DecodeError> {
        self.id("task_id", text, AwardId::new)?.ok_or_else(|| self.missing("task_id"))
    }

    fn missing(self, field: &'static str) -> DecodeError {
        DecodeError::new(self.start, DecodeErrorKind::Missing { field })
    }
}

/// What is no marker is ignored, as in HELLO: any client may have a field of that name.
fn marker(version: Value<u16>, boot: Option<Short<'_>>) -> Option<Marker> {
    let boot = boot.and_then(|Short(boot)| BootId::new(&boot).ok());
    version.0.zip(boot).map(|(version, boot)| Marker { version, boot })
}

fn bid_request(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: BidRequestFields<'_> = at.parse(text)?;
    let request = BidRequest {
        task: at.id("task_id", fields.task_id, TaskId::new)?,
        task_type: kept(fields.task_type),
        // bidmesh devices send an empty prompt for shell readers: it says that there is none.
        prompt: kept(fields.prompt).filter(|prompt| !prompt.is_empty()),
        prompt_bytes: fields.prompt_bytes.0,
        deadline: fields.deadline.0,
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::BidRequest(request)))
}

fn bid(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: BidFields<'_> = at.parse(text)?;
    let bid = Bid {
        task: at.id("task_id", fields.task_id, TaskId::new)?,
        bid: at.id("bid_id", fields.bid_id, crate::id::BidId::new)?,
        device: kept(fields.device_id),
        cpu: fields.cpu_load.0,
        ram: fields.ram_load.0,
        battery: fields.battery.0,
        charging: fields.charging.0,
        npu: fields.has_npu.0.unwrap_or(false),
        capacity: capacity(fields.slots, fields.running, fields.yours),
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::BidResponse(bid)))
}

fn task(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: TaskFields<'_> = at.parse(text)?;
    let order = TaskOrder {
        award: at.id("task_id", fields.task_id, AwardId::new)?,
        prompt: kept(fields.prompt).ok_or_else(|| at.missing("prompt"))?,
        npu: fields.use_npu.0,
        prompt_type: kept(fields.prompt_type),
        task_type: kept(fields.task_type),
        bid: at.id("bid_id", fields.bid_id, crate::id::BidId::new)?,
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::Task(order)))
}

fn result(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: ResultFields<'_> = at.parse(text)?;
    let result = TaskResult {
        award: at.id("task_id", fields.task_id, AwardId::new)?,
        device: kept(fields.device_id),
        status: fields.status.and_then(|status| Status::read(&status.0)).unwrap_or(Status::Error),
        output: kept(fields.output).unwrap_or_default(),
        output_was_not_utf8: fields.output_was_not_utf8.0.unwrap_or(false),
        speed: fields.total_ms.0.map(|total_ms| Speed {
            total_ms,
            first_text_ms: fields.first_text_ms.0,
            prompt_tokens: fields.prompt_tokens.0,
            tokens: fields.tokens.0,
        }),
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::Result(result)))
}

fn refuse(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: RefusalFields<'_> = at.parse(text)?;
    let refuse = Refuse {
        task: at.id("task_id", fields.task_id, TaskId::new)?,
        reason: reason(fields.reason),
        retry_after: retry_after(fields.retry_after_ms),
        capacity: capacity(fields.slots, fields.running, fields.yours),
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::Refuse(refuse)))
}

fn reject(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: RefusalFields<'_> = at.parse(text)?;
    let reject = Reject {
        award: at.award(fields.task_id)?,
        reason: reason(fields.reason),
        retry_after: retry_after(fields.retry_after_ms),
        capacity: capacity(fields.slots, fields.running, fields.yours),
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::Reject(reject)))
}

fn progress(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: ProgressFields<'_> = at.parse(text)?;
    let progress = Progress {
        award: at.award(fields.task_id)?,
        offset: fields.offset.0.ok_or_else(|| at.missing("offset"))?,
        text: kept(fields.text).unwrap_or_default(),
    };
    Ok((marker(fields.bidmesh, fields.boot), Body::Progress(progress)))
}

/// The types that say no more than which award they are about.
fn award(at: At<'_>, text: &str, body: impl Fn(AwardId, u64) -> Body) -> Result<Content, DecodeError> {
    let fields: AwardFields<'_> = at.parse(text)?;
    let award = at.award(fields.task_id)?;
    Ok((marker(fields.bidmesh, fields.boot), body(award, fields.have.0.unwrap_or(0))))
}

fn bye(at: At<'_>, text: &str) -> Result<Content, DecodeError> {
    let fields: MarkerFields<'_> = at.parse(text)?;
    Ok((marker(fields.bidmesh, fields.boot), Body::Bye))
}

fn kept(text: Option<Kept>) -> Option<Text> {
    text.map(|Kept(text)| text)
}

/// A reason is shown to people and kept, so only short plain words get in. One that is missing or no such word is
/// none of those that mean something: `unknown` would say that the award is not known.
fn reason(text: Option<Short<'_>>) -> Reason {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= REASON_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match text {
        Some(Short(text)) if plain(&text) => Reason::read(&text),
        _ => Reason::Other(REASON_UNSPECIFIED.into()),
    }
}

fn retry_after(millis: Value<u64>) -> Option<Duration> {
    millis.0.map(|millis| Duration::from_millis(millis).min(RETRY_AFTER_MAX))
}
