//! Tasks of an earlier start: what was accepted is taken up again, what was awarded is asked for before it is
//! auctioned again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::net::SocketAddr;
use core::time::Duration;

use super::attempt::{Attempt, Probe, Running, Stage};
use super::{Closed, Orchestrator, Origin, Phase, Task};
use crate::auction::{Answer, Auction, Waiting};
use crate::context::Context;
use crate::id::{AwardId, DeviceId, TaskId};
use crate::input::{SendFailure, Submission, Written};
use crate::outbox::{Outcome, Record};
use crate::wire::Dialect;

/// An award of an earlier start.
struct Awarded {
    award: AwardId,
    attempt: u32,
    device: DeviceId,
    address: SocketAddr,
    dialect: Dialect,
}

impl Orchestrator {
    /// Takes up what the store has, oldest first, each with its age. What is the worker's is not looked at.
    pub(crate) fn restore(&mut self, ctx: &mut Context<'_>, records: &[(Record, Duration)]) {
        let mut tasks: BTreeMap<TaskId, u64> = BTreeMap::new();
        for (record, age) in records {
            match record {
                Record::Task { task, .. } => {
                    if let Some(number) = self.restore_task(ctx, record, *age) {
                        tasks.insert(task.clone(), number);
                    }
                }
                Record::Award { task, award, attempt, device, address, dialect } => {
                    let Some(number) = tasks.get(task).copied() else { continue };
                    let (award, device) = (award.clone(), device.clone());
                    let awarded =
                        Awarded { award, attempt: *attempt, device, address: *address, dialect: *dialect };
                    self.with(ctx, number, |this, task, ctx| this.restore_award(ctx, task, awarded));
                }
                Record::Outcome { task, outcome } => {
                    if let Some(number) = tasks.remove(task) {
                        self.with(ctx, number, |this, task, ctx| this.restore_outcome(ctx, task, outcome));
                    }
                }
                Record::Started { .. } | Record::Kept { .. } | Record::Forgotten { .. } => {}
                Record::Paused { .. } | Record::Resumed => {}
            }
        }
    }

    fn restore_task(&mut self, ctx: &mut Context<'_>, record: &Record, age: Duration) -> Option<u64> {
        let Record::Task { task: id, prompts, priority, key, attached, eligible, deadline, policy, .. } =
            record
        else {
            return None;
        };
        let Record::Task { bid_deadline, result_timeout, client, .. } = record else { return None };
        let submission = Submission {
            prompts: prompts.clone(),
            priority: *priority,
            policy: Some(*policy),
            bid_deadline: *bid_deadline,
            result_timeout: Some(*result_timeout),
            deadline: deadline.map(|deadline| deadline.saturating_sub(age)),
            client: client.clone(),
            key: key.clone(),
            attached: *attached,
            eligible: eligible.clone(),
            ..Submission::new(0, "")
        };
        // However many there are: each was accepted once. There may be more than the limit if it was lowered, or if
        // outcomes could not be written; new prompts wait until there are fewer.
        if self.by_id.contains_key(id) {
            return None;
        }
        let task = self.make(ctx, Some(id.clone()), submission, Origin::Person);
        let again = String::from("taken up again after this device was started anew");
        ctx.chronicle.happened(id, ctx.now, again, &ctx.config.limits);
        let number = task.number;
        self.insert(ctx, task);
        Some(number)
    }

    fn restore_award(&mut self, ctx: &mut Context<'_>, task: &mut Task, awarded: Awarded) {
        if let Some((number, _)) = task.current() {
            // A later award means that the earlier one had been given up. Whether it ever ran is not known: it counts, but
            // what is not known ends no task.
            self.supersede_quietly(ctx, task, number);
            let most = ctx.config.limits.attempts.saturating_sub(1);
            task.accepted_runs = (task.accepted_runs + 1).min(most);
        }
        if !core::mem::replace(&mut task.had_turn, true) {
            self.clients.had_turn(&task.client);
        }
        task.last_award = task.last_award.max(awarded.attempt);
        task.tried.insert(awarded.device.clone());
        task.phase = Phase::Queued;
        if ctx.is_me(&awarded.device) {
            // What ran here ended with the start that it ran in.
            return;
        }
        let shell = awarded.dialect.is_shell();
        let timing = &ctx.config.timing;
        let running = Running {
            result_by: ctx.now + task.result_timeout,
            limit_by: ctx.now + timing.run_limit,
            // Due at once: it is asked what became of the award.
            silent_at: (!shell).then_some(ctx.now),
            hedge_at: None,
            probe: if shell { Probe::Next(ctx.now) } else { Probe::Never },
        };
        let mut auction = Auction::new(ctx.now, ctx.now);
        auction.ask(&awarded.device, Waiting::NotAtAll);
        auction.answer(&awarded.device, Answer::Unreachable { why: SendFailure::Unreachable }, false);
        auction.spend(&awarded.device);
        let attempt = Attempt {
            award: awarded.award.clone(),
            device: awarded.device.clone(),
            is_me: false,
            address: awarded.address,
            dialect: awarded.dialect,
            npu: false,
            bid: None,
            stage: Stage::Running(running),
            // Until the worker says so: perhaps its TASK never left.
            accepted: false,
            holds: true,
            ended: false,
            probed_out: false,
            text: Default::default(),
        };
        ctx.peers.award(&awarded.device, false, ctx.now, true);
        self.awards.insert(awarded.award, (task.number, awarded.attempt));
        task.attempts.insert(awarded.attempt, attempt);
        self.forget_old_attempts(task);
        task.phase = Phase::Awarded { attempt: awarded.attempt, auction };
    }

    /// As [`Orchestrator::supersede`], and nobody is told.
    fn supersede_quietly(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32) {
        if let Some(attempt) = task.attempts.get_mut(&number) {
            attempt.stage = Stage::Over;
        }
        self.release(ctx, task, number);
    }

    fn restore_outcome(&mut self, ctx: &mut Context<'_>, task: &mut Task, outcome: &Outcome) {
        let numbers: alloc::vec::Vec<u32> = task.attempts.keys().copied().collect();
        for number in numbers {
            self.supersede_quietly(ctx, task, number);
        }
        // The record was made before it was known what would become of it.
        let outcome = Outcome { written: Written::Durable, ..outcome.clone() };
        // What led to it is not known here any more, and a record of nothing would stand before that of the store.
        ctx.chronicle.forget(&task.id);
        self.remember(ctx, Closed { task: task.id.clone(), key: task.key.clone(), outcome });
        task.phase = Phase::Finished;
    }
}
