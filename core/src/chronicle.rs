//! What only people read: the decision record of each task. Bounded, no part of the protocol state, and of this start
//! only: whoever drives the device may keep the records of tasks that ended.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Limits;
use crate::decision::{Answer, Answered, AuctionRecord, Decision, Happening};
use crate::id::{DeviceId, TaskId};
use crate::outbox::Outcome;
use crate::policy::Choice;
use crate::time::Time;

/// The decision records of the latest tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle {
    decisions: BTreeMap<TaskId, Decision>,
    order: VecDeque<TaskId>,
}

impl Chronicle {
    pub(crate) fn begin(&mut self, decision: Decision, limits: &Limits) {
        self.order.push_back(decision.task.clone());
        self.decisions.insert(decision.task.clone(), decision);
        while self.order.len() > limits.decisions {
            if let Some(oldest) = self.order.pop_front() {
                self.decisions.remove(&oldest);
            }
        }
    }

    pub(crate) fn forget(&mut self, task: &TaskId) {
        if self.decisions.remove(task).is_some() {
            self.order.retain(|kept| kept != task);
        }
    }

    pub(crate) fn get(&self, task: &TaskId) -> Option<&Decision> {
        self.decisions.get(task)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.order.iter().filter_map(|task| self.decisions.get(task))
    }

    pub(crate) fn len(&self) -> usize {
        self.decisions.len()
    }

    pub(crate) fn opened(&mut self, task: &TaskId, now: Time, limits: &Limits) {
        let record =
            AuctionRecord { opened: now, closed: None, answers: Vec::new(), choice: None, nobody: None };
        if let Some(decision) = self.decisions.get_mut(task) {
            if decision.auctions.len() < limits.decision_lines {
                decision.auctions.push(record);
            } else {
                decision.dropped_lines += 1;
            }
        }
    }

    pub(crate) fn answered(
        &mut self,
        task: &TaskId,
        device: &DeviceId,
        now: Time,
        answer: Answer,
        limits: &Limits,
    ) {
        let Some(decision) = self.decisions.get_mut(task) else { return };
        match decision.auctions.last_mut() {
            Some(auction) if auction.answers.len() < limits.decision_lines => {
                auction.answers.push(Answered { device: device.clone(), at: now, answer });
            }
            _ => decision.dropped_lines += 1,
        }
    }

    pub(crate) fn chosen(
        &mut self,
        task: &TaskId,
        now: Time,
        choice: Result<&Choice, String>,
        limits: &Limits,
    ) {
        let Some(auction) = self.decisions.get_mut(task).and_then(|decision| decision.auctions.last_mut())
        else {
            return;
        };
        auction.closed.get_or_insert(now);
        match choice {
            Ok(choice) => {
                let order = choice.order.iter().take(limits.decision_lines).cloned().collect();
                auction.choice =
                    Some(Choice { winner: choice.winner.clone(), sentence: choice.sentence.clone(), order });
            }
            Err(nobody) => auction.nobody = Some(nobody),
        }
    }

    pub(crate) fn happened(&mut self, task: &TaskId, now: Time, what: String, limits: &Limits) {
        let Some(decision) = self.decisions.get_mut(task) else { return };
        if decision.happened.len() < limits.decision_lines {
            decision.happened.push(Happening { at: now, what });
        } else {
            decision.dropped_lines += 1;
        }
    }

    pub(crate) fn ended(&mut self, task: &TaskId, now: Time, outcome: &Outcome) {
        if let Some(decision) = self.decisions.get_mut(task) {
            decision.outcome = Some(outcome.clone());
            decision.ended = Some(now);
        }
    }
}
