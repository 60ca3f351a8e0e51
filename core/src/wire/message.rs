//! What devices say to each other, as types. No bytes here, and no decision: [`super::decode`] and
//! [`super::encode`] know the bytes, the machines above know what to do.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use serde::Serialize;

use crate::id::{AwardId, BidId, BootId, DeviceId, TaskId};
use crate::load::{Load, Percent};

/// Text that is copied often and never changed: prompts, outputs, pieces of them.
pub type Text = Arc<str>;

/// One message: who says that it sent it, whether it speaks bidmesh, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// FROM: a claim, not evidence.
    pub from: DeviceId,
    /// Present when the sender showed that it is a bidmesh device.
    pub marker: Option<Marker>,
    /// The content.
    pub body: Body,
}

/// How a device shows that it speaks bidmesh: `bidmesh/1` and its boot id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Marker {
    /// The protocol's version; 1 today. A higher one is still understood field by field.
    pub version: u16,
    /// The sender's present start.
    pub boot: BootId,
}

impl Marker {
    /// The version that this crate speaks.
    pub const VERSION: u16 = 1;
}

/// The content of a message, one variant a type. The first nine are the shell mesh's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// I am here, at this address.
    Hello(Advertised),
    /// As HELLO, and say HELLO back.
    Discover(Advertised),
    /// Text for a person.
    Text(Text),
    /// A prompt to be answered with SLM_RESULT, outside any auction.
    SlmPrompt(Text),
    /// The answer to SLM_PROMPT.
    SlmResult(Text),
    /// Who can run this task, and how well?
    BidRequest(BidRequest),
    /// How the sender is, offered for a task.
    BidResponse(Bid),
    /// The award: run this.
    Task(TaskOrder),
    /// The end of an award.
    Result(TaskResult),
    /// No bid, and why. Additional.
    Refuse(Refuse),
    /// The award is taken and runs. Additional.
    Accept(Accept),
    /// The award is not taken, or not known. Additional.
    Reject(Reject),
    /// Text generated since the last one; empty text is a sign of life. Additional.
    Progress(Progress),
    /// Stop this award. Additional.
    Cancel(AwardId),
    /// This RESULT has arrived and need not be kept. Additional.
    Ack(AwardId),
    /// What became of this award? Additional.
    Query(Query),
    /// I leave in order. Additional.
    Bye,
    /// A type that this version does not know; reported, never fatal. Written back as it came.
    Unknown {
        /// TYPE as it was written.
        kind: String,
        /// Everything after the second `|`.
        payload: Text,
    },
}

impl Body {
    /// TYPE as it is written on the wire.
    pub fn kind(&self) -> &str {
        match self {
            Self::Hello(_) => "HELLO",
            Self::Discover(_) => "DISCOVER",
            Self::Text(_) => "TEXT",
            Self::SlmPrompt(_) => "SLM_PROMPT",
            Self::SlmResult(_) => "SLM_RESULT",
            Self::BidRequest(_) => "BID_REQUEST",
            Self::BidResponse(_) => "BID_RESPONSE",
            Self::Task(_) => "TASK",
            Self::Result(_) => "RESULT",
            Self::Refuse(_) => "REFUSE",
            Self::Accept(_) => "ACCEPT",
            Self::Reject(_) => "REJECT",
            Self::Progress(_) => "PROGRESS",
            Self::Cancel(_) => "CANCEL",
            Self::Ack(_) => "ACK",
            Self::Query(_) => "QUERY",
            Self::Bye => "BYE",
            Self::Unknown { kind, .. } => kind,
        }
    }
}

/// Where a device says that it listens. Without an `ip` (empty, or 0.0.0.0) the connection's source is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Advertised {
    /// The address, if the sender knew one.
    pub ip: Option<IpAddr>,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl From<SocketAddr> for Advertised {
    fn from(address: SocketAddr) -> Self {
        let ip = address.ip();
        Self { ip: if ip.is_unspecified() { None } else { Some(ip) }, port: address.port() }
    }
}

/// BID_REQUEST.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct BidRequest {
    /// `task_id`; a shell person may leave it out.
    pub task: Option<TaskId>,
    /// `task_type`; `slm_inference` when absent.
    pub task_type: Option<Text>,
    /// `prompt`; empty from bidmesh devices, since nobody but the winner needs it.
    pub prompt: Option<Text>,
    /// `prompt_bytes`: how long the prompt is, in bytes.
    pub prompt_bytes: Option<u64>,
    /// `deadline`: how long bids are taken; seconds on the wire.
    pub deadline: Option<Duration>,
}

/// The one task type of the shell mesh, and the default.
pub const TASK_TYPE_INFERENCE: &str = "slm_inference";

/// How many tasks a device takes at once, and how many it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Capacity {
    /// Tasks that it runs at once, at most.
    pub slots: u16,
    /// Tasks that it runs now.
    pub running: u16,
    /// How many of those belong to the device that is told.
    pub yours: u16,
}

/// BID_RESPONSE: how the bidder is. What it could not measure is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Bid {
    /// `task_id`; a shell device's bid has none.
    pub task: Option<TaskId>,
    /// `bid_id`; a shell device's bid has none.
    pub bid: Option<BidId>,
    /// `device_id`; ignored unless it equals FROM.
    pub device: Option<Text>,
    /// `cpu_load`: share of the processor in use.
    pub cpu: Option<Load>,
    /// `ram_load`: share of memory in use.
    pub ram: Option<Load>,
    /// `battery`: charge; `-1` on the wire when unknown.
    pub battery: Option<Percent>,
    /// `charging`.
    pub charging: Option<bool>,
    /// `has_npu`: whether the bidder would run the task on an NPU.
    pub npu: bool,
    /// `slots`, `running`, `yours`.
    pub capacity: Option<Capacity>,
}

/// TASK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskOrder {
    /// `task_id`: the award; a shell person may leave it out.
    pub award: Option<AwardId>,
    /// `prompt`: what to run.
    pub prompt: Text,
    /// `use_npu`.
    pub npu: Option<bool>,
    /// `prompt_type`: which of the prompts this is (`npu_prompt`, `cpu_prompt`, `prompt`).
    pub prompt_type: Option<Text>,
    /// `task_type`; `slm_inference` when absent.
    pub task_type: Option<Text>,
    /// `bid_id`: the bid that is awarded.
    pub bid: Option<BidId>,
}

/// RESULT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskResult {
    /// `task_id`: the award; absent when the TASK had none.
    pub award: Option<AwardId>,
    /// `device_id`; ignored unless it equals FROM.
    pub device: Option<Text>,
    /// `status`.
    pub status: Status,
    /// `output`: the answer, or for `error` what went wrong.
    pub output: Text,
    /// The output came with bytes that are no UTF-8; each such byte became U+FFFD.
    pub output_was_not_utf8: bool,
    /// How fast the worker was, as it measured itself; only bidmesh devices say so.
    pub speed: Option<Speed>,
}

/// How fast a worker was with one prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Speed {
    /// `total_ms`: from the beginning of the run to its end, in milliseconds.
    pub total_ms: u32,
    /// `first_text_ms`: from the beginning of the run to its first text, in milliseconds; absent without text.
    pub first_text_ms: Option<u32>,
    /// `prompt_tokens`: of the prompt; absent where the executor does not count them.
    pub prompt_tokens: Option<u32>,
    /// `tokens`: that were generated; absent where the executor does not count them.
    pub tokens: Option<u32>,
}

impl Speed {
    /// Tokens generated in a second after the first text, in thousandths; `None` where that cannot be said.
    pub fn tokens_per_second_milli(&self) -> Option<u64> {
        let generating = self.total_ms.checked_sub(self.first_text_ms?)?;
        let after_the_first = self.tokens?.checked_sub(1)?;
        (generating > 0).then(|| u64::from(after_the_first) * 1_000_000 / u64::from(generating))
    }
}

/// How an award ended at the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The output is the answer.
    Completed,
    /// It failed; the output says why.
    Error,
    /// It was stopped by CANCEL.
    Cancelled,
    /// The worker leaves or must stop; the task should go elsewhere.
    HandedBack,
}

impl Status {
    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::HandedBack => "handed_back",
        }
    }

    /// Reads what [`Status::as_str`] writes.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Completed, Self::Error, Self::Cancelled, Self::HandedBack]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// Why a device does not take work. Written in lower case with underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// All slots are taken (to a BID_REQUEST).
    Busy,
    /// All slots are taken, or there is no room to keep another result (to a TASK).
    Full,
    /// The battery is below the limit and not charging.
    Battery,
    /// The device is too hot.
    Heat,
    /// Its owner paused it.
    Paused,
    /// Its owner lets it work at other times of the day.
    Hours,
    /// It shuts down.
    Leaving,
    /// Nothing there can run a prompt.
    NoExecutor,
    /// It does not run tasks of this type.
    UnknownTaskType,
    /// It could not read what it was asked.
    Malformed,
    /// The prompt is longer than it takes.
    TooLong,
    /// It does not know the asker.
    Stranger,
    /// The bid that was awarded is of another boot or too old.
    Stale,
    /// The award was cancelled before.
    Cancelled,
    /// It knows nothing of this award (to a QUERY).
    Unknown,
    /// A reason of a later version; taken for a lasting one.
    Other(Text),
}

impl Reason {
    const KNOWN: [(Self, &'static str); 15] = [
        (Self::Busy, "busy"),
        (Self::Full, "full"),
        (Self::Battery, "battery"),
        (Self::Heat, "heat"),
        (Self::Paused, "paused"),
        (Self::Hours, "hours"),
        (Self::Leaving, "leaving"),
        (Self::NoExecutor, "no_executor"),
        (Self::UnknownTaskType, "unknown_task_type"),
        (Self::Malformed, "malformed"),
        (Self::TooLong, "too_long"),
        (Self::Stranger, "stranger"),
        (Self::Stale, "stale"),
        (Self::Cancelled, "cancelled"),
        (Self::Unknown, "unknown"),
    ];

    /// All reasons of this version.
    pub fn known() -> impl Iterator<Item = Self> {
        Self::KNOWN.iter().map(|(reason, _)| reason.clone())
    }

    /// As it is written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => {
                Self::KNOWN.iter().find(|(reason, _)| reason == known).map_or("unknown", |(_, text)| text)
            }
        }
    }

    /// Reads what [`Reason::as_str`] writes; anything else becomes [`Reason::Other`].
    pub fn read(text: &str) -> Self {
        Self::KNOWN
            .iter()
            .find(|(_, known)| *known == text)
            .map_or_else(|| Self::Other(text.into()), |(r, _)| r.clone())
    }

    /// Whether it passes by itself when other work ends; such a refusal costs a task no attempt.
    pub const fn is_load(&self) -> bool {
        matches!(self, Self::Busy | Self::Full)
    }

    /// The reason in words, for a person: `its battery is low`.
    pub fn words(&self) -> &str {
        match self {
            Self::Busy | Self::Full => "all its slots are taken",
            Self::Battery => "its battery is low and not charging",
            Self::Heat => "it is too hot",
            Self::Paused => "its owner paused it",
            Self::Hours => "it is outside its working hours",
            Self::Leaving => "it is leaving",
            Self::NoExecutor => "nothing there can run a prompt",
            Self::UnknownTaskType => "it does not run tasks of this type",
            Self::Malformed => "it could not read the request",
            Self::TooLong => "the prompt is too long for it",
            Self::Stranger => "it does not know this device",
            Self::Stale => "the bid was too old",
            Self::Cancelled => "the award had been cancelled",
            Self::Unknown => "it knows nothing of the award",
            Self::Other(text) => text,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// REFUSE: no bid for this task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refuse {
    /// `task_id`.
    pub task: Option<TaskId>,
    /// `reason`.
    pub reason: Reason,
    /// `retry_after_ms`: when asking again may help.
    pub retry_after: Option<Duration>,
    /// `slots`, `running`, `yours`.
    pub capacity: Option<Capacity>,
}

/// ACCEPT: the award is taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accept {
    /// `task_id`.
    pub award: AwardId,
}

/// REJECT: the award is not taken, or not known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reject {
    /// `task_id`.
    pub award: AwardId,
    /// `reason`.
    pub reason: Reason,
    /// `retry_after_ms`.
    pub retry_after: Option<Duration>,
    /// `slots`, `running`, `yours`.
    pub capacity: Option<Capacity>,
}

/// PROGRESS: text generated since the last offset that was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// `task_id`.
    pub award: AwardId,
    /// `offset`: where `text` begins in the whole output, in bytes of UTF-8.
    pub offset: u64,
    /// `text`; empty as a sign of life.
    pub text: Text,
}

/// QUERY: what became of this award?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// `task_id`.
    pub award: AwardId,
    /// `have`: how much of the output the asker has, in bytes.
    pub have: u64,
}

/// How a message is to be written for the peer that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// For a bidmesh device: strict JSON with the marker, all types.
    Bidmesh,
    /// For a shell device whose `echo` interprets backslash escapes (mksh, dash): what its grep, cut and echo undo.
    Shell,
    /// For a shell device whose `echo` interprets nothing (bash, busybox): quotes and newlines cannot be carried,
    /// typographic quotes and spaces stand for them.
    ShellLiteral,
}

impl Dialect {
    /// Whether the peer is a shell device.
    pub const fn is_shell(self) -> bool {
        matches!(self, Self::Shell | Self::ShellLiteral)
    }
}

/// What the decoder had to mend to read a message, in the order in which it tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Default)]
pub struct Repairs {
    /// Values were missing (`"cpu_load": ,`, a shell device without awk) or no JSON (`nan`, `45%`, `0,45`), and were
    /// read as null.
    pub missing_values: bool,
    /// Control characters stood raw inside JSON strings and were read as themselves.
    pub raw_control_characters: bool,
    /// Bytes were no UTF-8 and were read as U+FFFD.
    pub not_utf8: bool,
}

impl Repairs {
    /// Whether anything was mended.
    pub const fn any(self) -> bool {
        self.missing_values || self.raw_control_characters || self.not_utf8
    }
}

/// A message as it was read from bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decoded {
    /// The message.
    pub message: Message,
    /// What had to be mended.
    pub repairs: Repairs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_a_second_count_from_the_first_text() {
        let speed =
            Speed { total_ms: 3_000, first_text_ms: Some(1_000), prompt_tokens: None, tokens: Some(51) };
        assert_eq!(speed.tokens_per_second_milli(), Some(25_000));
        assert_eq!(Speed { first_text_ms: None, ..speed }.tokens_per_second_milli(), None);
        assert_eq!(Speed { tokens: Some(0), ..speed }.tokens_per_second_milli(), None);
        assert_eq!(Speed { total_ms: 1_000, ..speed }.tokens_per_second_milli(), None, "all came at once");
        assert_eq!(
            Speed { total_ms: 10, ..speed }.tokens_per_second_milli(),
            None,
            "a worker may say anything"
        );
    }
}
