//! This device as a worker: bids, refusals, execution slots, duplicates, cancelled awards, kept results. Knows
//! nothing of other devices' auctions.
//!
//! A bid promises nothing: accepting a TASK is the only exclusive act. A TASK is known again by who sent it, its
//! award and a digest of its prompt, and answered with what is there, so that a copy never runs twice. How one
//! piece of work goes on is in [`work`], what is remembered of it afterwards in [`memory`], what becomes of the work
//! of an earlier start in [`restore`].

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use crate::canonical::Renewal;
use crate::config::{AtLimit, Config};
use crate::context::Context;
use crate::id::{AwardId, BidId, DeviceId};
use crate::input::{Executor, RunOutcome, Sensors};
use crate::outbox::{Action, Event, Ignored, Record, RunId, Sequence};
use crate::snapshot::RunSnapshot;
use crate::time::Time;
use crate::wire::{
    Accept, Bid, BidRequest, Body, Capacity, Reason, Refuse, Reject, Speed, Status, TASK_TYPE_INFERENCE,
    TaskOrder, TaskResult, Text,
};

pub(crate) mod memory;
mod restore;
pub(crate) mod work;

use memory::{Memory, Remembered};
pub(crate) use work::WorkKey;
use work::{Kind, State, StopWhy, Work};

/// This device as a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Bidder {
    works: BTreeMap<WorkKey, Work>,
    runs: BTreeMap<RunId, WorkKey>,
    memory: Memory,
    sensors: Sensors,
    executor: Executor,
    paused: Option<Paused>,
    /// Its owner has paused or resumed it in this start: what the store says of a pause is over.
    owner_spoke: bool,
    crossed: Crossed,
    /// When running work is handed back, since the device leaves.
    leave_by: Option<Time>,
    last_run: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Paused {
    Until(Time),
    UntilResumed,
}

impl Paused {
    fn until(self) -> Option<Time> {
        match self {
            Self::Until(until) => Some(until),
            Self::UntilResumed => None,
        }
    }
}

/// Limits that were crossed and are not yet well behind: at the limit itself a device would come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Crossed {
    battery: bool,
    heat: bool,
}

/// So much more than the limit ends a refusal for the battery, in percent, unless it charges.
const BATTERY_MARGIN: u8 = 3;
/// So much less than the limit ends a refusal for heat, in tenths of a degree.
const HEAT_MARGIN: i16 = 30;

impl Crossed {
    fn look(&mut self, sensors: &Sensors, work: &crate::config::Work) {
        let least = work.battery_min.value();
        self.battery = sensors.charging != Some(true)
            && sensors.battery.is_some_and(|charge| {
                let enough = least.saturating_add(if self.battery { BATTERY_MARGIN } else { 0 }).min(100);
                // With a limit of nothing at all there is none.
                least > 0 && charge.value() < enough
            });
        self.heat = sensors.temperature.is_some_and(|heat| {
            let margin = if self.heat { HEAT_MARGIN } else { 0 };
            heat.0 > work.heat_max.0.saturating_sub(margin)
        });
    }
}

impl Bidder {
    /// Compares what was measured with the limits.
    pub(crate) fn look_at_limits(&mut self, config: &Config) {
        self.crossed.look(&self.sensors, &config.work);
    }

    /// Whether what runs is handed back, since the device must rest.
    fn spares_itself(&self, config: &Config) -> bool {
        config.work.at_limit == AtLimit::HandBack && (self.crossed.battery || self.crossed.heat)
    }

    pub(crate) fn sensors_read(&mut self, sensors: Sensors) {
        self.sensors = sensors;
    }

    pub(crate) fn executor_changed(&mut self, executor: Executor) {
        self.executor = executor;
    }

    pub(crate) fn pause(&mut self, ctx: &mut Context<'_>, during: Option<Duration>) {
        self.owner_spoke = true;
        ctx.persist(Record::Paused { during }, true);
        self.paused = Some(during.map_or(Paused::UntilResumed, |during| Paused::Until(ctx.now + during)));
    }

    pub(crate) fn resume(&mut self, ctx: &mut Context<'_>) {
        let first = !core::mem::replace(&mut self.owner_spoke, true);
        if self.paused.take().is_some() || first {
            ctx.persist(Record::Resumed, true);
        }
    }

    pub(crate) fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Prompts of others that it could run at once now. Work is taken on only with room to keep its result, so results
    /// that wait for their acknowledgement take slots when there are many: whoever is told of more asks again and again.
    pub(crate) fn slots(&self, config: &Config) -> u16 {
        let room = config.limits.kept_results.saturating_sub(self.kept());
        self.own_slots(config).min(u16::try_from(room).unwrap_or(u16::MAX))
    }

    /// The same for its own prompts, whose results are not kept: they are where they are wanted.
    pub(crate) fn own_slots(&self, config: &Config) -> u16 {
        self.executor.slots.map_or(config.work.slots, |slots| slots.min(config.work.slots))
    }

    pub(crate) fn running(&self) -> u16 {
        u16::try_from(self.runs.len()).unwrap_or(u16::MAX)
    }

    fn running_for(&self, device: &DeviceId) -> u16 {
        u16::try_from(self.runs.values().filter(|key| key.from == *device).count()).unwrap_or(u16::MAX)
    }

    /// Slots that tasks of other devices take.
    pub(crate) fn running_for_others(&self, me: &DeviceId) -> u16 {
        self.running() - self.running_for(me)
    }

    pub(crate) fn kept(&self) -> usize {
        self.works.len() - self.runs.len()
    }

    pub(crate) fn remembered(&self) -> usize {
        self.memory.len()
    }

    fn capacity_for(&self, device: &DeviceId, config: &Config) -> Capacity {
        Capacity { slots: self.slots(config), running: self.running(), yours: self.running_for(device) }
    }

    /// Why work is refused that would be refused tomorrow, too: everything but a lack of slots.
    pub(crate) fn lasting_refusal(&self, config: &Config) -> Option<Reason> {
        let outside = self.sensors.minute_of_day.is_some_and(|minute| !config.work.hours.contain(minute));
        if self.leave_by.is_some() {
            Some(Reason::Leaving)
        } else if self.paused.is_some() {
            Some(Reason::Paused)
        } else if outside {
            Some(Reason::Hours)
        } else if !self.executor.available {
            Some(Reason::NoExecutor)
        } else if self.crossed.battery {
            Some(Reason::Battery)
        } else if self.crossed.heat {
            Some(Reason::Heat)
        } else {
            None
        }
    }

    /// Why a task of this type of `from` would be refused now.
    fn refusal(&self, ctx: &Context<'_>, from: &DeviceId, task_type: Option<&Text>) -> Option<Reason> {
        let config = ctx.config;
        let known = config.work.task_types.contains(task_type.map_or(TASK_TYPE_INFERENCE, |text| text));
        if !known {
            return Some(Reason::UnknownTaskType);
        }
        if let Some(reason) = self.lasting_refusal(config) {
            return Some(reason);
        }
        let slots = if ctx.is_me(from) { self.own_slots(config) } else { self.slots(config) };
        (self.running() >= slots).then_some(Reason::Busy)
    }

    /// BID_REQUEST.
    pub(crate) fn bid_request(
        &mut self,
        ctx: &mut Context<'_>,
        from: &DeviceId,
        request: &BidRequest,
        shell: bool,
    ) {
        let admitted = ctx.is_me(from) || ctx.peers.admits(from, ctx.config.admit);
        let too_long =
            request.prompt_bytes.is_some_and(|bytes| bytes > ctx.config.limits.prompt_bytes as u64);
        let reason = if !admitted {
            Some(Reason::Stranger)
        } else if too_long {
            Some(Reason::TooLong)
        } else {
            self.refusal(ctx, from, request.task_type.as_ref())
        };
        let capacity = Some(self.capacity_for(from, ctx.config));
        let Some(reason) = reason else {
            let bid = Bid {
                task: request.task.clone(),
                bid: Some(BidId::make(&ctx.me.boot, ctx.now)),
                device: Some(ctx.me.id.as_str().into()),
                cpu: self.sensors.cpu,
                ram: self.sensors.ram,
                battery: self.sensors.battery,
                charging: self.sensors.charging,
                npu: self.executor.npu,
                capacity,
            };
            // The winner's TASK will be in the dialect of this bid.
            return ctx.notify_in(ctx.answers_in(from, shell), from, Body::BidResponse(bid));
        };
        ctx.tell(Event::Declined { from: from.clone(), reason: reason.clone() });
        if !shell {
            let retry_after = reason.is_load().then_some(ctx.config.timing.retry_after);
            let refuse = Refuse { task: request.task.clone(), reason, retry_after, capacity };
            ctx.notify_bidmesh(from, Body::Refuse(refuse));
        }
    }

    /// TASK.
    pub(crate) fn task(&mut self, ctx: &mut Context<'_>, from: &DeviceId, order: &TaskOrder, shell: bool) {
        let key = WorkKey::task(from, order.award.as_ref(), &order.prompt);
        if self.answer_again(ctx, &key, shell) {
            return;
        }
        let admitted = ctx.is_me(from) || ctx.peers.admits(from, ctx.config.admit);
        let refusal = if !admitted {
            Some(Reason::Stranger)
        } else if order.prompt.len() > ctx.config.limits.prompt_bytes {
            Some(Reason::TooLong)
        } else if order.bid.as_ref().is_some_and(|bid| is_stale(ctx, bid)) {
            Some(Reason::Stale)
        } else {
            self.refusal(ctx, from, order.task_type.as_ref())
        };
        match refusal {
            None => {
                let npu = self.executor.npu && order.npu.unwrap_or(true);
                self.start(ctx, key, order.prompt.clone(), npu, shell);
            }
            Some(reason) => self.reject(ctx, &key, reason, shell),
        }
    }

    /// A TASK that is known already is answered with what is there. `false`: it is new.
    fn answer_again(&mut self, ctx: &mut Context<'_>, key: &WorkKey, shell: bool) -> bool {
        let now = ctx.now;
        if let Some(work) = self.works.get_mut(key) {
            match &mut work.state {
                State::Running(_) => {
                    if let (false, Some(award)) = (shell, key.award.clone()) {
                        ctx.notify_bidmesh(&key.from, Body::Accept(Accept { award }));
                    }
                }
                State::Kept(kept) => kept.offer_now(now),
            }
            ctx.ignore(&key.from, Ignored::Duplicate);
            return true;
        }
        match self.memory.recall(key, now) {
            None => false,
            Some(Remembered::Done) => {
                ctx.ignore(&key.from, Ignored::Duplicate);
                true
            }
            Some(Remembered::Cancelled) => {
                self.reject(ctx, key, Reason::Cancelled, shell);
                true
            }
        }
    }

    fn reject(&mut self, ctx: &mut Context<'_>, key: &WorkKey, reason: Reason, shell: bool) {
        let from = &key.from;
        let reason = if reason == Reason::Busy { Reason::Full } else { reason };
        ctx.tell(Event::Declined { from: from.clone(), reason: reason.clone() });
        if shell {
            // It knows no REJECT and would wait for five minutes.
            let output = format!("not run: {}", reason.words()).into();
            let result = self.result_message(ctx, key, Status::Error, output, None);
            return ctx.notify(from, result);
        }
        let Some(award) = key.award.clone() else { return };
        let retry_after = reason.is_load().then_some(ctx.config.timing.retry_after);
        let capacity = Some(self.capacity_for(from, ctx.config));
        ctx.notify_bidmesh(from, Body::Reject(Reject { award, reason, retry_after, capacity }));
    }

    fn result_message(
        &self,
        ctx: &Context<'_>,
        key: &WorkKey,
        status: Status,
        output: Text,
        speed: Option<Speed>,
    ) -> Body {
        match key.kind {
            Kind::Task => Body::Result(TaskResult {
                award: key.award.clone(),
                device: Some(ctx.me.id.as_str().into()),
                status,
                output,
                output_was_not_utf8: false,
                speed,
            }),
            Kind::Prompt => Body::SlmResult(output),
        }
    }

    /// SLM_PROMPT. `false`: this device cannot run it, somebody else may.
    pub(crate) fn slm_prompt(&mut self, ctx: &mut Context<'_>, from: &DeviceId, prompt: &Text) -> bool {
        let key = WorkKey::prompt(from, prompt);
        if self.answer_again(ctx, &key, true) {
            return true;
        }
        if prompt.len() > ctx.config.limits.prompt_bytes || self.refusal(ctx, from, None).is_some() {
            // Whoever runs it: a copy of it within the next seconds is a copy.
            let until = ctx.now + ctx.config.timing.duplicate_window;
            self.memory.remember(key, Remembered::Done, Some(until), ctx.now, ctx.config.limits.tombstones);
            return false;
        }
        self.start(ctx, key, prompt.clone(), self.executor.npu, true);
        true
    }

    fn start(&mut self, ctx: &mut Context<'_>, key: WorkKey, prompt: Text, npu: bool, shell: bool) {
        self.last_run += 1;
        let run = RunId(self.last_run);
        let label = match (&key.award, key.kind) {
            (Some(award), _) => award.to_string(),
            (None, Kind::Task) => format!("task_from_{}.{}", key.from, run.0),
            (None, Kind::Prompt) => format!("prompt_from_{}.{}", key.from, run.0),
        };
        let limit = ctx.config.timing.run_limit;
        ctx.act(Action::Run { run, label: label.clone(), prompt, npu, limit });
        ctx.tell(Event::RunStarted { from: key.from.clone(), run, label: label.clone() });
        if let (false, Some(award)) = (shell, key.award.clone()) {
            ctx.notify_bidmesh(&key.from, Body::Accept(Accept { award }));
        }
        let dialect = ctx.answers_in(&key.from, shell);
        let mut work = Work::begin(run, label, dialect, ctx.now, limit);
        // PROGRESS names an award, and shell devices do not know it.
        if key.award.is_some() && !dialect.is_shell() {
            work = work.told(ctx.is_me(&key.from), ctx.now, ctx.config.timing.heartbeat);
        }
        if !ctx.is_me(&key.from) {
            self.write_down_start(ctx, &key, dialect);
        }
        self.runs.insert(run, key.clone());
        self.works.insert(key, work);
    }

    /// The works that an award id of `from` names; more than one only if somebody typed the same id twice.
    fn named(&self, from: &DeviceId, award: &AwardId) -> Vec<WorkKey> {
        self.works.range(WorkKey::range(from, award)).map(|(key, _)| key.clone()).collect()
    }

    /// CANCEL.
    pub(crate) fn cancel(&mut self, ctx: &mut Context<'_>, from: &DeviceId, award: &AwardId) {
        let keys = self.named(from, award);
        if keys.is_empty() {
            let known = self.memory.knows(from, award);
            if known || !(ctx.is_me(from) || ctx.peers.admits(from, ctx.config.admit)) {
                return ctx.ignore(from, Ignored::UnknownAward);
            }
            // It overtook its TASK.
            self.memory.cancel(from, award, ctx.now, ctx.config.limits.tombstones);
        }
        for key in keys {
            match self.works.get_mut(&key).map(|work| &mut work.state) {
                Some(State::Running(running)) => {
                    let run = running.run;
                    if running.stop(StopWhy::Cancelled) {
                        ctx.act(Action::Stop { run });
                    }
                }
                // It is finished, and nobody wants the result.
                Some(State::Kept(_)) => self.forget(ctx, &key),
                None => {}
            }
        }
    }

    /// QUERY.
    pub(crate) fn query(&mut self, ctx: &mut Context<'_>, from: &DeviceId, award: &AwardId, have: u64) {
        let keys = self.named(from, award);
        if keys.is_empty() {
            let capacity = Some(self.capacity_for(from, ctx.config));
            let award = award.clone();
            let reject = Reject { award, reason: Reason::Unknown, retry_after: None, capacity };
            return ctx.notify_bidmesh(from, Body::Reject(reject));
        }
        for key in keys {
            match self.works.get_mut(&key).map(|work| &mut work.state) {
                Some(State::Running(running)) => {
                    running.resume_from(have);
                    ctx.notify_bidmesh(from, Body::Accept(Accept { award: award.clone() }));
                }
                Some(State::Kept(kept)) => kept.offer_now(ctx.now),
                None => {}
            }
        }
    }

    /// ACK.
    pub(crate) fn acknowledged(&mut self, ctx: &mut Context<'_>, from: &DeviceId, award: &AwardId) {
        let kept =
            |key: &WorkKey| self.works.get(key).is_some_and(|work| matches!(work.state, State::Kept(_)));
        let keys: Vec<WorkKey> = self.named(from, award).into_iter().filter(kept).collect();
        if keys.is_empty() {
            ctx.ignore(from, Ignored::UnknownAward);
        }
        for key in keys {
            self.forget(ctx, &key);
        }
    }

    /// A run generated text.
    pub(crate) fn generated(&mut self, ctx: &mut Context<'_>, run: RunId, offset: u64, text: &Text) -> bool {
        let Some(work) = self.runs.get(&run).and_then(|key| self.works.get_mut(key)) else { return false };
        let State::Running(running) = &mut work.state else { return false };
        if !running.add(offset, text, ctx.config.limits.output_bytes, ctx.now)
            && running.stop(StopWhy::TooLong)
        {
            ctx.act(Action::Stop { run });
        }
        true
    }

    /// A run ended.
    pub(crate) fn ran(&mut self, ctx: &mut Context<'_>, run: RunId, outcome: RunOutcome) -> bool {
        let Some(key) = self.runs.remove(&run) else { return false };
        let Some(work) = self.works.get_mut(&key) else { return false };
        let State::Running(running) = &work.state else { return false };
        let (status, output, speed) = running.result(outcome, ctx.config.limits.output_bytes, ctx.now);
        ctx.tell(Event::RunEnded { run, status });
        let (mail, mut post) = ctx.mail();
        mail.abandon_where(
            &mut post,
            |_, purpose| matches!(purpose, crate::mail::Purpose::Progress { work, .. } if *work == key),
        );
        if ctx.is_me(&key.from) {
            self.works.remove(&key);
            let message = self.result_message(ctx, &key, status, output, speed);
            ctx.notify(&key.from, message);
            let until = key.award.is_none().then(|| ctx.now + ctx.config.timing.duplicate_window);
            self.memory.remember(key, Remembered::Done, until, ctx.now, ctx.config.limits.tombstones);
            return true;
        }
        self.keep(ctx, &key, (status, output, speed));
        true
    }

    pub(crate) fn is_working(&self) -> bool {
        !self.runs.is_empty()
    }

    /// The device leaves: what runs may finish until then.
    pub(crate) fn leave(&mut self, by: Time) {
        self.leave_by = Some(self.leave_by.map_or(by, |earlier| earlier.min(by)));
    }

    pub(crate) fn snapshot(&self) -> Vec<RunSnapshot> {
        let line = |(key, work): (&WorkKey, &Work)| match &work.state {
            State::Running(running) => Some(RunSnapshot {
                from: key.from.clone(),
                label: work.label.clone(),
                started: running.started,
                bytes: running.text_len(),
            }),
            State::Kept(_) => None,
        };
        self.works.iter().filter_map(line).collect()
    }

    pub(crate) fn check(&self) {
        let running = self.works.values().filter(|work| matches!(work.state, State::Running(_))).count();
        assert_eq!(running, self.runs.len(), "each run is some work's");
        for (run, key) in &self.runs {
            let same =
                matches!(self.works.get(key).map(|w| &w.state), Some(State::Running(r)) if r.run == *run);
            assert!(same, "{run:?}: its work runs");
        }
        self.memory.check();
    }
}

impl Bidder {
    /// The runs that go on, oldest first.
    pub(crate) fn open_runs(&self) -> Vec<RunId> {
        self.runs.keys().copied().collect()
    }

    /// The records that kept results wait for.
    pub(crate) fn open_sequences(&self) -> impl Iterator<Item = Sequence> {
        self.works.values().filter_map(Work::open_sequence)
    }

    /// Without its history (`crate::canonical`).
    pub(crate) fn canonical(&mut self, by: &Renewal) {
        for work in self.works.values_mut() {
            work.canonical(by);
        }
        let runs = core::mem::take(&mut self.runs);
        self.runs = runs.into_iter().filter_map(|(run, key)| Some((by.numbers.run(run)?, key))).collect();
        self.last_run = self.runs.len() as u64;
        self.memory.canonical(by);
        if let Some(Paused::Until(until)) = &mut self.paused {
            *until = by.due(*until);
        }
        self.leave_by = self.leave_by.map(|leave_by| by.due(leave_by));
    }
}

/// Whether a bid cannot be awarded any more: it is of another start of this device, or too old. After sleep, old
/// connections are delivered all at once.
fn is_stale(ctx: &Context<'_>, bid: &BidId) -> bool {
    match bid.read() {
        Some((boot, millis)) if boot == ctx.me.boot.as_str() => {
            let made = Time::from_start(core::time::Duration::from_millis(millis));
            made > ctx.now || ctx.now.since(made) > ctx.config.timing.bid_validity
        }
        _ => true,
    }
}
