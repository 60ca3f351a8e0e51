//! One device: everything that it decides, behind one way in.
//!
//! [`Device`] is the composition of the machines: it reads an input, hands it to the one that it is for, and goes
//! on until nothing more follows. The route is one `match`; what each message means is said beside it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::net::SocketAddr;
use core::ops::Deref;

use crate::bidder::Bidder;
use crate::canonical::{Canonical, Numbers, Renewal};
use crate::chronicle::Chronicle;
use crate::config::Config;
use crate::context::{Context, Me};
use crate::decision::Decision;
use crate::draw::Seed;
use crate::id::{BootId, DeviceId, TaskId};
use crate::input::Input;
use crate::mail::{Draft, Mail, News, Purpose};
use crate::orchestrator::Orchestrator;
use crate::outbox::{Action, Event, Ignored, Outbox, Outcome, Report, Sequence, Unsaid};
use crate::peers::Peers;
use crate::restore::Restored;
use crate::snapshot::{Snapshot, Usage};
use crate::time::Time;
use crate::wire::Body;

mod leave;
mod receive;

use leave::Leaving;

/// More than any input can lead to: each round tells the machines what became of the round before.
const ROUNDS_MAX: u32 = 100_000;

/// Who a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub device: DeviceId,
    /// Where it tells others that it is; `None` until known.
    pub address: Option<SocketAddr>,
}

/// One device of the mesh, as a value that is driven and never drives.
///
/// Hand in every fact by [`handle`](Device::handle) as it happens, perform every [`Action`] that lands in the
/// outbox, and hand in [`Input::Wake`] when [`deadline`](Device::deadline) has come. That is the whole contract:
///
/// ```
/// use bidmesh_core::{Action, Config, Device, Identity, Input, Outbox, Time, draw::Seed, restore::Restored};
/// # let device_id = bidmesh_core::id::DeviceId::new("Device_A").unwrap();
/// # let mut facts = vec![(Time::ZERO, Input::Wake)].into_iter();
/// let me = Identity { device: device_id, address: None };
/// let mut device = Device::new(me, Seed::from(7), Config::default(), Restored::default());
/// let mut out = Outbox::default();
/// while let Some((now, input)) = facts.next() {
///     device.handle(now, input, &mut out);
///     for action in out.actions.drain(..) {
///         // owed: send it, run it, write it, show it
///         # let _: Action = action;
///     }
///     out.events.clear(); // offered: for logs and tests
///     let _wake_at = device.deadline();
/// }
/// ```
///
/// Two devices that are equal behave equally: the decision records, which only people read, take no part in `Eq`
/// and `Hash`.
#[derive(Clone, Debug)]
pub struct Device {
    protocol: Protocol,
    chronicle: Chronicle,
}

/// Everything that decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Protocol {
    me: Me,
    config: Settings,
    now: Time,
    peers: Peers,
    mail: Mail,
    orchestrator: Orchestrator,
    bidder: Bidder,
    /// What the store had, until the first input.
    restored: Option<Box<Restored>>,
    leaving: Option<Leaving>,
}

/// The settings, shared by all copies of a device: a model checker makes millions of them. They take no part in
/// hashes, since hardly two devices that are compared differ in them; they do in `Eq`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings(Arc<Config>);

impl Deref for Settings {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Hash for Settings {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.protocol == other.protocol
    }
}

impl Eq for Device {}

impl Hash for Device {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.protocol.hash(state);
    }
}

impl Device {
    /// A device at the moment of its start, time zero. `seed` is fresh at each start and secret: the boot id and the
    /// secrets of awards come of it. `restored` is what the store kept of earlier starts; it is taken up with the first
    /// input that is no fact about this device and its address book, so hand in those first: a task that finds neither
    /// peers nor an executor ends with `nobody`.
    pub fn new(identity: Identity, seed: Seed, config: Config, restored: Restored) -> Self {
        let boot = BootId::draw(seed);
        let me = Me { id: identity.device, boot, seed, address: identity.address, sequence: 0 };
        let restored = (!restored.records.is_empty()).then(|| Box::new(restored));
        let protocol = Protocol {
            me,
            config: Settings(Arc::new(config)),
            now: Time::ZERO,
            peers: Peers::default(),
            mail: Mail::default(),
            orchestrator: Orchestrator::default(),
            bidder: Bidder::default(),
            restored,
            leaving: None,
        };
        Self { protocol, chronicle: Chronicle::default() }
    }

    /// The one way in. Never fails, never blocks, never panics on what a peer sent. A `now` before that of an
    /// earlier call counts as that one.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox) {
        let before = self.protocol.now;
        self.protocol.now = before.max(now);
        // Until what the store kept is taken up there is nothing that could be late.
        let due = self.deadline().filter(|_| self.protocol.restored.is_none());
        let late = due.map(|(due, _)| self.protocol.now.since(due)).unwrap_or_default();
        let slept = late > self.protocol.config.timing.lateness;
        let mut running = Running { protocol: &mut self.protocol, chronicle: &mut self.chronicle, out };
        if !input.may_come_before_the_past() {
            running.restore();
        }
        if slept {
            running.wake_from_sleep(late);
        }
        running.route(input);
        running.settle();
    }

    /// When to hand in [`Input::Wake`] at the latest, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let protocol = &self.protocol;
        if protocol.restored.is_some() {
            return Some((Time::ZERO, "what the store kept is to be taken up"));
        }
        let leaving = match protocol.leaving {
            Some(Leaving::Working { by, .. } | Leaving::Parting { by }) => Some((by, "the device ends")),
            Some(Leaving::Halted) | None => None,
        };
        let machines = [
            protocol.mail.deadline(),
            protocol.peers.deadline(),
            protocol.bidder.deadline(),
            protocol.orchestrator.deadline(),
            leaving,
        ];
        machines.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Whether what the store kept is not taken up yet ([`Device::new`]).
    pub const fn has_past(&self) -> bool {
        self.protocol.restored.is_some()
    }

    /// How the device is, for people.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let protocol = &self.protocol;
        Snapshot {
            device: protocol.me.id.clone(),
            boot: protocol.me.boot.clone(),
            address: protocol.me.address,
            now: now.max(protocol.now),
            slots: protocol.bidder.slots(&protocol.config),
            runs: protocol.bidder.snapshot(),
            refuses: protocol.bidder.lasting_refusal(&protocol.config),
            sensors: *protocol.bidder.sensors(),
            executor: protocol.bidder.executor().clone(),
            kept_results: protocol.bidder.kept(),
            peers: protocol.peers.snapshot(protocol.now, &protocol.config),
            tasks: protocol.orchestrator.snapshot(protocol.config.timing.ageing),
            usage: self.usage(),
        }
    }

    /// The decision record of a task, as long as it is kept.
    pub fn decision(&self, task: &TaskId) -> Option<&Decision> {
        self.chronicle.get(task)
    }

    /// All decision records that are kept, oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.chronicle.iter()
    }

    /// The outcome of a task that ended not long ago.
    pub fn outcome(&self, task: &TaskId) -> Option<&Outcome> {
        self.protocol.orchestrator.outcome(task)
    }

    /// Ended tasks that are remembered and how they ended, oldest first.
    pub fn outcomes(&self) -> impl Iterator<Item = (&TaskId, &Outcome)> {
        self.protocol.orchestrator.outcomes()
    }

    /// Sizes of everything that this device remembers, each with its limit.
    pub fn usage(&self) -> Vec<Usage> {
        let protocol = &self.protocol;
        let limits = &protocol.config.limits;
        let line = |what, size, limit| Usage { what, size, limit };
        Vec::from([
            line("peers", protocol.peers.len(), limits.peers),
            line("gaps", protocol.peers.gaps(), limits.peers.saturating_mul(crate::peers::GAPS)),
            line("removed_peers", protocol.peers.removed_len(), limits.removed_peers),
            line("tasks", protocol.orchestrator.len(), limits.tasks),
            line("closed_tasks", protocol.orchestrator.closed_len(), limits.closed_tasks),
            line("closed_bytes", protocol.orchestrator.closed_bytes(), limits.closed_bytes),
            line("outgoing", protocol.mail.len(), limits.outgoing),
            line("kept_results", protocol.bidder.kept(), limits.kept_results),
            line("tombstones", protocol.bidder.remembered(), limits.tombstones),
            line("decisions", self.chronicle.len(), limits.decisions),
        ])
    }

    /// This device without its history: moments relative to `now`, open letters, runs and records numbered from
    /// one, a past that decides nothing any more forgotten, decision records left out. What a model checker
    /// compares. Bid ids that others hold still name the clock of before.
    pub fn canonical(&self, now: Time) -> Canonical {
        let mut protocol = self.protocol.clone();
        let now = now.max(protocol.now);
        let Protocol { me, config, peers, mail, orchestrator, bidder, leaving, .. } = &mut protocol;
        let sequences: BTreeSet<Sequence> =
            orchestrator.open_sequences().chain(bidder.open_sequences()).collect();
        let (sends, runs) = (mail.open(), bidder.open_runs());
        let by = Renewal::new(now, Numbers { sends, runs, sequences: sequences.into_iter().collect() });
        // Letters look at when their receivers were heard.
        mail.canonical(&by, peers, config);
        peers.canonical(&by, &config.timing);
        orchestrator.canonical(&by, &config.timing);
        bidder.canonical(&by);
        if let Some(Leaving::Working { by: end, .. } | Leaving::Parting { by: end }) = leaving {
            *end = by.due(*end);
        }
        me.sequence = by.numbers.sequences.len() as u64;
        protocol.now = Canonical::PRESENT;
        let device = Self { protocol, chronicle: Chronicle::default() };
        Canonical { device, numbers: by.numbers }
    }

    /// Walks every invariant.
    ///
    /// # Panics
    /// If one does not hold: that is a mistake in this crate. Called after each input by debug builds, simulations
    /// and fuzzers.
    pub fn check(&self) {
        let protocol = &self.protocol;
        protocol.peers.check(protocol.now);
        assert!(!protocol.peers.owes_news(), "changes are told before the next input");
        protocol.mail.check();
        protocol.bidder.check();
        protocol.orchestrator.check(protocol.config.timing.ageing);
        let holds = protocol.orchestrator.holds();
        for (device, peer) in protocol.peers.iter() {
            let awards = holds.get(device).copied().unwrap_or(0);
            assert_eq!(peer.awards, awards, "{device}: it holds as many awards as are counted there");
        }
        let mine = holds.get(&protocol.me.id).copied().unwrap_or(0);
        assert_eq!(protocol.peers.local().awards, mine, "so does this device");
        if let Some((at, why)) = self.deadline() {
            assert!(
                at > protocol.now || protocol.restored.is_some(),
                "{why}: nothing that is due is left undone"
            );
        }
    }
}

/// One input being handled.
struct Running<'a> {
    protocol: &'a mut Protocol,
    chronicle: &'a mut Chronicle,
    out: &'a mut Outbox,
}

impl Running<'_> {
    /// Lets the orchestrator act, with all that it shares with the other machines.
    fn orchestrate<R>(&mut self, act: impl FnOnce(&mut Orchestrator, &mut Context<'_>) -> R) -> R {
        let Protocol { me, config, now, peers, mail, orchestrator, .. } = &mut *self.protocol;
        let (chronicle, out) = (&mut *self.chronicle, &mut *self.out);
        act(orchestrator, &mut Context { now: *now, config, me, peers, mail, chronicle, out })
    }

    /// The same for this device as a worker.
    fn work<R>(&mut self, act: impl FnOnce(&mut Bidder, &mut Context<'_>) -> R) -> R {
        let Protocol { me, config, now, peers, mail, bidder, .. } = &mut *self.protocol;
        let (chronicle, out) = (&mut *self.chronicle, &mut *self.out);
        act(bidder, &mut Context { now: *now, config, me, peers, mail, chronicle, out })
    }

    /// What the machines share, alone.
    fn share<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.work(|_, ctx| act(ctx))
    }

    fn restore(&mut self) {
        let Some(restored) = self.protocol.restored.take() else { return };
        self.work(|this, ctx| this.restore(ctx, &restored.records));
        self.orchestrate(|this, ctx| this.restore(ctx, &restored.records));
    }

    fn wake_from_sleep(&mut self, late: core::time::Duration) {
        self.out.events.push(Event::Slept { late_ms: crate::orchestrator::millis(late) });
        let timing = &self.protocol.config.timing;
        self.protocol.mail.grace(self.protocol.now, timing.accept);
        self.protocol.peers.slept(self.protocol.now);
        self.orchestrate(|this, ctx| this.grace(ctx));
    }

    /// What an input is about, and who is told of it.
    fn route(&mut self, input: Input) {
        match input {
            Input::Wake => {}
            Input::Received { source, message } => self.received(source, message),
            Input::Delivered { send } => self.mail_answer(|mail, post| mail.delivered(post, send)),
            Input::SendFailed { send, why } => self.mail_answer(|mail, post| mail.failed(post, send, why)),
            Input::Submit(submission) => self.orchestrate(|this, ctx| this.submit(ctx, submission)),
            Input::Cancel { task } => self.orchestrate(|this, ctx| {
                if !this.cancel(ctx, &task) {
                    ctx.tell(Event::Ignored { from: None, why: Ignored::UnknownTask });
                }
            }),
            Input::Say { ticket, to, body } => self.say(ticket, to, body),
            Input::Pause { during } => self.work(|this, ctx| this.pause(ctx, during)),
            Input::Resume => self.work(Bidder::resume),
            Input::Reconfigured(config) => self.reconfigured(*config),
            Input::PeersEdited(lines) => self.peers_edited(&lines),
            Input::AddressChanged(address) => self.address_changed(address),
            Input::Shutdown { within } => self.shutdown(within),
            Input::SensorsRead(sensors) => self.protocol.bidder.sensors_read(sensors),
            Input::ExecutorChanged(executor) => self.protocol.bidder.executor_changed(executor),
            Input::Generated { run, offset, text } => {
                let known = self.work(|this, ctx| this.generated(ctx, run, offset, &text));
                self.ignore_unless(known, Ignored::UnknownRun);
            }
            Input::Ran { run, outcome } => {
                let known = self.work(|this, ctx| this.ran(ctx, run, outcome));
                self.ignore_unless(known, Ignored::UnknownRun);
            }
            Input::Persisted { sequence, written } => {
                // What nobody waits for was written behind.
                if !self.orchestrate(|this, ctx| this.persisted(ctx, sequence, written)) {
                    self.protocol.bidder.persisted(sequence);
                }
            }
        }
    }

    fn ignore_unless(&mut self, known: bool, why: Ignored) {
        if !known {
            self.out.events.push(Event::Ignored { from: None, why });
        }
    }

    fn mail_answer(&mut self, answer: impl FnOnce(&mut Mail, &mut crate::mail::Post<'_>) -> bool) {
        let Protocol { me, config, now, peers, mail, .. } = &mut *self.protocol;
        let known = answer(mail, &mut crate::mail::Post { now: *now, config, me, peers, out: self.out });
        self.ignore_unless(known, Ignored::UnknownSend);
    }

    fn say(&mut self, ticket: crate::input::Ticket, to: DeviceId, body: Body) {
        let known = to == self.protocol.me.id || self.protocol.peers.get(&to).is_some();
        if !known {
            self.out.actions.push(Action::Report(Report::Said {
                ticket,
                to,
                failure: Some(Unsaid::UnknownDevice),
            }));
            return;
        }
        let give_up_at = self.protocol.now + self.protocol.config.timing.notice_send;
        self.post(Draft { to, address: None, body, purpose: Purpose::Say { ticket }, give_up_at });
    }

    fn post(&mut self, draft: Draft) {
        self.share(|ctx| {
            ctx.post(draft);
        });
    }

    fn reconfigured(&mut self, config: Config) {
        let before = self.protocol.config.timing.ageing;
        let after = config.timing.ageing;
        self.protocol.config = Settings(Arc::new(config));
        self.protocol.orchestrator.requeue(before, after);
    }

    fn peers_edited(&mut self, lines: &[(DeviceId, SocketAddr)]) {
        let Protocol { me, config, now, peers, .. } = &mut *self.protocol;
        let edited = peers.edited(lines, &me.id, config, *now);
        for device in edited.gone {
            self.share(|ctx| {
                let (mail, mut post) = ctx.mail();
                mail.removed(&mut post, &device);
            });
        }
        for device in edited.changed {
            self.count_awards(&device);
            self.greet(&device);
            self.orchestrate(|this, ctx| this.ask_anew(ctx, &device));
        }
    }

    /// A device is new in the address book; awards of before it was removed, or of an earlier start, may be held there.
    fn count_awards(&mut self, device: &DeviceId) {
        let awards = self.protocol.orchestrator.holds().get(device).copied().unwrap_or(0);
        self.protocol.peers.edit(device, self.protocol.now, |peer| peer.awards = awards);
    }

    fn address_changed(&mut self, address: Option<SocketAddr>) {
        if self.protocol.me.address == address {
            return;
        }
        self.protocol.me.address = address;
        let devices: Vec<DeviceId> = self.protocol.peers.iter().map(|(device, _)| device.clone()).collect();
        for device in devices {
            let now = self.protocol.now;
            self.protocol.peers.edit(&device, now, |peer| peer.greeted = false);
            self.greet(&device);
        }
    }

    /// HELLO to a device, unless this one has no address to tell.
    fn greet(&mut self, device: &DeviceId) {
        if self.protocol.me.address.is_none() {
            return;
        }
        let body = self.protocol.me.hello();
        let give_up_at = self.protocol.now + self.protocol.config.timing.notice_send;
        self.post(Draft { to: device.clone(), address: None, body, purpose: Purpose::Hello, give_up_at });
    }

    /// Goes on until nothing more follows from the input.
    fn settle(&mut self) {
        for round in 0.. {
            debug_assert!(round < ROUNDS_MAX, "what follows from one input has an end");
            let now = self.protocol.now;
            self.update_local();
            self.protocol.peers.advance(now);
            self.beat();
            self.work(|this, ctx| this.advance(ctx));
            self.update_local();
            self.orchestrate(|this, ctx| this.advance(ctx));
            self.share(|ctx| {
                let (mail, mut post) = ctx.mail();
                mail.advance(&mut post);
            });
            self.part();
            let mut more = false;
            while let Some(news) = self.protocol.mail.next_news() {
                more = true;
                self.news(news);
            }
            while let Some(message) = self.protocol.mail.next_local() {
                more = true;
                self.message_from_myself(message);
            }
            if !more {
                self.out.events.extend(self.protocol.peers.take_changes());
                return;
            }
        }
    }

    /// Signs of life to whoever was told nothing for a while.
    fn beat(&mut self) {
        let now = self.protocol.now;
        let give_up_at = now + self.protocol.config.timing.patience_refused;
        for to in self.protocol.peers.due_heartbeats(now) {
            let Protocol { me, config, mail, leaving, .. } = &*self.protocol;
            // Work goes first, and a greeting that is on its way already will do.
            let crowded = mail.len() > config.limits.outgoing / 2;
            let greeted = mail.has(|device, purpose| *device == to && matches!(purpose, Purpose::Hello));
            if me.address.is_some() && leaving.is_none() && !crowded && !greeted {
                let body = me.hello();
                self.post(Draft { to, address: None, body, purpose: Purpose::Hello, give_up_at });
            }
        }
    }

    /// How this device is as a worker, as its own orchestrator sees it.
    fn update_local(&mut self) {
        let Protocol { me, config, now, bidder, peers, .. } = &mut *self.protocol;
        bidder.look_at_limits(config);
        // A heartbeat wakes the radio.
        let saving = bidder.sensors().charging == Some(false);
        peers.configure(config, saving, me.seed, *now);
        let usable = bidder.lasting_refusal(config).is_none();
        let more = peers.set_local(usable, bidder.own_slots(config), bidder.running_for_others(&me.id));
        if more {
            self.orchestrate(|this, ctx| this.slot_freed(ctx));
        }
    }

    fn news(&mut self, News { to, purpose, what }: News) {
        match purpose {
            Purpose::Ask { task } => self.orchestrate(|this, ctx| this.ask_news(ctx, &to, &task, what)),
            Purpose::Question => self.orchestrate(|this, ctx| this.question_news(ctx, &to, what)),
            Purpose::Award { task, attempt } => {
                self.orchestrate(|this, ctx| this.award_news(ctx, &task, attempt, what));
            }
            Purpose::Probe { task, attempt } => {
                self.orchestrate(|this, ctx| this.probe_news(ctx, &task, attempt, what));
            }
            Purpose::Result { work } => self.work(|this, ctx| this.result_news(ctx, &work, what)),
            Purpose::Progress { work, upto } => {
                self.work(|this, ctx| this.progress_news(ctx, &work, upto, what));
            }
            Purpose::Say { ticket } => {
                let failure = match what {
                    crate::mail::Fate::Started | crate::mail::Fate::Refused => return,
                    crate::mail::Fate::Delivered => None,
                    crate::mail::Fate::Failed(why) => Some(Unsaid::NotDelivered(why)),
                };
                self.out.actions.push(Action::Report(Report::Said { ticket, to, failure }));
            }
            // QUERY is judged by its answer alone; the others are notes.
            Purpose::Query { .. } | Purpose::Hello | Purpose::Bye | Purpose::Notice => {}
        }
    }
}
