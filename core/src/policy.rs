//! Who wins: gates, then ranks the bids of one auction. A pure total order that does not depend on the order in
//! which bids arrive, and that says why in words.
//!
//! `npu-first` is the shell mesh's rule made total: NPU before none, then the lower cpu load; what is still equal
//! goes to the one that runs fewer tasks, then by a hash of task and device, so that ties do not always fall to
//! the same device. `weighted` is the older hub's sum of points.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use serde::Serialize;

use crate::id::{DeviceId, TaskId};
use crate::load::{Load, Percent};
use crate::wire::Bid;

/// A rule by which the winner is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// NPU first, then the lowest cpu load: the default.
    #[default]
    NpuFirst,
    /// The most points of [`Weights`].
    Weighted,
}

impl Policy {
    /// As it is written in settings and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NpuFirst => "npu-first",
            Self::Weighted => "weighted",
        }
    }
}

impl core::str::FromStr for Policy {
    type Err = UnknownPolicy;
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        [Self::NpuFirst, Self::Weighted].into_iter().find(|p| p.as_str() == text).ok_or(UnknownPolicy)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such policy; there are `npu-first` and `weighted`")
    }
}

impl core::error::Error for UnknownPolicy {}

/// The points of `weighted`; higher wins. What is unknown scores 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weights {
    /// For an NPU.
    pub npu: u32,
    /// For a full or charging battery; rises evenly from 0 at `battery_from`.
    pub battery: u32,
    /// The charge at and below which the battery scores nothing, in percent.
    pub battery_from: u8,
    /// For an idle processor, in proportion.
    pub cpu: u32,
    /// For free memory, in proportion.
    pub ram: u32,
}

impl Weights {
    /// The hub's idea with its battery term brought down to size.
    pub const DEFAULT: Self = Self { npu: 40, battery: 25, battery_from: 20, cpu: 10, ram: 15 };

    /// Points in millionths, 0 to (npu + battery + cpu + ram) million.
    pub fn score(&self, bid: &Bid) -> u64 {
        let share = |load: Option<Load>| load.map_or(0, |load| u64::from(Load::FULL.ppm() - load.ppm()));
        let npu = u64::from(bid.npu) * u64::from(self.npu) * 1_000_000;
        let battery = match (bid.charging, bid.battery) {
            (Some(true), _) => u64::from(self.battery) * 1_000_000,
            (_, Some(charge)) => {
                let above = u64::from(charge.value().saturating_sub(self.battery_from));
                let range = u64::from(100u8.saturating_sub(self.battery_from)).max(1);
                u64::from(self.battery) * 1_000_000 * above / range
            }
            (_, None) => 0,
        };
        npu + battery + u64::from(self.cpu) * share(bid.cpu) + u64::from(self.ram) * share(bid.ram)
    }
}

/// A bid as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Who bid.
    pub device: &'a DeviceId,
    /// What.
    pub bid: &'a Bid,
    /// Slots believed free there now; without one it cannot win.
    pub free: u16,
    /// Whether it was tried for this task before; such devices rank behind all others.
    pub tried: bool,
    /// A hash of task and device: the tie-break.
    pub tie: u64,
}

/// Who wins, and the order of all bids, best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The winner.
    pub winner: DeviceId,
    /// All usable bids, best first.
    pub order: Vec<Ranked>,
    /// Why the winner won, in one sentence.
    pub sentence: String,
}

/// One usable bid in the order of a choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ranked {
    /// Whose.
    pub device: DeviceId,
    /// NPU?
    pub npu: bool,
    /// Its cpu load, if known.
    pub cpu: Option<Load>,
    /// Its battery, if known.
    pub battery: Option<Percent>,
    /// Its points under `weighted`, in millionths.
    pub score: Option<u64>,
    /// Tried for this task before.
    pub tried: bool,
}

/// The tie-break of `device` for `task`: the same everywhere, and another for each task.
pub fn tie(task: &TaskId, device: &DeviceId) -> u64 {
    crate::draw::Seed::from(0).draw("tie", &[task.as_str().as_bytes(), device.as_str().as_bytes()])
}

/// Chooses among `candidates`; `None` if none is usable. Does not depend on their order.
pub fn choose(policy: Policy, candidates: &[Candidate<'_>]) -> Option<Choice> {
    let mut usable: Vec<&Candidate<'_>> = candidates.iter().filter(|c| c.free > 0).collect();
    usable.sort_by_cached_key(|candidate| rank(policy, candidate));
    let winner = usable.first()?;
    let order: Vec<Ranked> = usable.iter().map(|c| ranked(policy, c)).collect();
    Some(Choice { winner: winner.device.clone(), sentence: sentence(policy, &usable), order })
}

/// The key of the total order; the least wins.
fn rank(policy: Policy, c: &Candidate<'_>) -> (bool, Reverse<u64>, bool, u32, u16, u64, DeviceId) {
    // A load that is not known ranks behind a full one: a broken sensor must not win every auction.
    let cpu = c.bid.cpu.map_or(Load::FULL.ppm() + 1, Load::ppm);
    let running = c.bid.capacity.map_or(0, |capacity| capacity.running);
    match policy {
        Policy::NpuFirst => (c.tried, Reverse(0), !c.bid.npu, cpu, running, c.tie, c.device.clone()),
        Policy::Weighted => {
            (c.tried, Reverse(Weights::DEFAULT.score(c.bid)), false, 0, 0, c.tie, c.device.clone())
        }
    }
}

fn ranked(policy: Policy, c: &Candidate<'_>) -> Ranked {
    Ranked {
        device: c.device.clone(),
        npu: c.bid.npu,
        cpu: c.bid.cpu,
        battery: c.bid.battery,
        score: (policy == Policy::Weighted).then(|| Weights::DEFAULT.score(c.bid)),
        tried: c.tried,
    }
}

/// Why the first of `usable` won, compared with the second: the first key in which they differ.
fn sentence(policy: Policy, usable: &[&Candidate<'_>]) -> String {
    let Some(winner) = usable.first() else { return String::new() };
    let load =
        |c: &Candidate<'_>| c.bid.cpu.map_or_else(|| "an unknown load".into(), |load| format!("{load}"));
    let Some(second) = usable.get(1) else {
        return format!("{} won: it was the only device that could take it", winner.device);
    };
    let (a, b) = (winner.device, second.device);
    if winner.tried != second.tried {
        return format!("{a} won: the others had been tried for this prompt already");
    }
    if policy == Policy::Weighted {
        let points = |c: &Candidate<'_>| Weights::DEFAULT.score(c.bid) / 1_000_000;
        return match points(winner).cmp(&points(second)) {
            core::cmp::Ordering::Equal => {
                format!("{a} won over {b} at {} points each, by fractions or by lot", points(winner))
            }
            _ => format!("{a} won with {} points; next was {b} with {}", points(winner), points(second)),
        };
    }
    if winner.bid.npu != second.bid.npu {
        return format!("{a} won: it has an NPU, and none of the others has one free");
    }
    let npu = if winner.bid.npu { "among the devices with an NPU " } else { "" };
    if winner.bid.cpu != second.bid.cpu {
        return format!(
            "{a} won: {npu}its cpu load is the lowest ({}; next {b} with {})",
            load(winner),
            load(second)
        );
    }
    let running = |c: &Candidate<'_>| c.bid.capacity.map_or(0, |capacity| capacity.running);
    if running(winner) != running(second) {
        return format!("{a} won: as idle as {b} ({} cpu), but it runs fewer tasks", load(winner));
    }
    format!("{a} won by lot: {b} is as good ({} cpu)", load(winner))
}

#[cfg(test)]
mod tests;
