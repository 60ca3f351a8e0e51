//! What can happen to a device: facts, never requests for an opinion.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::hours::MinuteOfDay;
use crate::id::{DeviceId, TaskId};
use crate::load::{DeciCelsius, Load, Percent};
use crate::outbox::{RunId, SendId, Sequence};
use crate::policy::Policy;
use crate::wire::{Body, DecodeError, Decoded, Text};

/// Something happened. Handed to [`crate::Device::handle`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A deadline passed, or any other reason to look around.
    Wake,
    /// One whole message arrived.
    Received {
        /// The address that it came from.
        source: SocketAddr,
        /// What the decoder made of it.
        message: Result<Decoded, DecodeError>,
    },
    /// The peer read the message of this `Send`: a hint, never a proof of work.
    Delivered {
        /// Which.
        send: SendId,
    },
    /// The message of this `Send` did not arrive, or nobody knows.
    SendFailed {
        /// Which.
        send: SendId,
        /// How.
        why: SendFailure,
    },
    /// A person or program hands in a prompt.
    Submit(Submission),
    /// Nobody wants this task any more.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// Say something to a peer outside any task (`send`).
    Say {
        /// Comes back in [`crate::Report::Said`].
        ticket: Ticket,
        /// To whom.
        to: DeviceId,
        /// What.
        body: Body,
    },
    /// The owner pauses this device as a worker, for a time or until [`Input::Resume`].
    Pause {
        /// How long; `None`: until resumed.
        during: Option<Duration>,
    },
    /// The owner lets it work again.
    Resume,
    /// The settings changed.
    Reconfigured(alloc::boxed::Box<Config>),
    /// A person edited peers.txt: its whole content, in order.
    PeersEdited(Vec<(DeviceId, SocketAddr)>),
    /// This device's own address changed.
    AddressChanged(Option<SocketAddr>),
    /// End in order, within this time.
    Shutdown {
        /// The limit for running work.
        within: Duration,
    },
    /// The sensors were read.
    SensorsRead(Sensors),
    /// What runs prompts here changed.
    ExecutorChanged(Executor),
    /// A run generated text.
    Generated {
        /// Which run.
        run: RunId,
        /// Where the text begins in the whole output, in bytes.
        offset: u64,
        /// The text.
        text: Text,
    },
    /// A run ended.
    Ran {
        /// Which run.
        run: RunId,
        /// How.
        outcome: RunOutcome,
    },
    /// The store is done with a record.
    Persisted {
        /// Which.
        sequence: Sequence,
        /// How that ended.
        written: Written,
    },
}

impl Input {
    /// Whether it says how this device is or whom it knows: tasks of an earlier start are better taken up after that.
    pub(crate) const fn may_come_before_the_past(&self) -> bool {
        matches!(
            self,
            Self::Pause { .. }
                | Self::Resume
                | Self::Reconfigured(_)
                | Self::PeersEdited(_)
                | Self::AddressChanged(_)
                | Self::SensorsRead(_)
                | Self::ExecutorChanged(_)
        )
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// It survives a loss of power.
    Durable,
    /// It survives the process, but perhaps not a loss of power: the store does not wait for the disk.
    Kept,
    /// There is no store: what depends on it goes on, for as long as the device lives.
    NotKept,
    /// It could not be written: what depends on it does not happen.
    Failed,
}

impl Written {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Kept => "kept",
            Self::NotKept => "not_kept",
            Self::Failed => "failed",
        }
    }
}

/// How a send failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SendFailure {
    /// The port was closed: not now.
    Refused,
    /// No route, or no answer to the connection attempt in time.
    Unreachable,
    /// The connection was reset: the message was not read.
    Reset,
    /// All was written, then silence until `give_up_at`: it may have been read.
    Ambiguous,
    /// It cannot be written for this peer (a message type that a shell device does not know).
    NotSpoken,
    /// It is longer than a message may be.
    TooLong,
    /// This device owes too many messages already.
    Overloaded,
}

impl SendFailure {
    /// In words, for a person: `refused the connection`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused the connection",
            Self::Unreachable => "could not be reached",
            Self::Reset => "cut the connection before it had read the message",
            Self::Ambiguous => "took the message but did not confirm it",
            Self::NotSpoken => "is a shell device, which does not know this message",
            Self::TooLong => "was not tried: the message is longer than a message may be",
            Self::Overloaded => "was not tried: too many messages are waiting to leave",
        }
    }
}

/// Chosen by the caller, handed back with the answer.
pub type Ticket = u64;

/// A prompt and everything said with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Submission {
    /// Comes back in [`crate::Report::Admitted`] or [`crate::Report::Refused`].
    pub ticket: Ticket,
    /// The base prompt and its variants.
    pub prompts: Prompts,
    /// 0 (last) to 9 (first).
    pub priority: Priority,
    /// How the winner is chosen; `None`: the device's setting.
    pub policy: Option<Policy>,
    /// Overrides [`crate::config::Timing::bid_deadline`].
    pub bid_deadline: Option<Duration>,
    /// Overrides [`crate::config::Timing::result_timeout`].
    pub result_timeout: Option<Duration>,
    /// When this has passed since submission, whatever the phase, the outcome is `expired`.
    pub deadline: Option<Duration>,
    /// Who submits, for fairness between clients.
    pub client: Option<Text>,
    /// The same key is the same task: a retry joins it instead of running again. All of it is compared and remembered with the
    /// task: whoever lets others choose it bounds it (the control API: 64 bytes).
    pub key: Option<Text>,
    /// Whether somebody watches; an attached task is cancelled at shutdown, a detached one stays in the store.
    pub attached: bool,
    /// Only these devices are asked; `None`: all.
    pub eligible: Option<BTreeSet<DeviceId>>,
    /// Only the auction: the outcome is `decided`, nothing is claimed.
    pub dry_run: bool,
}

impl Submission {
    /// A prompt with everything else as usual: priority 5, attached, all devices.
    pub fn new(ticket: Ticket, prompt: impl Into<Text>) -> Self {
        Self {
            ticket,
            prompts: Prompts { base: prompt.into(), npu: None, cpu: None },
            priority: Priority::default(),
            policy: None,
            bid_deadline: None,
            result_timeout: None,
            deadline: None,
            client: None,
            key: None,
            attached: true,
            eligible: None,
            dry_run: false,
        }
    }
}

/// The prompts of a task: the winner gets the one for how it will run, else the base prompt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prompts {
    /// The prompt.
    pub base: Text,
    /// For a winner that runs it on an NPU.
    pub npu: Option<Text>,
    /// For a winner that runs it on its processor.
    pub cpu: Option<Text>,
}

impl Prompts {
    /// What a winner gets, and the `prompt_type` that says which it is.
    pub fn pick(&self, npu: bool) -> (&Text, &'static str) {
        match (npu, &self.npu, &self.cpu) {
            (true, Some(text), _) => (text, "npu_prompt"),
            (false, _, Some(text)) => (text, "cpu_prompt"),
            _ => (&self.base, "prompt"),
        }
    }

    /// The length of the longest of them, in bytes.
    pub fn bytes_max(&self) -> usize {
        [Some(&self.base), self.npu.as_ref(), self.cpu.as_ref()]
            .into_iter()
            .flatten()
            .map(|t| t.len())
            .max()
            .unwrap_or(0)
    }
}

/// How soon a task is wanted: 0 (last) to 9 (first).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// First of all.
    pub const HIGHEST: Self = Self(9);

    /// `None` above 9.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 9 { Some(Self(value)) } else { None }
    }

    /// 0 to 9.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

/// What the sensors say; what is missing could not be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Sensors {
    /// Share of the processor in use.
    pub cpu: Option<Load>,
    /// Share of memory in use.
    pub ram: Option<Load>,
    /// The battery's charge; `None` without a battery.
    pub battery: Option<Percent>,
    /// Whether it charges.
    pub charging: Option<bool>,
    /// The battery's or processor's temperature.
    pub temperature: Option<DeciCelsius>,
    /// The local time of day, for the owner's working hours; nothing else is decided by a wall clock.
    pub minute_of_day: Option<MinuteOfDay>,
}

/// What runs prompts on this device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Executor {
    /// Whether a prompt could be run now.
    pub available: bool,
    /// Whether it would run on an NPU: only then is one bid.
    pub npu: bool,
    /// How many it runs at once; `None`: as configured.
    pub slots: Option<u16>,
    /// What it is, or why there is none; for people.
    pub why: String,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// The whole output.
    pub text: Text,
    /// How many tokens it took, where the executor counts them.
    pub tokens: Option<Tokens>,
}

/// Tokens of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Tokens {
    /// Of the prompt, with the model's own frame around it.
    pub prompt: u32,
    /// That were generated.
    pub generated: u32,
}

impl<T: Into<Text>> From<T> for Generation {
    fn from(text: T) -> Self {
        Self { text: text.into(), tokens: None }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunOutcome {
    /// With this whole output.
    Completed(Generation),
    /// It failed; one line says how.
    Failed(Text),
    /// It was stopped, as asked by [`crate::Action::Stop`].
    Stopped,
}
