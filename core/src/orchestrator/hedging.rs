//! A second attempt beside a slow one, where the owner of the device wants that (J. Dean, L. A. Barroso: The tail at
//! scale, 2013). Only spare slots are used: while any task waits for one, nobody starts twice.

use alloc::format;

use super::attempt::{Attempt, Running, Stage};
use super::{Orchestrator, Phase, Task, bidding};
use crate::context::Context;
use crate::id::DeviceId;
use crate::outbox::Event;
use crate::time::Time;

/// The first text is late after so many times what the device needed for its last answer to us.
const LATE: u32 = 3;

/// When the first text of a run that begins now is late; `None`: hedging is off, or the device's pace is not known.
pub(super) fn late_at(ctx: &Context<'_>, device: &DeviceId) -> Option<Time> {
    let least = ctx.config.timing.hedge;
    let speed = ctx.peers.get(device)?.speed?;
    let usual = core::time::Duration::from_millis(speed.first_text_ms?.into());
    (!least.is_zero()).then(|| ctx.now + least.max(usual.saturating_mul(LATE)))
}

impl Orchestrator {
    /// The first text is late: the second-best bidder starts too, if there is one and a slot to spare.
    pub(super) fn hedge(&mut self, ctx: &mut Context<'_>, task: &mut Task, running: Running) {
        let running = Running { hedge_at: None, ..running };
        let Some((number, attempt)) = task.current_mut() else { return };
        attempt.stage = Stage::Running(running);
        let slow = attempt.device.clone();
        let nobody_waits = self.queue.is_empty() && self.auctions.is_empty() && self.resting.is_empty();
        let spare = nobody_waits && task.accepted_runs < ctx.config.limits.attempts;
        let Some(choice) = bidding::choose(ctx, task).filter(|_| spare && !task.is_hedged()) else { return };
        if let Some(attempt) = task.attempts.get_mut(&number) {
            attempt.stage = Stage::Beside(running);
        }
        ctx.tell(Event::Hedged { task: task.id.clone(), slow: slow.clone(), attempt: number });
        let what = format!("{slow} is late with its first text; {} starts as well", choice.winner);
        ctx.chronicle.happened(&task.id, ctx.now, what, &ctx.config.limits);
        self.award(ctx, task, &choice);
    }

    /// The attempt beside the slow one is lost: the slow one is all that is left, and is asked at once how it is.
    /// `false`: there is none.
    pub(super) fn return_to_slow(&mut self, ctx: &mut Context<'_>, task: &mut Task) -> bool {
        let beside = |(number, attempt): (&u32, &mut Attempt)| match attempt.stage {
            Stage::Beside(running) => Some((*number, running, attempt.device.clone())),
            _ => None,
        };
        let Some((number, running, device)) = task.attempts.iter_mut().find_map(beside) else { return false };
        let Phase::Awarded { attempt: current, .. } = &mut task.phase else { return false };
        *current = number;
        if let Some(attempt) = task.attempts.get_mut(&number) {
            // It was not listened to meanwhile.
            let (least, now) = (ctx.now + ctx.config.timing.query, ctx.now);
            attempt.stage = Stage::Running(Running {
                result_by: running.result_by.max(least),
                limit_by: running.limit_by.max(least),
                silent_at: running.silent_at.map(|_| now),
                ..running
            });
        }
        let what = format!("{device}, which was slow, is still at it");
        ctx.chronicle.happened(&task.id, ctx.now, what, &ctx.config.limits);
        true
    }
}

impl Task {
    /// Whether an attempt runs beside the current one.
    pub(super) fn is_beside(&self, number: u32) -> bool {
        self.attempts.get(&number).is_some_and(|attempt| matches!(attempt.stage, Stage::Beside(_)))
    }

    /// Whether any does.
    pub(super) fn is_hedged(&self) -> bool {
        self.attempts.values().any(|attempt| matches!(attempt.stage, Stage::Beside(_)))
    }

    /// The slow attempt has ended without an answer.
    pub(super) fn give_up_slow(&mut self, number: u32) {
        if let Some(attempt) = self.attempts.get_mut(&number)
            && matches!(attempt.stage, Stage::Beside(_))
        {
            attempt.stage = Stage::Over;
        }
    }
}
