//! The decision record of a task: who was asked, who bid what, who refused and why, who won and why, what
//! happened then. Only people read it; it belongs to the chronicle and takes no part in the protocol state.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::id::{DeviceId, TaskId};
use crate::input::SendFailure;
use crate::outbox::Outcome;
use crate::policy::{Choice, Policy};
use crate::time::Time;
use crate::wire::{Bid, Reason};

/// Everything that led to a task's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The task.
    pub task: TaskId,
    /// When it was submitted.
    pub submitted: Time,
    /// How long the base prompt is.
    pub prompt_bytes: usize,
    /// How winners were chosen.
    pub policy: Policy,
    /// 0 to 9.
    pub priority: u8,
    /// Its auctions, in order.
    pub auctions: Vec<AuctionRecord>,
    /// What happened besides, in order.
    pub happened: Vec<Happening>,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub ended: Option<Time>,
    /// Lines that found no room.
    pub dropped_lines: usize,
}

/// One auction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuctionRecord {
    /// When it opened.
    pub opened: Time,
    /// When it ended, once it has.
    pub closed: Option<Time>,
    /// What each device said, in the order in which it became known.
    pub answers: Vec<Answered>,
    /// The winner and the order of all bids, if somebody won.
    pub choice: Option<Choice>,
    /// Why nobody won, in words.
    pub nobody: Option<String>,
}

/// What one device said to a bid request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// Who.
    pub device: DeviceId,
    /// When.
    pub at: Time,
    /// What.
    pub answer: Answer,
}

/// An answer to a bid request, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It bid.
    Bid {
        /// What.
        bid: Bid,
    },
    /// It refused.
    Refused {
        /// Why.
        reason: Reason,
        /// When asking again may help, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// It could not be reached.
    Unreachable {
        /// How that showed.
        why: SendFailure,
    },
    /// It said nothing while the auction was open.
    Silent,
    /// It was not asked, since it was known to be full.
    KnownBusy,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When.
    pub at: Time,
    /// What, in one sentence without a full stop.
    pub what: String,
}
