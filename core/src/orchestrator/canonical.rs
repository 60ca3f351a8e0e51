//! The tasks without their history ([`crate::canonical`]): what a model checker compares.

use core::time::Duration;

use super::{Orchestrator, Phase, Task};
use crate::canonical::{Canonical, Renewal};
use crate::config::Timing;
use crate::input::Priority;
use crate::outbox::{Outcome, Sequence};

impl Orchestrator {
    /// The records that tasks wait for.
    pub(crate) fn open_sequences(&self) -> impl Iterator<Item = Sequence> {
        self.waiting_for_store.keys().copied()
    }

    pub(crate) fn canonical(&mut self, by: &Renewal, timing: &Timing) {
        // The indexes follow from the tasks.
        self.timers.clear();
        self.queue = Default::default();
        self.waiting_for_store.clear();
        self.clients.canonical();
        let mut tasks = core::mem::take(&mut self.tasks);
        // Waiting makes up for no more than the whole range of priorities: a longer time between two tasks is as good.
        let range = timing.ageing.saturating_mul(u32::from(Priority::HIGHEST.value()));
        let mut later = (by.now(), Canonical::PRESENT);
        for task in tasks.values_mut().rev() {
            let gap = later.0.since(task.submitted).min(range.saturating_add(Duration::from_nanos(1)));
            later = (task.submitted, later.1.before(gap));
            task.submitted = later.1;
            task.canonical(by, timing);
            self.index(task, timing.ageing);
        }
        self.tasks = tasks;
        for closed in &mut self.closed {
            forget_words(&mut closed.outcome);
        }
        for (_, until) in self.lingering.values_mut() {
            *until = by.due(*until);
        }
    }
}

impl Task {
    fn canonical(&mut self, by: &Renewal, timing: &Timing) {
        self.expires = self.expires.map(|at| by.due(at));
        self.last_error = self.last_error.as_ref().map(|_| "".into());
        for attempt in self.attempts.values_mut() {
            attempt.canonical(by);
        }
        match &mut self.phase {
            Phase::Admitting { sequence, .. } => {
                *sequence = by.numbers.sequence(*sequence).unwrap_or(*sequence)
            }
            Phase::Resting { until } => *until = by.due(*until),
            Phase::Collecting(auction) | Phase::Awarded { auction, .. } => {
                auction.canonical(by, timing.bid_validity);
            }
            Phase::Closing { sequence, outcome, .. } => {
                *sequence = by.numbers.sequence(*sequence).unwrap_or(*sequence);
                forget_words(outcome);
            }
            Phase::Queued | Phase::Finished => {}
        }
    }
}

/// Sentences and measurements are for people.
fn forget_words(outcome: &mut Outcome) {
    outcome.why.clear();
    outcome.speed = None;
}
