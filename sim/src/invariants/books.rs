//! The books that the oracle keeps of each device, and what messages and events are called in them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::input::{Prompts, Sensors, Written};
use bidmesh_core::outbox::{Ignored, Outcome, Refusal, RunId, SendId};
use bidmesh_core::policy::Policy;
use bidmesh_core::wire::{Bid, Body, Capacity, Reason, Text};
use bidmesh_core::{Config, Submission, Time};

use super::turns::Turns;

/// What the oracle knows of a device.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub id: DeviceId,
    /// Its settings.
    pub config: Config,
    /// Whether it has a store.
    pub stores: bool,
    /// What was submitted to it in this start.
    pub tickets: BTreeMap<u64, Submission>,
    /// Submissions that were admitted or refused.
    pub answered: BTreeSet<u64>,
    /// Those refused although, by these books, there was no reason to.
    pub refused: BTreeMap<u64, Refusal>,
    /// Its tasks.
    pub tasks: BTreeMap<TaskId, Task>,
    /// What it has heard of others.
    pub peers: BTreeMap<DeviceId, Peer>,
    /// The bid that it is being handed, and whether that is a shell device's.
    pub(super) current_bid: Option<(DeviceId, Bid, bool)>,
    /// The bidmesh device whose question it is being handed.
    pub(super) current_question: Option<DeviceId>,
    /// To whom messages are that are on their way.
    pub(super) sends: BTreeMap<SendId, DeviceId>,
    /// Letters that were offered before and failed: another try of one is nothing new.
    pub(super) failed_sends: BTreeSet<SendId>,
    /// Whom it may know: written down by a person, or introduced.
    pub known: BTreeSet<DeviceId>,
    /// Whose message it is being handed, if it cannot know that device.
    pub(super) stranger: Option<DeviceId>,
    /// It is being told what a person says to another device.
    pub(super) says: bool,
    /// What was awarded to it, or called off there, in all starts.
    pub works: BTreeSet<(DeviceId, String)>,
    /// The most peers that it knew: letters to those who were removed since may still be on their way.
    pub(super) most_peers: usize,
    /// What it began to run in this start.
    pub(super) begun: BTreeSet<(String, Text)>,
    /// What it runs.
    pub(super) runs: BTreeMap<RunId, String>,
    /// Awards that it gave and whose end it has not heard.
    pub(super) held: BTreeMap<AwardId, DeviceId>,
    /// Submissions lost with a start that kept nothing.
    pub lost: u64,
    /// What it measured last.
    pub(super) sensors: Sensors,
    /// It has something that runs prompts.
    pub(super) able: bool,
    /// Who named an award of which task in a RESULT.
    pub(super) results: BTreeSet<(DeviceId, String)>,
    /// Its owner paused it until further notice.
    pub(super) paused: bool,
    /// When it woke from sleep last.
    pub(super) woke: Option<Time>,
    /// Earlier starts of it.
    pub(super) starts: u32,
    /// Awards whose end it told, with the start and the letter that told it first.
    pub(super) ends_told: BTreeMap<AwardId, (u32, SendId)>,
    /// Whose turn it is.
    pub(super) turns: Turns,
}

/// What a device has heard of another.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its last word on its slots, and when.
    pub(super) capacity: Option<(Time, Capacity)>,
    /// Its last HELLO bore no marker.
    pub(super) cut: bool,
    /// When a message to it failed last.
    pub(super) failed: Option<Time>,
    /// When it refused for load last.
    pub(super) full: Option<Time>,
    /// When it was heard last.
    pub(super) heard: Option<Time>,
    /// The time before that.
    pub(super) heard_before: Option<Time>,
}

/// A task as its orchestrator must treat it.
#[derive(Clone, Debug)]
pub struct Task {
    /// What was asked; `None` for a peer's SLM_PROMPT.
    pub prompts: Option<Prompts>,
    /// Not asked by a person here.
    pub relayed: bool,
    /// Only its auction was asked for: no store keeps it.
    pub(super) dry_run: bool,
    /// How often a submission joined it by its key.
    pub(super) joined: u32,
    /// How the winner is chosen.
    pub(super) policy: Policy,
    pub(super) eligible: Option<BTreeSet<DeviceId>>,
    pub(super) bid_deadline: Duration,
    /// What was shown so far.
    pub(super) shown: String,
    /// The outcome that a person was told.
    pub outcome: Option<Outcome>,
    pub(super) told: u32,
    /// How often it ended.
    pub finished: u32,
    /// When its person gave it up.
    pub(super) cancelled: Option<Time>,
    /// Its device lost it.
    pub lost: bool,
    /// It goes on from an earlier start.
    pub(super) restored: bool,
    /// Its device slept, or its clock lied: its time has no bound.
    pub(super) excused: bool,
    /// Auctions so far.
    pub auctions: u32,
    /// Bids that count in the present auction, and when they came; those of this device itself are not seen.
    pub(super) bids: BTreeMap<DeviceId, (Bid, Time, bool)>,
    pub(super) counted: BTreeSet<DeviceId>,
    pub(super) spent: BTreeSet<DeviceId>,
    pub(super) tried: BTreeSet<DeviceId>,
    /// All awards of this start.
    pub awards: Vec<Award>,
    pub(super) accepted: u32,
    /// Since when it is neither queued nor resting.
    pub(super) active_since: Option<Time>,
    /// How long it was so before.
    pub(super) active: Duration,
    pub(super) collecting: bool,
}

/// One award.
#[derive(Clone, Debug)]
pub struct Award {
    /// Its number.
    pub attempt: u32,
    /// To whom.
    pub device: DeviceId,
    /// Its orchestrator has given it up.
    pub lost: bool,
    /// It is slow, and another was given beside it.
    pub hedged: bool,
}

impl View {
    pub(super) fn new(id: DeviceId, config: Config, stores: bool) -> Self {
        Self {
            id,
            config,
            stores,
            tickets: BTreeMap::new(),
            answered: BTreeSet::new(),
            refused: BTreeMap::new(),
            tasks: BTreeMap::new(),
            peers: BTreeMap::new(),
            current_bid: None,
            current_question: None,
            sends: BTreeMap::new(),
            failed_sends: BTreeSet::new(),
            known: BTreeSet::new(),
            stranger: None,
            says: false,
            works: BTreeSet::new(),
            most_peers: 0,
            begun: BTreeSet::new(),
            runs: BTreeMap::new(),
            held: BTreeMap::new(),
            lost: 0,
            sensors: Sensors::default(),
            able: false,
            results: BTreeSet::new(),
            paused: false,
            woke: None,
            starts: 0,
            ends_told: BTreeMap::new(),
            turns: Turns::default(),
        }
    }

    /// Why it may not begin anything, by what was last said to it; a pause that ends by itself is left out.
    pub(super) fn must_rest(&self) -> Option<&'static str> {
        let (sensors, work) = (&self.sensors, &self.config.work);
        let low = sensors.battery.is_some_and(|charge| charge < work.battery_min);
        let outside = |minute| !work.hours.contain(minute);
        if !self.able {
            Some("it has no executor")
        } else if self.paused {
            Some("its owner paused it")
        } else if low && sensors.charging != Some(true) {
            Some("its battery is low")
        } else if sensors.temperature.is_some_and(|heat| heat > work.heat_max) {
            Some("it is too hot")
        } else if sensors.minute_of_day.is_some_and(outside) {
            Some("it is outside its hours")
        } else {
            None
        }
    }

    /// Its memory is gone; what its store keeps goes on.
    pub(super) fn restart(&mut self) {
        self.lost += self.tickets.keys().filter(|ticket| !self.answered.contains(*ticket)).count() as u64;
        self.tickets.clear();
        self.answered.clear();
        self.refused.clear();
        self.peers.clear();
        (self.sensors, self.able, self.paused, self.woke) = (Sensors::default(), false, false, None);
        self.results.clear();
        self.turns.restart();
        self.starts += 1;
        self.known.clear();
        self.sends.clear();
        self.failed_sends.clear();
        self.begun.clear();
        self.runs.clear();
        for task in self.tasks.values_mut() {
            let written = task.outcome.as_ref().map(|outcome| outcome.written);
            let unkept = !self.stores || task.relayed || task.dry_run;
            if written.map_or(unkept, |written| written != Written::Durable) {
                task.lost = true;
                self.lost += 1;
            }
            if written != Some(Written::Durable) {
                // Nobody was told, or the store could not keep it: another end is the first.
                (task.finished, task.outcome, task.told) = (0, None, 0);
            }
            task.restored = true;
            task.excused = true;
            task.accepted = 0;
            task.awards.iter_mut().for_each(|award| award.lost = true);
            task.shown.clear();
            task.bids.clear();
            task.counted.clear();
            task.active_since = None;
            task.collecting = false;
        }
    }

    /// Whether its own settings explain that it takes nothing more in: the queue is full, or its client's share of it. What
    /// is not answered yet counts as well.
    pub(super) fn explains(&self, why: Refusal, refused: u64) -> bool {
        let limits = &self.config.limits;
        let waiting = self.tickets.keys().filter(|t| **t != refused && !self.answered.contains(*t)).count();
        let open = self.tasks.values().filter(|task| task.finished == 0 && !task.lost).count() + waiting;
        match why {
            Refusal::QueueFull => open >= limits.tasks,
            Refusal::ClientFull => open >= limits.tasks_per_client,
            Refusal::PromptTooLong => self.tickets.get(&refused).is_some_and(|submission| {
                let Prompts { base, npu, cpu } = &submission.prompts;
                let longest = [Some(base), npu.as_ref(), cpu.as_ref()].into_iter().flatten().map(|p| p.len());
                longest.max() > Some(limits.prompt_bytes)
            }),
            _ => false,
        }
    }

    /// Tasks whose attempts are all lost and that collect no bids are in the queue: that time has no bound.
    pub(super) fn rest_of_tasks(&mut self, now: Time) {
        for task in self.tasks.values_mut().filter(|task| task.active_since.is_some() && task.finished == 0) {
            if !task.collecting && task.awards.iter().all(|award| award.lost) {
                task.rest(now);
            }
        }
    }
}

impl Task {
    pub(super) fn submitted(submission: &Submission, config: &Config) -> Self {
        Self {
            prompts: Some(submission.prompts.clone()),
            relayed: false,
            policy: submission.policy.unwrap_or(config.policy),
            dry_run: submission.dry_run,
            eligible: submission.eligible.clone(),
            bid_deadline: submission.bid_deadline.unwrap_or(config.timing.bid_deadline),
            ..Self::relayed(config)
        }
    }

    pub(super) fn relayed(config: &Config) -> Self {
        Self {
            prompts: None,
            relayed: true,
            dry_run: false,
            joined: 0,
            policy: config.policy,
            eligible: None,
            bid_deadline: config.timing.bid_deadline,
            shown: String::new(),
            outcome: None,
            told: 0,
            finished: 0,
            cancelled: None,
            lost: false,
            restored: false,
            excused: false,
            auctions: 0,
            bids: BTreeMap::new(),
            counted: BTreeSet::new(),
            spent: BTreeSet::new(),
            tried: BTreeSet::new(),
            awards: Vec::new(),
            accepted: 0,
            active_since: None,
            active: Duration::ZERO,
            collecting: false,
        }
    }

    pub(super) fn open(&mut self, now: Time) {
        self.auctions += 1;
        self.bids.clear();
        self.counted.clear();
        self.spent.clear();
        self.active_since.get_or_insert(now);
        self.collecting = true;
    }

    pub(super) fn rest(&mut self, now: Time) {
        if let Some(since) = self.active_since.take() {
            self.active += now.since(since);
        }
        self.collecting = false;
    }

    /// How long it may be active in all: each auction its deadline, each award its way, each accepted run the limit.
    pub(super) fn bound(&self, config: &Config) -> Duration {
        let timing = &config.timing;
        let awards = u32::try_from(self.awards.len()).unwrap_or(u32::MAX);
        let award = timing.award_send + timing.accept + timing.query * 2 + Duration::from_secs(2);
        let run = timing.run_limit + timing.query + timing.progress_deadline;
        let slack = Duration::from_secs(60);
        self.bid_deadline.saturating_mul(self.auctions)
            + award.saturating_mul(awards)
            + run.saturating_mul(self.accepted)
            + slack
    }
}

/// The task that a message belongs to.
pub(super) fn task_of(body: &Body) -> Option<&str> {
    let award = match body {
        Body::BidRequest(request) => return request.task.as_ref().map(TaskId::as_str),
        Body::BidResponse(bid) => return bid.task.as_ref().map(TaskId::as_str),
        Body::Refuse(refuse) => return refuse.task.as_ref().map(TaskId::as_str),
        Body::Task(order) => order.award.as_ref()?,
        Body::Result(result) => result.award.as_ref()?,
        Body::Accept(accept) => &accept.award,
        Body::Reject(reject) => &reject.award,
        Body::Query(query) => &query.award,
        Body::Cancel(award) | Body::Ack(award) => award,
        // PROGRESS has a rate of its own.
        _ => return None,
    };
    // TASK.ATTEMPT.SECRET
    award.as_str().rsplitn(3, '.').nth(2)
}

pub(super) const fn declined(reason: &Reason) -> &'static str {
    match reason {
        Reason::Busy | Reason::Full => "declined: busy",
        Reason::Battery => "declined: battery",
        Reason::Heat => "declined: heat",
        Reason::Paused => "declined: paused",
        Reason::Hours => "declined: outside its hours",
        Reason::Leaving => "declined: leaving",
        Reason::NoExecutor => "declined: no executor",
        Reason::Stranger => "declined: stranger",
        Reason::Stale => "declined: stale bid",
        Reason::Cancelled => "declined: cancelled before",
        Reason::Unknown => "declined: unknown award",
        Reason::TooLong => "declined: too long",
        Reason::UnknownTaskType => "declined: another type of task",
        _ => "declined: another reason",
    }
}

/// Why an attempt was lost, by the words of the event.
pub(super) fn lost(why: &str) -> &'static str {
    let begins = |words: &str| why.starts_with(words);
    if begins("read the task but did not accept") {
        "an attempt is lost: not accepted"
    } else if begins("went silent") {
        "an attempt is lost: silence"
    } else if begins("gave no answer in time") {
        "an attempt is lost: no result in time"
    } else if begins("ran longer than allowed") {
        "an attempt is lost: it ran too long"
    } else if begins("answers other messages") {
        "an attempt is lost: a shell device listens again"
    } else if why.ends_with(Reason::Unknown.words()) {
        "an attempt is lost: its worker knows nothing of it"
    } else if begins("rejected the award") {
        "an attempt is lost: rejected"
    } else if begins("handed the task back") {
        "an attempt is lost: handed back"
    } else if begins("failed: ") {
        "an attempt is lost: the executor failed"
    } else if begins("was not given it") {
        "an attempt is lost: the award could not be written"
    } else if begins("stopped the task") {
        "an attempt is lost: stopped"
    } else if begins("was not tried") {
        "an attempt is lost: no room among the letters"
    } else {
        "an attempt is lost: its prompt did not arrive"
    }
}

pub(super) const fn ignored(why: Ignored) -> &'static str {
    match why {
        Ignored::Malformed => "ignored: malformed",
        Ignored::Stranger => "ignored: stranger",
        Ignored::Removed => "ignored: removed",
        Ignored::BookFull => "ignored: book full",
        Ignored::ForeignAddress => "ignored: foreign address",
        Ignored::Myself => "ignored: myself",
        Ignored::UnknownType => "ignored: unknown type",
        Ignored::UnknownTask => "ignored: unknown task",
        Ignored::Late => "ignored: late",
        Ignored::NotAsked => "ignored: not asked",
        Ignored::Repeated => "ignored: repeated",
        Ignored::UnknownAward => "ignored: unknown award",
        Ignored::AwardOver => "ignored: award over",
        Ignored::UnknownRun => "ignored: unknown run",
        Ignored::Duplicate => "ignored: duplicate",
        Ignored::UnknownSend => "ignored: unknown send",
        Ignored::OldBoot => "ignored: old boot",
    }
}
