//! How a task ends: what waits for the store, cancelling, the one outcome, and what is remembered of it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Closed, Orchestrator, Origin, Phase, Task};
use crate::context::Context;
use crate::id::TaskId;
use crate::input::{Ticket, Written};
use crate::outbox::{Event, Outcome, OutcomeStatus, Record, Refusal, Report, Sequence};
use crate::wire::Body;

impl Orchestrator {
    /// The record with this number is on disk, or could not be written. `false`: none of ours.
    pub(crate) fn persisted(&mut self, ctx: &mut Context<'_>, sequence: Sequence, written: Written) -> bool {
        let Some(number) = self.waiting_for_store.get(&sequence).copied() else { return false };
        let hedged = self.tasks.get(&number).is_some_and(|task| task.is_hedged());
        self.with(ctx, number, |this, task, ctx| match &mut task.phase {
            Phase::Admitting { tickets, .. } => {
                let tickets = core::mem::take(tickets);
                this.admitted(ctx, task, &tickets, written != Written::Failed);
            }
            Phase::Awarded { .. } if written != Written::Failed => this.send_task(ctx, task),
            Phase::Awarded { .. } if hedged => {
                this.lose(ctx, task, "was not given it: the award could not be written here".into());
            }
            Phase::Awarded { .. } => {
                let why = String::from(
                    "the award could not be written to this device's disk; free some space there",
                );
                this.close(ctx, task, task.without_answer(OutcomeStatus::Failed, why));
            }
            Phase::Closing { outcome, .. } => {
                outcome.written = written;
                this.finish(ctx, task);
            }
            _ => {}
        });
        true
    }

    pub(super) fn admitted(&mut self, ctx: &mut Context<'_>, task: &mut Task, tickets: &[Ticket], ok: bool) {
        if !ok {
            for ticket in tickets {
                ctx.report(Report::Refused {
                    ticket: *ticket,
                    why: Refusal::NotDurable,
                    retry_after_ms: None,
                });
            }
            if let Some(key) = &task.key {
                self.by_key.remove(key);
            }
            task.phase = Phase::Finished;
            return;
        }
        task.phase = Phase::Queued;
        let position = self.queue.before(task.place(ctx.config.timing.ageing));
        for ticket in tickets {
            ctx.report(Report::Admitted { ticket: *ticket, task: task.id.clone(), position });
        }
    }

    /// Nobody wants this task any more. `false`: there is none of that name.
    pub(crate) fn cancel(&mut self, ctx: &mut Context<'_>, id: &TaskId) -> bool {
        let Some(number) = self.by_id.get(id).copied() else { return false };
        self.with(ctx, number, |this, task, ctx| this.cancel_task(ctx, task, "it was cancelled"));
        true
    }

    pub(super) fn cancel_task(&mut self, ctx: &mut Context<'_>, task: &mut Task, why: &str) {
        if matches!(task.phase, Phase::Closing { .. } | Phase::Finished) {
            return;
        }
        if let Phase::Admitting { tickets, .. } = &task.phase {
            // Whoever cancels has been told of the task, or will not be told of anything else.
            for ticket in tickets.clone() {
                ctx.report(Report::Admitted { ticket, task: task.id.clone(), position: 0 });
            }
        }
        let shell = match &task.phase {
            Phase::Awarded { attempt, .. } => {
                task.attempts.get(attempt).filter(|a| a.dialect.is_shell() && a.may_run())
            }
            _ => None,
        };
        let why = match shell {
            Some(attempt) => format!(
                "{why}; {} is a shell device, which cannot be told to stop: its answer will be dropped",
                attempt.device
            ),
            None => String::from(why),
        };
        self.close(ctx, task, task.without_answer(OutcomeStatus::Cancelled, why));
    }

    /// Ends a task: nobody works for it any more, and its outcome is on its way to disk and then to the person.
    pub(super) fn close(&mut self, ctx: &mut Context<'_>, task: &mut Task, outcome: Outcome) {
        self.end_auction(ctx, task);
        let held = task.slots_held();
        let numbers: Vec<u32> = task.attempts.keys().copied().collect();
        for number in numbers {
            self.supersede(ctx, task, number);
        }
        if task.dry_run {
            task.phase = Phase::Closing { sequence: Sequence(0), outcome, acknowledge: None };
            self.finish(ctx, task);
            return;
        }
        let sequence = ctx.persist(Record::Outcome { task: task.id.clone(), outcome: outcome.clone() }, true);
        task.phase = Phase::Closing { sequence, outcome, acknowledge: None };
        if task.slots_held() < held {
            self.slot_freed(ctx);
        }
    }

    pub(super) fn finish(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let Phase::Closing { outcome, acknowledge, .. } =
            core::mem::replace(&mut task.phase, Phase::Finished)
        else {
            return;
        };
        ctx.chronicle.ended(&task.id, ctx.now, &outcome);
        ctx.tell(Event::Finished { task: task.id.clone(), status: outcome.status });
        match &task.origin {
            Origin::Person => ctx.report(Report::Outcome { task: task.id.clone(), outcome: outcome.clone() }),
            Origin::Peer(peer) => {
                let text = match outcome.status {
                    OutcomeStatus::Completed => outcome.output.clone(),
                    _ => format!("SLM not available: {}", outcome.why).into(),
                };
                ctx.notify(&peer.clone(), Body::SlmResult(text));
            }
        }
        if let Some(number) = acknowledge {
            task.acknowledge(ctx, number);
        }
        self.remember(ctx, Closed { task: task.id.clone(), key: task.key.clone(), outcome });
    }

    pub(super) fn remember(&mut self, ctx: &Context<'_>, closed: Closed) {
        let limits = &ctx.config.limits;
        self.closed_bytes += closed.outcome.output.len();
        self.closed.push_back(closed);
        while self.closed.len() > limits.closed_tasks || self.closed_bytes > limits.closed_bytes {
            let Some(oldest) = self.closed.pop_front() else { break };
            self.closed_bytes -= oldest.outcome.output.len();
            if let Some(key) = oldest.key {
                self.by_key.remove(&key);
            }
        }
    }
}

impl Task {
    fn slots_held(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.holds).count()
    }

    /// An outcome that is no answer.
    pub(super) fn without_answer(&self, status: OutcomeStatus, why: String) -> Outcome {
        let attempts = self.accepted_runs;
        Outcome {
            status,
            device: None,
            output: "".into(),
            attempts,
            why,
            written: Written::NotKept,
            speed: None,
        }
    }
}
