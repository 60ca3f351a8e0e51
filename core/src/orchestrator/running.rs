//! How an award goes on: TASK on its way, accepted, running, asked, lost or won; and what the person sees of it.
//!
//! One attempt is open at a time, two while a slow one is hedged ([`super::hedging`]). It is lost by a failure to deliver, a
//! REJECT, a silence or an error; then the next best bidder gets the task. The first good RESULT of any attempt wins
//! while the task is open.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::attempt::{Attempt, Probe, Running, Stage};
use super::{ATTEMPTS_REMEMBERED, Orchestrator, Phase, Task};
use crate::auction::Answer;
use crate::context::Context;
use crate::id::{AwardId, DeviceId, TaskId};
use crate::input::SendFailure;
use crate::mail::{Draft, Fate, Purpose};
use crate::outbox::{Event, Record};
use crate::policy::Choice;
use crate::wire::{Body, Query, TaskOrder};

impl Orchestrator {
    /// Awards the task to the winner; TASK leaves when that is on disk.
    pub(super) fn award(&mut self, ctx: &mut Context<'_>, task: &mut Task, choice: &Choice) {
        self.end_auction(ctx, task);
        let (Phase::Collecting(auction) | Phase::Awarded { auction, .. }) =
            core::mem::replace(&mut task.phase, Phase::Queued)
        else {
            return;
        };
        let mut auction = auction;
        let device = choice.winner.clone();
        let bid = auction.asks().find(|(id, _)| **id == device).and_then(|(_, ask)| match &ask.answer {
            Some(Answer::Bid { bid, dialect, .. }) => Some((bid.clone(), *dialect)),
            _ => None,
        });
        let Some((bid, dialect)) = bid else { return };
        let is_me = ctx.is_me(&device);
        let nowhere = core::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let address = ctx.peers.get(&device).map_or(nowhere, |peer| peer.address);
        auction.spend(&device);
        let number = task.last_award + 1;
        let award = AwardId::draw(ctx.me.seed, &task.id, number);
        let record = Record::Award {
            task: task.id.clone(),
            award: award.clone(),
            attempt: number,
            device: device.clone(),
            address,
            dialect,
        };
        let sequence = ctx.persist(record, true);
        let attempt = Attempt {
            award: award.clone(),
            device: device.clone(),
            is_me,
            address,
            dialect,
            npu: bid.npu,
            bid: bid.bid,
            stage: Stage::Persisting { sequence },
            accepted: false,
            holds: true,
            ended: false,
            probed_out: false,
            text: Default::default(),
        };
        ctx.peers.award(&device, is_me, ctx.now, true);
        self.awards.insert(award, (task.number, number));
        task.attempts.insert(number, attempt);
        task.last_award = number;
        self.forget_old_attempts(task);
        ctx.tell(Event::Awarded {
            task: task.id.clone(),
            to: device,
            attempt: number,
            why: choice.sentence.clone(),
        });
        task.phase = Phase::Awarded { attempt: number, auction };
    }

    /// Awards that are over are remembered for a RESULT that comes late, but not without bound.
    pub(super) fn forget_old_attempts(&mut self, task: &mut Task) {
        while task.attempts.len() > ATTEMPTS_REMEMBERED {
            let over = |(number, attempt): (&u32, &Attempt)| {
                (!attempt.holds && attempt.stage == Stage::Over).then_some(*number)
            };
            let Some(oldest) = task.attempts.iter().find_map(over) else { break };
            if let Some(attempt) = task.attempts.remove(&oldest) {
                self.awards.remove(&attempt.award);
            }
        }
    }

    /// The award is on disk: TASK leaves.
    pub(super) fn send_task(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let Some((number, attempt)) = task.current() else { return };
        let (prompt, prompt_type) = task.prompts.pick(attempt.npu);
        let order = TaskOrder {
            award: Some(attempt.award.clone()),
            prompt: prompt.clone(),
            npu: Some(attempt.npu),
            prompt_type: Some(prompt_type.into()),
            task_type: None,
            bid: attempt.bid.clone(),
        };
        let draft = Draft {
            to: attempt.device.clone(),
            address: Some((attempt.address, attempt.dialect)),
            body: Body::Task(order),
            purpose: Purpose::Award { task: task.id.clone(), attempt: number },
            give_up_at: ctx.now + ctx.config.timing.award_send,
        };
        let letter = ctx.post(draft);
        if let Some(attempt) = task.attempts.get_mut(&number) {
            attempt.stage = Stage::Sending { letter };
        }
    }

    /// What became of a TASK.
    pub(crate) fn award_news(&mut self, ctx: &mut Context<'_>, task: &TaskId, number: u32, what: Fate) {
        let Some(task) = self.by_id.get(task).copied() else { return };
        self.with(ctx, task, |this, task, ctx| {
            let Some((current, attempt)) = task.current() else { return };
            if current != number || !matches!(attempt.stage, Stage::Sending { .. }) {
                return;
            }
            let shell = attempt.dialect.is_shell();
            match what {
                Fate::Started | Fate::Refused => {}
                // A shell device says nothing when it begins, and nothing there recognises a copy.
                Fate::Delivered | Fate::Failed(SendFailure::Ambiguous) if shell => this.accepted(ctx, task),
                Fate::Delivered => {
                    let accept_by = ctx.now + ctx.config.timing.accept;
                    if let Some(attempt) = task.attempts.get_mut(&number) {
                        attempt.stage = Stage::Delivered { accept_by };
                    }
                }
                Fate::Failed(why) => {
                    if let Phase::Awarded { auction, .. } = &mut task.phase {
                        let device = task.attempts.get(&number).map(|attempt| attempt.device.clone());
                        device.iter().for_each(|device| auction.correct(device, Answer::Unreachable { why }));
                    }
                    if why != SendFailure::Ambiguous
                        && let Some(attempt) = task.attempts.get_mut(&number)
                    {
                        attempt.ended = true;
                    }
                    this.lose(ctx, task, why.words().into());
                }
            }
        });
    }

    /// The worker runs it, by its own word or by what stands for it.
    pub(super) fn accepted(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let timing = &ctx.config.timing;
        let (now, result_timeout) = (ctx.now, task.result_timeout);
        let Some((number, attempt)) = task.current_mut() else { return };
        let exempt = ctx.peers.get(&attempt.device).is_some_and(|peer| peer.probe_exempt);
        let watched = !attempt.is_me && !attempt.dialect.is_shell();
        let probed = !attempt.is_me && attempt.dialect.is_shell() && !exempt;
        let running = Running {
            result_by: now + result_timeout,
            limit_by: now + timing.run_limit,
            silent_at: watched.then(|| now + timing.progress_deadline),
            hedge_at: watched.then(|| super::hedging::late_at(ctx, &attempt.device)).flatten(),
            probe: if probed { Probe::Next(now + timing.shell_probe) } else { Probe::Never },
        };
        if let Stage::Sending { letter: Some(letter) } = attempt.stage {
            // Its answer came before the end of the connection that brought it the TASK.
            ctx.abandon(letter);
        }
        attempt.accepted = true;
        attempt.stage = Stage::Running(running);
        let by = attempt.device.clone();
        task.accepted_runs += 1;
        task.fruitless = 0;
        task.busy_rounds = 0;
        ctx.tell(Event::Accepted { task: task.id.clone(), by: by.clone(), attempt: number });
        ctx.chronicle.happened(&task.id, now, format!("{by} began to run it"), &ctx.config.limits);
    }

    /// A deadline of the award passed.
    pub(super) fn award_due(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let now = ctx.now;
        let Some((number, attempt)) = task.current() else { return };
        match attempt.stage.clone() {
            Stage::Persisting { .. } | Stage::Sending { .. } | Stage::Beside(_) | Stage::Over => {}
            Stage::Delivered { accept_by } if accept_by <= now => {
                self.lose(ctx, task, "read the task but did not accept it".into());
            }
            Stage::Asking { answer_by, letter, .. } if answer_by <= now => {
                if let Some(letter) = letter {
                    ctx.abandon(letter);
                }
                ctx.peers.silent(&attempt.device.clone(), now);
                self.lose(ctx, task, "went silent".into());
            }
            Stage::Running(running) if running.result_by <= now || running.limit_by <= now => {
                let limit = if running.result_by <= now {
                    "gave no answer in time"
                } else {
                    "ran longer than allowed"
                };
                // Whatever it does, it does not work for this task any more; a shell device is free again, too.
                self.release(ctx, task, number);
                self.lose(ctx, task, limit.into());
            }
            Stage::Running(running) if running.silent_at.is_some_and(|at| at <= now) => {
                self.query(ctx, task, running)
            }
            Stage::Running(running) if running.hedge_at.is_some_and(|at| at <= now) => {
                self.hedge(ctx, task, running);
            }
            Stage::Running(running) => match running.probe {
                Probe::Next(at) if at <= now => self.probe(ctx, task),
                Probe::Judging(at) if at <= now => {
                    self.release(ctx, task, number);
                    if let Some(attempt) = task.attempts.get_mut(&number) {
                        attempt.probed_out = true;
                    }
                    self.lose(
                        ctx,
                        task,
                        "answers other messages, so it does not run the task any more".into(),
                    );
                }
                _ => {}
            },
            Stage::Delivered { .. } | Stage::Asking { .. } => {}
        }
    }

    fn query(&mut self, ctx: &mut Context<'_>, task: &mut Task, running: Running) {
        let Some((number, attempt)) = task.current() else { return };
        let answer_by = ctx.now + ctx.config.timing.query;
        let draft = Draft {
            to: attempt.device.clone(),
            address: Some((attempt.address, attempt.dialect)),
            body: Body::Query(Query { award: attempt.award.clone(), have: attempt.text.len() }),
            purpose: Purpose::Query { task: task.id.clone(), attempt: number },
            give_up_at: answer_by,
        };
        let letter = ctx.post(draft);
        if let Some(attempt) = task.attempts.get_mut(&number) {
            attempt.stage = Stage::Asking { running, answer_by, letter };
        }
    }

    fn probe(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let Some((number, attempt)) = task.current() else { return };
        let draft = Draft {
            to: attempt.device.clone(),
            address: Some((attempt.address, attempt.dialect)),
            body: ctx.me.hello(),
            purpose: Purpose::Probe { task: task.id.clone(), attempt: number },
            give_up_at: ctx.now + ctx.config.timing.accept,
        };
        set_probe(task, Probe::Offered);
        ctx.post(draft);
    }

    /// What became of a HELLO to a shell device that should be deaf.
    pub(crate) fn probe_news(&mut self, ctx: &mut Context<'_>, task: &TaskId, number: u32, what: Fate) {
        let Some(task) = self.by_id.get(task).copied() else { return };
        self.with(ctx, task, |_, task, ctx| {
            let timing = &ctx.config.timing;
            let probe = match what {
                Fate::Started | Fate::Refused => return,
                Fate::Delivered => Probe::Judging(ctx.now + timing.shell_probe_patience),
                Fate::Failed(_) => Probe::Next(ctx.now + timing.shell_probe),
            };
            if matches!(task.current(), Some((current, _)) if current == number) {
                set_probe(task, probe);
            }
        });
    }

    /// A device was restarted: what it ran for us is probably lost, and what it was asked forgotten.
    pub(crate) fn restarted(&mut self, ctx: &mut Context<'_>, device: &DeviceId) {
        let running = |number: &&u64| {
            let attempt = self.tasks.get(number).and_then(|task| task.current()).map(|(_, attempt)| attempt);
            attempt.is_some_and(|a| a.device == *device && matches!(a.stage, Stage::Running(_)))
        };
        let numbers: Vec<u64> = self.awarded.iter().filter(running).copied().collect();
        for number in numbers {
            self.with(ctx, number, |this, task, ctx| {
                if let Some((_, Attempt { stage: Stage::Running(running), .. })) = task.current() {
                    this.query(ctx, task, *running);
                }
            });
        }
        self.ask_anew(ctx, device);
    }

    /// The attempt at hand will not give an answer, as far as is known: the next one begins.
    pub(super) fn lose(&mut self, ctx: &mut Context<'_>, task: &mut Task, why: String) {
        let Some((number, attempt)) = task.current() else { return };
        let device = attempt.device.clone();
        let sentence = format!("{device} {why}");
        ctx.tell(Event::AttemptLost {
            task: task.id.clone(),
            device: device.clone(),
            attempt: number,
            why: why.clone(),
        });
        ctx.chronicle.happened(&task.id, ctx.now, sentence.clone(), &ctx.config.limits);
        task.tried.insert(device.clone());
        task.last_error = Some(sentence.into());
        self.break_off(ctx, task, number, &why);
        self.supersede(ctx, task, number);
        if !self.return_to_slow(ctx, task) {
            self.next_bidder(ctx, task);
        }
        self.slot_freed(ctx);
    }

    /// Nothing more is wanted of an attempt. A bidmesh worker is told; a shell device cannot be, so its slot stays
    /// taken until it answers.
    pub(super) fn supersede(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32) {
        let Some(attempt) = task.attempts.get_mut(&number) else { return };
        let may_run = attempt.may_run();
        let stage = core::mem::replace(&mut attempt.stage, Stage::Over);
        if let Stage::Sending { letter: Some(letter) } | Stage::Asking { letter: Some(letter), .. } = stage {
            ctx.abandon(letter);
        }
        if !attempt.is_me && attempt.dialect.is_shell() {
            if !may_run {
                self.release(ctx, task, number);
            }
            return;
        }
        if may_run {
            let address = (!attempt.is_me).then_some((attempt.address, attempt.dialect));
            let draft = crate::mail::cancel(&attempt.device, address, &attempt.award, ctx.now, ctx.config);
            ctx.post(draft);
        }
        self.release(ctx, task, number);
    }

    /// The award takes no slot at its device any more.
    pub(super) fn release(&mut self, ctx: &mut Context<'_>, task: &mut Task, number: u32) {
        if let Some(attempt) = task.attempts.get_mut(&number)
            && core::mem::take(&mut attempt.holds)
        {
            ctx.peers.award(&attempt.device, attempt.is_me, ctx.now, false);
        }
    }

    /// Slots at shell devices that a task which ends leaves taken.
    pub(super) fn linger(&mut self, ctx: &Context<'_>, task: &Task) {
        for attempt in task.attempts.values().filter(|attempt| attempt.holds) {
            let until = ctx.now + task.result_timeout;
            self.lingering.insert(attempt.award.clone(), (attempt.device.clone(), until));
        }
    }
}

fn set_probe(task: &mut Task, probe: Probe) {
    if let Some((_, Attempt { stage: Stage::Running(running), .. })) = task.current_mut()
        && running.probe != Probe::Never
    {
        running.probe = probe;
    }
}

impl Task {
    /// The attempt that is open, if the task is awarded.
    pub(super) fn current(&self) -> Option<(u32, &Attempt)> {
        match &self.phase {
            Phase::Awarded { attempt, .. } => Some((*attempt, self.attempts.get(attempt)?)),
            _ => None,
        }
    }

    pub(super) fn current_mut(&mut self) -> Option<(u32, &mut Attempt)> {
        match &self.phase {
            Phase::Awarded { attempt, .. } => Some((*attempt, self.attempts.get_mut(attempt)?)),
            _ => None,
        }
    }

    /// After sleep: what could not happen meanwhile gets one grace round before anything is failed over.
    pub(super) fn grace(&mut self, ctx: &Context<'_>) {
        let (now, timing) = (ctx.now, &ctx.config.timing);
        if let Phase::Collecting(auction) = &mut self.phase {
            auction.grace(now, timing.patience);
        }
        let Some((_, attempt)) = self.current_mut() else { return };
        let later = |at: &mut crate::time::Time, more: Duration| *at = (*at).max(now + more);
        match &mut attempt.stage {
            Stage::Delivered { accept_by } => later(accept_by, timing.accept),
            Stage::Asking { answer_by, .. } => later(answer_by, timing.query),
            Stage::Running(running) => {
                later(&mut running.result_by, timing.query + timing.accept);
                later(&mut running.limit_by, timing.query + timing.accept);
                // The QUERY leaves at once.
                running.silent_at = running.silent_at.map(|at| at.min(now));
                if let Probe::Judging(at) | Probe::Next(at) = &mut running.probe {
                    later(at, timing.shell_probe_patience);
                }
            }
            Stage::Persisting { .. } | Stage::Sending { .. } | Stage::Beside(_) | Stage::Over => {}
        }
    }
}
