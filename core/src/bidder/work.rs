//! One piece of work: while it runs, its text and what of it has been told; afterwards its result, which is kept
//! until whoever asked for it has it.

use alloc::format;
use alloc::string::String;
use core::hash::Hasher;
use core::ops::RangeInclusive;
use core::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::{Bidder, Paused, Remembered};
use crate::canonical::Renewal;
use crate::context::Context;
use crate::id::{AwardId, DeviceId};
use crate::input::{RunOutcome, Tokens};
use crate::mail::{Draft, Fate, Purpose};
use crate::outbox::{Action, Record, RunId, SendId, Sequence};
use crate::time::Time;
use crate::wire::{Body, Dialect, Progress, Speed, Status, Text};

/// The most text that one PROGRESS carries, in bytes; the rest follows with the next.
const PROGRESS_BYTES_MAX: usize = 256 * 1024;
/// What found no room is not tried again in the same moment, whatever the settings say: the room comes with time, and
/// without this one input would never end.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// What makes a TASK or SLM_PROMPT the same as another: who sent it, its award, its prompt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkKey {
    pub(crate) from: DeviceId,
    pub(crate) kind: Kind,
    pub(crate) award: Option<AwardId>,
    digest: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Task,
    Prompt,
}

impl WorkKey {
    pub(crate) fn task(from: &DeviceId, award: Option<&AwardId>, prompt: &str) -> Self {
        Self { from: from.clone(), kind: Kind::Task, award: award.cloned(), digest: digest(prompt) }
    }

    pub(crate) fn prompt(from: &DeviceId, prompt: &str) -> Self {
        Self { from: from.clone(), kind: Kind::Prompt, award: None, digest: digest(prompt) }
    }

    /// Of an earlier start, which wrote it down.
    pub(crate) fn restored(from: &DeviceId, award: &AwardId, digest: u128) -> Self {
        Self { digest, ..Self::any(from, award) }
    }

    /// Stands for an award whatever its prompt.
    pub(crate) fn any(from: &DeviceId, award: &AwardId) -> Self {
        Self { from: from.clone(), kind: Kind::Task, award: Some(award.clone()), digest: 0 }
    }

    /// All keys of one award.
    pub(crate) fn range(from: &DeviceId, award: &AwardId) -> RangeInclusive<Self> {
        Self::any(from, award)..=Self { digest: u128::MAX, ..Self::any(from, award) }
    }
}

/// A digest of a prompt; never 0, which stands for any. Collisions would need 2^64 prompts of one device under one
/// award id, and cost that device its own task.
fn digest(prompt: &str) -> u128 {
    let mut hasher = SipHasher24::new();
    hasher.write(prompt.as_bytes());
    hasher.finish128().as_u128().max(1)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    pub(crate) label: String,
    /// How whoever asked for it spoke when it did, and is answered.
    dialect: Dialect,
    pub(crate) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Running(Running),
    Kept(Kept),
}

/// A prompt that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub(crate) run: RunId,
    pub(crate) started: Time,
    limit_by: Time,
    stopping: Option<StopWhy>,
    text: String,
    /// When the first text came.
    first_text: Option<Time>,
    /// How PROGRESS is told; `None` to those who do not know it.
    telling: Option<Telling>,
}

/// What of the text has been told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Telling {
    /// This device itself is told at once: it needs no connection.
    local: bool,
    /// Bytes that were delivered.
    delivered: u64,
    /// Where the one begins that is on its way.
    in_flight: Option<u64>,
    /// Not before then is the next one sent.
    next: Time,
    /// A sign of life is due then.
    alive_by: Time,
}

/// Why a run was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StopWhy {
    Cancelled,
    TooLong,
    TookTooLong,
    Leaving,
    /// The battery is low, or the device too hot.
    Resting,
}

/// A result that waits to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    status: Status,
    output: Text,
    speed: Option<Speed>,
    /// Not before it is on disk is it offered.
    sequence: Option<Sequence>,
    expires: Time,
    offer_at: Time,
    pause: Duration,
    letter: Option<SendId>,
}

impl Work {
    pub(crate) fn begin(run: RunId, label: String, dialect: Dialect, now: Time, limit: Duration) -> Self {
        let running = Running {
            run,
            started: now,
            limit_by: now + limit,
            stopping: None,
            text: String::new(),
            first_text: None,
            telling: None,
        };
        Self { label, dialect, state: State::Running(running) }
    }

    /// A result of an earlier start, which is offered at once.
    pub(crate) fn kept(
        label: String,
        dialect: Dialect,
        result: (Status, Text, Option<Speed>),
        expires: Time,
        pause: Duration,
    ) -> Self {
        Self { label, dialect, state: State::Kept(Kept::new(result, expires, pause)) }
    }

    /// Its text is told by PROGRESS while it runs; `local`: to this device itself.
    pub(crate) fn told(mut self, local: bool, now: Time, heartbeat: Duration) -> Self {
        if let State::Running(running) = &mut self.state {
            let alive_by = now + heartbeat;
            running.telling = Some(Telling { local, delivered: 0, in_flight: None, next: now, alive_by });
        }
        self
    }
}

impl Running {
    pub(crate) fn text_len(&self) -> u64 {
        self.text.len() as u64
    }

    /// Text as it is generated. `false`: it has become longer than the limit.
    pub(crate) fn add(&mut self, offset: u64, text: &Text, limit: usize, now: Time) -> bool {
        self.first_text.get_or_insert(now);
        // The driver hands text in without gaps; a copy of what is known says nothing.
        if offset == self.text_len() && self.text.len() + text.len() <= limit {
            self.text.push_str(text);
        }
        offset.saturating_add(text.len() as u64) <= limit as u64
    }

    /// `false`: it has been told already.
    pub(crate) fn stop(&mut self, why: StopWhy) -> bool {
        let first = self.stopping.is_none();
        self.stopping.get_or_insert(why);
        first
    }

    /// The asker has only so much of the text.
    pub(crate) fn resume_from(&mut self, have: u64) {
        let len = self.text_len();
        if let Some(telling) = &mut self.telling
            && self.text.is_char_boundary(usize::try_from(have).unwrap_or(usize::MAX))
        {
            telling.delivered = have.min(len);
        }
    }

    /// What the end of the run means; and for an answer, how fast it came.
    pub(crate) fn result(
        &self,
        outcome: RunOutcome,
        limit: usize,
        now: Time,
    ) -> (Status, Text, Option<Speed>) {
        let (status, output) = match (outcome, self.stopping) {
            (RunOutcome::Completed(generation), _) if generation.text.len() > limit => {
                (Status::Error, too_long(limit))
            }
            // It was finished before it could be stopped; whoever wants it has it.
            (RunOutcome::Completed(generation), _) => {
                let speed = self.speed(generation.tokens, now);
                return (Status::Completed, generation.text, Some(speed));
            }
            (_, Some(StopWhy::Cancelled)) => (Status::Cancelled, "".into()),
            (_, Some(StopWhy::Leaving)) => (Status::HandedBack, "it is shutting down".into()),
            (_, Some(StopWhy::Resting)) => {
                (Status::HandedBack, "its battery is low, or it is too hot".into())
            }
            (_, Some(StopWhy::TooLong)) => (Status::Error, too_long(limit)),
            (_, Some(StopWhy::TookTooLong)) => {
                (Status::Error, "it ran longer than this device allows".into())
            }
            (RunOutcome::Failed(why), None) => (Status::Error, shortened(&why, limit)),
            (RunOutcome::Stopped, None) => (Status::Error, "it was stopped on that device".into()),
        };
        (status, output, None)
    }

    fn speed(&self, tokens: Option<Tokens>, now: Time) -> Speed {
        let since_start = |at: Time| u32::try_from(at.since(self.started).as_millis()).unwrap_or(u32::MAX);
        Speed {
            total_ms: since_start(now),
            first_text_ms: self.first_text.map(since_start),
            prompt_tokens: tokens.map(|tokens| tokens.prompt),
            tokens: tokens.map(|tokens| tokens.generated),
        }
    }

    fn timer(&self) -> Option<(Time, &'static str)> {
        let limit = self.stopping.is_none().then_some((self.limit_by, "a run has reached its limit"));
        let telling = self.telling.as_ref().filter(|telling| telling.in_flight.is_none());
        let told = telling.map(|telling| {
            if self.text_len() > telling.delivered {
                (telling.next.min(telling.alive_by), "text is to be told")
            } else {
                (telling.alive_by, "a sign of life is due")
            }
        });
        limit.into_iter().chain(told).min_by_key(|(at, _)| *at)
    }
}

fn too_long(limit: usize) -> Text {
    format!("the answer is longer than {limit} bytes").into()
}

fn shortened(text: &Text, limit: usize) -> Text {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end == text.len() { text.clone() } else { text.get(..end).unwrap_or("").into() }
}

impl Kept {
    /// On disk, and offered from the beginning.
    fn new((status, output, speed): (Status, Text, Option<Speed>), expires: Time, pause: Duration) -> Self {
        let (sequence, letter) = (None, None);
        Self { status, output, speed, sequence, expires, offer_at: Time::ZERO, pause, letter }
    }

    /// Whoever waits for it was heard, or asks for it.
    pub(crate) fn offer_now(&mut self, now: Time) {
        if self.letter.is_none() {
            self.offer_at = self.offer_at.min(now);
        }
    }

    fn timer(&self) -> Option<(Time, &'static str)> {
        if self.sequence.is_some() || self.letter.is_some() {
            return None;
        }
        Some((self.offer_at.min(self.expires), "a kept result is to be offered or forgotten"))
    }
}

impl Bidder {
    /// The result is kept until whoever asked for it has it.
    pub(super) fn keep(
        &mut self,
        ctx: &mut Context<'_>,
        key: &WorkKey,
        (status, output, speed): (Status, Text, Option<Speed>),
    ) {
        let Some(work) = self.works.get_mut(key) else { return };
        let dialect = work.dialect;
        // Only what names an award can be asked for again after a restart.
        let sequence = key.award.as_ref().map(|award| {
            let (orchestrator, award, output) = (key.from.clone(), award.clone(), output.clone());
            let digest = key.digest;
            ctx.persist(Record::Kept { orchestrator, award, digest, dialect, status, output, speed }, true)
        });
        let timing = &ctx.config.timing;
        let expires = ctx.now + timing.result_kept;
        let kept = Kept {
            offer_at: ctx.now,
            sequence,
            ..Kept::new((status, output, speed), expires, timing.result_offer)
        };
        work.state = State::Kept(kept);
    }

    /// The next start finds what this one was running, if it ends in the middle.
    pub(super) fn write_down_start(&self, ctx: &mut Context<'_>, key: &WorkKey, dialect: Dialect) {
        let Some(award) = key.award.clone() else { return };
        let (orchestrator, digest) = (key.from.clone(), key.digest);
        ctx.persist(Record::Started { orchestrator, award, digest, dialect }, dialect.is_shell());
    }

    /// The record of a kept result is on disk, or could not be written: then it is offered all the same.
    pub(crate) fn persisted(&mut self, sequence: Sequence) -> bool {
        let waits =
            |work: &&mut Work| matches!(&work.state, State::Kept(kept) if kept.sequence == Some(sequence));
        let Some(Work { state: State::Kept(kept), .. }) = self.works.values_mut().find(waits) else {
            return false;
        };
        kept.sequence = None;
        true
    }

    /// The text is forgotten, the award is remembered.
    pub(super) fn forget(&mut self, ctx: &mut Context<'_>, key: &WorkKey) {
        let Some(work) = self.works.remove(key) else { return };
        if let State::Kept(Kept { letter: Some(letter), .. }) = work.state {
            ctx.abandon(letter);
        }
        if let Some(award) = &key.award {
            let (orchestrator, award) = (key.from.clone(), award.clone());
            ctx.persist(Record::Forgotten { orchestrator, award, digest: key.digest }, false);
        }
        let until = key.award.is_none().then(|| ctx.now + ctx.config.timing.duplicate_window);
        self.memory.remember(key.clone(), Remembered::Done, until, ctx.now, ctx.config.limits.tombstones);
    }

    /// `device` is there: what waits for it is offered at once.
    pub(crate) fn heard(&mut self, device: &DeviceId, now: Time) {
        for (key, work) in &mut self.works {
            if let State::Kept(kept) = &mut work.state
                && key.from == *device
            {
                kept.offer_now(now);
            }
        }
    }

    /// What became of a RESULT or SLM_RESULT.
    pub(crate) fn result_news(&mut self, ctx: &mut Context<'_>, key: &WorkKey, what: Fate) {
        let Some(Work { state: State::Kept(kept), dialect, .. }) = self.works.get_mut(key) else { return };
        let acknowledges = key.award.is_some() && !dialect.is_shell();
        match what {
            Fate::Started | Fate::Refused => return,
            Fate::Delivered | Fate::Failed(_) => {
                kept.letter = None;
                kept.offer_at = ctx.now + kept.pause.max(LEAST_PAUSE);
                kept.pause = kept.pause.saturating_mul(2).min(ctx.config.timing.result_offer_max);
            }
        }
        if what == Fate::Delivered && !acknowledges {
            self.forget(ctx, key);
        }
    }

    /// What became of a PROGRESS.
    pub(crate) fn progress_news(&mut self, ctx: &Context<'_>, key: &WorkKey, upto: u64, what: Fate) {
        let Some(Work { state: State::Running(running), .. }) = self.works.get_mut(key) else { return };
        let Some(telling) = &mut running.telling else { return };
        match what {
            Fate::Started | Fate::Refused => {}
            Fate::Delivered => {
                // The asker may have said meanwhile that it has less: then this leaves a gap, and is told again after it.
                if telling.in_flight.take().is_some_and(|offset| offset <= telling.delivered) {
                    telling.delivered = telling.delivered.max(upto);
                }
            }
            Fate::Failed(_) => {
                telling.in_flight = None;
                let again = ctx.now + ctx.config.timing.progress_interval.max(LEAST_PAUSE);
                telling.next = telling.next.max(again);
                telling.alive_by = telling.alive_by.max(again);
            }
        }
    }

    /// Everything whose time has come.
    pub(crate) fn advance(&mut self, ctx: &mut Context<'_>) {
        if self.paused.and_then(Paused::until).is_some_and(|until| until <= ctx.now) {
            self.paused = None;
        }
        let due = |work: &Work| work.timer().is_some_and(|(at, _)| at <= ctx.now);
        let leave = self.leave_by.is_some_and(|by| by <= ctx.now);
        let rest = self.spares_itself(ctx.config);
        let keys: alloc::vec::Vec<WorkKey> = self
            .works
            .iter()
            .filter(|(_, work)| leave || rest || due(work))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            match self.works.get_mut(&key).map(|work| &mut work.state) {
                Some(State::Running(running)) => {
                    let over = if leave {
                        Some(StopWhy::Leaving)
                    } else if rest {
                        Some(StopWhy::Resting)
                    } else {
                        (running.limit_by <= ctx.now).then_some(StopWhy::TookTooLong)
                    };
                    let run = running.run;
                    if let Some(why) = over
                        && running.stop(why)
                    {
                        ctx.act(Action::Stop { run });
                    }
                    self.tell_progress(ctx, &key);
                }
                Some(State::Kept(kept)) if kept.expires <= ctx.now => self.forget(ctx, &key),
                Some(State::Kept(_)) => self.offer(ctx, &key),
                None => {}
            }
        }
    }

    fn offer(&mut self, ctx: &mut Context<'_>, key: &WorkKey) {
        let Some(Work { state: State::Kept(kept), dialect, .. }) = self.works.get(key) else { return };
        let address = ctx.peers.get(&key.from).map(|peer| (peer.address, *dialect));
        if kept.timer().is_none_or(|(at, _)| at > ctx.now) {
            return;
        }
        let (status, output) = if dialect.is_shell() && kept.status == Status::HandedBack {
            // It knows no handing back, and would take the reason for an answer.
            (Status::Error, format!("not finished: {}", kept.output).into())
        } else {
            (kept.status, kept.output.clone())
        };
        let body = self.result_message(ctx, key, status, output, kept.speed);
        let give_up_at = ctx.now + ctx.config.timing.notice_send;
        let purpose = Purpose::Result { work: key.clone() };
        let letter = ctx.post(Draft { to: key.from.clone(), address, body, purpose, give_up_at });
        let now = ctx.now;
        if let Some(Work { state: State::Kept(kept), .. }) = self.works.get_mut(key) {
            kept.letter = letter;
            // Whatever becomes of it is told in this same moment if there is no letter.
            kept.offer_at = now + kept.pause;
        }
    }

    fn tell_progress(&mut self, ctx: &mut Context<'_>, key: &WorkKey) {
        let now = ctx.now;
        let Some(Work { state: State::Running(running), dialect, .. }) = self.works.get_mut(key) else {
            return;
        };
        let len = running.text_len();
        let (Some(telling), Some(award)) = (&mut running.telling, &key.award) else { return };
        let news = len > telling.delivered && telling.next <= now;
        if telling.in_flight.is_some() || !(news || telling.alive_by <= now) {
            return;
        }
        let from = usize::try_from(telling.delivered).unwrap_or(usize::MAX);
        let mut to = running.text.len().min(from.saturating_add(PROGRESS_BYTES_MAX));
        while !running.text.is_char_boundary(to) {
            to -= 1;
        }
        let text: Text = running.text.get(from..to).unwrap_or("").into();
        let upto = telling.delivered + text.len() as u64;
        let body = Body::Progress(Progress { award: award.clone(), offset: telling.delivered, text });
        let timing = &ctx.config.timing;
        telling.in_flight = Some(telling.delivered);
        telling.next = now + if telling.local { Duration::ZERO } else { timing.progress_interval };
        telling.alive_by = now + timing.heartbeat;
        let purpose = Purpose::Progress { work: key.clone(), upto };
        let give_up_at = now + timing.heartbeat;
        let address = ctx.peers.get(&key.from).map(|peer| (peer.address, *dialect));
        ctx.post(Draft { to: key.from.clone(), address, body, purpose, give_up_at });
    }

    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let works = self.works.values().filter_map(Work::timer);
        let paused = self.paused.and_then(Paused::until).map(|until| (until, "the owner's pause ends"));
        let leaving =
            self.leave_by.filter(|_| self.may_still_be_told()).map(|by| (by, "what runs is handed back"));
        works.chain(paused).chain(leaving).min_by_key(|(at, _)| *at)
    }

    fn may_still_be_told(&self) -> bool {
        let told = |work: &Work| matches!(&work.state, State::Running(running) if running.stopping.is_none());
        self.works.values().any(told)
    }
}

impl Work {
    fn timer(&self) -> Option<(Time, &'static str)> {
        match &self.state {
            State::Running(running) => running.timer(),
            State::Kept(kept) => kept.timer(),
        }
    }
}

impl Work {
    /// Without its history (`crate::canonical`); how fast it was is left out.
    pub(super) fn canonical(&mut self, by: &Renewal) {
        match &mut self.state {
            State::Running(running) => {
                running.run = by.numbers.run(running.run).unwrap_or(running.run);
                running.started = by.due(running.started);
                running.first_text = running.first_text.map(|at| by.due(at));
                running.limit_by = by.due(running.limit_by);
                if let Some(telling) = &mut running.telling {
                    telling.next = by.due(telling.next);
                    telling.alive_by = by.due(telling.alive_by);
                }
            }
            State::Kept(kept) => {
                kept.speed = None;
                kept.sequence = kept.sequence.and_then(|sequence| by.numbers.sequence(sequence));
                kept.expires = by.due(kept.expires);
                kept.offer_at = by.due(kept.offer_at);
                kept.letter = kept.letter.and_then(|letter| by.numbers.send(letter));
            }
        }
    }

    /// The record that it waits for.
    pub(super) fn open_sequence(&self) -> Option<Sequence> {
        match &self.state {
            State::Kept(kept) => kept.sequence,
            State::Running(_) => None,
        }
    }
}
