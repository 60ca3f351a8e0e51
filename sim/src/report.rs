//! Many worlds after each other, and the table of what they did: volume, faults by kind and phase, what was seen,
//! how close the slowest end came to its bound, messages a task, and the largest size of everything that has a limit.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bidmesh_core::outbox::OutcomeStatus;

use crate::invariants::{Marks, Violation};
use crate::world::Summary;
use crate::world::fault::{Fault, KINDS, Phase};

/// What must be seen in a campaign of some size, or it has not tested it.
pub const EXPECTED: &[&str] = &[
    "a RESULT is offered again",
    "a RESULT of an earlier attempt wins",
    "a RESULT of an earlier start is offered again",
    "a bid comes when its task is forgotten",
    "a device is worker and orchestrator at once",
    "a device notices that it slept",
    "a herd at the limit of letters",
    "a herd bids",
    "a liar names an award that nobody gave",
    "a liar names another device's award",
    "a message comes from another address than its sender's",
    "a message is mended",
    "a message is not sent: too many are owed",
    "a peer is gone",
    "a peer is suspect",
    "a peer is there again",
    "a peer leaves in order",
    "a peer that came and went too often is not waited for",
    "a peer's restart is noticed",
    "a prompt's time ends while its device sleeps",
    "a run is handed back",
    "a run that a crash cut off is reported",
    "a shell device asks",
    "a shell's echo is another than the settings say",
    "a device sleeps for longer than results are kept",
    "a device sleeps on after the storm",
    "a slow attempt is hedged",
    "a submission is refused: client full",
    "a submission is refused: not durable",
    "a submission is refused: queue full",
    "a submission is refused: too long",
    "a task is answered after a lost attempt",
    "a task is awarded again",
    "a task of an earlier start is answered",
    "a task rests, since everybody is busy",
    "a text for an echo that interprets nothing",
    "a text for an echo that needs escapes",
    "a tie is broken by lot",
    "an answer breaks off and starts again",
    "an attempt is lost: a shell device listens again",
    "an attempt is lost: handed back",
    "an attempt is lost: it ran too long",
    "an attempt is lost: its prompt did not arrive",
    "an attempt is lost: its worker knows nothing of it",
    "an attempt is lost: no result in time",
    "an attempt is lost: no room among the letters",
    "an attempt is lost: not accepted",
    "an attempt is lost: rejected",
    "an attempt is lost: silence",
    "an attempt is lost: stopped",
    "an attempt is lost: the executor failed",
    "clients of one device take turns",
    "declined: another type of task",
    "declined: battery",
    "declined: busy",
    "declined: cancelled before",
    "declined: heat",
    "declined: leaving",
    "declined: no executor",
    "declined: outside its hours",
    "declined: paused",
    "declined: stale bid",
    "declined: too long",
    "declined: unknown award",
    "every device has settings of its own",
    "ignored: award over",
    "ignored: book full",
    "ignored: duplicate",
    "ignored: foreign address",
    "ignored: late",
    "ignored: malformed",
    "ignored: myself",
    "ignored: not asked",
    "ignored: old boot",
    "ignored: removed",
    "ignored: repeated",
    "ignored: stranger",
    "ignored: unknown award",
    "ignored: unknown task",
    "ignored: unknown type",
    "outcome: cancelled",
    "outcome: completed",
    "outcome: decided",
    "outcome: expired",
    "outcome: failed",
    "outcome: nobody",
    "settings are drawn anew",
    "success on the last attempt",
    "the attempts of a task are used up, and a healthy device is left",
    "the second of two attempts is faster",
    "two devices with one id are noticed",
];

/// What a campaign did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Worlds.
    pub worlds: u64,
    /// Events in all of them.
    pub events: u64,
    simulated: Duration,
    device_seconds: u64,
    outcomes: BTreeMap<OutcomeStatus, u64>,
    lost: u64,
    faults: BTreeMap<Fault, [u64; 5]>,
    marks: Marks,
    slowest: u64,
    /// How many tasks took so many messages.
    messages: BTreeMap<u32, u64>,
    usage: BTreeMap<&'static str, (usize, usize)>,
    /// The smallest seed that failed, with the rule.
    pub failure: Option<(u64, Violation)>,
}

impl Report {
    /// Adds a world. The order in which worlds are added changes nothing.
    pub fn add(&mut self, world: &Summary) {
        self.worlds += 1;
        self.events += world.events;
        self.simulated += world.simulated;
        self.device_seconds += world.simulated.as_secs() * world.devices;
        self.lost += world.lost;
        self.slowest = self.slowest.max(world.slowest);
        for (status, count) in &world.outcomes {
            *self.outcomes.entry(*status).or_default() += count;
        }
        for (fault, counts) in Fault::ALL.iter().zip(&world.faults) {
            let sums = self.faults.entry(*fault).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        for (mark, count) in &world.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        for count in &world.messages {
            *self.messages.entry(*count).or_default() += 1;
        }
        for (what, (size, limit)) in &world.usage {
            let peak = self.usage.entry(what).or_insert((0, 1));
            let share = |(size, limit): (usize, usize)| size.saturating_mul(1 << 20) / limit.max(1);
            // The fullest by share; of equally full ones the largest, then the smallest limit.
            let key = |of: (usize, usize)| (share(of), of.0, usize::MAX - of.1);
            if key((*size, *limit)) > key(*peak) {
                *peak = (*size, *limit);
            }
        }
        if let Some(violation) = &world.violation {
            self.fail(world.seed, violation.clone());
        }
    }

    /// A world failed.
    pub fn fail(&mut self, seed: u64, violation: Violation) {
        if self.failure.as_ref().is_none_or(|(known, _)| seed < *known) {
            self.failure = Some((seed, violation));
        }
    }

    /// Adds another part of the same campaign.
    pub fn join(&mut self, other: &Self) {
        self.worlds += other.worlds;
        self.events += other.events;
        self.simulated += other.simulated;
        self.device_seconds += other.device_seconds;
        self.lost += other.lost;
        self.slowest = self.slowest.max(other.slowest);
        for (status, count) in &other.outcomes {
            *self.outcomes.entry(*status).or_default() += count;
        }
        for (fault, counts) in &other.faults {
            let sums = self.faults.entry(*fault).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        for (mark, count) in &other.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        for (messages, tasks) in &other.messages {
            *self.messages.entry(*messages).or_default() += tasks;
        }
        for (what, of) in &other.usage {
            let peak = self.usage.entry(what).or_insert((0, 1));
            let key =
                |of: (usize, usize)| (of.0.saturating_mul(1 << 20) / of.1.max(1), of.0, usize::MAX - of.1);
            if key(*of) > key(*peak) {
                *peak = *of;
            }
        }
        if let Some((seed, violation)) = &other.failure {
            self.fail(*seed, violation.clone());
        }
    }

    /// Kinds of fault that never happened, with the phase where that matters.
    pub fn missing_faults(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for fault in Fault::ALL {
            let counts = self.faults.get(fault).copied().unwrap_or_default();
            if fault.phased() {
                let never = Phase::ALL.iter().zip(counts).filter(|(_, count)| *count == 0);
                missing.extend(never.map(|(phase, _)| format!("{} in {}", fault.number(), phase.letter())));
            } else if counts.iter().sum::<u64>() == 0 {
                missing.push(fault.number().into());
            }
        }
        missing
    }

    /// What should have been seen and was not.
    pub fn missing_marks(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|mark| !self.marks.contains_key(mark)).collect()
    }

    fn messages_at(&self, percent: u64) -> u32 {
        let tasks: u64 = self.messages.values().sum();
        let mut seen = 0;
        for (messages, count) in &self.messages {
            seen += count;
            if seen * 100 >= tasks * percent {
                return *messages;
            }
        }
        0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |seconds: u64| seconds / 3600;
        writeln!(
            f,
            "{} worlds, {} events, {} simulated hours, {} device-hours",
            self.worlds,
            self.events,
            hours(self.simulated.as_secs()),
            hours(self.device_seconds)
        )?;
        let ended: Vec<String> =
            self.outcomes.iter().map(|(status, count)| format!("{count} {}", status.as_str())).collect();
        writeln!(f, "tasks: {}; {} lost with their device", ended.join(", "), self.lost)?;
        writeln!(
            f,
            "slowest end: {}.{} % of its bound; messages a task: {} at half, {} at 99 %",
            self.slowest / 10_000,
            self.slowest / 1_000 % 10,
            self.messages_at(50),
            self.messages_at(99)
        )?;
        writeln!(
            f,
            "\nfault                                                       idle  collect   award      run     end"
        )?;
        for (fault, counts) in &self.faults {
            write!(f, "{:<5} {:<50}", fault.number(), fault.words())?;
            for count in counts {
                write!(f, " {count:>8}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nseen")?;
        for (mark, count) in &self.marks {
            writeln!(f, "{count:>9}  {mark}")?;
        }
        writeln!(f, "\nfullest                 size     limit")?;
        for (what, (size, limit)) in &self.usage {
            writeln!(f, "{what:<18} {size:>9} {limit:>9}")?;
        }
        let (faults, marks) = (self.missing_faults(), self.missing_marks());
        if !faults.is_empty() {
            writeln!(f, "\nnever happened: {}", faults.join(", "))?;
        }
        if !marks.is_empty() {
            writeln!(f, "\nnever seen: {}", marks.join("; "))?;
        }
        match &self.failure {
            Some((seed, violation)) => write!(f, "\nFAILED at seed {seed}: {violation}"),
            None => write!(f, "\nno rule was broken"),
        }
    }
}

/// The number of kinds is that of the table.
const _: () = assert!(KINDS == Fault::ALL.len());
