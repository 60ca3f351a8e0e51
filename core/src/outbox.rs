//! What a device wants done (actions, owed) and what it noticed (events, offered).
//!
//! The caller of [`crate::Device::handle`] owes the device every action; it may look at events and need not.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use serde::Serialize;

use crate::id::{AwardId, DeviceId, TaskId};
use crate::input::{Prompts, SendFailure, Ticket, Written};
use crate::time::Time;
use crate::wire::{Dialect, Message, Reason, Speed, Status, Text};

/// One message to a peer; leads to exactly one `Delivered` or `SendFailed`, unless abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SendId(pub u64);

/// One run of a prompt on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RunId(pub u64);

/// One record handed to the store; rises by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Sequence(pub u64);

/// Where actions and events land. Empty it after each call; nothing in it refers to the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Owed, in order.
    pub actions: Vec<Action>,
    /// Offered, in order.
    pub events: Vec<Event>,
}

/// Something that the caller must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send a message; answer with `Delivered` or `SendFailed` by `give_up_at` at the latest.
    Send {
        /// Comes back in the answer.
        id: SendId,
        /// Who it is for.
        device: DeviceId,
        /// Where to.
        to: SocketAddr,
        /// What.
        message: Message,
        /// How it is to be written.
        dialect: Dialect,
        /// When nobody cares any more.
        give_up_at: Time,
    },
    /// Nobody cares about this send any more: stop trying, answer nothing.
    Abandon {
        /// Which.
        id: SendId,
    },
    /// Run a prompt; answer with any number of `Generated` and one `Ran`.
    Run {
        /// Comes back in the answers.
        run: RunId,
        /// The award, for logs and file names.
        label: String,
        /// What to run.
        prompt: Text,
        /// Whether to use the NPU.
        npu: bool,
        /// When to stop by itself and answer `Failed`.
        limit: Duration,
    },
    /// End a run; answer with `Ran { Stopped }` once it has ended.
    Stop {
        /// Which.
        run: RunId,
    },
    /// What the person who asked is owed.
    Report(Report),
    /// Write a record; answer with `Persisted`.
    Persist {
        /// Comes back in the answer.
        sequence: Sequence,
        /// What.
        record: Record,
        /// Something waits for the answer: write it now. Else it may be written behind.
        barrier: bool,
    },
    /// The address book changed: write peers.txt.
    WritePeers {
        /// Its whole content, in order.
        peers: Vec<(DeviceId, SocketAddr)>,
    },
    /// Everything is drained; the device may end.
    Halt,
}

/// What the person who asked is owed, in this order: admitted or refused; text and breaks; one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The task is taken on (and durable, if the store is).
    Admitted {
        /// Of the submission.
        ticket: Ticket,
        /// The task's name from here on; of a submission with a known `key`, the name it already has.
        task: TaskId,
        /// How many tasks are before it in the queue.
        position: usize,
    },
    /// The task is not taken on; ends the submission.
    Refused {
        /// Of the submission.
        ticket: Ticket,
        /// What is the matter and what to do about it.
        why: Refusal,
        /// When trying again may help, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// More of the answer. Offsets are without gaps within an attempt.
    Text {
        /// Of this task.
        task: TaskId,
        /// Who generated it.
        device: DeviceId,
        /// Where it begins in the answer, in bytes.
        offset: u64,
        /// The text.
        text: Text,
    },
    /// The answer that was shown so far is void; another begins at offset 0.
    BrokenOff {
        /// Of this task.
        task: TaskId,
        /// Whose answer broke off.
        device: DeviceId,
        /// How much of it had been shown, in bytes.
        shown: u64,
        /// Why.
        why: Text,
    },
    /// The one outcome of the task.
    Outcome {
        /// Of this task.
        task: TaskId,
        /// What it is.
        outcome: Outcome,
    },
    /// What became of a [`crate::Input::Say`].
    Said {
        /// Of the input.
        ticket: Ticket,
        /// To whom it was.
        to: DeviceId,
        /// `None`: delivered.
        failure: Option<Unsaid>,
    },
}

/// Why something that a person said did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsaid {
    /// The device is not in the address book.
    UnknownDevice,
    /// The message could not be delivered.
    NotDelivered(SendFailure),
}

impl Unsaid {
    /// In words, for a person: `refused the connection`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::UnknownDevice => "is not in the address book",
            Self::NotDelivered(why) => why.words(),
        }
    }
}

/// Why a submission is not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The queue is full.
    QueueFull,
    /// This client has too many open tasks.
    ClientFull,
    /// The prompt is empty.
    EmptyPrompt,
    /// The prompt is longer than the limit.
    PromptTooLong,
    /// This device shuts down.
    Leaving,
    /// It could not be written to disk.
    NotDurable,
    /// `eligible` names no device that is known here.
    NobodyEligible,
}

impl Refusal {
    /// In words, with what to do.
    pub const fn words(self) -> &'static str {
        match self {
            Self::QueueFull => "the queue is full; try again later or wait for earlier prompts",
            Self::ClientFull => "this client has too many open prompts; wait for earlier ones",
            Self::EmptyPrompt => "the prompt is empty; write one",
            Self::PromptTooLong => "the prompt is longer than this device takes; shorten it",
            Self::Leaving => "this device is shutting down; ask another",
            Self::NotDurable => "it could not be written to disk; free some space and try again",
            Self::NobodyEligible => "none of the devices it is for is known here; see `bidmesh peers list`",
        }
    }
}

/// How a task ended. Every task has exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Outcome {
    /// In one word.
    pub status: OutcomeStatus,
    /// Who answered; for `decided`, who would have been asked.
    pub device: Option<DeviceId>,
    /// The answer; empty unless completed.
    pub output: Text,
    /// Accepted runs that it took.
    pub attempts: u32,
    /// One sentence for a person: why this outcome, and what to do about a bad one.
    pub why: String,
    /// What became of it on disk.
    pub written: Written,
    /// How fast the worker was, if it said so.
    pub speed: Option<Speed>,
}

/// How a task ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// With an answer.
    Completed,
    /// Attempts or auctions ran out.
    Failed,
    /// No device could take it, for lasting reasons.
    Nobody,
    /// Its own deadline passed.
    Expired,
    /// It was cancelled.
    Cancelled,
    /// A dry run: the auction is over.
    Decided,
}

impl OutcomeStatus {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Nobody => "nobody",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Decided => "decided",
        }
    }
}

/// What must survive this device. Read back as [`crate::restore::Restored`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A task was accepted.
    Task {
        /// Its name.
        task: TaskId,
        /// The prompts.
        prompts: Prompts,
        /// The priority.
        priority: crate::input::Priority,
        /// Its key.
        key: Option<Text>,
        /// Whether somebody watched.
        attached: bool,
        /// The only devices that may run it.
        eligible: Option<alloc::collections::BTreeSet<DeviceId>>,
        /// How long it may take in all, from its submission.
        deadline: Option<Duration>,
        /// How its winners are chosen.
        policy: crate::policy::Policy,
        /// Its own limit for an auction.
        bid_deadline: Option<Duration>,
        /// Its limit for an attempt without a result.
        result_timeout: Duration,
        /// Who submitted it.
        client: Option<Text>,
    },
    /// It was awarded; written before TASK leaves.
    Award {
        /// The task.
        task: TaskId,
        /// The award.
        award: AwardId,
        /// Its number, from 1.
        attempt: u32,
        /// To whom.
        device: DeviceId,
        /// Where that device was.
        address: SocketAddr,
        /// How it was spoken to.
        dialect: Dialect,
    },
    /// It ended; written before anybody is told.
    Outcome {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// As a worker: a run began. Followed by [`Record::Kept`] when it ends, so that the next start knows what this one
    /// took with it. Written behind, but for a shell device: whoever cannot ask learns it by this record alone.
    Started {
        /// For whom.
        orchestrator: DeviceId,
        /// Of which award.
        award: AwardId,
        /// A digest of the prompt, as in [`Record::Kept`].
        digest: u128,
        /// How the orchestrator spoke when it sent the TASK, and is spoken to.
        dialect: Dialect,
    },
    /// As a worker: a result that must be kept until acknowledged; written before it is sent.
    Kept {
        /// For whom.
        orchestrator: DeviceId,
        /// Of which award.
        award: AwardId,
        /// A digest of the prompt: the same award id with another prompt is another task.
        digest: u128,
        /// How the orchestrator spoke when it sent the TASK, and is spoken to.
        dialect: Dialect,
        /// How it ended.
        status: Status,
        /// The output.
        output: Text,
        /// How fast it was.
        speed: Option<Speed>,
    },
    /// As a worker: that result was acknowledged or expired; forget the text, remember the award.
    Forgotten {
        /// For whom it was.
        orchestrator: DeviceId,
        /// Of which award.
        award: AwardId,
        /// A digest of the prompt.
        digest: u128,
    },
    /// The owner paused this device. Written at once, though nothing waits for it: a pause outlives a restart.
    Paused {
        /// For how long; `None`: until resumed.
        during: Option<Duration>,
    },
    /// The owner resumed it.
    Resumed,
}

/// Something that a device noticed, for logs, screens and tests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An auction opened.
    Opened {
        /// For this task.
        task: TaskId,
        /// How many devices are asked, this one included.
        asked: usize,
    },
    /// A bid counts.
    BidTaken {
        /// For this task.
        task: TaskId,
        /// Of this device.
        from: DeviceId,
    },
    /// A device declined.
    Refused {
        /// This task.
        task: TaskId,
        /// This device.
        from: DeviceId,
        /// For this reason.
        reason: Reason,
    },
    /// A device won.
    Awarded {
        /// This task.
        task: TaskId,
        /// This device.
        to: DeviceId,
        /// The number of the award, from 1.
        attempt: u32,
        /// Why it, in one sentence.
        why: String,
    },
    /// The winner runs it.
    Accepted {
        /// This task.
        task: TaskId,
        /// The winner.
        by: DeviceId,
        /// The number of the award.
        attempt: u32,
    },
    /// The winner's first text is late, and it is not given up: another device starts beside it.
    Hedged {
        /// Of this task.
        task: TaskId,
        /// Who is slow.
        slow: DeviceId,
        /// The number of its award.
        attempt: u32,
    },
    /// An attempt ended without a good result.
    AttemptLost {
        /// Of this task.
        task: TaskId,
        /// At this device.
        device: DeviceId,
        /// The number of the award.
        attempt: u32,
        /// What happened, in words.
        why: String,
    },
    /// Everybody was busy; the task waits and tries again.
    Resting {
        /// This task.
        task: TaskId,
        /// Until then at the latest.
        until: Time,
    },
    /// The task ended.
    Finished {
        /// This task.
        task: TaskId,
        /// How.
        status: OutcomeStatus,
    },
    /// As a worker: a run began.
    RunStarted {
        /// For this device.
        from: DeviceId,
        /// The run.
        run: RunId,
        /// What was awarded, or how it is called here.
        label: String,
    },
    /// Its owner's pause goes on after a restart.
    StillPaused {
        /// Until then; `None`: until resumed.
        until: Option<Time>,
    },
    /// As a worker: a run of an earlier start ended with that start; whoever asked for it is told.
    RunLost {
        /// For this device.
        from: DeviceId,
        /// What was awarded.
        label: String,
    },
    /// As a worker: a run ended.
    RunEnded {
        /// The run.
        run: RunId,
        /// How.
        status: Status,
    },
    /// As a worker: somebody's request was declined.
    Declined {
        /// Whose.
        from: DeviceId,
        /// Why.
        reason: Reason,
    },
    /// A device came into the address book, or changed there.
    PeerChanged {
        /// Which.
        peer: DeviceId,
        /// Where it is now.
        address: SocketAddr,
        /// New boot seen: it was restarted.
        restarted: bool,
    },
    /// A device left in order.
    PeerLeft {
        /// Which.
        peer: DeviceId,
    },
    /// What is believed of a device's being there has changed: `alive`, `suspect`, `gone` or `back`.
    PeerHealth {
        /// Which.
        peer: DeviceId,
        /// What is believed now.
        health: crate::snapshot::Health,
    },
    /// Two devices seem to use one id: their boot ids alternate.
    Equivocation {
        /// That id.
        peer: DeviceId,
    },
    /// TEXT for a person.
    TextReceived {
        /// From whom.
        from: DeviceId,
        /// What.
        text: Text,
    },
    /// SLM_RESULT for a person.
    SlmResultReceived {
        /// From whom.
        from: DeviceId,
        /// What.
        output: Text,
    },
    /// A message was mended to be readable.
    Repaired {
        /// From whom.
        from: DeviceId,
        /// Its type.
        kind: String,
    },
    /// A message came from an address that is not its sender's.
    WrongSource {
        /// Who it says that it is.
        from: DeviceId,
        /// Where it came from.
        source: SocketAddr,
    },
    /// A message changed nothing.
    Ignored {
        /// From whom, where that could be read.
        from: Option<DeviceId>,
        /// Why.
        why: Ignored,
    },
    /// This device slept: it was called this long after its own deadline.
    Slept {
        /// In milliseconds.
        late_ms: u64,
    },
    /// A message was not sent since too many are owed already.
    Overloaded {
        /// To whom.
        to: DeviceId,
    },
}

/// Why a message changed nothing. Each has a test that meets it and only it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ignored {
    /// It could not be read.
    Malformed,
    /// Its sender is not known here, and `admit` wants it to be.
    Stranger,
    /// A person removed its sender.
    Removed,
    /// The address book is full.
    BookFull,
    /// HELLO or DISCOVER names an address that is not the connection's source.
    ForeignAddress,
    /// It says that it comes from this device.
    Myself,
    /// Its type is of a later version.
    UnknownType,
    /// No open task of that name waits for it.
    UnknownTask,
    /// A bid or refusal after its auction was over.
    Late,
    /// That device was not asked.
    NotAsked,
    /// That device has answered already.
    Repeated,
    /// No award of that id was given to that device.
    UnknownAward,
    /// The award is over.
    AwardOver,
    /// A run of that number is not known here.
    UnknownRun,
    /// A copy of something that was done already.
    Duplicate,
    /// A send of that number is not known here.
    UnknownSend,
    /// Its boot id is an older one of that device: it was delayed.
    OldBoot,
}
