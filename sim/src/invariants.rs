//! What must hold in every world, recomputed from what goes into a device and what comes out of it, without core's
//! own code: the oracle keeps its own books of bids, awards, runs and outcomes and compares.
//!
//! The rules have the numbers of docs/testing.md; [`RULES`] has a line for each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::input::Prompts;
use bidmesh_core::outbox::{Ignored, OutcomeStatus, RunId};
use bidmesh_core::wire::{Body, Reason, Status, Text};
use bidmesh_core::{Action, Config, Event, Input, Outbox, Report, Time};

mod bids;
mod books;
mod messages;
mod person;
mod turns;

pub use books::{Award, Peer, Task, View};

/// Each rule that a world checks, in one line.
pub const RULES: [(&str, &str); 27] = [
    ("S1", "a task has one outcome, also across starts of a device with a store"),
    (
        "S2",
        "an answer is what its device really produced for that prompt, what was shown is the answer, and a shell gets a text as it was meant",
    ),
    ("S3", "an award goes to a device whose bid for that auction had arrived"),
    ("S4", "no bid of a device that surely had a free slot was better than the winner's"),
    ("S5", "a device counts once in an auction, and by a bid of its own"),
    (
        "S6",
        "one attempt is open at a time, or two while a slow one is hedged; numbers rise, accepted runs stay within the limit",
    ),
    ("S7", "an award runs once in one start of a device"),
    (
        "S8",
        "only a device that was given an award of the task can finish it, by a RESULT that names the award",
    ),
    ("S9", "nothing panics, and what is written can be read back and written again, byte for byte"),
    ("S10", "every collection stays within its limit, and is empty when the mesh is quiet"),
    (
        "S11",
        "an input causes few messages, a stranger's at most one to it, and nothing goes to an address that a message made up",
    ),
    ("S12", "what is due is done: a deadline lies ahead"),
    ("S13", "the same inputs have the same outputs and lead to the same state"),
    ("S14", "a strict message that was cut off is no message"),
    ("S15", "prompts submitted are those refused, those ended, and those lost with their device"),
    ("S16", "no more runs at once than slots, none with a longer limit than configured"),
    (
        "S18",
        "nobody is called gone who was heard a moment ago, or whom this device could not hear while it slept",
    ),
    (
        "S19",
        "nothing begins to run at a device that must rest: battery, heat, its owner's pause, outside its hours, no executor",
    ),
    ("L1", "a task ends within its bound, whatever happens"),
    ("L2", "after the storm every new prompt is answered by the core that is left"),
    ("L3", "every bid counts or is ignored for a reason, and nothing is held against a device for ever"),
    ("L4", "a full device is not given a task while an idle one has bid for it"),
    ("L5", "when the load stops, nothing is left to do"),
    ("L6", "without faults a task costs few messages"),
    ("L8", "a device answers or ignores every question at once, whatever it runs"),
    ("L9", "with heartbeats every device knows after ten quiet minutes which of its peers are there"),
    (
        "L10",
        "clients of one device take turns: none is passed over, prompts of one priority and age compared",
    ),
];

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub rule: &'static str,
    /// What happened, in words.
    pub what: String,
}

impl Violation {
    /// Whether it is a rule of liveness.
    pub fn is_liveness(&self) -> bool {
        self.rule.starts_with('L')
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = RULES.iter().find(|(rule, _)| *rule == self.rule).map_or("", |(_, line)| line);
        write!(f, "{} does not hold ({line}): {}", self.rule, self.what)
    }
}

/// So many bidders are a herd.
const HERD: usize = 50;

/// What has been seen at least once, by name: a campaign in which a mark stays at zero has not tested it.
pub type Marks = BTreeMap<&'static str, u64>;

/// Watches all devices of a world.
#[derive(Debug, Default)]
pub struct Oracle {
    views: Vec<View>,
    /// What was really produced for each prompt, by whom.
    produced: BTreeMap<Text, BTreeSet<(DeviceId, Text)>>,
    /// All awards that were given.
    awards: BTreeSet<String>,
    /// Messages that name a task.
    messages: BTreeMap<String, u32>,
    /// Two devices have one id. Each hides the other's marker, so a third may take both for a shell device and write for
    /// a shell's `echo` what no echo reads; what that garbles is nobody's defect but theirs.
    pub doubled: bool,
    /// Auctions of all devices.
    pub auctions: u64,
    /// Bids that counted in them.
    pub bids: u64,
    /// What was seen.
    pub marks: Marks,
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
    /// The task that came closest to its bound: how far, in parts per million.
    pub slowest: u64,
}

impl Oracle {
    /// A device joins; its number is the next.
    pub fn join(&mut self, id: DeviceId, config: Config, stores: bool) {
        self.views.push(View::new(id, config, stores));
    }

    /// A device has another name than it joined with.
    pub fn rename(&mut self, node: usize, id: DeviceId) {
        self.views[node].id = id;
    }

    /// What the oracle knows of a device.
    pub fn view(&self, node: usize) -> &View {
        &self.views[node]
    }

    /// How many messages named each task.
    pub fn messages(&self) -> impl Iterator<Item = (&str, u32)> {
        self.messages.iter().map(|(task, count)| (task.as_str(), *count))
    }

    /// Something was seen.
    pub fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    /// A rule does not hold. Only the first is kept: what follows may follow from it.
    pub fn violate(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, what: what() });
        }
    }

    fn must(&mut self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(rule, what);
        }
    }

    /// Somebody produced this for that prompt.
    pub fn produced(&mut self, device: &DeviceId, prompt: &Text, output: &Text) {
        self.produced.entry(prompt.clone()).or_default().insert((device.clone(), output.clone()));
    }

    fn was_produced(&self, prompts: &Prompts, device: &DeviceId, output: &Text) -> bool {
        let by = (device.clone(), output.clone());
        [Some(&prompts.base), prompts.npu.as_ref(), prompts.cpu.as_ref()]
            .into_iter()
            .flatten()
            .any(|prompt| self.produced.get(prompt).is_some_and(|made| made.contains(&by)))
    }

    /// A device is about to be handed this.
    pub fn before(&mut self, node: usize, now: Time, input: &Input) {
        self.views[node].current_bid = None;
        self.views[node].current_question = None;
        (self.views[node].stranger, self.views[node].says) = (None, false);
        self.views[node].turns.tick(now);
        match input {
            Input::Submit(submission) => {
                self.views[node].turns.submitted(submission.ticket);
                self.views[node].tickets.insert(submission.ticket, submission.clone());
            }
            Input::Say { .. } => self.views[node].says = true,
            Input::Received { source, message: Ok(decoded) } => {
                // Whoever names an address that is not its own is not believed.
                let believed = match &decoded.message.body {
                    Body::Hello(told) | Body::Discover(told) => told.ip.is_none_or(|ip| ip == source.ip()),
                    _ => true,
                };
                if believed {
                    let from = decoded.message.from.clone();
                    let book = self.views[node].peers.entry(from).or_default();
                    (book.heard_before, book.heard) = (book.heard, Some(now));
                }
                let view = &mut self.views[node];
                let from = &decoded.message.from;
                view.stranger = (!view.known.contains(from)).then(|| from.clone());
                if believed && matches!(decoded.message.body, Body::Hello(_) | Body::Discover(_)) {
                    view.known.insert(from.clone());
                }
                self.heard(node, now, &decoded.message);
            }
            Input::SendFailed { send, .. } => {
                let view = &mut self.views[node];
                view.failed_sends.insert(*send);
                if let Some(device) = view.sends.remove(send) {
                    view.peers.entry(device).or_default().failed = Some(now);
                }
            }
            Input::Delivered { send } => {
                self.views[node].sends.remove(send);
                self.views[node].failed_sends.remove(send);
            }
            Input::Cancel { task } => {
                self.views[node].turns.left(task);
                if let Some(book) = self.views[node].tasks.get_mut(task)
                    && book.finished == 0
                {
                    book.cancelled.get_or_insert(now);
                }
            }
            Input::Ran { run, .. } => {
                self.views[node].runs.remove(run);
            }
            Input::ExecutorChanged(executor) => self.views[node].able = executor.available,
            Input::SensorsRead(sensors) => self.views[node].sensors = *sensors,
            Input::Pause { during } => self.views[node].paused = during.is_none(),
            Input::Resume => self.views[node].paused = false,
            Input::PeersEdited(lines) => {
                // Whom a person takes out is not given anything.
                let view = &mut self.views[node];
                view.known.extend(lines.iter().map(|(device, _)| device.clone()));
                let listed: BTreeSet<&DeviceId> = lines.iter().map(|(device, _)| device).collect();
                let out = view.peers.iter_mut().filter(|(device, _)| !listed.contains(device));
                out.for_each(|(_, peer)| peer.failed = Some(now));
            }
            Input::Reconfigured(config) => {
                let view = &mut self.views[node];
                if config.timing.ageing != view.config.timing.ageing {
                    view.turns.doubt();
                }
                view.config = (**config).clone();
            }
            // No auction opens any more, and what is attached ends.
            Input::Shutdown { .. } => self.views[node].turns.forget(),
            _ => {}
        }
    }

    /// A device has been handed an input, and this came of it.
    pub fn after(&mut self, node: usize, now: Time, out: &Outbox, peers: usize) {
        for action in &out.actions {
            match action {
                Action::Persist { record, .. } => self.persisted(node, record),
                Action::Report(Report::Admitted { ticket, task, .. }) => self.admitted(node, *ticket, task),
                _ => {}
            }
        }
        for event in &out.events {
            self.noticed(node, now, event);
        }
        let slept = out.events.iter().any(|event| matches!(event, Event::Slept { .. }));
        let over = |event: &Event| matches!(event, Event::Finished { status: OutcomeStatus::Expired, .. });
        if slept && out.events.iter().any(over) {
            self.mark("a prompt's time ends while its device sleeps");
        }
        let view = &mut self.views[node];
        view.most_peers = view.most_peers.max(peers);
        for action in &out.actions {
            self.acted(node, now, action);
        }
        self.counted(node, out);
        if !out.events.is_empty() {
            self.views[node].rest_of_tasks(now);
        }
        self.answered(node, out);
    }

    /// L3, L8: what was just handed over had its effect, or an event says why it has none.
    fn answered(&mut self, node: usize, out: &Outbox) {
        let excused = |event: &Event| {
            matches!(event, Event::Ignored { .. } | Event::Overloaded { .. } | Event::WrongSource { .. })
        };
        if out.events.iter().any(excused) {
            return;
        }
        let view = &self.views[node];
        let id = view.id.clone();
        if let Some((bidder, ..)) = view.current_bid.clone() {
            // A shell device's bid is none for a prompt that is too long for its processes.
            let counted = |event: &Event| match event {
                Event::BidTaken { from, .. } | Event::Refused { from, reason: Reason::TooLong, .. } => {
                    *from == bidder
                }
                _ => false,
            };
            self.must(out.events.iter().any(counted), "L3", || format!("{id} drops a bid of {bidder}"));
        }
        if let Some(asker) = self.views[node].current_question.clone() {
            let answer = |action: &Action| match action {
                Action::Send { device, message, .. } => {
                    *device == asker && matches!(message.body, Body::BidResponse(_) | Body::Refuse(_))
                }
                _ => false,
            };
            self.must(out.actions.iter().any(answer), "L8", || format!("{id} does not answer {asker}"));
        }
    }

    /// A run began: once an award in one start, within the slots and the limit.
    fn begins(&mut self, node: usize, run: RunId, label: &str, prompt: &Text, limit: Duration) {
        let ours = self.awards.contains(label);
        let view = &mut self.views[node];
        let remembers = view.config.limits.tombstones >= 256 && view.config.limits.kept_results >= 16;
        let new = view.begun.insert((label.into(), prompt.clone()));
        view.runs.insert(run, label.into());
        let (running, slots, longest) =
            (view.runs.len(), view.config.work.slots, view.config.timing.run_limit);
        let id = view.id.clone();
        let rests = view.must_rest();
        self.must(rests.is_none(), "S19", || {
            format!("{id} begins {label}, and {}", rests.unwrap_or_default())
        });
        self.must(new || !ours || !remembers, "S7", || format!("{id} runs {label} twice in one start"));
        self.must(running <= usize::from(slots), "S16", || format!("{id} runs {running} with {slots} slots"));
        self.must(limit <= longest, "S16", || format!("{id} runs {label} for up to {limit:?}"));
    }

    /// A device was lost, with everything that it did not keep.
    pub fn lost(&mut self, node: usize) {
        self.views[node].restart();
    }

    /// The world is over: every prompt that was submitted has its fate. `alive`: the device still lives.
    pub fn close(&mut self, node: usize, alive: bool) {
        let view = &self.views[node];
        let open = |task: &&Task| task.outcome.is_none() && task.finished == 0 && !task.lost;
        let unended = view.tasks.iter().find(|(_, task)| open(task)).map(|(id, _)| id.clone());
        let unanswered = view.tickets.keys().find(|t| !view.answered.contains(*t)).copied();
        let unreported =
            |task: &&Task| task.finished > 0 && task.outcome.is_none() && !task.relayed && !task.lost;
        let unreported = view.tasks.iter().find(|(_, task)| unreported(task)).map(|(id, _)| id.clone());
        let id = view.id.clone();
        if !alive {
            return;
        }
        if let Some(task) = unended {
            self.violate("L1", || format!("{task} of {id} never ended"));
        }
        if let Some(task) = unreported {
            self.violate("S15", || format!("{task} of {id} ended, and nobody was told"));
        }
        if let Some(ticket) = unanswered {
            self.violate("S15", || format!("submission {ticket} at {id} was neither admitted nor refused"));
        }
    }

    /// How many tasks of a device ended how.
    pub fn outcomes(&self, node: usize) -> impl Iterator<Item = OutcomeStatus> {
        self.views[node].tasks.values().filter_map(|task| task.outcome.as_ref()).map(|outcome| outcome.status)
    }

    fn noticed(&mut self, node: usize, now: Time, event: &Event) {
        match event {
            Event::Opened { task, .. } => {
                self.auctions += 1;
                let view = &mut self.views[node];
                let book = view.tasks.entry(task.clone()).or_insert_with(|| Task::relayed(&view.config));
                book.open(now);
                let verdict = view.turns.opened(task, view.config.timing.ageing);
                if verdict.competed {
                    self.mark("clients of one device take turns");
                }
                if let Some(unfair) = verdict.unfair {
                    let id = self.views[node].id.clone();
                    self.violate("L10", || format!("{id}: {unfair}"));
                }
            }
            Event::BidTaken { task, from } => {
                self.bids += 1;
                self.bid_taken(node, now, task, from);
                if self.views[node].tasks.get(task).is_some_and(|book| book.counted.len() == HERD) {
                    self.mark("a herd bids");
                }
            }
            Event::Awarded { task, to, attempt, why } => {
                if why.contains("by lot") {
                    self.mark("a tie is broken by lot");
                }
                self.awarded(node, now, task, to, *attempt);
            }
            Event::Accepted { task, by, attempt } => {
                if let Some(book) = self.views[node].tasks.get_mut(task) {
                    book.accepted += 1;
                    let known = book.awards.iter().any(|a| a.attempt == *attempt && a.device == *by);
                    let restored = book.restored;
                    self.must(known || restored, "S8", || {
                        format!("{by} accepts attempt {attempt} of {task}, which it was not given")
                    });
                }
            }
            Event::Hedged { task, attempt, .. } => {
                self.mark("a slow attempt is hedged");
                if let Some(book) = self.views[node].tasks.get_mut(task) {
                    let slow = book.awards.iter_mut().filter(|award| award.attempt == *attempt);
                    slow.for_each(|award| award.hedged = true);
                }
            }
            Event::AttemptLost { task, device, attempt, why } => {
                self.mark(books::lost(why));
                // Perhaps by silence: whether it is there is in doubt until it is heard again.
                self.views[node].peers.entry(device.clone()).or_default().failed = Some(now);
                if let Some(book) = self.views[node].tasks.get_mut(task) {
                    book.tried.insert(device.clone());
                    for award in book.awards.iter_mut().filter(|award| award.attempt == *attempt) {
                        award.lost = true;
                    }
                }
            }
            Event::Resting { task, .. } => {
                self.mark("a task rests, since everybody is busy");
                if let Some(book) = self.views[node].tasks.get_mut(task) {
                    book.rest(now);
                }
            }
            Event::Finished { task, status } => self.finished(node, now, task, *status),
            Event::RunStarted { from, .. } => {
                let view = &self.views[node];
                let orchestrates = view.tasks.values().any(|task| task.finished == 0);
                if *from != view.id && orchestrates {
                    self.mark("a device is worker and orchestrator at once");
                }
            }
            Event::Slept { .. } => {
                self.views[node].woke = Some(now);
                self.mark("a device notices that it slept");
            }
            Event::PeerHealth { peer, health } => self.health_changed(node, now, peer, *health),
            Event::Equivocation { .. } => self.mark("two devices with one id are noticed"),
            Event::RunEnded { status: Status::HandedBack, .. } => self.mark("a run is handed back"),
            Event::RunLost { .. } => self.mark("a run that a crash cut off is reported"),
            Event::Overloaded { .. } => {
                if self.views[node].most_peers >= HERD {
                    self.mark("a herd at the limit of letters");
                }
                self.mark("a message is not sent: too many are owed");
            }
            Event::Declined { reason, .. } => self.mark(books::declined(reason)),
            Event::Ignored { from: Some(from), why: Ignored::OldBoot } => {
                // It was delayed: what it says is of long ago.
                let book = self.views[node].peers.entry(from.clone()).or_default();
                book.heard = book.heard_before;
                self.mark(books::ignored(Ignored::OldBoot));
            }
            Event::Ignored { why, .. } => {
                let view = &self.views[node];
                let bid = view.current_bid.as_ref().and_then(|(_, bid, _)| bid.task.as_ref());
                let ended = bid.and_then(|task| view.tasks.get(task)).is_some_and(|task| task.finished > 0);
                if ended && *why == Ignored::UnknownTask {
                    self.mark("a bid comes when its task is forgotten");
                }
                self.mark(books::ignored(*why));
            }
            Event::PeerChanged { restarted: true, .. } => self.mark("a peer's restart is noticed"),
            Event::PeerLeft { peer } => {
                self.views[node].peers.entry(peer.clone()).or_default().failed = Some(now);
                self.mark("a peer leaves in order");
            }
            Event::WrongSource { .. } => self.mark("a message comes from another address than its sender's"),
            Event::Repaired { .. } => self.mark("a message is mended"),
            _ => {}
        }
    }
}
