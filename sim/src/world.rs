//! A world of many devices over `bidmesh-core` alone: a queue of events, no sockets, no threads, no clock. Each seed
//! draws a world of its own ([`Plan`]), lets its faults happen for a while (the safety phase), then heals a random
//! core, leaves the rest dead for good, asks again and waits (the liveness phase). An [`Oracle`] watches every input.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::Sensors;
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::outbox::{Record, RunId, SendId};
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::Text;
use bidmesh_core::{Config, Device, Identity, Input, Outbox, Time};

use crate::invariants::{Oracle, Violation};
use crate::page::{Mark, Page};

mod acts;
mod aftermath;
pub mod choices;
pub mod clock;
mod edits;
pub mod fault;
mod heard;
mod liar;
pub mod link;
pub mod phone;
pub mod plan;
mod queue;
mod settings;
pub mod shell;
mod shells;
mod storm;
pub mod subject;
mod trace;
mod verdict;

pub(crate) use settings::HEARTBEATS_AMONG;
pub(crate) use subject::expected_prompt;

use choices::Choices;
use clock::Clock;
use fault::{Fault, Faults};
use link::Links;
use phone::Phone;
use plan::{Anew, Ask, Plan};
use queue::Queue;
use shell::Shell;
pub use subject::{Defect, Subject};
use trace::Line;
pub use verdict::Summary;

/// A bidmesh device with everything around it.
#[derive(Debug)]
struct Node {
    id: DeviceId,
    address: SocketAddr,
    moves: u32,
    subject: Subject,
    boot: u64,
    power: Power,
    clock: Clock,
    /// The latest moment that it was told.
    latest: Time,
    /// When the next wake-up is due, in the world's time.
    wake: Option<Duration>,
    runs: BTreeMap<RunId, Text>,
    stopped: BTreeSet<RunId>,
    abandoned: BTreeSet<SendId>,
    /// What its store keeps, with the moment of writing; `None`: it has no store.
    store: Option<Vec<(Record, Duration)>>,
    phone: Phone,
    sensors: Sensors,
    npu: bool,
    available: bool,
    runs_lately: u64,
    liar: bool,
    slower: u32,
    /// Another device with its name.
    doubles: Option<usize>,
    /// What happens to it while it sleeps, in order.
    held: Vec<Happens>,
}

/// Whether a device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// Its kernel takes connections; it looks at nothing until then.
    Asleep(Duration),
    /// `silent`: without power; else killed, and its peers are refused.
    Off {
        silent: bool,
    },
}

/// Something that happens.
#[derive(Debug)]
enum Happens {
    Wake(usize),
    /// To a device; of that boot, if it is about something that this boot did.
    Input(usize, Option<u64>, Box<Input>),
    /// Bytes from an address arrive at a device.
    Bytes(usize, SocketAddr, Vec<u8>),
    /// A store is done with a record.
    Written(usize, u64, Box<(bidmesh_core::outbox::Sequence, Record, bool)>),
    Ask(Box<Ask>),
    GiveUp(usize, u64, TaskId),
    Sensors(usize),
    Strike(Fault),
    /// A device falls in the middle of something.
    Falls(usize, Fault),
    Return(usize),
    Awake(usize),
    /// Executors are there again.
    AbleAgain,
    Unclog(usize),
    Mend(usize, usize),
    Reunite,
    Heal,
    AskAgain,
    /// Heartbeats end.
    FallSilent,
    /// A shell device ends what it did in that start.
    ShellDone(usize, u64, Box<shells::Job>),
    /// A person of a shell device asks.
    ShellAsks(usize),
    /// A person takes a device out of another's peers.txt, or writes it in again.
    Edits(usize, Option<usize>),
}

/// A world.
pub struct World {
    plan: Plan,
    faults: Faults,
    links: Links,
    link: Choices,
    storm: Choices,
    aim: Choices,
    runs: Choices,
    shell: Choices,
    now: Duration,
    queue: Queue,
    nodes: Vec<Node>,
    shells: Vec<Shell>,
    oracle: Oracle,
    defect: Option<Defect>,
    /// Only so many devices know everybody; the others know these.
    hubs: usize,
    healed: bool,
    /// No device has an executor until then, while the storm lasts.
    disabled_until: Duration,
    /// Prompts of the liveness phase, by device and ticket.
    again: BTreeSet<(usize, u64)>,
    ticket: u64,
    events: u64,
    out: Outbox,
    /// The line of each event, if they are to be kept.
    trace: Option<Vec<String>>,
    /// Hears each line as it is made.
    tell: Option<Tell>,
    /// The largest sizes so far, with their limits.
    peaks: BTreeMap<&'static str, (usize, usize)>,
    /// How often the devices check themselves: after each so many inputs.
    check_every: u64,
    /// Numbers of events that may be left out, if they are to be known.
    optional: Option<Vec<u64>>,
    /// The run as a page.
    page: Option<Box<Page>>,
}

/// How seldom devices check themselves where they do by sampling: a check looks at every peer.
pub const fn sampled(devices: usize) -> u64 {
    let seldom = 2 * devices as u64;
    if seldom < 256 { 256 } else { seldom }
}

/// Hears the device of a line, if it is one's, and the line.
type Tell = Box<dyn FnMut(Option<&str>, &str)>;

/// Where made-up devices say that they are: nothing may ever be sent there.
const VICTIM: [u8; 4] = [10, 255, 0, 1];
/// A world that is not quiet by then has failed, unless its settings are odd: a hundred attempts with an hour of rest between
/// them take longer, and being busy has no bound.
const HORIZON: Duration = Duration::from_secs(6 * 3600);
/// A world with more events than this, and than 50,000 a device, goes round in circles.
const SPIN_FROM: u64 = 300_000;
/// Beyond this many devices only a few know everybody.
const FULL_MESH: usize = 24;

impl World {
    /// The world of a plan, before anything happened.
    pub fn new(plan: Plan, defect: Option<Defect>) -> Self {
        let seed = plan.seed;
        let everybody = plan.devices + plan.shells;
        let hubs = if plan.devices > FULL_MESH { 4 } else { plan.devices };
        let mut world = Self {
            faults: plan.faults.clone(),
            links: Links::new(everybody + 1),
            link: Choices::split(seed ^ plan.varied.links, "link"),
            storm: Choices::split(seed, "storm"),
            aim: Choices::split(seed, "aim"),
            runs: Choices::split(seed, "runs"),
            shell: Choices::split(seed, "shell"),
            now: Duration::ZERO,
            queue: Queue::default(),
            nodes: Vec::with_capacity(plan.devices),
            shells: Vec::new(),
            oracle: Oracle::default(),
            defect,
            hubs,
            healed: false,
            disabled_until: Duration::ZERO,
            again: BTreeSet::new(),
            ticket: 0,
            events: 0,
            out: Outbox::default(),
            trace: None,
            tell: None,
            peaks: BTreeMap::new(),
            check_every: if plan.devices <= 64 { 1 } else { sampled(plan.devices) },
            optional: None,
            page: None,
            plan,
        };
        world.populate();
        world.schedule();
        world
    }

    /// Tells each event as it happens: the device, if it is one's, and the line.
    pub fn telling(mut self, tell: impl FnMut(Option<&str>, &str) + 'static) -> Self {
        self.tell = Some(Box::new(tell));
        self
    }

    /// Keeps each event as a line.
    pub fn tracing(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Checks each device only after every so many inputs.
    pub const fn checking_every(mut self, inputs: u64) -> Self {
        self.check_every = inputs;
        self
    }

    /// Lets everything happen, to the end.
    pub fn play(&mut self) -> Summary {
        let mut over = false;
        while self.oracle.violation.is_none()
            && let Some((at, what)) = self.queue.pop()
        {
            over = at > HORIZON;
            if over {
                break;
            }
            self.now = at;
            self.events += 1;
            if self.is_left_out(&what) {
                continue;
            }
            if self.events > SPIN_FROM && self.events > 50_000 * self.nodes.len() as u64 {
                self.oracle.violate("L5", || format!("{} events, and no end in sight", SPIN_FROM));
            }
            self.happen(what);
        }
        if over && self.oddly_set() {
            self.oracle.mark("odd settings keep a world busy for hours");
        } else if self.oracle.violation.is_none() {
            self.judge();
        }
        self.summary()
    }

    /// Keeps the numbers of events that may be left out ([`Without::events`](plan::Without)).
    pub fn noting_optional(mut self) -> Self {
        self.optional = Some(Vec::new());
        self
    }

    /// Those numbers: messages that arrive, faults that strike, prompts, all of them before the storm is over.
    pub fn optional(&self) -> &[u64] {
        self.optional.as_deref().unwrap_or_default()
    }

    /// Draws the run.
    pub fn drawing(mut self) -> Self {
        let shells = self.shells.iter().map(|shell| shell.id.to_string());
        let lanes = self.nodes.iter().map(|node| node.id.to_string()).chain(shells).collect();
        self.page = Some(Box::new(Page::new(self.plan.to_string(), lanes)));
        self
    }

    /// The run as a page, if it was drawn.
    pub fn page(&mut self, verdict: &str) -> Option<String> {
        self.page.take().map(|page| page.html(verdict, self.now))
    }

    /// What happened to a device, for the page.
    fn draw(&mut self, lane: usize, what: Mark, text: &str) {
        if let Some(page) = &mut self.page {
            page.mark(lane, self.now, what, text);
        }
    }

    fn is_left_out(&mut self, what: &Happens) -> bool {
        let may_be = self.stormy()
            && match what {
                Happens::Input(_, _, input) => matches!(**input, Input::Received { .. }),
                Happens::Bytes(..)
                | Happens::Ask(_)
                | Happens::GiveUp(..)
                | Happens::Strike(_)
                | Happens::Falls(..)
                | Happens::Sensors(_)
                | Happens::Edits(..)
                | Happens::ShellAsks(_) => true,
                _ => false,
            };
        if let (true, Some(optional)) = (may_be, &mut self.optional) {
            optional.push(self.events);
        }
        may_be && self.plan.without.contains(&self.events)
    }

    /// The lines of a traced world.
    pub fn lines(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    fn say(&mut self, line: impl FnOnce(&Self) -> Line) {
        if self.tell.is_none() && self.trace.is_none() {
            return;
        }
        let Line { device, text } = line(self);
        let at = self.now.as_secs_f64();
        let line = match &device {
            Some(device) => format!("{at:>10.3} {device:<5} {text}"),
            None => format!("{at:>10.3} {text}"),
        };
        if let Some(tell) = &mut self.tell {
            tell(device.as_deref(), &line);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    fn stormy(&self) -> bool {
        !self.healed
    }

    fn populate(&mut self) {
        let mut topology = Choices::split(self.plan.seed, "devices");
        let (flooded, devices) = (self.faults.has(Fault::BookFlooded), self.plan.devices + self.plan.shells);
        let limits = &mut self.plan.config.limits;
        limits.peers = if flooded { devices + topology.index(6) } else { limits.peers.max(devices + 16) };
        if devices > 200 {
            limits.outgoing = limits.outgoing.max(4 * devices);
        }
        let seed = self.plan.seed;
        let literal = (0..self.plan.shells).filter(|number| heard::Drawn::of(seed, *number).called_literal);
        self.plan.config.literal_echo = literal.map(|number| name('S', number)).collect();
        let equal = self.faults.has(Fault::EqualMetrics);
        for number in 0..self.plan.devices {
            let id = name(self.plan.varied.letter, number);
            let worst = self.plan.varied.last_is_worst && number + 1 == self.plan.devices;
            let stores = topology.percent(self.plan.stores);
            let load = u32::try_from(topology.below(1_000_001)).unwrap_or(0);
            let load = if worst { 1_000_000 } else { load };
            let battery = u8::try_from(topology.between(10, 100)).unwrap_or(100);
            let sensors = Sensors {
                cpu: Load::from_ppm(if equal { 500_000 } else { load })
                    .filter(|_| equal || topology.percent(90)),
                ram: Load::from_ppm(load / 2),
                battery: Percent::new(battery).filter(|_| !equal && topology.percent(60)),
                charging: topology.percent(50).then_some(!equal && topology.percent(70)),
                temperature: None,
                minute_of_day: None,
            };
            let npu = !equal && topology.percent(30) && !worst;
            let phone = if npu { Phone::Npu } else { Phone::draw(&mut topology) };
            // Drawn in any case: what follows stays as it is.
            let available = topology.percent(85) || self.plan.varied.all_able;
            let address = address(number, 0);
            self.oracle.join(id.clone(), self.config(number), stores);
            let device = self.device(number, &id, address, 0, Restored::default());
            self.nodes.push(Node {
                id,
                address,
                moves: 0,
                subject: Subject::new(device, &self.config(number), self.defect),
                boot: 0,
                power: Power::On,
                clock: Clock::new(Duration::ZERO),
                latest: Time::ZERO,
                wake: None,
                runs: BTreeMap::new(),
                stopped: BTreeSet::new(),
                abandoned: BTreeSet::new(),
                store: stores.then(Vec::new),
                phone,
                sensors,
                npu,
                available,
                runs_lately: 0,
                liar: false,
                slower: 1,
                doubles: None,
                held: Vec::new(),
            });
        }
        for number in 0..self.plan.shells {
            let place = address(self.plan.devices + number, 0);
            let mut shell = Shell::new(&mut topology, name('S', number), place);
            shell.echo = heard::Drawn::of(seed, number).echo;
            shell.odd_numbers = self.faults.has(Fault::OddNumbers);
            self.shells.push(shell);
        }
        self.afflict(&mut topology);
        match self.plan.anew {
            Anew::Nobodys => {}
            Anew::Everybodys => self.oracle.mark("settings are drawn anew"),
            Anew::Each => self.oracle.mark("every device has settings of its own"),
        }
        for node in 0..self.nodes.len() {
            self.begin(node);
        }
    }

    /// Faults that a device has from the beginning.
    fn afflict(&mut self, topology: &mut Choices) {
        let many = self.nodes.len();
        if self.faults.has(Fault::Liar) && many > 1 {
            let liar = topology.index(many);
            self.faults.count(Fault::Liar, fault::Phase::Idle);
            let node = &mut self.nodes[liar];
            (node.liar, node.npu, node.available) = (true, true, true);
            node.sensors = Sensors { cpu: Some(Load::IDLE), ..Sensors::default() };
        }
        if self.faults.has(Fault::Slow) {
            self.nodes[topology.index(many)].slower = topology.pick([10, 30, 100]);
        }
        if self.faults.has(Fault::EqualMetrics) {
            self.faults.count(Fault::EqualMetrics, fault::Phase::Idle);
        }
        if self.faults.has(Fault::OddSettings) {
            self.faults.count(Fault::OddSettings, fault::Phase::Idle);
        }
        if self.faults.has(Fault::SlowLink) {
            let slow = topology.index(many);
            self.links.slow(slow, topology.pick([200, 2_000, 20_000]));
        }
        if self.faults.has(Fault::Doubled) && (3..=FULL_MESH).contains(&many) {
            // The last device has the name of the first, at an address of its own.
            let (first, last) = (0, many - 1);
            self.faults.count(Fault::Doubled, fault::Phase::Idle);
            let (id, place) = (self.nodes[first].id.clone(), self.nodes[last].address);
            self.oracle.rename(last, id.clone());
            self.oracle.doubled = true;
            let device = self.device(last, &id, place, 0, Restored::default());
            let subject = Subject::new(device, &self.config(last), self.defect);
            let node = &mut self.nodes[last];
            (node.id, node.doubles, node.subject) = (id, Some(first), subject);
        }
    }

    fn device(&self, number: usize, id: &DeviceId, at: SocketAddr, boot: u64, restored: Restored) -> Device {
        let mut choices = Choices::split(self.plan.seed ^ boot.rotate_left(32), "secrets");
        let secret = choices.draw() ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let me = Identity { device: id.clone(), address: Some(at) };
        Device::new(me, Seed::from(secret), self.config(number), restored)
    }

    /// The settings of a device.
    fn config(&self, number: usize) -> Config {
        let mut config = self.plan.config.clone();
        let own = match self.plan.anew {
            Anew::Nobodys => return config,
            Anew::Everybodys => 0,
            Anew::Each => 1 + number as u64,
        };
        let seed = self.plan.seed ^ own.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        settings::anew(&mut Choices::split(seed, "own settings"), &mut config);
        config
    }

    /// Whether a device may be set to take on so little, or to wait so long, that nothing can be promised of it.
    fn oddly_set(&self) -> bool {
        self.faults.has(Fault::OddSettings) || self.plan.anew != Anew::Nobodys
    }

    /// The first inputs of a start.
    fn begin(&mut self, node: usize) {
        let (npu, available) = (self.nodes[node].npu, self.nodes[node].available);
        let available = available && (self.healed || self.now >= self.disabled_until);
        let sensors = self.nodes[node].sensors;
        self.feed(node, Input::SensorsRead(sensors));
        self.feed(node, executor(available, npu));
        let lines = self.lines_for(node);
        self.feed(node, Input::PeersEdited(lines));
        if self.nodes[node].subject.device().has_past() {
            self.feed(node, Input::Wake);
        }
    }

    /// peers.txt of a device, as a person would write it now.
    fn lines_for(&self, node: usize) -> Vec<(DeviceId, SocketAddr)> {
        let known = if node < self.hubs { self.nodes.len() } else { self.hubs };
        let me = &self.nodes[node].id;
        // A device that has another's name is in nobody's file: it makes itself known.
        let devices = self.nodes[..known].iter().filter(|other| other.doubles.is_none() && other.id != *me);
        let devices = devices.map(|other| (other.id.clone(), other.address));
        devices.chain(self.shells.iter().map(|shell| (shell.id.clone(), shell.address))).collect()
    }

    fn later(&mut self, after: Duration, what: Happens) {
        self.queue.push(self.now.saturating_add(after), what);
    }

    fn happen(&mut self, what: Happens) {
        // A device that sleeps gets everything when it wakes, in order.
        let sleeper = match &what {
            Happens::Wake(node)
            | Happens::Input(node, ..)
            | Happens::Bytes(node, ..)
            | Happens::Written(node, ..)
            | Happens::GiveUp(node, ..)
            | Happens::Sensors(node) => Some(*node),
            _ => None,
        };
        if let Some(node) = sleeper
            && let Power::Asleep(until) = self.nodes[node].power
            && until > self.now
        {
            // It is called when it wakes, if its time has come by then.
            if !matches!(what, Happens::Wake(_)) {
                self.nodes[node].held.push(what);
            }
            return;
        }
        match what {
            Happens::Wake(node) => self.wake(node),
            Happens::Input(node, boot, input) => self.happen_to(node, boot, *input),
            Happens::Bytes(node, source, bytes) => self.read(node, source, &bytes),
            Happens::Written(node, boot, record) => self.written(node, boot, *record),
            Happens::Ask(ask) => self.ask(&ask),
            Happens::GiveUp(node, boot, task) => {
                if self.is_on(node) && self.nodes[node].boot == boot {
                    let phase = self.phase_of(node);
                    self.faults.count(Fault::Cancelled, phase);
                    self.feed(node, Input::Cancel { task });
                }
            }
            Happens::Sensors(node) => self.sense(node),
            Happens::Strike(fault) => self.strike(fault),
            Happens::Falls(node, fault) => self.falls(node, fault),
            Happens::Return(node) => self.come_back(node),
            Happens::Awake(node) => self.wakes_up(node),
            Happens::AbleAgain => self.enable(),
            Happens::Unclog(device) => self.links.unclog(device),
            Happens::Mend(from, to) => self.links.mend(from, to),
            Happens::Reunite => self.links.part(Vec::new()),
            Happens::Heal => self.heal(),
            Happens::AskAgain => self.ask_again(),
            Happens::FallSilent => self.fall_silent(),
            Happens::ShellDone(shell, boot, job) => self.shell_done(shell, boot, *job),
            Happens::ShellAsks(shell) => self.shell_asks(shell),
            Happens::Edits(node, without) => self.edits(node, without),
        }
    }

    fn is_on(&self, node: usize) -> bool {
        !matches!(self.nodes[node].power, Power::Off { .. })
    }

    /// It does not sleep any more: what happened to it meanwhile happens now.
    fn awaken(&mut self, node: usize) {
        let now = self.now;
        let it = &mut self.nodes[node];
        it.power = Power::On;
        let held = core::mem::take(&mut it.held);
        if it.wake.is_some_and(|at| at <= now) {
            it.wake = Some(now);
            self.queue.push(now, Happens::Wake(node));
        }
        held.into_iter().for_each(|what| self.queue.push(now, what));
    }

    fn wake(&mut self, node: usize) {
        if !self.is_on(node) || self.nodes[node].wake != Some(self.now) {
            return;
        }
        self.nodes[node].wake = None;
        let device_now = self.nodes[node].clock.of(self.now);
        match self.nodes[node].subject.deadline() {
            Some((due, _)) if due <= device_now => self.feed(node, Input::Wake),
            _ => self.set_alarm(node),
        }
    }

    /// The next wake-up of a device, unless an earlier one is set.
    fn set_alarm(&mut self, node: usize) {
        let Some((due, _)) = self.nodes[node].subject.deadline() else { return };
        let mut at = self.nodes[node].clock.when(due).max(self.now);
        if self.stormy() && self.faults.has(Fault::OddWakes) && self.storm.percent(10) {
            self.faults.count(Fault::OddWakes, fault::Phase::Idle);
            at += self.storm.millis(0, 1_900);
            if self.storm.percent(50) {
                let (early, boot) = (self.storm.millis(0, 500), self.nodes[node].boot);
                self.later(early, Happens::Input(node, Some(boot), Box::new(Input::Wake)));
            }
        }
        if self.nodes[node].wake.is_none_or(|set| at < set || set < self.now) {
            self.nodes[node].wake = Some(at);
            self.queue.push(at, Happens::Wake(node));
        }
    }

    fn happen_to(&mut self, node: usize, boot: Option<u64>, input: Input) {
        let it = &self.nodes[node];
        if !self.is_on(node) || boot.is_some_and(|boot| boot != it.boot) {
            return;
        }
        // As the driver: nothing is said of a run after its end, so nobody here ever meets `Ignored::UnknownRun`.
        let nobody_cares = match &input {
            Input::Delivered { send } | Input::SendFailed { send, .. } => it.abandoned.contains(send),
            Input::Generated { run, .. } => it.stopped.contains(run) || !it.runs.contains_key(run),
            Input::Ran { run, .. } => {
                if it.liar {
                    return self.lie(node, *run);
                }
                !it.stopped.contains(run) && !it.runs.contains_key(run)
            }
            _ => false,
        };
        if nobody_cares {
            return;
        }
        if let Input::Ran { run, .. } = &input {
            self.nodes[node].runs.remove(run);
            self.nodes[node].stopped.remove(run);
        }
        self.feed(node, input);
    }

    /// Hands an input to a device, checks all rules, and does what it asks for.
    fn feed(&mut self, node: usize, input: Input) {
        self.say(|w| Line::of(&w.nodes[node].id, format!("<- {}", trace::input(&input))));
        let now = self.nodes[node].clock.of(self.now);
        let twin = self.plan.twins.then(|| (self.nodes[node].subject.clone(), input.clone()));
        self.oracle.before(node, now, &input);
        let mut out = std::mem::take(&mut self.out);
        let it = &mut self.nodes[node];
        it.subject.handle(now, input, &mut out);
        it.latest = it.latest.max(now);
        if let Some((mut twin, input)) = twin {
            let mut twins = Outbox::default();
            twin.handle(now, input, &mut twins);
            if twins != out || twin.device() != it.subject.device() {
                self.oracle.violate("S13", || format!("{} does not do the same twice", it.id));
            }
        }
        if self.events.is_multiple_of(self.check_every) {
            self.inspect(node);
        }
        let mut peers = self.nodes.len() + self.shells.len();
        if self.faults.has(Fault::BookFlooded) {
            // Made-up devices are asked, too.
            let usage = self.nodes[node].subject.device().usage();
            peers =
                usage.iter().find(|usage| usage.what == "peers").map_or(peers, |known| peers + known.size);
        }
        self.oracle.after(node, now, &out, peers);
        for event in &out.events {
            if let Some(page) = &mut self.page {
                page.event(node, self.now, event);
            }
            self.say(|w| Line::of(&w.nodes[node].id, format!(" * {}", trace::event(event))));
        }
        out.events.clear();
        let mut actions = std::mem::take(&mut out.actions);
        for action in actions.drain(..) {
            self.act(node, action);
        }
        out.actions = actions;
        self.out = out;
        self.set_alarm(node);
    }

    /// The first rule that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.oracle.violation.as_ref()
    }
}

/// A name of a device or shell device.
fn name(letter: char, number: usize) -> DeviceId {
    // A letter and digits are always a name.
    #[allow(clippy::expect_used, reason = "a letter and digits are always a device id")]
    DeviceId::new(&format!("{letter}{number}")).expect("a letter and digits")
}

/// The address of a device after so many moves; [`place`] reads it back.
fn address(number: usize, moves: u32) -> SocketAddr {
    let bits = (10 << 24) | ((moves % 32) << 18) | u32::try_from(number).unwrap_or(0) & 0x3_ffff;
    SocketAddr::from((bits.to_be_bytes(), 9999))
}

/// Which device once had an address.
fn place(address: SocketAddr) -> Option<usize> {
    let std::net::IpAddr::V4(ip) = address.ip() else { return None };
    usize::try_from(u32::from_be_bytes(ip.octets()) & 0x3_ffff).ok()
}

fn executor(available: bool, npu: bool) -> Input {
    let why = String::new();
    Input::ExecutorChanged(bidmesh_core::input::Executor { available, npu, slots: None, why })
}
