//! A small world that bytes drive: two devices, a hostile peer, a store for each device. What is delivered, lost,
//! copied, woken, generated, written and forged, and in which order, the bytes choose; every message passes through
//! its real bytes. After each input the device is checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::config::{Admit, Detection};
use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{Executor, Priority, RunOutcome, SendFailure, Sensors, Written};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::outbox::{Record, RunId, SendId, Sequence};
use bidmesh_core::policy::Policy;
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{Body, WireLimits, decode, encode};
use bidmesh_core::{Action, Config, Device, Identity, Input, Outbox, Report, Submission, Time};

/// Devices; the hostile peer is one more address behind theirs.
const DEVICES: usize = 2;
const HOSTILE: usize = DEVICES;
/// Messages that arrived and may arrive again.
const COPIES: usize = 8;
/// What may stand between the bars of a forged message, by its byte: see [`World::forge`].
const KINDS: [&str; 17] = [
    "HELLO",
    "DISCOVER",
    "TEXT",
    "SLM_PROMPT",
    "SLM_RESULT",
    "BID_REQUEST",
    "BID_RESPONSE",
    "TASK",
    "RESULT",
    "REFUSE",
    "ACCEPT",
    "REJECT",
    "PROGRESS",
    "CANCEL",
    "ACK",
    "QUERY",
    "BYE",
];

/// Plays what `bytes` say. Panics if a device panics, breaks one of its invariants or limits, or tells somebody a
/// second outcome, or text that has gaps.
pub fn check_device(bytes: &[u8]) {
    let mut world = World::new(bytes);
    while !world.choices.0.is_empty() {
        world.step();
    }
}

/// The bytes, as choices; zeros follow the last.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A message on its way.
struct Flight {
    from: usize,
    id: SendId,
    to: usize,
    bytes: Option<Vec<u8>>,
}

/// What the owner of a device owes it and knows of it.
struct Node {
    device: Device,
    starts: u64,
    runs: BTreeMap<RunId, u64>,
    unwritten: VecDeque<(Sequence, Record)>,
    written: Vec<(Record, Time)>,
    halted: bool,
    /// How many tasks it took up at its last start, at most.
    restored: usize,
    submitted: u64,
    told: BTreeMap<TaskId, Told>,
}

/// What people were told of one task in one start.
#[derive(Default)]
struct Told {
    admitted: u32,
    /// Somebody asked in a former start.
    restored: bool,
    outcomes: u32,
    text: u64,
}

struct World<'a> {
    choices: Choices<'a>,
    config: Config,
    now: Time,
    nodes: Vec<Node>,
    flights: Vec<Flight>,
    arrived: VecDeque<(usize, usize, Vec<u8>)>,
    /// Ids that were seen in a message, newest last: what a forger may know.
    seen: VecDeque<String>,
}

fn name(node: usize) -> DeviceId {
    DeviceId::new(["A", "B", "H"][node]).expect("a letter is an id")
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, [1, 2, 3][node]], 9999))
}

fn limits() -> WireLimits {
    WireLimits { message_bytes: 4 * 1024 }
}

impl<'a> World<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut choices = Choices(bytes);
        let config = config(&mut choices);
        let mut world = Self {
            choices,
            config,
            now: Time::ZERO,
            nodes: Vec::new(),
            flights: Vec::new(),
            arrived: VecDeque::new(),
            seen: VecDeque::new(),
        };
        for node in 0..DEVICES {
            let device = world.device(node, 0, Restored::default());
            world.nodes.push(Node {
                device,
                starts: 0,
                runs: BTreeMap::new(),
                unwritten: VecDeque::new(),
                written: Vec::new(),
                halted: false,
                restored: 0,
                submitted: 0,
                told: BTreeMap::new(),
            });
            world.begin(node);
        }
        world
    }

    fn device(&self, node: usize, start: u64, restored: Restored) -> Device {
        let me = Identity { device: name(node), address: Some(address(node)) };
        Device::new(me, Seed::from(start * 16 + node as u64), self.config.clone(), restored)
    }

    /// What a driver tells a device first.
    fn begin(&mut self, node: usize) {
        let executor = Executor { available: true, npu: node == 1, slots: None, why: String::new() };
        self.input(node, Input::ExecutorChanged(executor));
        self.input(node, Input::SensorsRead(Sensors { cpu: Some(Load::IDLE), ..Sensors::default() }));
        let others = (0..=HOSTILE).filter(|other| *other != node).map(|other| (name(other), address(other)));
        self.input(node, Input::PeersEdited(others.collect()));
    }

    fn step(&mut self) {
        match self.choices.byte() % 24 {
            0..=6 => self.arrive(0),
            7 => {
                let which = self.choices.below(self.flights.len());
                self.arrive(which);
            }
            8 => self.lose(),
            9 => self.repeat(),
            10 | 11 => self.wake(),
            12 => self.pass_time(),
            13 => self.submit(),
            14 => self.forge(),
            15 => self.raw(),
            16 | 17 => self.write(),
            18 => self.generate(),
            19 => self.end_run(),
            20 => self.person(),
            21 => self.machine(),
            22 => self.restart(),
            _ => self.shut_down(),
        }
    }

    fn node(&mut self) -> usize {
        self.choices.below(DEVICES)
    }

    fn input(&mut self, node: usize, input: Input) {
        if self.nodes[node].halted {
            return;
        }
        let mut out = Outbox::default();
        self.nodes[node].device.handle(self.now, input, &mut out);
        let device = &self.nodes[node].device;
        device.check();
        for usage in device.usage() {
            // What was accepted before a restart is taken up whatever the limit is.
            let restored = if usage.what == "tasks" { self.nodes[node].restored } else { 0 };
            assert!(usage.size <= usage.limit.max(restored), "{usage:?}");
        }
        for action in out.actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Send { id, to, message, dialect, give_up_at, .. } => {
                // A device that is called late, but not so late that it concludes that it slept, may be late itself.
                let lateness = self.config.timing.lateness;
                assert!(give_up_at + lateness >= self.now, "a message leaves while there is time");
                let Some(to) = (0..=HOSTILE).find(|n| address(*n).ip() == to.ip()) else {
                    return self.input(node, Input::SendFailed { send: id, why: SendFailure::Unreachable });
                };
                self.learn(&message.body);
                let bytes =
                    encode(&message, dialect).ok().filter(|bytes| bytes.len() <= limits().message_bytes);
                self.flights.push(Flight { from: node, id, to, bytes });
            }
            Action::Abandon { id } => {
                self.flights.retain(|flight| flight.from != node || flight.id != id);
            }
            Action::Run { run, .. } => {
                let new = self.nodes[node].runs.insert(run, 0);
                assert!(new.is_none(), "a run begins once");
                let slots = usize::from(self.config.work.slots);
                assert!(self.nodes[node].runs.len() <= slots, "no more runs than slots");
            }
            Action::Stop { run } => {
                assert!(self.nodes[node].runs.contains_key(&run), "only what runs is stopped");
            }
            Action::Report(report) => self.told(node, report),
            Action::Persist { sequence, record, .. } => {
                self.nodes[node].unwritten.push_back((sequence, record))
            }
            Action::WritePeers { .. } => {}
            Action::Halt => {
                self.nodes[node].halted = true;
                self.flights.retain(|flight| flight.from != node);
            }
        }
    }

    fn told(&mut self, node: usize, report: Report) {
        let told = &mut self.nodes[node].told;
        match report {
            Report::Admitted { task, .. } => told.entry(task).or_default().admitted += 1,
            Report::Text { task, offset, text, .. } => {
                let told = told.entry(task).or_default();
                assert_eq!(offset, told.text, "text has no gaps");
                assert!(told.outcomes == 0, "no text after the outcome");
                told.text += text.len() as u64;
            }
            Report::BrokenOff { task, shown, .. } => {
                let told = told.entry(task).or_default();
                assert_eq!(shown, told.text, "as much is void as was shown");
                told.text = 0;
            }
            Report::Outcome { task, outcome } => {
                let told = told.entry(task).or_default();
                told.outcomes += 1;
                // Whoever comes again with the key of a task that ended is told its outcome, too, and whoever asked
                // before the power was lost is still owed one.
                let asked = told.admitted + u32::from(told.restored);
                assert!(told.outcomes <= asked, "one outcome for each who asked");
                if told.outcomes == 1 && told.text > 0 && !outcome.output.is_empty() {
                    assert_eq!(told.text, outcome.output.len() as u64, "what was shown is the answer");
                }
            }
            Report::Refused { .. } | Report::Said { .. } => {}
        }
    }

    /// A forger who listens knows the ids of others.
    fn learn(&mut self, body: &Body) {
        let id = match body {
            Body::BidRequest(request) => request.task.as_ref().map(ToString::to_string),
            Body::BidResponse(bid) => bid.bid.as_ref().map(ToString::to_string),
            Body::Task(order) => order.award.as_ref().map(ToString::to_string),
            _ => None,
        };
        let Some(id) = id else { return };
        self.seen.push_back(id);
        if self.seen.len() > 4 {
            self.seen.pop_front();
        }
    }

    /// A message on its way arrives, whole or cut; its sender hears of it, or is left in doubt.
    fn arrive(&mut self, which: usize) {
        if which >= self.flights.len() {
            return;
        }
        let Flight { from, id, to, bytes } = self.flights.remove(which);
        let Some(bytes) = bytes else {
            return self.input(from, Input::SendFailed { send: id, why: SendFailure::NotSpoken });
        };
        self.deliver(from, to, &bytes);
        self.arrived.push_back((from, to, bytes));
        if self.arrived.len() > COPIES {
            self.arrived.pop_front();
        }
        self.input(from, Input::Delivered { send: id });
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if to < DEVICES {
            let message = decode(bytes, &limits());
            self.input(to, Input::Received { source: address(from), message });
        }
    }

    fn lose(&mut self) {
        let which = self.choices.below(self.flights.len());
        let how = self.choices.byte();
        if which >= self.flights.len() {
            return;
        }
        let Flight { from, id, to, bytes } = self.flights.remove(which);
        let why =
            [SendFailure::Refused, SendFailure::Unreachable, SendFailure::Reset, SendFailure::Ambiguous]
                [usize::from(how % 4)];
        if let Some(bytes) = bytes.filter(|_| why == SendFailure::Ambiguous && how >= 128) {
            self.deliver(from, to, &bytes);
        }
        // Some drivers lie, and some say nothing: then the device gives it up by itself.
        match how / 4 % 4 {
            0 => self.input(from, Input::Delivered { send: id }),
            1 => {}
            _ => self.input(from, Input::SendFailed { send: id, why }),
        }
    }

    fn repeat(&mut self) {
        let which = self.choices.below(self.arrived.len());
        if let Some((from, to, bytes)) = self.arrived.get(which).cloned() {
            self.deliver(from, to, &bytes);
        }
    }

    fn wake(&mut self) {
        let due = |n: &Node| n.device.deadline().map(|(at, _)| at).filter(|_| !n.halted);
        let Some(next) = self.nodes.iter().filter_map(due).min() else { return };
        self.now = self.now.max(next);
        for node in 0..DEVICES {
            if due(&self.nodes[node]).is_some_and(|at| at <= self.now) {
                self.input(node, Input::Wake);
            }
        }
    }

    /// Time passes for both, but only one is called: the other sleeps.
    fn pass_time(&mut self) {
        let node = self.node();
        let millis = self
            .choices
            .of(&[1, 20, 100, 500, 1_000, 2_000, 3_000, 5_000, 15_000, 60_000, 300_000, 4_000_000]);
        self.now += Duration::from_millis(millis);
        self.input(node, Input::Wake);
    }

    fn submit(&mut self) {
        let node = self.node();
        let flags = self.choices.byte();
        let length = self.choices.below(160);
        self.nodes[node].submitted += 1;
        let mut submission = Submission::new(self.nodes[node].submitted, "p".repeat(length));
        submission.dry_run = flags & 1 != 0;
        submission.attached = flags & 2 == 0;
        submission.key = (flags & 4 != 0).then(|| "key".into());
        submission.deadline = (flags & 8 != 0).then_some(Duration::from_secs(7));
        submission.client = (flags & 16 != 0).then(|| "client".into());
        submission.policy = (flags & 32 != 0).then_some(Policy::Weighted);
        if flags & 64 != 0 {
            submission.eligible = Some(BTreeSet::from([name(usize::from(flags & 128 != 0) + 1)]));
        }
        submission.priority = Priority::new(flags % 10).unwrap_or_default();
        self.input(node, Input::Submit(submission));
    }

    /// A message of the hostile peer, or in the name of another: a type and any payload, in which 1 to 4 stand for
    /// ids that were seen lately, and 5 to 7 for what makes most payloads one that is read.
    fn forge(&mut self) {
        let to = self.node();
        let kind = self.choices.of(&KINDS);
        let how = self.choices.byte();
        let length = self.choices.below(96);
        let mut bytes = format!("{kind}|{}|", name(usize::from(how) % 3)).into_bytes();
        for byte in self.choices.take(length) {
            match byte {
                1..=4 => {
                    let id = self.seen.iter().rev().nth(usize::from(*byte) - 1);
                    bytes.extend_from_slice(id.map_or("task_none", String::as_str).as_bytes());
                }
                5 => bytes.extend_from_slice(br#"{"bidmesh": 1, "boot": "h1", "task_id": ""#),
                6 => bytes.extend_from_slice(
                    br#"", "output": "x", "status": "completed", "text": "t", "offset": 0"#,
                ),
                7 => bytes.extend_from_slice(
                    br#"", "cpu_load": 1, "prompt": "p", "reason": "busy", "retry_after_ms": 9"#,
                ),
                byte => bytes.push(*byte),
            }
        }
        if kind == "HELLO" || kind == "DISCOVER" {
            let boot = if how & 64 == 0 { ":bidmesh/1:h1" } else { "" };
            bytes = format!("{kind}|{}|10.0.0.3:9999{boot}", name(usize::from(how) % 3)).into_bytes();
        } else if bytes.contains(&b'{') {
            bytes.push(b'}');
        }
        // Most come from where the name says.
        let source = if how & 128 == 0 { usize::from(how) % 3 } else { HOSTILE };
        self.deliver(source, to, &bytes);
    }

    /// Bytes of the hostile peer.
    fn raw(&mut self) {
        let to = self.node();
        let length = usize::from(self.choices.byte());
        let bytes = self.choices.take(length).to_vec();
        self.deliver(HOSTILE, to, &bytes);
    }

    /// The store is done with the oldest record.
    fn write(&mut self) {
        let node = self.node();
        let how = self.choices.byte();
        let Some((sequence, record)) = self.nodes[node].unwritten.pop_front() else { return };
        let written = match how % 8 {
            6 => Written::NotKept,
            7 => Written::Failed,
            _ => Written::Durable,
        };
        if written == Written::Durable {
            let now = self.now;
            self.nodes[node].written.push((record, now));
        }
        self.input(node, Input::Persisted { sequence, written });
    }

    fn run(&mut self, node: usize) -> Option<(RunId, u64)> {
        let runs = &self.nodes[node].runs;
        let which = self.choices.below(runs.len());
        runs.iter().nth(which).map(|(run, length)| (*run, *length))
    }

    fn generate(&mut self) {
        let node = self.node();
        let length = self.choices.below(70);
        let Some((run, offset)) = self.run(node) else { return };
        let text = "é".repeat(length / 2);
        self.nodes[node].runs.insert(run, offset + text.len() as u64);
        self.input(node, Input::Generated { run, offset, text: text.into() });
    }

    fn end_run(&mut self) {
        let node = self.node();
        let how = self.choices.byte();
        let Some((run, length)) = self.run(node) else { return };
        self.nodes[node].runs.remove(&run);
        let text = "é".repeat(usize::try_from(length / 2).unwrap_or_default());
        let outcome = match how % 5 {
            0 => RunOutcome::Failed("out of memory".into()),
            1 => RunOutcome::Stopped,
            // Some executors stream, and some give all at the end.
            2 => RunOutcome::Completed(format!("{text} and more").as_str().into()),
            _ => RunOutcome::Completed(text.as_str().into()),
        };
        self.input(node, Input::Ran { run, outcome });
    }

    fn person(&mut self) {
        let node = self.node();
        let how = self.choices.byte();
        let input = match how % 8 {
            0..=2 => {
                let tasks = &self.nodes[node].told;
                let Some(task) = tasks.keys().nth(usize::from(how / 8) % tasks.len().max(1)) else { return };
                Input::Cancel { task: task.clone() }
            }
            3 => Input::Pause { during: (how & 8 != 0).then_some(Duration::from_secs(3)) },
            4 => Input::Resume,
            5 => {
                let lines = (0..=HOSTILE).filter(|n| how >> (n + 3) & 1 != 0).map(|n| (name(n), address(n)));
                Input::PeersEdited(lines.collect())
            }
            6 => Input::Say { ticket: 1, to: name(usize::from(how / 8) % 3), body: Body::Text("hi".into()) },
            _ => {
                let mut config = self.config.clone();
                config.admit = if how & 8 != 0 { Admit::Listed } else { Admit::Any };
                config.timing.ageing = Duration::from_secs(u64::from(how));
                config.policy = Policy::Weighted;
                Input::Reconfigured(Box::new(config))
            }
        };
        self.input(node, input);
    }

    fn machine(&mut self) {
        let node = self.node();
        let how = self.choices.byte();
        let input = match how % 3 {
            0 => Input::SensorsRead(Sensors {
                cpu: Load::from_ppm(u32::from(how) * 4_000),
                battery: Percent::new(how / 2),
                charging: (how & 4 != 0).then_some(how & 8 != 0),
                ..Sensors::default()
            }),
            1 => Input::ExecutorChanged(Executor {
                available: how & 4 != 0,
                npu: how & 8 != 0,
                slots: (how & 16 != 0).then_some(u16::from(how >> 5)),
                why: String::new(),
            }),
            _ => Input::AddressChanged((how & 4 != 0).then(|| address(node))),
        };
        self.input(node, input);
    }

    /// Power is lost; what had been written comes back.
    fn restart(&mut self) {
        let node = self.node();
        self.flights.retain(|flight| flight.from != node);
        let n = &mut self.nodes[node];
        n.starts += 1;
        n.runs.clear();
        n.unwritten.clear();
        let tasks = n.written.iter().filter_map(|(record, _)| match record {
            Record::Task { task, .. } => Some(task.clone()),
            _ => None,
        });
        n.told = tasks.map(|task| (task, Told { restored: true, ..Told::default() })).collect();
        n.restored = n.told.len();
        n.halted = false;
        // A device's time begins anew at each start; this world's goes on, which is as if it had slept till now.
        let now = self.now;
        let age = |(record, at): &(Record, Time)| (record.clone(), now.since(*at));
        let records = n.written.iter().map(age).collect();
        let starts = n.starts;
        self.nodes[node].device = self.device(node, starts, Restored { records });
        self.begin(node);
    }

    fn shut_down(&mut self) {
        let (node, seconds) = (self.node(), self.choices.byte());
        self.input(node, Input::Shutdown { within: Duration::from_secs(u64::from(seconds) / 8) });
    }
}

/// Small limits, so that few bytes reach them.
fn config(choices: &mut Choices<'_>) -> Config {
    let how = choices.byte();
    // Heartbeats would go on for ever, and a world must come to rest.
    let mut config = Config { detection: Detection::OFF, ..Config::default() };
    if how & 128 != 0 {
        config.detection = Detection { heartbeat: Duration::ZERO, ..Detection::default() };
    }
    config.work.slots = 1 + u16::from(how & 1);
    config.policy = if how & 2 != 0 { Policy::Weighted } else { Policy::NpuFirst };
    config.prompt_in_bid_request = how & 4 != 0;
    config.admit = [Admit::Hello, Admit::Listed, Admit::Any, Admit::Hello][usize::from(how >> 3 & 3)];
    if how & 32 != 0 {
        config.literal_echo.insert(name(HOSTILE));
    }
    let limits = &mut config.limits;
    limits.peers = 3;
    limits.removed_peers = 1;
    limits.tasks = 3;
    limits.tasks_per_client = 2;
    limits.closed_tasks = 2;
    limits.closed_bytes = 200;
    limits.prompt_bytes = 128;
    limits.shell_prompt_bytes = 64;
    limits.output_bytes = 128;
    limits.pieces = 2;
    limits.outgoing = if how & 64 != 0 { 3 } else { 12 };
    limits.kept_results = 2;
    limits.tombstones = 4;
    limits.decisions = 2;
    limits.decision_lines = 4;
    config
}
