//! A message as the bytes that a given peer understands: always one line, or for bare text to a bidmesh peer as
//! many as the text has.

use alloc::vec::Vec;
use core::fmt::{Display, Write};
use core::net::IpAddr;
use core::time::Duration;

use super::error::EncodeError;
use super::escape;
use super::head::is_kind;
use super::message::{
    Advertised, Bid, BidRequest, Body, Capacity, Dialect, Marker, Message, Reason, TaskOrder, TaskResult,
};
use crate::load::Load;

/// Writes a message for a peer that reads `dialect`, line end included. Text that the dialect cannot carry is
/// replaced by what looks like it (quotes and line ends for [`Dialect::ShellLiteral`], and in a BID_REQUEST, which
/// every dialect must be able to read); a NUL to a shell device is dropped.
///
/// # Errors
/// If the peer does not know the type, or TYPE of an unknown body could not be one.
pub fn encode(message: &Message, dialect: Dialect) -> Result<Vec<u8>, EncodeError> {
    if !is_kind(message.body.kind()) {
        return Err(EncodeError::Type);
    }
    let mut out = Vec::with_capacity(256);
    for part in [message.body.kind(), "|", message.from.as_str(), "|"] {
        out.extend_from_slice(part.as_bytes());
    }
    if dialect.is_shell() {
        for_shell(&mut out, message, dialect)?;
    } else {
        for_bidmesh(&mut out, message);
    }
    // A carriage return of the text's own would be taken for a part of the line end, so it gets a whole one.
    if out.ends_with(b"\r") {
        out.push(b'\r');
    }
    out.push(b'\n');
    Ok(out)
}

fn for_bidmesh(out: &mut Vec<u8>, message: &Message) {
    let marker = message.marker.as_ref();
    let json = Strings::Json;
    match &message.body {
        Body::Hello(address) | Body::Discover(address) => write_address(out, address, marker),
        Body::Text(text) | Body::SlmPrompt(text) | Body::SlmResult(text) => {
            out.extend_from_slice(text.as_bytes());
        }
        Body::Unknown { payload, .. } => out.extend_from_slice(payload.as_bytes()),
        Body::BidRequest(request) => bid_request(out, marker, request),
        Body::BidResponse(bid) => bid_response(Object::new(out, json, marker), bid),
        Body::Task(order) => Object::new(out, json, marker)
            .text("task_id", order.award.as_ref())
            .text("prompt", Some(&order.prompt))
            .word("use_npu", order.npu)
            .text("prompt_type", order.prompt_type.as_ref())
            .text("task_type", order.task_type.as_ref())
            .text("bid_id", order.bid.as_ref())
            .end(),
        // Not `task_id` first: without a marker that would be the head of a shell device's raw RESULT.
        Body::Result(result) => Object::new(out, json, marker)
            .text("status", Some(result.status.as_str()))
            .text("task_id", result.award.as_ref())
            .text("device_id", result.device.as_ref())
            .text("output", Some(&result.output))
            .word("output_was_not_utf8", result.output_was_not_utf8.then_some(true))
            .word("total_ms", result.speed.map(|speed| speed.total_ms))
            .word("first_text_ms", result.speed.and_then(|speed| speed.first_text_ms))
            .word("prompt_tokens", result.speed.and_then(|speed| speed.prompt_tokens))
            .word("tokens", result.speed.and_then(|speed| speed.tokens))
            .end(),
        Body::Refuse(refuse) => {
            let object = Object::new(out, json, marker).text("task_id", refuse.task.as_ref());
            refusal(object, &refuse.reason, refuse.retry_after, refuse.capacity);
        }
        Body::Accept(accept) => Object::new(out, json, marker).text("task_id", Some(&accept.award)).end(),
        Body::Reject(reject) => {
            let object = Object::new(out, json, marker).text("task_id", Some(&reject.award));
            refusal(object, &reject.reason, reject.retry_after, reject.capacity);
        }
        Body::Progress(progress) => Object::new(out, json, marker)
            .text("task_id", Some(&progress.award))
            .word("offset", Some(progress.offset))
            .text("text", Some(&progress.text))
            .end(),
        Body::Cancel(award) | Body::Ack(award) => {
            Object::new(out, json, marker).text("task_id", Some(award)).end();
        }
        Body::Query(query) => Object::new(out, json, marker)
            .text("task_id", Some(&query.award))
            .word("have", Some(query.have))
            .end(),
        Body::Bye => Object::new(out, json, marker).end(),
    }
}

fn for_shell(out: &mut Vec<u8>, message: &Message, dialect: Dialect) -> Result<(), EncodeError> {
    let echoes = dialect == Dialect::Shell;
    let kind = match &message.body {
        Body::Hello(address) | Body::Discover(address) => {
            write_address(out, address, message.marker.as_ref());
            return Ok(());
        }
        Body::Text(text) | Body::SlmPrompt(text) | Body::SlmResult(text) => {
            if echoes {
                escape::echoed(out, text, 4, false);
            } else {
                escape::literal(out, text, false);
            }
            return Ok(());
        }
        Body::Unknown { payload, .. } => {
            out.extend_from_slice(payload.as_bytes());
            return Ok(());
        }
        Body::BidRequest(request) => {
            bid_request(out, message.marker.as_ref(), request);
            return Ok(());
        }
        Body::BidResponse(bid) => {
            let strings = if echoes { Strings::Echoed } else { Strings::Literal };
            shell_bid(Object::new(out, strings, None), message.from.as_str(), bid);
            return Ok(());
        }
        Body::Task(order) => {
            let strings = if echoes { Strings::Echoed } else { Strings::Literal };
            shell_task(Object::new(out, strings, None), order);
            return Ok(());
        }
        Body::Result(result) => {
            // Only mksh's and dash's echo undo what is doubled; the file that is left is JSON in both cases.
            let strings = if echoes { Strings::JsonEchoed } else { Strings::Json };
            shell_result(Object::new(out, strings, None), message.from.as_str(), result);
            return Ok(());
        }
        Body::Refuse(_) => "REFUSE",
        Body::Accept(_) => "ACCEPT",
        Body::Reject(_) => "REJECT",
        Body::Progress(_) => "PROGRESS",
        Body::Cancel(_) => "CANCEL",
        Body::Ack(_) => "ACK",
        Body::Query(_) => "QUERY",
        Body::Bye => "BYE",
    };
    Err(EncodeError::NotInDialect { kind, dialect })
}

fn write_address(out: &mut Vec<u8>, address: &Advertised, marker: Option<&Marker>) {
    match address.ip {
        Some(IpAddr::V4(ip)) => push(out, &ip),
        Some(IpAddr::V6(ip)) => {
            out.push(b'[');
            push(out, &ip);
            out.push(b']');
        }
        None => {}
    }
    out.push(b':');
    push(out, &address.port);
    if let Some(marker) = marker {
        out.extend_from_slice(b":bidmesh/");
        push(out, &marker.version);
        out.push(b':');
        push(out, &marker.boot);
    }
}

/// The one form that both dialects read: a shell device finds `task_id` in it, and nothing that its echo changes.
fn bid_request(out: &mut Vec<u8>, marker: Option<&Marker>, request: &BidRequest) {
    Object::new(out, Strings::Plain, marker)
        .text("task_id", request.task.as_ref())
        .text("task_type", request.task_type.as_ref())
        .text("prompt", Some(request.prompt.as_deref().unwrap_or_default()))
        .word("prompt_bytes", request.prompt_bytes)
        .word("deadline", request.deadline.map(Seconds))
        .end();
}

fn bid_response(object: Object<'_>, bid: &Bid) {
    object
        .text("task_id", bid.task.as_ref())
        .text("bid_id", bid.bid.as_ref())
        .text("device_id", bid.device.as_ref())
        .word("cpu_load", bid.cpu.map(Share))
        .word("ram_load", bid.ram.map(Share))
        .word("battery", Some(bid.battery.map_or(-1, |percent| i16::from(percent.value()))))
        .word("charging", bid.charging)
        .word("has_npu", Some(bid.npu))
        .capacity(bid.capacity)
        .end();
}

/// As a shell device writes it. A load that is not known is left out: a number in its place would be believed.
fn shell_bid(object: Object<'_>, from: &str, bid: &Bid) {
    object
        .text("device_id", Some(from))
        .word("cpu_load", bid.cpu.map(Share))
        .word("ram_load", bid.ram.map(Share))
        .word("battery", Some(bid.battery.map_or(-1, |percent| i16::from(percent.value()))))
        .word("has_npu", Some(bid.npu))
        .end();
}

/// The id comes last: a shell device runs half a TASK on an empty prompt, and an answer without an id is nobody's.
fn shell_task(object: Object<'_>, order: &TaskOrder) {
    object
        .text("prompt", Some(&order.prompt))
        .word("use_npu", order.npu)
        .text("prompt_type", order.prompt_type.as_ref())
        .text("task_id", order.award.as_ref())
        .end();
}

fn shell_result(object: Object<'_>, from: &str, result: &TaskResult) {
    object
        .text("task_id", result.award.as_ref())
        .text("device_id", Some(from))
        .text("status", Some(result.status.as_str()))
        .text("output", Some(&result.output))
        .end();
}

fn refusal(object: Object<'_>, reason: &Reason, retry_after: Option<Duration>, capacity: Option<Capacity>) {
    object
        .text("reason", Some(reason.as_str()))
        .word("retry_after_ms", retry_after.map(|pause| pause.as_millis()))
        .capacity(capacity)
        .end();
}

/// How texts are written inside the quotes of an object.
#[derive(Clone, Copy)]
enum Strings {
    /// As JSON.
    Json,
    /// As JSON that passes through three echoes on its way into a file.
    JsonEchoed,
    /// So that three echoes, a grep and a fourth echo give the text back.
    Echoed,
    /// With substitutes, for echoes that interpret nothing.
    Literal,
    /// With substitutes, so that it is the same to JSON and to every echo.
    Plain,
}

/// An object that is being written, spaced as the shell mesh spaces it: its grep looks for `"key": `.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    strings: Strings,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>, strings: Strings, marker: Option<&Marker>) -> Self {
        out.push(b'{');
        Self { out, strings }
            .word("bidmesh", marker.map(|marker| marker.version))
            .text("boot", marker.map(|marker| &marker.boot))
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(if self.out.ends_with(b"{") { b"\"" } else { b", \"" });
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\": ");
    }

    /// A number or a boolean, if there is one.
    fn word(mut self, key: &str, value: Option<impl Display>) -> Self {
        if let Some(value) = value {
            self.key(key);
            push(self.out, &value);
        }
        self
    }

    /// A string, if there is one.
    fn text(mut self, key: &str, text: Option<impl AsText>) -> Self {
        if let Some(text) = text {
            self.key(key);
            self.out.push(b'"');
            let text = text.as_text();
            match self.strings {
                Strings::Json => escape::json(self.out, text, 1),
                Strings::JsonEchoed => escape::json(self.out, text, 8),
                Strings::Echoed => escape::echoed(self.out, text, 8, true),
                Strings::Literal => escape::literal(self.out, text, true),
                Strings::Plain => escape::plain(self.out, text),
            }
            self.out.push(b'"');
        }
        self
    }

    fn capacity(self, capacity: Option<Capacity>) -> Self {
        self.word("slots", capacity.map(|c| c.slots))
            .word("running", capacity.map(|c| c.running))
            .word("yours", capacity.map(|c| c.yours))
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// What is written as a string.
trait AsText {
    fn as_text(&self) -> &str;
}

macro_rules! as_text {
    ($($type:ty => $method:ident),*) => {
        $(impl AsText for $type {
            fn as_text(&self) -> &str {
                self.$method()
            }
        })*
    };
}

as_text!(
    &str => as_ref,
    &super::message::Text => as_ref,
    &crate::id::TaskId => as_str,
    &crate::id::AwardId => as_str,
    &crate::id::BidId => as_str,
    &crate::id::BootId => as_str
);

fn push(out: &mut Vec<u8>, value: &impl Display) {
    // A vector takes all that is written, and so do the values written here.
    let _ = write!(Utf8(out), "{value}");
}

/// Bytes as a place to format to.
struct Utf8<'a>(&'a mut Vec<u8>);

impl core::fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// A share as a decimal fraction: `0.067501`, `1`.
struct Share(Load);

impl Display for Share {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        decimal(f, u64::from(self.0.ppm()), 6)
    }
}

/// A duration as decimal seconds: `10`, `0.5`.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        decimal(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), 3)
    }
}

/// `value` with the point before the last `places` digits, without zeros at the end.
fn decimal(f: &mut core::fmt::Formatter<'_>, value: u64, mut places: u32) -> core::fmt::Result {
    let unit = 10_u64.pow(places);
    let (whole, mut rest) = (value / unit, value % unit);
    if rest == 0 {
        return write!(f, "{whole}");
    }
    while rest % 10 == 0 {
        rest /= 10;
        places -= 1;
    }
    write!(f, "{whole}.{rest:0width$}", width = places as usize)
}
