//! The end of a world: what must be true when nothing more happens, and what the table counts.

use std::collections::BTreeMap;
use std::time::Duration;

use bidmesh_core::config::Limits;
use bidmesh_core::id::DeviceId;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_core::snapshot::Usage;

use super::fault::{Fault, KINDS};
use super::{Power, World};
use crate::invariants::{Marks, View, Violation};

/// What one world adds to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its seed.
    pub seed: u64,
    /// What happened, in all.
    pub events: u64,
    /// How much time passed in it.
    pub simulated: Duration,
    /// Devices of both kinds.
    pub devices: u64,
    /// Tasks by how they ended.
    pub outcomes: BTreeMap<OutcomeStatus, u64>,
    /// Tasks lost with their device.
    pub lost: u64,
    /// Faults by kind and phase.
    pub faults: [[u64; 5]; KINDS],
    /// What was seen.
    pub marks: Marks,
    /// Share of its bound that the slowest task took, in parts per million.
    pub slowest: u64,
    /// Messages of each task, without PROGRESS.
    pub messages: Vec<u32>,
    /// Largest sizes against limits, by name.
    pub usage: BTreeMap<&'static str, (usize, usize)>,
    /// Auctions.
    pub auctions: u64,
    /// Bids that counted.
    pub bids: u64,
    /// Who answered each prompt of a person, or would have.
    pub winners: BTreeMap<String, DeviceId>,
    /// The rule that did not hold.
    pub violation: Option<Violation>,
}

/// As much as there is to remember, by the oracle's books: what a device that did nothing else would be left with at most.
fn remembered(view: &View, usage: &Usage) -> usize {
    let ended = || view.tasks.values().filter(|task| task.finished > 0);
    match usage.what {
        "peers" => view.known.len(),
        "closed_tasks" => ended().count(),
        // What could not be written has a record as well.
        "decisions" => view.tasks.len() + view.tickets.len(),
        "tombstones" => view.works.len(),
        // What a peer's prompt came to is not shown to a person.
        "closed_bytes" if ended().all(|task| task.outcome.is_some()) => {
            ended().filter_map(|task| task.outcome.as_ref()).map(|outcome| outcome.output.len()).sum()
        }
        _ => usage.limit,
    }
}

/// The limit that is set for what a device counts under that name.
fn limit(limits: &Limits, what: &str) -> Option<usize> {
    Some(match what {
        "peers" => limits.peers,
        "removed_peers" => limits.removed_peers,
        "tasks" => limits.tasks,
        "closed_tasks" => limits.closed_tasks,
        "closed_bytes" => limits.closed_bytes,
        "outgoing" => limits.outgoing,
        "kept_results" => limits.kept_results,
        "tombstones" => limits.tombstones,
        "decisions" => limits.decisions,
        _ => return None,
    })
}

impl World {
    /// S10, S12, and what the device says of itself.
    pub(super) fn inspect(&mut self, node: usize) {
        let it = &self.nodes[node];
        it.subject.device().check();
        let limits = self.oracle.view(node).config.limits.clone();
        for mut usage in it.subject.device().usage() {
            // Not by its own word.
            usage.limit = limit(&limits, usage.what).unwrap_or(usage.limit);
            let peak = self.peaks.entry(usage.what).or_default();
            if usage.size > peak.0 {
                *peak = (usage.size, usage.limit);
            }
            // A question to a device that was not greeted puts a HELLO before itself, on top of the limit.
            let greetings = if usage.what == "outgoing" { self.nodes.len() + self.shells.len() } else { 0 };
            // What an earlier start accepted is taken up again, also where outcomes could not be written.
            let taken_up = usage.what == "tasks" && it.boot > 0 && it.store.is_some();
            if usage.size > usage.limit + greetings && !taken_up {
                self.oracle.violate("S10", || {
                    format!("{}: {} are {} of {}", it.id, usage.what, usage.size, usage.limit)
                });
            }
        }
        // What the store kept waits for what a device knows of itself.
        if let Some((due, why)) = it.subject.deadline()
            && due <= it.latest
            && !it.subject.device().has_past()
        {
            self.oracle
                .violate("S12", || format!("{}: {why}, due at {due}, is not done at {}", it.id, it.latest));
        }
    }

    /// L1, L2, L5, S10, S15: the mesh is quiet, and everything has its end.
    pub(super) fn judge(&mut self) {
        for node in 0..self.nodes.len() {
            let alive = self.nodes[node].power == Power::On;
            self.oracle.close(node, alive);
            if !alive {
                continue;
            }
            self.inspect(node);
            let device = self.nodes[node].subject.device();
            let (id, usage) = (self.nodes[node].id.clone(), device.usage());
            let empty = ["tasks", "outgoing", "kept_results"];
            if let Some(left) = usage.iter().find(|usage| empty.contains(&usage.what) && usage.size > 0) {
                self.oracle
                    .violate("S10", || format!("{id} is quiet and still has {} {}", left.size, left.what));
            }
            let view = self.oracle.view(node);
            if let Some(more) = usage.iter().find(|usage| usage.size > remembered(view, usage)) {
                let most = remembered(view, more);
                let what = format!("{id} remembers {} {}, and there were {most}", more.size, more.what);
                self.oracle.violate("S10", || what);
            }
            let device = self.nodes[node].subject.device();
            if let Some((at, why)) = device.deadline() {
                self.oracle.violate("L5", || format!("{id} is quiet and still waits for {at}: {why}"));
            }
        }
        self.judge_progress();
        self.judge_economy();
    }

    /// L2: what was asked after the storm is taken on, unless the device's own limits explain why not, and answered.
    fn judge_progress(&mut self) {
        // What a device may take on is too little to promise an answer.
        let answers = !self.oddly_set() && !self.faults.has(Fault::BookFlooded);
        let workers = (0..self.nodes.len()).filter(|node| self.nodes[*node].power == Power::On).count();
        for (node, ticket) in self.again.clone() {
            let view = self.oracle.view(node);
            let id = view.id.clone();
            let Some(prompt) = view.tickets.get(&ticket).map(|s| s.prompts.base.clone()) else {
                self.oracle
                    .violate("L2", || format!("{id} knows nothing of what it was asked after the storm"));
                continue;
            };
            if let Some(why) = view.refused.get(&ticket).copied() {
                self.oracle.violate("L2", || format!("{id} refuses {prompt:?}: {}", why.words()));
            }
            let mine =
                |task: &&crate::invariants::Task| task.prompts.as_ref().is_some_and(|p| p.base == prompt);
            let Some(task) = self.oracle.view(node).tasks.values().find(mine) else { continue };
            let status = task.outcome.as_ref().map(|outcome| outcome.status);
            if answers && status != Some(OutcomeStatus::Completed) {
                let why = task.outcome.as_ref().map_or("no outcome", |outcome| &outcome.why);
                let what = format!("{prompt:?} ended {status:?} with {workers} workers: {why}");
                self.oracle.violate("L2", || what);
            }
        }
    }

    /// L6: auctions × 2 × peers + 6 × awards, where nothing was refused, lost or copied. Before a peer is heard for the
    /// first time it is asked as a shell device is, and then once more.
    fn judge_economy(&mut self) {
        if self.faults.armed().next().is_some() || self.oddly_set() || !self.shells.is_empty() {
            return;
        }
        let peers = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        for node in 0..self.nodes.len() {
            for (id, task) in &self.oracle.view(node).tasks {
                let awards = u32::try_from(task.awards.len()).unwrap_or(u32::MAX);
                let allowed = (task.auctions * 2 + 1) * peers + 6 * awards;
                let sent =
                    self.oracle.messages().find(|(name, _)| *name == id.as_str()).map_or(0, |(_, n)| n);
                if sent > allowed && !self.plan.small_core {
                    let what = format!("{id} took {sent} messages, at most {allowed} are reasonable");
                    return self.oracle.violate("L6", || what);
                }
            }
        }
    }

    fn winners(&self) -> BTreeMap<String, DeviceId> {
        let tasks = (0..self.nodes.len()).flat_map(|node| self.oracle.view(node).tasks.values());
        let won = |task: &crate::invariants::Task| {
            let device = task.outcome.as_ref()?.device.clone()?;
            Some((task.prompts.as_ref()?.base.to_string(), device))
        };
        tasks.filter_map(won).collect()
    }

    pub(super) fn summary(&mut self) -> Summary {
        let mut outcomes = BTreeMap::new();
        let mut usage: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
        let mut lost = 0;
        for (node, it) in self.nodes.iter().enumerate() {
            for status in self.oracle.outcomes(node) {
                *outcomes.entry(status).or_default() += 1;
            }
            lost += self.oracle.view(node).lost;
            for line in it.subject.device().usage() {
                let peak = usage.entry(line.what).or_default();
                if line.size * peak.1.max(1) >= peak.0 * line.limit.max(1) {
                    *peak = (line.size, line.limit);
                }
            }
        }
        for (what, peak) in &self.peaks {
            let known = usage.entry(what).or_default();
            if peak.0 > known.0 {
                *known = *peak;
            }
        }
        Summary {
            seed: self.plan.seed,
            events: self.events,
            simulated: self.now,
            devices: (self.nodes.len() + self.shells.len()) as u64,
            outcomes,
            lost,
            faults: self.faults.counts,
            marks: self.oracle.marks.clone(),
            slowest: self.oracle.slowest,
            messages: self.oracle.messages().map(|(_, count)| count).collect(),
            usage,
            auctions: self.oracle.auctions,
            bids: self.oracle.bids,
            winners: self.winners(),
            violation: self.oracle.violation.clone(),
        }
    }
}
