//! What a worker says about an award: ACCEPT, PROGRESS, REJECT, RESULT. Believed only for an award that was given to
//! it; the first good RESULT of any attempt wins while the task is open.

use alloc::format;
use alloc::string::String;

use super::attempt::Stage;
use super::{Orchestrator, Phase, Task};
use crate::auction::Answer;
use crate::context::Context;
use crate::id::{AwardId, DeviceId};
use crate::mail::Draft;
use crate::outbox::{Ignored, Outcome, OutcomeStatus};
use crate::wire::{Accept, Body, Dialect, Progress, Reject, Status, TaskResult};

impl Orchestrator {
    /// The attempt that an award id names, if it was given to `from`.
    fn find(&self, award: &AwardId, from: &DeviceId) -> Option<(u64, u32)> {
        let (task, number) = self.awards.get(award).copied()?;
        let attempt = self.tasks.get(&task)?.attempts.get(&number)?;
        (attempt.device == *from).then_some((task, number))
    }

    /// An award that is not known, or over: its worker need not go on.
    fn unwanted(&self, ctx: &mut Context<'_>, from: &DeviceId, award: &AwardId, why: Ignored) {
        ctx.ignore(from, why);
        ctx.notify_bidmesh(from, Body::Cancel(award.clone()));
    }

    /// ACCEPT.
    pub(crate) fn accept(&mut self, ctx: &mut Context<'_>, from: &DeviceId, accept: &Accept) {
        self.sign_of_life(ctx, from, &accept.award, false, |_, _, _| {});
    }

    /// PROGRESS.
    pub(crate) fn progress(&mut self, ctx: &mut Context<'_>, from: &DeviceId, progress: &Progress) {
        self.sign_of_life(ctx, from, &progress.award, true, |this, task, ctx| {
            let limits = &ctx.config.limits;
            let Some((number, attempt)) = task.current_mut() else { return };
            let before = attempt.text.as_str().len();
            attempt.text.add(progress.offset, &progress.text, limits);
            if attempt.text.as_str().len() > before {
                if let Stage::Running(running) = &mut attempt.stage {
                    running.hedge_at = None;
                }
                this.show(ctx, task, number);
            }
        });
    }

    fn sign_of_life(
        &mut self,
        ctx: &mut Context<'_>,
        from: &DeviceId,
        award: &AwardId,
        progress: bool,
        then: impl FnOnce(&mut Self, &mut Task, &mut Context<'_>),
    ) {
        let Some((task, number)) = self.find(award, from) else {
            return self.unwanted(ctx, from, award, Ignored::UnknownAward);
        };
        self.with(ctx, task, |this, task, ctx| {
            let timing = &ctx.config.timing;
            let (now, progress) = (ctx.now, progress.then_some(task.result_timeout));
            if task.is_beside(number) {
                // Slow, but alive: whoever is first wins, and its text is shown with its RESULT.
                return;
            }
            if task.is_won_by(number) {
                // Told to stop it would forget its answer, which is not on disk here yet; it is acknowledged when it is.
                return ctx.ignore(from, Ignored::AwardOver);
            }
            let Some((_, attempt)) = task.current_mut().filter(|(current, _)| *current == number) else {
                return this.unwanted(ctx, from, award, Ignored::AwardOver);
            };
            match &mut attempt.stage {
                Stage::Running(running) => running.heard(now, timing, progress),
                Stage::Asking { running, letter, .. } => {
                    let (mut running, letter) = (*running, *letter);
                    running.heard(now, timing, progress);
                    attempt.stage = Stage::Running(running);
                    if let Some(letter) = letter {
                        ctx.abandon(letter);
                    }
                }
                Stage::Persisting { .. } | Stage::Beside(_) | Stage::Over => {
                    return ctx.ignore(from, Ignored::AwardOver);
                }
                Stage::Sending { .. } | Stage::Delivered { .. } => this.accepted(ctx, task),
            }
            // Of an award of an earlier start this is the first word.
            task.count_run(number);
            then(this, task, ctx);
        });
    }

    /// REJECT: it does not take the award, or does not know it.
    pub(crate) fn reject(&mut self, ctx: &mut Context<'_>, from: &DeviceId, reject: Reject) {
        let pause =
            reject.reason.is_load().then(|| reject.retry_after.unwrap_or(ctx.config.timing.retry_after));
        ctx.peers.believe(from, ctx.now, reject.capacity, pause, &ctx.config.timing);
        let Some((task, number)) = self.find(&reject.award, from) else {
            return ctx.ignore(from, Ignored::UnknownAward);
        };
        self.with(ctx, task, |this, task, ctx| {
            let current = matches!(task.current(), Some((current, _)) if current == number);
            let Some(attempt) = task.attempts.get_mut(&number) else { return };
            attempt.ended = true;
            if !current {
                task.give_up_slow(number);
                this.release(ctx, task, number);
                return ctx.ignore(from, Ignored::AwardOver);
            }
            if let Phase::Awarded { auction, .. } = &mut task.phase
                && !task.attempts.get(&number).is_some_and(|attempt| attempt.accepted)
            {
                auction.correct(from, Answer::Refused { reason: reject.reason.clone() });
            }
            this.lose(ctx, task, format!("rejected the award: {}", reject.reason.words()));
        });
    }

    /// RESULT. `bidmesh`: the sender waits for an ACK.
    pub(crate) fn result(
        &mut self,
        ctx: &mut Context<'_>,
        from: &DeviceId,
        result: &TaskResult,
        bidmesh: bool,
    ) {
        let acknowledge = bidmesh && !ctx.is_me(from);
        let Some(award) = &result.award else { return ctx.ignore(from, Ignored::UnknownAward) };
        let Some((task, number)) = self.find(award, from) else {
            let held = self.lingering.get(award).is_some_and(|(device, _)| device == from);
            if held {
                self.let_go(ctx, award);
            }
            let known = self.awards.contains_key(award);
            ctx.ignore(from, if known { Ignored::UnknownAward } else { Ignored::UnknownTask });
            if acknowledge {
                ctx.notify_bidmesh(from, Body::Ack(award.clone()));
            }
            if ctx.is_me(from) {
                // A run of a task that was cancelled has stopped: only now is its slot free.
                self.slot_freed(ctx);
            }
            return;
        };
        self.with(ctx, task, |this, task, ctx| {
            if let Phase::Closing { .. } = &task.phase {
                // The winner's own is acknowledged when the outcome is on disk.
                let own = task.is_won_by(number);
                this.ended(ctx, task, number);
                ctx.ignore(from, Ignored::AwardOver);
                if acknowledge && !own {
                    task.acknowledge(ctx, number);
                }
                return;
            }
            this.ended(ctx, task, number);
            if result.status == Status::Completed {
                this.completed(ctx, task, number, result, acknowledge);
            } else {
                if acknowledge {
                    task.acknowledge(ctx, number);
                }
                this.failed(ctx, task, number, result.status, &result.output);
            }
        });
        self.slot_freed(ctx);
    }

    fn ended(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32) {
        let now = ctx.now;
        if let Some(attempt) = task.attempts.get_mut(&number) {
            attempt.ended = true;
            if core::mem::take(&mut attempt.probed_out) {
                ctx.peers.edit(&attempt.device, now, |peer| peer.probe_exempt = true);
            }
        }
        self.release(ctx, task, number);
    }

    fn completed(
        &mut self,
        ctx: &mut Context<'_>,
        task: &mut Task,
        number: u32,
        result: &TaskResult,
        acknowledge: bool,
    ) {
        let output = &result.output;
        let Some(attempt) = task.attempts.get(&number) else { return };
        let device = attempt.device.clone();
        if output.len() > ctx.config.limits.output_bytes {
            if acknowledge {
                task.acknowledge(ctx, number);
            }
            let why = format!("the answer is longer than this device keeps: {} bytes", output.len());
            return self.failed(ctx, task, number, Status::Error, &why);
        }
        // RESULT may have overtaken ACCEPT.
        task.count_run(number);
        self.show_whole(ctx, task, number, output);
        let why = format!("{device} answered");
        ctx.chronicle.happened(&task.id, ctx.now, why.clone(), &ctx.config.limits);
        let speed = result.speed;
        ctx.peers.edit(&device, ctx.now, |peer| peer.speed = speed.or(peer.speed));
        let completed = task.without_answer(OutcomeStatus::Completed, why);
        let outcome = Outcome { device: Some(device.clone()), output: output.clone(), speed, ..completed };
        self.close(ctx, task, outcome);
        if let (Phase::Closing { acknowledge: waiting, .. }, true) = (&mut task.phase, acknowledge) {
            *waiting = Some(number);
        }
    }

    fn failed(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32, status: Status, output: &str) {
        // Also of an earlier start: only now is it known that it ran.
        task.count_run(number);
        let Some((current, attempt)) = task.current() else { return };
        let device = attempt.device.clone();
        if current != number {
            let slow = task.attempts.get(&number).map_or(device, |slow| slow.device.clone());
            task.give_up_slow(number);
            return ctx.ignore(&slow, Ignored::AwardOver);
        }
        let why = match status {
            Status::HandedBack if output.trim().is_empty() => String::from("handed the task back"),
            Status::HandedBack => format!("handed the task back: {}", first_line(output)),
            Status::Cancelled => String::from("stopped the task"),
            Status::Error | Status::Completed => format!("failed: {}", first_line(output)),
        };
        self.lose(ctx, task, why);
    }
}

impl Task {
    /// The worker said, or showed, that it runs it: that is a run of this task, once.
    fn count_run(&mut self, number: u32) {
        if let Some(attempt) = self.attempts.get_mut(&number)
            && !core::mem::replace(&mut attempt.accepted, true)
        {
            self.accepted_runs += 1;
        }
    }

    /// Whether this award's answer is being written down, and its worker waits for the ACK.
    fn is_won_by(&self, number: u32) -> bool {
        matches!(self.phase, Phase::Closing { acknowledge: Some(winner), .. } if winner == number)
    }

    /// ACK of the RESULT of an attempt. A worker that a person removed from the address book meanwhile is where it was
    /// when it got the award.
    pub(super) fn acknowledge(&self, ctx: &mut Context<'_>, number: u32) {
        let Some(attempt) = self.attempts.get(&number) else { return };
        let address = ctx.peers.get(&attempt.device).map_or(attempt.address, |peer| peer.address);
        let ack = crate::mail::notice(&attempt.device, Body::Ack(attempt.award.clone()), ctx.now, ctx.config);
        ctx.post(Draft { address: Some((address, Dialect::Bidmesh)), ..ack });
    }
}

/// The first line of an error that a worker sent, short enough for a sentence.
fn first_line(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
        .chars()
        .take(CHARS_MAX)
        .collect()
}
