//! The tasks as others see them: when to look again, how they are, and whether what is derived from them is right.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::attempt::Stage;
use super::queue::Place;
use super::{ATTEMPTS_REMEMBERED, Orchestrator, Phase, Task};
use crate::id::{DeviceId, TaskId};
use crate::outbox::Outcome;
use crate::snapshot::TaskSnapshot;
use crate::time::Time;

impl Orchestrator {
    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let lingering = self
            .lingering
            .values()
            .map(|(_, until)| (*until, "a shell device owes an answer to nobody"))
            .min();
        let (at, number) = match self.timers.first() {
            Some(first) => *first,
            None => return lingering,
        };
        let word = self.tasks.get(&number).and_then(|task| task.timer()).map_or("a task", |(_, word)| word);
        match lingering {
            Some(lingering) if lingering.0 < at => Some(lingering),
            _ => Some((at, word)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn closed_len(&self) -> usize {
        self.closed.len()
    }

    pub(crate) fn closed_bytes(&self) -> usize {
        self.closed_bytes
    }

    /// The outcome of a task that ended not long ago.
    pub(crate) fn outcome(&self, task: &TaskId) -> Option<&Outcome> {
        self.closed.iter().rev().find(|closed| closed.task == *task).map(|closed| &closed.outcome)
    }

    /// Ended tasks that are remembered, oldest first.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&TaskId, &Outcome)> {
        self.closed.iter().map(|closed| (&closed.task, &closed.outcome))
    }

    pub(crate) fn snapshot(&self, ageing: Duration) -> Vec<TaskSnapshot> {
        let queued = self.tasks.values().filter(|task| matches!(task.phase, Phase::Queued));
        let mut places: Vec<Place> = queued.map(|task| task.place(ageing)).collect();
        places.sort_unstable();
        let line = |task: &Task| {
            let attempt = match &task.phase {
                Phase::Awarded { attempt, .. } => task.attempts.get(attempt),
                _ => None,
            };
            TaskSnapshot {
                task: task.id.clone(),
                phase: task.phase_name(),
                submitted: task.submitted,
                priority: task.priority.value(),
                position: places.binary_search(&task.place(ageing)).ok(),
                attached: task.attached,
                device: attempt.map(|attempt| attempt.device.clone()),
                attempts: task.accepted_runs,
                bytes: task.shown.map_or(0, |(_, bytes)| bytes),
            }
        };
        self.tasks.values().map(|task| line(task)).collect()
    }

    /// Every invariant of the tasks and of what is derived from them.
    pub(crate) fn check(&self, ageing: Duration) {
        assert_eq!(self.by_id.len(), self.tasks.len(), "each task has one name");
        let timers = self.tasks.values().filter(|task| task.timer().is_some()).count();
        assert_eq!(self.timers.len(), timers, "each task has at most one timer");
        let mut queued = 0;
        for task in self.tasks.values() {
            if let Some((at, _)) = task.timer() {
                assert!(
                    self.timers.contains(&(at, task.number)),
                    "{}: its timer is the one that its phase wants",
                    task.id
                );
            }
            task.check(self);
            if matches!(task.phase, Phase::Queued) {
                queued += 1;
                assert!(
                    self.queue.contains(&task.eligible, &task.client, task.place(ageing)),
                    "{}: it stands in the queue",
                    task.id
                );
            }
        }
        assert_eq!(self.clients.total(), self.tasks.len(), "each open task is some client's");
        let waiting = self.tasks.values().filter(|task| !task.had_turn).count();
        assert_eq!(self.clients.waiting(), waiting, "and waits for its turn until it has had it");
        assert_eq!(self.queue.len(), queued, "nothing else stands in the queue");
        let awarded = self.tasks.values().filter(|task| matches!(task.phase, Phase::Awarded { .. })).count();
        assert_eq!(self.awarded.len(), awarded, "and nothing else is awarded");
    }

    /// Awards of ours that `device` holds, as its count should be.
    pub(crate) fn holds(&self) -> BTreeMap<&DeviceId, u16> {
        let mut holds: BTreeMap<&DeviceId, u16> = BTreeMap::new();
        for attempt in
            self.tasks.values().flat_map(|task| task.attempts.values()).filter(|attempt| attempt.holds)
        {
            *holds.entry(&attempt.device).or_default() += 1;
        }
        for (device, _) in self.lingering.values() {
            *holds.entry(device).or_default() += 1;
        }
        holds
    }
}

impl Task {
    pub(super) fn check(&self, all: &Orchestrator) {
        let idle = self.attempts.values().filter(|attempt| !attempt.holds).count();
        assert!(idle <= ATTEMPTS_REMEMBERED, "{}: remembered awards are bounded", self.id);
        if let Phase::Collecting(auction) = &self.phase {
            auction.check();
        }
        let slow = self.attempts.values().filter(|attempt| matches!(attempt.stage, Stage::Beside(_))).count();
        assert!(slow <= 1, "{}: one attempt is hedged at a time", self.id);
        assert!(
            slow == 0 || !matches!(self.phase, Phase::Queued | Phase::Collecting(_) | Phase::Resting { .. }),
            "{}: while one is, the task is awarded",
            self.id
        );
        for (number, attempt) in &self.attempts {
            assert_eq!(
                all.awards.get(&attempt.award),
                Some(&(self.number, *number)),
                "{}: awards are found by id",
                self.id
            );
            let current = matches!(&self.phase, Phase::Awarded { attempt, .. } if attempt == number);
            assert_eq!(
                current,
                !matches!(attempt.stage, Stage::Beside(_) | Stage::Over),
                "{}: one attempt is open at a time, but for a slow one beside it",
                self.id
            );
        }
    }
}
