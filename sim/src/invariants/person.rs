//! What the person who asked sees, and what leaves a device: outcomes, text, runs and messages.

use std::time::Duration;

use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::outbox::{Outcome, OutcomeStatus, SendId};
use bidmesh_core::wire::{Body, Reason, TaskOrder, TaskResult, Text};
use bidmesh_core::{Action, Report, Time};

use super::Oracle;
use super::books::{self, Peer, Task};
use crate::world::expected_prompt;

impl Oracle {
    pub(super) fn acted(&mut self, node: usize, now: Time, action: &Action) {
        match action {
            Action::Send { id, device, message, .. } => {
                match &message.body {
                    Body::Task(order) => self.tasked(node, order),
                    Body::Reject(reject) if reject.reason == Reason::Unknown => {
                        self.mark(books::declined(&reject.reason));
                    }
                    Body::Result(TaskResult { award: Some(award), .. }) => self.told_end(node, *id, award),
                    _ => {}
                }
                self.views[node].sends.insert(*id, device.clone());
            }
            Action::Abandon { id } => {
                self.views[node].sends.remove(id);
            }
            Action::Run { run, label, prompt, limit, .. } => self.begins(node, *run, label, prompt, *limit),
            Action::Report(report) => self.reported(node, now, report),
            _ => {}
        }
    }

    /// A worker tells how an award ended, perhaps not for the first time.
    fn told_end(&mut self, node: usize, letter: SendId, award: &AwardId) {
        let view = &mut self.views[node];
        let this = (view.starts, letter);
        let first = *view.ends_told.entry(award.clone()).or_insert(this);
        if first.0 != this.0 {
            self.mark("a RESULT of an earlier start is offered again");
        } else if first != this {
            self.mark("a RESULT is offered again");
        }
    }

    /// S2: the winner gets the prompt for how it said that it would run it.
    fn tasked(&mut self, node: usize, order: &TaskOrder) {
        let Some(award) = &order.award else { return };
        let view = &self.views[node];
        let task = award.as_str().rsplitn(3, '.').nth(2).and_then(|id| TaskId::new(id).ok());
        let Some(prompts) = task.and_then(|id| view.tasks.get(&id)).and_then(|task| task.prompts.as_ref())
        else {
            return;
        };
        let expected = expected_prompt(prompts, order.npu == Some(true));
        let right = *expected == order.prompt;
        self.must(right, "S2", || format!("{award} carries another prompt than its winner should get"));
    }

    /// A submission became a task, or joined one by its key.
    pub(super) fn admitted(&mut self, node: usize, ticket: u64, task: &TaskId) {
        let view = &mut self.views[node];
        view.answered.insert(ticket);
        let Some(submission) = view.tickets.get(&ticket) else {
            return self.violate("S15", || format!("{task} is admitted for a ticket that nobody has"));
        };
        match view.tasks.get_mut(task) {
            Some(known) if submission.key.is_some() => known.joined += 1,
            Some(_) => self.violate("S1", || format!("{task} is admitted twice")),
            None => {
                view.turns.admitted(task, submission);
                let book = Task::submitted(submission, &view.config);
                view.tasks.insert(task.clone(), book);
            }
        }
    }

    fn reported(&mut self, node: usize, now: Time, report: &Report) {
        match report {
            // Told before what follows from it.
            Report::Admitted { .. } => {}
            Report::Refused { ticket, why, .. } => {
                let view = &mut self.views[node];
                if !view.explains(*why, *ticket) {
                    view.refused.insert(*ticket, *why);
                }
                view.answered.insert(*ticket);
                self.mark(match why {
                    bidmesh_core::outbox::Refusal::QueueFull => "a submission is refused: queue full",
                    bidmesh_core::outbox::Refusal::ClientFull => "a submission is refused: client full",
                    bidmesh_core::outbox::Refusal::NotDurable => "a submission is refused: not durable",
                    bidmesh_core::outbox::Refusal::PromptTooLong => "a submission is refused: too long",
                    _ => "a submission is refused for another reason",
                });
            }
            Report::Text { task, offset, text, .. } => self.text(node, task, *offset, text),
            Report::BrokenOff { task, shown, .. } => {
                self.mark("an answer breaks off and starts again");
                if let Some(book) = self.views[node].tasks.get_mut(task) {
                    let right = *shown == book.shown.len() as u64;
                    book.shown.clear();
                    self.must(right, "S2", || {
                        format!("{task} breaks off at {shown}, which was not what was shown")
                    });
                }
            }
            Report::Outcome { task, outcome } => self.outcome(node, now, task, outcome),
            Report::Said { .. } => self.mark("a person's words are sent"),
        }
    }

    fn text(&mut self, node: usize, task: &TaskId, offset: u64, text: &Text) {
        let Some(book) = self.views[node].tasks.get_mut(task) else {
            return self.violate("S2", || format!("text of {task}, which nobody asked for"));
        };
        let (ended, next) = (book.outcome.is_some(), book.shown.len() as u64);
        book.shown.push_str(text);
        self.must(!ended, "S1", || format!("text of {task} after its outcome"));
        self.must(offset == next, "S2", || format!("text of {task} at {offset}, expected {next}"));
    }

    /// S1, S2, S8: a person hears how a task ended.
    fn outcome(&mut self, node: usize, now: Time, task: &TaskId, outcome: &Outcome) {
        let id = self.views[node].id.clone();
        let view = &mut self.views[node];
        if view.stores && !view.tasks.contains_key(task) {
            // It was lost after it was written and before anybody was told of it.
            view.tasks.insert(task.clone(), Task { restored: true, ..Task::relayed(&view.config) });
        }
        let Some(book) = view.tasks.get_mut(task) else {
            return self.violate("S1", || format!("an outcome of {task}, which nobody asked for"));
        };
        book.told += 1;
        let (told, allowed) = (book.told, 1 + book.joined);
        let same = book
            .outcome
            .as_ref()
            .is_none_or(|first| first.status == outcome.status && first.output == outcome.output);
        // A start that read it from its store tells it again to whoever asks again.
        let again = book.outcome.replace(outcome.clone()).is_some();
        let book = book.clone();
        self.must(same, "S1", || format!("{task} of {id} has two outcomes"));
        let late = book.cancelled.is_some_and(|at| now.since(at) > Duration::from_secs(1));
        self.must(!late || book.excused || outcome.status == OutcomeStatus::Cancelled || again, "L1", || {
            format!("{task} of {id} was given up and went on")
        });
        self.must(told <= allowed || book.restored, "S1", || {
            format!("the outcome of {task} is told {told} times")
        });
        self.mark(match outcome.status {
            OutcomeStatus::Completed => "outcome: completed",
            OutcomeStatus::Failed => "outcome: failed",
            OutcomeStatus::Nobody => "outcome: nobody",
            OutcomeStatus::Expired => "outcome: expired",
            OutcomeStatus::Cancelled => "outcome: cancelled",
            OutcomeStatus::Decided => "outcome: decided",
        });
        if outcome.status != OutcomeStatus::Completed || again {
            return;
        }
        let Some(device) = &outcome.device else {
            return self.violate("S8", || format!("{task} is completed by nobody"));
        };
        let given = book.awards.iter().any(|award| award.device == *device);
        self.must(given || book.restored, "S8", || {
            format!("{task} is finished by {device}, which had no award")
        });
        let named = self.views[node].results.contains(&(device.clone(), task.to_string()));
        self.must(named || *device == id || book.restored, "S8", || {
            format!("{task} is finished by {device}, no RESULT of which named its award")
        });
        if let Some(prompts) = &book.prompts {
            let real = self.doubled || self.was_produced(prompts, device, &outcome.output);
            self.must(real, "S2", || format!("{device} never produced for {task}: {}", outcome.output));
        }
        let shown = book.shown == *outcome.output;
        self.must(shown, "S2", || format!("what was shown of {task} is not its answer"));
        self.remark(&book, device);
    }

    fn remark(&mut self, book: &Task, device: &DeviceId) {
        if book.awards.len() > 1 {
            self.mark("a task is answered after a lost attempt");
        }
        if book.awards.last().is_some_and(|last| last.device != *device) {
            self.mark("a RESULT of an earlier attempt wins");
        }
        if book.awards.iter().any(|award| award.hedged && !award.lost && award.device != *device) {
            self.mark("the second of two attempts is faster");
        }
        if book.restored {
            self.mark("a task of an earlier start is answered");
        }
    }

    /// S1, L1: a task ended, at the latest at its bound.
    pub(super) fn finished(&mut self, node: usize, now: Time, task: &TaskId, status: OutcomeStatus) {
        let view = &mut self.views[node];
        let Some(book) = view.tasks.get_mut(task) else { return };
        view.turns.left(task);
        book.rest(now);
        book.finished += 1;
        let (finished, active, excused) = (book.finished, book.active, book.excused);
        let bound = book.bound(&view.config);
        let last = status == OutcomeStatus::Completed && book.accepted == view.config.limits.attempts;
        let last = last && view.config.limits.attempts > 1;
        let spent = status == OutcomeStatus::Failed && book.accepted >= view.config.limits.attempts;
        let untried = |device: &DeviceId| book.awards.iter().all(|award| award.device != *device);
        let heard = |peer: &Peer| {
            let lately = peer.heard.is_some_and(|at| now.since(at) < Duration::from_secs(10));
            lately && peer.failed < peer.heard
        };
        let healthy = view.peers.iter().any(|(device, peer)| heard(peer) && untried(device));
        self.must(finished == 1, "S1", || format!("{task} ends {finished} times"));
        if !excused {
            let share = active.as_micros().saturating_mul(1_000_000) / bound.as_micros().max(1);
            self.slowest = self.slowest.max(u64::try_from(share).unwrap_or(u64::MAX));
            self.must(active <= bound, "L1", || format!("{task} took {active:?}, more than {bound:?}"));
        }
        if last {
            self.mark("success on the last attempt");
        }
        if spent && healthy {
            self.mark("the attempts of a task are used up, and a healthy device is left");
        }
    }

    /// The device slept or was held up: its tasks' time has no bound of the mesh's making.
    pub fn excuse(&mut self, node: usize) {
        self.views[node].turns.forget();
        for task in self.views[node].tasks.values_mut().filter(|task| task.finished == 0) {
            task.excused = true;
        }
    }
}
