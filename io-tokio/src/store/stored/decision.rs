//! A decision record as it is written: by the rules of [`super`], in types of its own.
//!
//! Core's own types would not do. Their moments count from a start of the device that is over, and rounding each of two
//! moments moves the time between them; here all count from the submission, as people are shown them. And the outcome,
//! with its text, has a row of its own already: this one says only what that does not, which is what became of it on
//! disk.

use std::time::{Duration, UNIX_EPOCH};

use bidmesh_core::Time;
use bidmesh_core::decision::{Answer, Answered, AuctionRecord, Decision, Happening};
use bidmesh_core::id::BidId;
use bidmesh_core::input::{Priority, SendFailure, Written};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::outbox::Outcome;
use bidmesh_core::policy::{Choice, Ranked};
use bidmesh_core::wire::{Bid, Capacity, Reason};
use serde::{Deserialize, Serialize};

use super::{Unreadable, device, millis, task};
use crate::store::DatedDecision;

/// The decision record of a task that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct StoredDecision {
    pub(in crate::store) task: String,
    submitted_unix_ms: u64,
    prompt_bytes: usize,
    policy: String,
    priority: u8,
    auctions: Vec<StoredAuction>,
    happened: Vec<StoredHappening>,
    ended_ms: Option<u64>,
    written: Option<String>,
    dropped_lines: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredAuction {
    opened_ms: u64,
    closed_ms: Option<u64>,
    answers: Vec<StoredAnswered>,
    choice: Option<StoredChoice>,
    nobody: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredAnswered {
    device: String,
    at_ms: u64,
    answer: StoredAnswer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredAnswer {
    Bid(StoredBid),
    Refused { reason: String, retry_after_ms: Option<u64> },
    Unreachable(String),
    Silent,
    KnownBusy,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredBid {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    cpu_ppm: Option<u32>,
    ram_ppm: Option<u32>,
    battery: Option<u8>,
    charging: Option<bool>,
    npu: bool,
    capacity: Option<StoredCapacity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredCapacity {
    slots: u16,
    running: u16,
    yours: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredChoice {
    winner: String,
    order: Vec<StoredRanked>,
    sentence: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredRanked {
    device: String,
    npu: bool,
    cpu_ppm: Option<u32>,
    battery: Option<u8>,
    score: Option<u64>,
    tried: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredHappening {
    at_ms: u64,
    what: String,
}

impl From<&DatedDecision> for StoredDecision {
    fn from(DatedDecision { decision, submitted }: &DatedDecision) -> Self {
        let from = Offset(decision.submitted);
        let happened = |happening: &Happening| StoredHappening {
            at_ms: from.write(happening.at),
            what: happening.what.clone(),
        };
        Self {
            task: decision.task.to_string(),
            submitted_unix_ms: millis(submitted.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)),
            prompt_bytes: decision.prompt_bytes,
            policy: decision.policy.as_str().into(),
            priority: decision.priority,
            auctions: decision.auctions.iter().map(|auction| StoredAuction::new(from, auction)).collect(),
            happened: decision.happened.iter().map(happened).collect(),
            ended_ms: decision.ended.map(|at| from.write(at)),
            written: decision.outcome.as_ref().map(|outcome| outcome.written.as_str().into()),
            dropped_lines: decision.dropped_lines,
        }
    }
}

impl StoredDecision {
    /// With the outcome from the row of its own.
    pub(in crate::store) fn restore(self, outcome: Outcome) -> Result<DatedDecision, Unreadable> {
        let known = [Written::Durable, Written::Kept, Written::NotKept, Written::Failed];
        let written = |name: String| known.into_iter().find(|known| known.as_str() == name).ok_or(Unreadable);
        let written = self.written.map(written).transpose()?;
        let happened = |StoredHappening { at_ms, what }| Happening { at: read(at_ms), what };
        let decision = Decision {
            task: task(&self.task)?,
            submitted: Time::ZERO,
            prompt_bytes: self.prompt_bytes,
            policy: self.policy.parse().map_err(|_| Unreadable)?,
            priority: Priority::new(self.priority).ok_or(Unreadable)?.value(),
            auctions: self.auctions.into_iter().map(StoredAuction::restore).collect::<Result<_, _>>()?,
            happened: self.happened.into_iter().map(happened).collect(),
            outcome: written.map(|written| Outcome { written, ..outcome }),
            ended: self.ended_ms.map(read),
            dropped_lines: self.dropped_lines,
        };
        let submitted = UNIX_EPOCH.checked_add(Duration::from_millis(self.submitted_unix_ms));
        Ok(DatedDecision { decision, submitted: submitted.ok_or(Unreadable)? })
    }
}

impl StoredAuction {
    fn new(from: Offset, auction: &AuctionRecord) -> Self {
        let answered = |Answered { device, at, answer }: &Answered| StoredAnswered {
            device: device.to_string(),
            at_ms: from.write(*at),
            answer: StoredAnswer::from(answer),
        };
        Self {
            opened_ms: from.write(auction.opened),
            closed_ms: auction.closed.map(|at| from.write(at)),
            answers: auction.answers.iter().map(answered).collect(),
            choice: auction.choice.as_ref().map(StoredChoice::from),
            nobody: auction.nobody.clone(),
        }
    }

    fn restore(self) -> Result<AuctionRecord, Unreadable> {
        let answered = |StoredAnswered { device: name, at_ms, answer }| {
            Ok(Answered { device: device(&name)?, at: read(at_ms), answer: StoredAnswer::restore(answer)? })
        };
        Ok(AuctionRecord {
            opened: read(self.opened_ms),
            closed: self.closed_ms.map(read),
            answers: self.answers.into_iter().map(answered).collect::<Result<_, _>>()?,
            choice: self.choice.map(StoredChoice::restore).transpose()?,
            nobody: self.nobody,
        })
    }
}

impl From<&Answer> for StoredAnswer {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Bid { bid } => Self::Bid(StoredBid::from(bid)),
            Answer::Refused { reason, retry_after_ms } => {
                Self::Refused { reason: reason.as_str().into(), retry_after_ms: *retry_after_ms }
            }
            Answer::Unreachable { why } => Self::Unreachable(failure_name(*why).into()),
            Answer::Silent => Self::Silent,
            Answer::KnownBusy => Self::KnownBusy,
        }
    }
}

impl StoredAnswer {
    fn restore(self) -> Result<Answer, Unreadable> {
        Ok(match self {
            Self::Bid(bid) => Answer::Bid { bid: bid.restore()? },
            Self::Refused { reason, retry_after_ms } => {
                Answer::Refused { reason: Reason::read(&reason), retry_after_ms }
            }
            Self::Unreachable(why) => Answer::Unreachable { why: failure(&why)? },
            Self::Silent => Answer::Silent,
            Self::KnownBusy => Answer::KnownBusy,
        })
    }
}

impl From<&Bid> for StoredBid {
    fn from(bid: &Bid) -> Self {
        let capacity = |Capacity { slots, running, yours }| StoredCapacity { slots, running, yours };
        Self {
            task: bid.task.as_ref().map(ToString::to_string),
            bid: bid.bid.as_ref().map(ToString::to_string),
            device: bid.device.as_ref().map(ToString::to_string),
            cpu_ppm: bid.cpu.map(Load::ppm),
            ram_ppm: bid.ram.map(Load::ppm),
            battery: bid.battery.map(Percent::value),
            charging: bid.charging,
            npu: bid.npu,
            capacity: bid.capacity.map(capacity),
        }
    }
}

impl StoredBid {
    fn restore(self) -> Result<Bid, Unreadable> {
        let capacity = |StoredCapacity { slots, running, yours }| Capacity { slots, running, yours };
        Ok(Bid {
            task: self.task.as_deref().map(task).transpose()?,
            bid: self.bid.as_deref().map(BidId::new).transpose().map_err(|_| Unreadable)?,
            device: self.device.map(Into::into),
            cpu: self.cpu_ppm.map(load).transpose()?,
            ram: self.ram_ppm.map(load).transpose()?,
            battery: self.battery.map(percent).transpose()?,
            charging: self.charging,
            npu: self.npu,
            capacity: self.capacity.map(capacity),
        })
    }
}

impl From<&Choice> for StoredChoice {
    fn from(choice: &Choice) -> Self {
        let ranked = |ranked: &Ranked| StoredRanked {
            device: ranked.device.to_string(),
            npu: ranked.npu,
            cpu_ppm: ranked.cpu.map(Load::ppm),
            battery: ranked.battery.map(Percent::value),
            score: ranked.score,
            tried: ranked.tried,
        };
        Self {
            winner: choice.winner.to_string(),
            order: choice.order.iter().map(ranked).collect(),
            sentence: choice.sentence.clone(),
        }
    }
}

impl StoredChoice {
    fn restore(self) -> Result<Choice, Unreadable> {
        let ranked = |ranked: StoredRanked| {
            Ok(Ranked {
                device: device(&ranked.device)?,
                npu: ranked.npu,
                cpu: ranked.cpu_ppm.map(load).transpose()?,
                battery: ranked.battery.map(percent).transpose()?,
                score: ranked.score,
                tried: ranked.tried,
            })
        };
        Ok(Choice {
            winner: device(&self.winner)?,
            order: self.order.into_iter().map(ranked).collect::<Result<_, _>>()?,
            sentence: self.sentence,
        })
    }
}

/// Moments of one start of the device, as times since this one of them.
#[derive(Clone, Copy)]
struct Offset(Time);

impl Offset {
    fn write(self, at: Time) -> u64 {
        millis(at.since(self.0))
    }
}

fn read(since_submitted_ms: u64) -> Time {
    Time::from_start(Duration::from_millis(since_submitted_ms))
}

fn load(ppm: u32) -> Result<Load, Unreadable> {
    Load::from_ppm(ppm).ok_or(Unreadable)
}

fn percent(value: u8) -> Result<Percent, Unreadable> {
    Percent::new(value).ok_or(Unreadable)
}

const FAILURES: [(SendFailure, &str); 7] = [
    (SendFailure::Refused, "refused"),
    (SendFailure::Unreachable, "unreachable"),
    (SendFailure::Reset, "reset"),
    (SendFailure::Ambiguous, "ambiguous"),
    (SendFailure::NotSpoken, "not_spoken"),
    (SendFailure::TooLong, "too_long"),
    (SendFailure::Overloaded, "overloaded"),
];

fn failure_name(failure: SendFailure) -> &'static str {
    FAILURES.iter().find(|(known, _)| *known == failure).map_or("unreachable", |(_, name)| name)
}

fn failure(name: &str) -> Result<SendFailure, Unreadable> {
    FAILURES.iter().find(|(_, known)| *known == name).map(|(failure, _)| *failure).ok_or(Unreadable)
}
