//! All tasks of this device: queue, auctions, awards, failover, outcomes. Knows nothing of how a prompt is run.
//!
//! A task is one value with one phase. Whoever changes a task takes it out of the table, changes it and puts it
//! back ([`Orchestrator::with`]); putting it back brings every index up to date, so an index cannot disagree with
//! the tasks. How a task is auctioned is in [`bidding`], how an award goes on and fails over in [`running`], what
//! workers say in [`answers`], what the person sees in [`shown`], how it ends in [`ending`].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::auction::Auction;
use crate::context::Context;
use crate::decision::Decision;
use crate::id::{AwardId, DeviceId, TaskId};
use crate::input::{Priority, Prompts, Submission, Ticket};
use crate::outbox::{Outcome, OutcomeStatus, Record, Refusal, Report, Sequence};
use crate::policy::Policy;
use crate::time::Time;
use crate::wire::Text;

mod answers;
pub(crate) mod attempt;
mod bidding;
mod canonical;
mod ending;
mod hedging;
pub(crate) mod queue;
mod restore;
mod running;
mod shown;
mod view;

use attempt::{Attempt, Stage};
use queue::{Clients, Eligible, Place, Queue};

/// Awards of one task that a RESULT may still come from; beyond, the oldest that is over is forgotten.
const ATTEMPTS_REMEMBERED: usize = 16;

/// The tasks of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Orchestrator {
    tasks: BTreeMap<u64, Box<Task>>,
    by_id: BTreeMap<TaskId, u64>,
    by_key: BTreeMap<Text, TaskId>,
    awards: BTreeMap<AwardId, (u64, u32)>,
    /// Ended tasks, oldest first, so that a key or an id is recognised.
    closed: VecDeque<Closed>,
    closed_bytes: usize,
    clients: Clients,
    /// Awards at shell devices that nobody waits for: the slot stays taken until an answer or this moment.
    lingering: BTreeMap<AwardId, (DeviceId, Time)>,
    /// The number of the task that was taken on last.
    last: u64,
    leaving: bool,
    // Derived from `tasks` by `index`:
    timers: BTreeSet<(Time, u64)>,
    queue: Queue,
    auctions: BTreeSet<u64>,
    awarded: BTreeSet<u64>,
    resting: BTreeSet<u64>,
    waiting_for_store: BTreeMap<Sequence, u64>,
}

/// One prompt on its way to one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    number: u64,
    origin: Origin,
    pub(crate) prompts: Prompts,
    priority: Priority,
    policy: Policy,
    bid_deadline: Option<Duration>,
    result_timeout: Duration,
    expires: Option<Time>,
    client: Option<Text>,
    key: Option<Text>,
    attached: bool,
    eligible: Eligible,
    dry_run: bool,
    submitted: Time,
    phase: Phase,
    attempts: BTreeMap<u32, Attempt>,
    /// An auction was opened for it, in this start or an earlier one.
    had_turn: bool,
    /// The number of the award that was made last.
    last_award: u32,
    accepted_runs: u32,
    /// Auctions since the last accepted run that were not merely busy.
    fruitless: u32,
    busy_rounds: u32,
    tried: BTreeSet<DeviceId>,
    last_error: Option<Text>,
    /// Whose text the person sees, and how much of it.
    shown: Option<(u32, u64)>,
}

/// Who is owed the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// A person or program of this device.
    Person,
    /// A peer's SLM_PROMPT that could not be run here.
    Peer(DeviceId),
}

/// Where a task is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Not before it is on disk is anybody told that it was taken on.
    Admitting {
        sequence: Sequence,
        tickets: Vec<Ticket>,
    },
    Queued,
    /// Everybody was busy.
    Resting {
        until: Time,
    },
    Collecting(Auction),
    /// Awarded to `attempts[attempt]`; the auction holds the runners-up.
    Awarded {
        attempt: u32,
        auction: Auction,
    },
    /// Not before the outcome is on disk is anybody told.
    Closing {
        sequence: Sequence,
        outcome: Outcome,
        /// The attempt whose worker waits for an ACK.
        acknowledge: Option<u32>,
    },
    /// To be removed from the table.
    Finished,
}

/// What is remembered of an ended task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Closed {
    task: TaskId,
    key: Option<Text>,
    outcome: Outcome,
}

impl Task {
    fn timer(&self) -> Option<(Time, &'static str)> {
        let phase = match &self.phase {
            Phase::Admitting { .. } | Phase::Queued | Phase::Closing { .. } | Phase::Finished => None,
            Phase::Resting { until } => Some((*until, "everybody was busy; time to ask again")),
            Phase::Collecting(auction) => {
                Some((auction.next(), "an auction ends, or patience with a bidder"))
            }
            Phase::Awarded { attempt, .. } => {
                self.attempts.get(attempt).and_then(|attempt| attempt.stage.timer())
            }
        };
        let expires = match self.phase {
            Phase::Admitting { .. } | Phase::Closing { .. } | Phase::Finished => None,
            _ => self.expires.map(|at| (at, "the task's own deadline")),
        };
        match (phase, expires) {
            (Some(phase), Some(expires)) => Some(if expires.0 < phase.0 { expires } else { phase }),
            (phase, expires) => phase.or(expires),
        }
    }

    fn place(&self, ageing: Duration) -> Place {
        Place::new(self.submitted, self.priority, self.number, ageing)
    }

    fn sequence(&self) -> Option<Sequence> {
        match &self.phase {
            Phase::Admitting { sequence, .. } | Phase::Closing { sequence, .. } => Some(*sequence),
            Phase::Awarded { attempt, .. } => match self.attempts.get(attempt)?.stage {
                Stage::Persisting { sequence } => Some(sequence),
                _ => None,
            },
            _ => None,
        }
    }

    fn may_run_on(&self, device: &DeviceId) -> bool {
        self.eligible.as_ref().is_none_or(|only| only.contains(device))
    }

    fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Admitting { .. } => "admitting",
            Phase::Queued => "queued",
            Phase::Resting { .. } => "resting",
            Phase::Collecting(_) => "auction",
            Phase::Awarded { attempt, .. } => match self.attempts.get(attempt).map(|a| &a.stage) {
                Some(Stage::Running(_)) => "running",
                Some(Stage::Asking { .. }) => "asking",
                _ => "awarded",
            },
            Phase::Closing { .. } | Phase::Finished => "closing",
        }
    }
}

impl Orchestrator {
    /// Takes a prompt on, or says why not.
    pub(crate) fn submit(&mut self, ctx: &mut Context<'_>, submission: Submission) {
        let ticket = submission.ticket;
        if let Some(key) = &submission.key
            && let Some(task) = self.by_key.get(key).cloned()
        {
            self.join(ctx, &task, ticket);
            return;
        }
        if let Err(why) = self.admits(ctx, &submission) {
            let retry = matches!(why, Refusal::QueueFull | Refusal::ClientFull);
            let retry_after_ms = retry.then(|| millis(ctx.config.timing.busy_pause));
            ctx.report(Report::Refused { ticket, why, retry_after_ms });
            return;
        }
        let mut task = self.make(ctx, None, submission, Origin::Person);
        if task.dry_run {
            task.phase = Phase::Queued;
            let position = self.queue.before(task.place(ctx.config.timing.ageing));
            ctx.report(Report::Admitted { ticket, task: task.id.clone(), position });
        } else {
            let sequence = ctx.persist(task.record(), true);
            task.phase = Phase::Admitting { sequence, tickets: Vec::from([ticket]) };
        }
        self.insert(ctx, task);
    }

    /// A peer's SLM_PROMPT that this device cannot run itself. `false`: there is no room for it.
    pub(crate) fn submit_for_peer(&mut self, ctx: &mut Context<'_>, peer: &DeviceId, prompt: Text) -> bool {
        let submission = Submission { client: Some(peer.as_str().into()), ..Submission::new(0, prompt) };
        if self.admits(ctx, &submission).is_err() {
            return false;
        }
        let mut task = self.make(ctx, None, submission, Origin::Peer(peer.clone()));
        task.phase = Phase::Queued;
        self.insert(ctx, task);
        true
    }

    fn admits(&self, ctx: &Context<'_>, submission: &Submission) -> Result<(), Refusal> {
        let limits = &ctx.config.limits;
        // Only who gives a name can be told that it has too many.
        let of_client = if submission.client.is_some() { self.clients.open(&submission.client) } else { 0 };
        let known = |device: &DeviceId| ctx.is_me(device) || ctx.peers.get(device).is_some();
        if self.leaving {
            Err(Refusal::Leaving)
        } else if submission.prompts.bytes_max() == 0 {
            Err(Refusal::EmptyPrompt)
        } else if submission.prompts.bytes_max() > limits.prompt_bytes {
            Err(Refusal::PromptTooLong)
        } else if submission.eligible.as_ref().is_some_and(|only| !only.iter().any(known)) {
            Err(Refusal::NobodyEligible)
        } else if self.tasks.len() >= limits.tasks {
            Err(Refusal::QueueFull)
        } else if of_client >= limits.tasks_per_client {
            Err(Refusal::ClientFull)
        } else {
            Ok(())
        }
    }

    /// The same key is the same task: whoever comes again is told its name, and its outcome if it has one.
    fn join(&mut self, ctx: &mut Context<'_>, id: &TaskId, ticket: Ticket) {
        if let Some(number) = self.by_id.get(id).copied() {
            let ageing = ctx.config.timing.ageing;
            if let Some(task) = self.tasks.get_mut(&number) {
                if let Phase::Admitting { tickets, .. } = &mut task.phase {
                    // Bounded like everything that one key can make this device remember.
                    if tickets.len() < ATTEMPTS_REMEMBERED {
                        tickets.push(ticket);
                        return;
                    }
                }
                let position = self.queue.before(task.place(ageing));
                ctx.report(Report::Admitted { ticket, task: id.clone(), position });
            }
            return;
        }
        ctx.report(Report::Admitted { ticket, task: id.clone(), position: 0 });
        if let Some(outcome) = self.outcome(id).cloned() {
            ctx.report(Report::Outcome { task: id.clone(), outcome });
        }
    }

    fn make(
        &mut self,
        ctx: &mut Context<'_>,
        id: Option<TaskId>,
        submission: Submission,
        origin: Origin,
    ) -> Task {
        self.last += 1;
        let timing = &ctx.config.timing;
        let id = id.unwrap_or_else(|| TaskId::draw(ctx.me.seed, self.last));
        let task = Task {
            id,
            number: self.last,
            origin,
            priority: submission.priority,
            policy: submission.policy.unwrap_or(ctx.config.policy),
            bid_deadline: submission.bid_deadline,
            result_timeout: submission.result_timeout.unwrap_or(timing.result_timeout),
            expires: submission.deadline.map(|deadline| ctx.now + deadline),
            client: submission.client,
            key: submission.key,
            attached: submission.attached,
            eligible: submission.eligible.map(Into::into),
            dry_run: submission.dry_run,
            submitted: ctx.now,
            prompts: submission.prompts,
            phase: Phase::Queued,
            attempts: BTreeMap::new(),
            had_turn: false,
            last_award: 0,
            accepted_runs: 0,
            fruitless: 0,
            busy_rounds: 0,
            tried: BTreeSet::new(),
            last_error: None,
            shown: None,
        };
        ctx.chronicle.begin(task.decision(), &ctx.config.limits);
        task
    }

    fn insert(&mut self, ctx: &Context<'_>, task: Task) {
        self.by_id.insert(task.id.clone(), task.number);
        if let Some(key) = &task.key {
            self.by_key.insert(key.clone(), task.id.clone());
        }
        self.clients.add(&task.client);
        self.index(&task, ctx.config.timing.ageing);
        self.tasks.insert(task.number, Box::new(task));
    }

    /// Takes a task out, lets `change` change it and puts it back with every index up to date.
    fn with(
        &mut self,
        ctx: &mut Context<'_>,
        number: u64,
        change: impl FnOnce(&mut Self, &mut Task, &mut Context<'_>),
    ) {
        let Some(mut task) = self.tasks.remove(&number) else { return };
        self.unindex(&task, ctx.config.timing.ageing);
        change(self, &mut task, ctx);
        if matches!(task.phase, Phase::Finished) {
            self.linger(ctx, &task);
            self.forget(&task);
        } else {
            self.index(&task, ctx.config.timing.ageing);
            self.tasks.insert(number, task);
        }
    }

    fn index(&mut self, task: &Task, ageing: Duration) {
        if let Some((at, _)) = task.timer() {
            self.timers.insert((at, task.number));
        }
        if let Some(sequence) = task.sequence() {
            self.waiting_for_store.insert(sequence, task.number);
        }
        match &task.phase {
            Phase::Queued => self.queue.insert(&task.eligible, &task.client, task.place(ageing)),
            Phase::Collecting(_) => {
                self.auctions.insert(task.number);
            }
            Phase::Awarded { .. } => {
                self.awarded.insert(task.number);
            }
            Phase::Resting { .. } => {
                self.resting.insert(task.number);
            }
            _ => {}
        }
    }

    fn unindex(&mut self, task: &Task, ageing: Duration) {
        if let Some((at, _)) = task.timer() {
            self.timers.remove(&(at, task.number));
        }
        if let Some(sequence) = task.sequence() {
            self.waiting_for_store.remove(&sequence);
        }
        match &task.phase {
            Phase::Queued => self.queue.remove(&task.eligible, &task.client, task.place(ageing)),
            Phase::Collecting(_) => {
                self.auctions.remove(&task.number);
            }
            Phase::Awarded { .. } => {
                self.awarded.remove(&task.number);
            }
            Phase::Resting { .. } => {
                self.resting.remove(&task.number);
            }
            _ => {}
        }
    }

    fn forget(&mut self, task: &Task) {
        self.by_id.remove(&task.id);
        for attempt in task.attempts.values() {
            self.awards.remove(&attempt.award);
        }
        self.clients.remove(&task.client, task.had_turn);
    }

    /// Everything whose time has come, and every auction that may open.
    pub(crate) fn advance(&mut self, ctx: &mut Context<'_>) {
        while let Some((at, number)) = self.timers.first().copied() {
            if at > ctx.now {
                break;
            }
            self.with(ctx, number, |this, task, ctx| this.due(ctx, task));
        }
        let now = ctx.now;
        let over: Vec<AwardId> =
            self.lingering.iter().filter(|(_, (_, until))| *until <= now).map(|(a, _)| a.clone()).collect();
        for award in over {
            self.let_go(ctx, &award);
        }
        self.dispatch(ctx);
    }

    fn due(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        if task.expires.is_some_and(|at| at <= ctx.now) {
            let why = String::from(
                "its deadline passed before there was an answer; give it more time with --deadline",
            );
            self.close(ctx, task, task.without_answer(OutcomeStatus::Expired, why));
            return;
        }
        match &mut task.phase {
            Phase::Resting { until } if *until <= ctx.now => task.phase = Phase::Queued,
            Phase::Collecting(_) => {
                self.look(ctx, task);
                self.ask_again(ctx, task);
            }
            Phase::Awarded { .. } => self.award_due(ctx, task),
            _ => {}
        }
    }

    /// A shell device that owed an answer to nobody gets its slot back.
    fn let_go(&mut self, ctx: &mut Context<'_>, award: &AwardId) -> bool {
        let Some((device, _)) = self.lingering.remove(award) else { return false };
        ctx.peers.award(&device, false, ctx.now, false);
        self.slot_freed(ctx);
        true
    }

    /// After sleep: every deadline that passed meanwhile gets one grace round.
    pub(crate) fn grace(&mut self, ctx: &mut Context<'_>) {
        let due: Vec<u64> =
            self.timers.iter().take_while(|(at, _)| *at <= ctx.now).map(|(_, number)| *number).collect();
        for number in due {
            self.with(ctx, number, |_, task, ctx| task.grace(ctx));
        }
    }

    /// The device leaves: new prompts are refused, attached ones cancelled; detached ones stay in the store.
    pub(crate) fn leave(&mut self, ctx: &mut Context<'_>) {
        self.leaving = true;
        let attached: Vec<u64> =
            self.tasks.values().filter(|task| task.attached).map(|task| task.number).collect();
        for number in attached {
            self.with(ctx, number, |this, task, ctx| {
                this.cancel_task(ctx, task, "this device was shut down")
            });
        }
    }

    /// Ageing was changed: every place in the queue is another.
    pub(crate) fn requeue(&mut self, before: Duration, after: Duration) {
        for task in self.tasks.values().filter(|task| matches!(task.phase, Phase::Queued)) {
            self.queue.remove(&task.eligible, &task.client, task.place(before));
            self.queue.insert(&task.eligible, &task.client, task.place(after));
        }
    }

    /// Whether an outcome still waits for the store.
    pub(crate) fn is_closing(&self) -> bool {
        !self.waiting_for_store.is_empty()
    }
}

impl Task {
    fn record(&self) -> Record {
        Record::Task {
            task: self.id.clone(),
            prompts: self.prompts.clone(),
            priority: self.priority,
            key: self.key.clone(),
            attached: self.attached,
            eligible: self.eligible.as_ref().map(|only| (**only).clone()),
            deadline: self.expires.map(|at| at.since(self.submitted)),
            policy: self.policy,
            bid_deadline: self.bid_deadline,
            result_timeout: self.result_timeout,
            client: self.client.clone(),
        }
    }

    fn decision(&self) -> Decision {
        Decision {
            task: self.id.clone(),
            submitted: self.submitted,
            prompt_bytes: self.prompts.base.len(),
            policy: self.policy,
            priority: self.priority.value(),
            auctions: Vec::new(),
            happened: Vec::new(),
            outcome: None,
            ended: None,
            dropped_lines: 0,
        }
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
