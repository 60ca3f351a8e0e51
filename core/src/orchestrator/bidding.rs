//! How a task finds its device: which tasks may auction now, who is asked, what each answer means, who wins, and
//! what becomes of a task that nobody won.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::attempt::bid_request;
use super::{Orchestrator, Phase, Task};
use crate::auction::{Answer, Ask, Auction, Taken, Waiting};
use crate::context::Context;
use crate::decision;
use crate::id::{DeviceId, TaskId};
use crate::input::SendFailure;
use crate::mail::{Draft, Fate, Purpose};
use crate::outbox::{Event, Ignored, Outcome, OutcomeStatus};
use crate::peers::Question;
use crate::policy::{self, Candidate, Choice};
use crate::time::Time;
use crate::wire::{Bid, Body, Dialect, Reason, Refuse};

/// How many devices a sentence names; the decision record has them all.
const NAMED_IN_A_SENTENCE: usize = 8;

impl Orchestrator {
    /// Opens every auction for which a slot is believed free.
    pub(super) fn dispatch(&mut self, ctx: &mut Context<'_>) {
        if self.leaving {
            return;
        }
        while let Some(number) = self.next_to_open(ctx) {
            self.with(ctx, number, |this, task, ctx| this.open(ctx, task));
        }
    }

    /// The first task whose devices have more slots free than auctions are open for them. A belief that nobody is
    /// free and nobody full means that nothing is known, so one auction asks.
    fn next_to_open(&self, ctx: &Context<'_>) -> Option<u64> {
        // An auction asks everybody: it waits for room among the messages that are owed already.
        if self.queue.is_empty() || !(has_room(ctx) || self.auctions.is_empty()) {
            return None;
        }
        self.queue.heads(&self.clients, ctx.config.timing.ageing).into_iter().find_map(|(place, eligible)| {
            let (open, free, full) = match &eligible {
                None => (self.auctions.len(), ctx.peers.free_total(), ctx.peers.anybody_full()),
                Some(only) => {
                    let same = |n: &&u64| self.tasks.get(n).is_some_and(|task| task.eligible == eligible);
                    let open = self.auctions.iter().filter(same).count();
                    let free =
                        only.iter().map(|id| u64::from(ctx.peers.free(id, ctx.is_me(id), ctx.now))).sum();
                    let full = only.iter().any(|id| ctx.peers.known_full(id, ctx.is_me(id), ctx.now));
                    (open, free, full)
                }
            };
            let may_open = (open as u64) < free || (open == 0 && !full);
            may_open.then(|| place.number())
        })
    }

    fn open(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let deadline = ctx.now + task.bid_deadline.unwrap_or(ctx.config.timing.bid_deadline);
        let deadline = task.expires.map_or(deadline, |expires| deadline.min(expires));
        let mut auction = Auction::new(ctx.now, deadline);
        // A task that comes back costs its client no further turn.
        if !core::mem::replace(&mut task.had_turn, true) {
            self.clients.turn(&task.client);
        }
        ctx.chronicle.opened(&task.id, ctx.now, &ctx.config.limits);
        let too_long_for_shells = task.is_too_long_for_shells(ctx);
        let mut asked: Vec<(DeviceId, bool)> = Vec::new();
        for (device, peer) in ctx.peers.iter().filter(|(device, _)| task.may_run_on(device)) {
            let waiting = waiting(ctx, device, peer);
            auction.ask(device, waiting);
            if waiting == Waiting::Skipped {
                let full = decision::Answer::KnownBusy;
                ctx.chronicle.answered(&task.id, device, ctx.now, full, &ctx.config.limits);
            } else if too_long_for_shells && !peer.is_bidmesh() && peer.heard.is_some() {
                let reason = Reason::TooLong;
                auction.answer(device, Answer::Refused { reason: reason.clone() }, false);
                let refused = decision::Answer::Refused { reason, retry_after_ms: None };
                ctx.chronicle.answered(&task.id, device, ctx.now, refused, &ctx.config.limits);
            } else {
                asked.push((device.clone(), peer.is_bidmesh()));
            }
        }
        let me = ctx.me.id.clone();
        if task.may_run_on(&me) {
            auction.ask(&me, Waiting::Patient(ctx.config.timing.patience));
            asked.push((me, true));
        }
        ctx.tell(Event::Opened { task: task.id.clone(), asked: asked.len() });
        for (device, bidmesh) in asked {
            self.put(ctx, &mut auction, task, &device, bidmesh);
        }
        task.phase = Phase::Collecting(auction);
        self.look(ctx, task);
    }

    /// `device` has moved, or was restarted: whoever waits for its bid asks for it again, where it is now.
    pub(crate) fn ask_anew(&mut self, ctx: &mut Context<'_>, device: &DeviceId) {
        let (mail, mut post) = ctx.mail();
        mail.recall(&mut post, device);
        ctx.peers.edit(device, ctx.now, |peer| peer.question = None);
        for number in self.waiting_for(device) {
            self.with(ctx, number, |this, task, ctx| {
                let deadline = match &task.phase {
                    Phase::Collecting(auction) => auction.deadline,
                    _ => return,
                };
                match ctx.peers.get(device) {
                    Some(peer) if peer.is_bidmesh() => this.ask(ctx, task, device, deadline),
                    // The first of them asks for all.
                    Some(peer) if peer.question.is_none() => this.ask_shell(ctx, task, device, deadline),
                    _ => {}
                }
            });
        }
    }

    /// A device of the auction gets its question: one of its own, or a shell device the one that all auctions share.
    fn put(
        &mut self,
        ctx: &mut Context<'_>,
        auction: &mut Auction,
        task: &Task,
        device: &DeviceId,
        bidmesh: bool,
    ) {
        if bidmesh {
            self.ask(ctx, task, device, auction.deadline);
        } else {
            self.question(ctx, auction, task, device);
        }
    }

    fn ask(&self, ctx: &mut Context<'_>, task: &Task, device: &DeviceId, until: Time) {
        let deadline = until.since(ctx.now);
        let body = Body::BidRequest(bid_request(task, deadline, ctx.config.prompt_in_bid_request));
        let purpose = Purpose::Ask { task: task.id.clone() };
        ctx.post(Draft { to: device.clone(), address: None, body, purpose, give_up_at: until });
    }

    /// A device that was taken for a shell device has shown the marker: its bid will name one task, so every other
    /// auction that shares the question to it asks for itself.
    pub(crate) fn turned_out_bidmesh(&mut self, ctx: &mut Context<'_>, device: &DeviceId) {
        let now = ctx.now;
        let question = ctx.peers.edit(device, now, |peer| peer.question.take()).flatten();
        let Some(question) = question else { return };
        if let Some(letter) = question.letter {
            ctx.abandon(letter);
        }
        let asked = question.letter.is_none().then_some(question.task);
        for number in self.waiting_for(device).into_iter().filter(|number| Some(*number) != asked) {
            self.with(ctx, number, |this, task, ctx| {
                if let Phase::Collecting(auction) = &task.phase {
                    this.ask(ctx, task, device, auction.deadline);
                }
            });
        }
    }

    /// A shell device answers one question at a time, and its bid names no task: whoever waits for it already is
    /// joined, else it is asked.
    fn question(&mut self, ctx: &mut Context<'_>, auction: &mut Auction, task: &Task, device: &DeviceId) {
        let patience = ctx.config.timing.shell_silence();
        let pending = ctx.peers.get(device).and_then(|peer| peer.question);
        // A question that was read and stayed unanswered for longer than anybody waits is asked again.
        let fresh = |question: &Question| {
            question.letter.is_some() || question.since.is_some_and(|since| ctx.now.since(since) < patience)
        };
        match pending.filter(fresh) {
            Some(question) => {
                if let Some(since) = question.since {
                    auction.started(device, ctx.now);
                    if question.letter.is_none() {
                        auction.remind(since + patience);
                    }
                }
            }
            None => self.ask_shell(ctx, task, device, auction.deadline),
        }
    }

    fn ask_shell(&mut self, ctx: &mut Context<'_>, task: &Task, device: &DeviceId, until: Time) {
        let body =
            Body::BidRequest(bid_request(task, until.since(ctx.now), ctx.config.prompt_in_bid_request));
        let draft =
            Draft { to: device.clone(), address: None, body, purpose: Purpose::Question, give_up_at: until };
        let letter = ctx.post(draft);
        let question =
            letter.map(|letter| Question { since: None, letter: Some(letter), until, task: task.number });
        ctx.peers.edit(device, ctx.now, |peer| peer.question = question);
    }

    /// A shell device that read the question long ago and has not bid: its bid is lost, since it is not said twice.
    pub(super) fn ask_again(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let Phase::Collecting(auction) = &mut task.phase else { return };
        let patience = ctx.config.timing.shell_silence();
        let read = |device: &DeviceId| {
            let question = ctx.peers.get(device)?.question.filter(|question| question.letter.is_none())?;
            Some((device.clone(), question.since? + patience))
        };
        let unanswered = auction.asks().filter(|(_, ask)| ask.answer.is_none()).map(|(device, _)| device);
        let (lost, pending): (Vec<_>, Vec<_>) =
            unanswered.filter_map(read).partition(|(_, end)| *end <= ctx.now);
        if let Some(next) = pending.into_iter().map(|(_, end)| end).min() {
            auction.remind(next);
        }
        let deadline = auction.deadline;
        for (device, _) in lost {
            self.ask_shell(ctx, task, &device, deadline);
        }
    }

    /// What became of a BID_REQUEST to a bidmesh device.
    pub(crate) fn ask_news(&mut self, ctx: &mut Context<'_>, device: &DeviceId, task: &TaskId, what: Fate) {
        let Some(number) = self.by_id.get(task).copied() else { return };
        self.with(ctx, number, |this, task, ctx| this.ask_fate(ctx, task, device, what));
    }

    fn ask_fate(&mut self, ctx: &mut Context<'_>, task: &mut Task, device: &DeviceId, what: Fate) {
        let Phase::Collecting(auction) = &mut task.phase else { return };
        match what {
            Fate::Started => auction.started(device, ctx.now),
            Fate::Refused => auction.refused_connection(device, ctx.now, ctx.config.timing.patience_refused),
            Fate::Delivered => {}
            Fate::Failed(why) => {
                if auction.answer(device, Answer::Unreachable { why }, false) == Taken::Yes {
                    let answer = decision::Answer::Unreachable { why };
                    ctx.chronicle.answered(&task.id, device, ctx.now, answer, &ctx.config.limits);
                }
            }
        }
        self.look(ctx, task);
    }

    /// What became of the question to a shell device; every auction that waits for it is concerned.
    pub(crate) fn question_news(&mut self, ctx: &mut Context<'_>, device: &DeviceId, what: Fate) {
        let now = ctx.now;
        let until = ctx.peers.get(device).and_then(|peer| peer.question).map(|question| question.until);
        ctx.peers.edit(device, now, |peer| match (&mut peer.question, what) {
            (Some(question), Fate::Started) => {
                question.since.get_or_insert(now);
            }
            (Some(question), Fate::Delivered) => {
                question.since = Some(now);
                question.letter = None;
            }
            (question, Fate::Failed(_)) => *question = None,
            _ => {}
        });
        let patience = ctx.config.timing.shell_silence();
        for number in self.waiting_for(device) {
            let again = matches!(what, Fate::Failed(why) if why != SendFailure::Overloaded);
            self.with(ctx, number, |this, task, ctx| {
                let Phase::Collecting(auction) = &mut task.phase else { return };
                let deadline = auction.deadline;
                if what == Fate::Delivered {
                    auction.remind(now + patience);
                }
                // The letter was given up when the first who waited stopped waiting; this one waits longer.
                if again && until.is_some_and(|until| deadline > until) {
                    if ctx.peers.get(device).is_some_and(|peer| peer.question.is_none()) {
                        this.ask_shell(ctx, task, device, deadline);
                    }
                    return;
                }
                this.ask_fate(ctx, task, device, what);
            });
        }
    }

    /// Open auctions that wait for `device`, oldest first.
    fn waiting_for(&self, device: &DeviceId) -> Vec<u64> {
        self.auctions_where(|auction| auction.awaits_answer(device))
    }

    /// A bid arrived. A bidmesh device's names its task; a shell device's answers every auction that waits for it.
    pub(crate) fn bid(&mut self, ctx: &mut Context<'_>, from: &DeviceId, bid: Bid, dialect: Dialect) {
        let now = ctx.now;
        ctx.peers.believe(from, now, bid.capacity, None, &ctx.config.timing);
        ctx.peers.edit(from, now, |peer| peer.bid = Some((now, bid.clone())));
        if dialect.is_shell() && !ctx.is_me(from) {
            self.bid_of_shell(ctx, from, &bid, dialect);
        } else {
            match bid.task.as_ref().and_then(|task| self.by_id.get(task)).copied() {
                Some(number) => {
                    self.with(ctx, number, |this, task, ctx| this.answered_bid(ctx, task, from, bid, dialect))
                }
                None => ctx.ignore(from, Ignored::UnknownTask),
            }
        }
        if ctx.peers.free(from, ctx.is_me(from), now) > 0 {
            // By its own word; the task that the word was for came first.
            self.look_again(ctx, |auction| auction.starves_for(from));
        }
    }

    fn bid_of_shell(&mut self, ctx: &mut Context<'_>, from: &DeviceId, bid: &Bid, dialect: Dialect) {
        ctx.peers.edit(from, ctx.now, |peer| peer.question = None);
        let waiting = self.waiting_for(from);
        if waiting.is_empty() {
            let asked = self.auctions_where(|auction| auction.asks().any(|(device, _)| device == from));
            let why = if asked.is_empty() { Ignored::NotAsked } else { Ignored::Repeated };
            ctx.ignore(from, why);
        }
        for number in waiting {
            let bid = bid.clone();
            self.with(ctx, number, |this, task, ctx| this.answered_bid(ctx, task, from, bid, dialect));
        }
    }

    fn answered_bid(
        &mut self,
        ctx: &mut Context<'_>,
        task: &mut Task,
        from: &DeviceId,
        bid: Bid,
        dialect: Dialect,
    ) {
        if dialect.is_shell() && task.is_too_long_for_shells(ctx) {
            return self.answered_refusal(ctx, task, from, Reason::TooLong, None);
        }
        let usable = ctx.peers.free(from, ctx.is_me(from), ctx.now) > 0;
        let told = decision::Answer::Bid { bid: bid.clone() };
        if self.take_answer(ctx, task, from, Answer::Bid { bid, at: ctx.now, dialect }, usable) {
            ctx.tell(Event::BidTaken { task: task.id.clone(), from: from.clone() });
            ctx.chronicle.answered(&task.id, from, ctx.now, told, &ctx.config.limits);
            self.look(ctx, task);
        }
    }

    /// A bidmesh device declined.
    pub(crate) fn refused(&mut self, ctx: &mut Context<'_>, from: &DeviceId, refuse: Refuse) {
        let pause =
            refuse.reason.is_load().then(|| refuse.retry_after.unwrap_or(ctx.config.timing.retry_after));
        ctx.peers.believe(from, ctx.now, refuse.capacity, pause, &ctx.config.timing);
        let Some(number) = refuse.task.as_ref().and_then(|task| self.by_id.get(task)).copied() else {
            return ctx.ignore(from, Ignored::UnknownTask);
        };
        self.with(ctx, number, |this, task, ctx| {
            this.answered_refusal(ctx, task, from, refuse.reason, refuse.retry_after);
        });
    }

    fn answered_refusal(
        &mut self,
        ctx: &mut Context<'_>,
        task: &mut Task,
        from: &DeviceId,
        reason: Reason,
        retry_after: Option<core::time::Duration>,
    ) {
        if self.take_answer(ctx, task, from, Answer::Refused { reason: reason.clone() }, false) {
            ctx.tell(Event::Refused { task: task.id.clone(), from: from.clone(), reason: reason.clone() });
            let told = decision::Answer::Refused { reason, retry_after_ms: retry_after.map(super::millis) };
            ctx.chronicle.answered(&task.id, from, ctx.now, told, &ctx.config.limits);
            self.look(ctx, task);
        }
    }

    fn take_answer(
        &mut self,
        ctx: &mut Context<'_>,
        task: &mut Task,
        from: &DeviceId,
        answer: Answer,
        usable: bool,
    ) -> bool {
        let Phase::Collecting(auction) = &mut task.phase else {
            ctx.ignore(from, Ignored::Late);
            return false;
        };
        match auction.answer(from, answer, usable) {
            Taken::Yes => true,
            Taken::NotAsked => {
                ctx.ignore(from, Ignored::NotAsked);
                false
            }
            Taken::Repeated => {
                ctx.ignore(from, Ignored::Repeated);
                false
            }
        }
    }

    /// Ends the auction of a collecting task if it is over.
    pub(super) fn look(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let Phase::Collecting(auction) = &mut task.phase else { return };
        if !auction.advance(ctx.now) {
            return;
        }
        match choose(ctx, task) {
            Some(choice) => self.won(ctx, task, &choice),
            None => {
                let Phase::Collecting(auction) = &mut task.phase else { return };
                if auction.may_go_on(ctx.now) {
                    // The slots that had been offered were claimed by an older task meanwhile.
                    auction.nothing_usable();
                } else {
                    self.nobody_won(ctx, task);
                }
            }
        }
    }

    fn won(&mut self, ctx: &mut Context<'_>, task: &mut Task, choice: &Choice) {
        ctx.chronicle.chosen(&task.id, ctx.now, Ok(choice), &ctx.config.limits);
        if task.dry_run {
            let why = choice.sentence.clone();
            let decided = task.without_answer(OutcomeStatus::Decided, why);
            self.close(ctx, task, Outcome { device: Some(choice.winner.clone()), ..decided });
        } else {
            self.award(ctx, task, choice);
        }
    }

    /// The attempt at hand is lost: the next best of the same auction, or what follows when there is none.
    pub(super) fn next_bidder(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        if task.accepted_runs >= ctx.config.limits.attempts {
            let last = task.last_error.clone().unwrap_or_else(|| "no worker gave an answer".into());
            let why = match task.accepted_runs {
                1 => last.as_ref().into(),
                runs => format!("{runs} attempts gave no answer; the last one: {last}"),
            };
            return self.close(ctx, task, task.without_answer(OutcomeStatus::Failed, why));
        }
        match choose(ctx, task) {
            Some(choice) => self.won(ctx, task, &choice),
            None => self.nobody_won(ctx, task),
        }
    }

    /// Nobody is left in the auction. Being busy costs nothing: the task rests and asks again. An auction whose
    /// winners all failed, or in which nobody could be asked since too many messages are owed here, is followed by another,
    /// a few times. Else there is nobody.
    fn nobody_won(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let (Phase::Collecting(auction) | Phase::Awarded { auction, .. }) = &task.phase else { return };
        let busy = auction.asks().any(|(device, ask)| is_busy(ctx, device, ask));
        let tried = auction.asks().any(|(_, ask)| ask.spent);
        let overloaded = Some(Answer::Unreachable { why: SendFailure::Overloaded });
        let unasked = auction.asks().any(|(_, ask)| ask.answer == overloaded);
        let list = describe(ctx, auction);
        ctx.chronicle.chosen(&task.id, ctx.now, Err(list.clone()), &ctx.config.limits);
        if busy {
            return self.rest(ctx, task);
        }
        task.fruitless += 1;
        let in_vain_for_good = task.fruitless >= ctx.config.limits.auctions;
        if !tried && (!unasked || in_vain_for_good) {
            return self.close(ctx, task, task.without_answer(OutcomeStatus::Nobody, list));
        }
        if in_vain_for_good {
            let in_vain = match task.fruitless {
                1 => String::from("the auction found no device that took it"),
                many => format!("{many} auctions in a row found no device that took it; in the last one"),
            };
            let last = task.last_error.as_ref().map(|error| format!("; the last attempt: {error}"));
            let why = format!("{in_vain}: {list}{}", last.unwrap_or_default());
            return self.close(ctx, task, task.without_answer(OutcomeStatus::Failed, why));
        }
        if unasked {
            // Asked at once they would find no more room.
            return self.rest(ctx, task);
        }
        self.end_auction(ctx, task);
        task.phase = Phase::Queued;
    }

    fn rest(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        self.end_auction(ctx, task);
        let timing = &ctx.config.timing;
        let growth = 1u32 << task.busy_rounds.min(16);
        // Without a pause at all this would spin; one that did not grow would ask the same full devices for ever.
        let least = core::time::Duration::from_millis(1);
        let pause = timing.busy_pause.max(least).saturating_mul(growth).min(timing.busy_pause_max.max(least));
        let until = ctx.now + pause;
        task.busy_rounds = task.busy_rounds.saturating_add(1);
        task.phase = Phase::Resting { until };
        ctx.tell(Event::Resting { task: task.id.clone(), until });
    }

    /// A slot became free: whoever rests, or has only bids of devices that were full, looks again, and devices that were
    /// not asked since they were full are asked after all.
    pub(crate) fn slot_freed(&mut self, ctx: &mut Context<'_>) {
        if self.leaving {
            return;
        }
        // Who rests since too many messages are owed would find no more room now.
        while has_room(ctx)
            && let Some(number) = self.resting.first().copied()
        {
            self.with(ctx, number, |_, task, _| task.phase = Phase::Queued);
        }
        self.look_again(ctx, Auction::is_starved);
        for number in self.auctions_where(Auction::lacks_the_skipped) {
            self.with(ctx, number, |this, task, ctx| this.ask_the_skipped(ctx, task));
        }
    }

    /// Open auctions that `have` it, oldest task first.
    fn auctions_where(&self, have: impl Fn(&Auction) -> bool) -> Vec<u64> {
        let open = |number: &&u64| match self.tasks.get(number).map(|task| &task.phase) {
            Some(Phase::Collecting(auction)) => have(auction),
            _ => false,
        };
        self.auctions.iter().filter(open).copied().collect()
    }

    /// Auctions that lacked a slot for the bids that they have: there may be one now.
    fn look_again(&mut self, ctx: &mut Context<'_>, lacks: impl Fn(&Auction) -> bool) {
        for number in self.auctions_where(lacks) {
            self.with(ctx, number, |this, task, ctx| {
                if choose(ctx, task).is_some()
                    && let Phase::Collecting(auction) = &mut task.phase
                {
                    auction.usable_again();
                    this.look(ctx, task);
                }
            });
        }
    }

    fn ask_the_skipped(&mut self, ctx: &mut Context<'_>, task: &mut Task) {
        let mut auction = match core::mem::replace(&mut task.phase, Phase::Queued) {
            Phase::Collecting(auction) => auction,
            other => {
                task.phase = other;
                return;
            }
        };
        let skipped = auction.asks().filter(|(_, ask)| ask.answer == Some(Answer::KnownBusy));
        let free = |device: &&DeviceId| !ctx.peers.known_full(device, false, ctx.now);
        let devices: Vec<DeviceId> = skipped.map(|(device, _)| device).filter(free).cloned().collect();
        for device in devices {
            let Some(peer) = ctx.peers.get(&device) else { continue };
            auction.ask(&device, waiting(ctx, &device, peer));
            let bidmesh = peer.is_bidmesh();
            self.put(ctx, &mut auction, task, &device, bidmesh);
        }
        task.phase = Phase::Collecting(auction);
    }

    /// Nobody is asked any more on behalf of this task, and questions that nobody else waits for are dropped.
    pub(super) fn end_auction(&mut self, ctx: &mut Context<'_>, task: &Task) {
        let Phase::Collecting(auction) = &task.phase else { return };
        let unanswered: Vec<DeviceId> = auction
            .asks()
            .filter(|(_, ask)| ask.answer.is_none())
            .map(|(device, _)| device.clone())
            .collect();
        if unanswered.is_empty() {
            return;
        }
        let (mail, mut post) = ctx.mail();
        mail.abandon_where(
            &mut post,
            |_, purpose| matches!(purpose, Purpose::Ask { task: of } if *of == task.id),
        );
        for device in unanswered {
            let question = ctx.peers.get(&device).and_then(|peer| peer.question);
            if let Some(question) = question
                && self.waiting_for(&device).is_empty()
            {
                if let Some(letter) = question.letter {
                    ctx.abandon(letter);
                }
                ctx.peers.edit(&device, ctx.now, |peer| peer.question = None);
            }
        }
    }
}

impl Task {
    /// Shell devices hand a prompt on as arguments of processes.
    fn is_too_long_for_shells(&self, ctx: &Context<'_>) -> bool {
        self.prompts.bytes_max() > ctx.config.limits.shell_prompt_bytes
    }
}

/// The best usable bid of the task's auction that was not awarded yet. Devices that a message failed to reach come
/// last: a bid in hand is better than nobody.
pub(super) fn choose(ctx: &Context<'_>, task: &Task) -> Option<Choice> {
    let (Phase::Collecting(auction) | Phase::Awarded { auction, .. }) = &task.phase else { return None };
    let validity = ctx.config.timing.bid_validity;
    let bids = auction.asks().filter(|(_, ask)| !ask.spent).filter_map(|(device, ask)| match &ask.answer {
        Some(Answer::Bid { bid, at, .. }) if ctx.now.since(*at) <= validity => Some((device, bid)),
        _ => None,
    });
    let with = |free: &dyn Fn(&DeviceId) -> u16| {
        let candidate = |(device, bid)| Candidate {
            device,
            bid,
            free: free(device),
            tried: task.tried.contains(device),
            tie: policy::tie(&task.id, device),
        };
        policy::choose(task.policy, &bids.clone().map(candidate).collect::<Vec<_>>())
    };
    with(&|device| ctx.peers.free(device, ctx.is_me(device), ctx.now))
        .or_else(|| with(&|device| ctx.peers.free_if_there(device, ctx.is_me(device), ctx.now)))
}

/// Whether everybody could be asked: there is room among the messages that are owed.
fn has_room(ctx: &Context<'_>) -> bool {
    ctx.mail.len() + ctx.peers.len() < ctx.config.limits.outgoing
}

/// How long an auction waits for the bid of a peer that it asks now.
fn waiting(ctx: &Context<'_>, device: &DeviceId, peer: &crate::peers::Peer) -> Waiting {
    let timing = &ctx.config.timing;
    if ctx.peers.known_full(device, false, ctx.now) {
        Waiting::Skipped
    } else if !peer.waited_for() {
        Waiting::NotAtAll
    } else {
        Waiting::Patient(if peer.is_bidmesh() { timing.patience } else { timing.patience_shell })
    }
}

/// Whether a device would take the task later, so that resting helps.
fn is_busy(ctx: &Context<'_>, device: &DeviceId, ask: &Ask) -> bool {
    let works_for_others = || {
        let busy = |peer: &crate::peers::Peer| {
            peer.shell_busy(ctx.now, &ctx.config.timing) && ask.refused_connections
        };
        ctx.peers.get(device).is_some_and(busy)
    };
    let full_now = ctx.peers.known_full(device, ctx.is_me(device), ctx.now);
    match &ask.answer {
        Some(Answer::KnownBusy) => true,
        Some(Answer::Refused { reason }) => reason.is_load(),
        Some(Answer::Bid { .. }) => full_now && !ask.spent,
        Some(Answer::Unreachable { .. }) | None => ask.asked_late || full_now || works_for_others(),
    }
}

/// Why nobody won, in one sentence that says what to do.
fn describe(ctx: &Context<'_>, auction: &Auction) -> String {
    let mut told = Vec::new();
    for (device, ask) in auction.asks() {
        let what: String = match &ask.answer {
            Some(Answer::Bid { .. }) if ask.spent => "bid, and has been tried".into(),
            Some(Answer::Bid { .. }) if ctx.peers.known_full(device, ctx.is_me(device), ctx.now) => {
                "bid, but has no free slot any more".into()
            }
            Some(Answer::Bid { .. }) => "bid, but its bid is too old by now".into(),
            Some(Answer::Refused { reason }) => format!("refused: {}", reason.words()),
            Some(Answer::Unreachable { why }) => why.words().into(),
            Some(Answer::KnownBusy) => "has all its slots taken".into(),
            None => "did not answer".into(),
        };
        let name = if ctx.is_me(device) { "this device" } else { device.as_str() };
        told.push(format!("{name} {what}"));
    }
    if told.is_empty() {
        return "none of the devices that it is for is in the address book any more".into();
    }
    let rest = told.len().saturating_sub(NAMED_IN_A_SENTENCE);
    told.truncate(NAMED_IN_A_SENTENCE);
    if rest > 0 {
        told.push(format!("{rest} more likewise"));
    }
    let hint = if ctx.peers.len() == 0 {
        "; no other device is known here: add one with `bidmesh peers add ID=ADDRESS:PORT`, or give this one an executor"
    } else {
        ""
    };
    format!("{}{hint}", told.join("; "))
}
