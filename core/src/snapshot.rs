//! How a device is at one moment, for `status`: itself, its peers, its tasks, its runs, its limits.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::Serialize;

use crate::id::{BootId, DeviceId, TaskId};
use crate::input::{Executor, Sensors};
use crate::time::Time;
use crate::wire::{Bid, Dialect, Reason, Speed};

/// One moment of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// This device.
    pub device: DeviceId,
    /// This start of it.
    pub boot: BootId,
    /// Where it tells others that it is.
    pub address: Option<SocketAddr>,
    /// The moment.
    pub now: Time,
    /// Slots as a worker.
    pub slots: u16,
    /// Prompts that run here.
    pub runs: Vec<RunSnapshot>,
    /// Why it would refuse work now; `None`: it takes work.
    pub refuses: Option<Reason>,
    /// What the sensors said last.
    pub sensors: Sensors,
    /// What runs prompts here.
    pub executor: Executor,
    /// Results that wait for their acknowledgement.
    pub kept_results: usize,
    /// The address book.
    pub peers: Vec<PeerSnapshot>,
    /// Open tasks, oldest first.
    pub tasks: Vec<TaskSnapshot>,
    /// Each bounded collection: name, size, limit.
    pub usage: Vec<Usage>,
}

/// A prompt that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunSnapshot {
    /// Who asked for it.
    pub from: DeviceId,
    /// The award, or how it is called here.
    pub label: String,
    /// Since when.
    pub started: Time,
    /// Bytes of output so far.
    pub bytes: u64,
}

/// A device of the address book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerSnapshot {
    /// Which.
    pub device: DeviceId,
    /// Where.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// Its present start, if it is a bidmesh device that was heard.
    pub boot: Option<BootId>,
    /// In one word.
    pub health: Health,
    /// How unusual its present silence is, in tenths: 50 is longer than all but one in 100,000 of its heartbeats.
    /// `None`: its rhythm is not known.
    pub suspicion: Option<u16>,
    /// When it was heard last.
    pub heard: Option<Time>,
    /// Its last bid.
    pub bid: Option<Bid>,
    /// When that came.
    pub bid_at: Option<Time>,
    /// How fast it was with the last prompt of this device that it answered, by its own word.
    pub speed: Option<Speed>,
    /// Awards of this device that it holds.
    pub awards: u16,
    /// Slots believed free there.
    pub free: u16,
    /// Written by a person, not only learned.
    pub listed: bool,
}

/// What is believed of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Never heard since this device started.
    New,
    /// Heard, and nothing has failed since.
    Alive,
    /// All its slots are taken, as far as is known.
    Busy,
    /// Something failed since it was heard, or it is silent for unusually long; asked, but not waited for.
    Suspect,
    /// The same for so long that it is probably not there, or it said goodbye; asked, but not waited for.
    Gone,
    /// Heard again, but it came and went too often lately: asked, but not waited for.
    Back,
}

impl Health {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Alive => "alive",
            Self::Busy => "busy",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
            Self::Back => "back",
        }
    }
}

/// An open task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskSnapshot {
    /// Which.
    pub task: TaskId,
    /// `admitting`, `queued`, `resting`, `auction`, `awarded`, `running`, `asking` or `closing`.
    pub phase: &'static str,
    /// When it was submitted.
    pub submitted: Time,
    /// 0 to 9.
    pub priority: u8,
    /// How many tasks are before it in the queue; `None` if it does not wait there.
    pub position: Option<usize>,
    /// Whether it is cancelled when nobody watches it any more.
    pub attached: bool,
    /// Where it is awarded.
    pub device: Option<DeviceId>,
    /// Accepted runs so far.
    pub attempts: u32,
    /// Bytes of the answer so far.
    pub bytes: u64,
}

/// A bounded collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Its name, as in [`crate::config::Limits`].
    pub what: &'static str,
    /// How many it holds.
    pub size: usize,
    /// How many it may hold.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_is_called_what_it_is_called_in_json() {
        use Health::{Alive, Back, Busy, Gone, New, Suspect};
        for health in [New, Alive, Busy, Suspect, Gone, Back] {
            assert_eq!(serde_json::to_value(health).unwrap(), health.as_str());
        }
    }
}
