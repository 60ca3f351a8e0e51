//! A few devices, some of them shell devices, a network that loses, copies, delays and lies, workers that fail, hang and are restarted: every
//! prompt ends exactly once, with what some worker really produced for it, and no award runs twice in one start.
//!
//! `SEED=n cargo test -p bidmesh-core --test mesh -- --nocapture` plays one seed and prints every step;
//! `SEEDS=n` plays so many instead of a few hundred.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, clippy::expect_used, reason = "small numbers of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::canonical::Canonical;
use bidmesh_core::config::Detection;
use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{Executor, RunOutcome, SendFailure, Sensors, Written};
use bidmesh_core::load::Load;
use bidmesh_core::outbox::{OutcomeStatus, RunId, SendId};
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{Bid, Body, Decoded, Dialect, Message, Repairs, Status, TaskResult};
use bidmesh_core::{Action, Config, Device, Event, Identity, Input, Outbox, Report, Submission, Time};

/// Seeds of a plain run; the simulation's own campaign is larger.
const SEEDS: u64 = 300;
/// Seeds that once failed, and what it was.
const KNOWN: [(u64, &str); 1] = [(
    106,
    "a letter that rested flew beside the TASK that had gone before it: two connections to a shell device",
)];
/// Faults happen until then.
const STORMY: Duration = Duration::from_secs(120);
/// Every prompt has ended by then: the storm, the longest rest and three attempts of `result_timeout`.
const QUIET: Duration = Duration::from_secs(3_600);

#[test]
fn every_prompt_ends_exactly_once_whatever_the_network_does() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        World::new(seed, true).play();
        return;
    }
    let mut outcomes: BTreeMap<OutcomeStatus, u64> = BTreeMap::new();
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in (0..seeds).chain(KNOWN.iter().map(|(seed, _)| *seed).filter(|seed| *seed >= seeds)) {
        let result = std::panic::catch_unwind(|| World::new(seed, false).play());
        let ended = result.unwrap_or_else(|_| panic!("seed {seed} failed; SEED={seed} shows each step"));
        for status in ended {
            *outcomes.entry(status).or_default() += 1;
        }
    }
    println!("{seeds} seeds: {outcomes:?}");
    for wanted in [
        OutcomeStatus::Completed,
        OutcomeStatus::Failed,
        OutcomeStatus::Nobody,
        OutcomeStatus::Cancelled,
        OutcomeStatus::Expired,
    ] {
        assert!(
            outcomes.contains_key(&wanted),
            "some prompt ends {wanted:?}, or nothing was tested: {outcomes:?}"
        );
    }
}

#[test]
fn one_seed_plays_the_same_twice() {
    for seed in 0..20 {
        let trace = |seed| {
            let mut world = World::new(seed, false);
            world.tracing = true;
            world.play();
            world.trace
        };
        assert_eq!(trace(seed), trace(seed));
    }
}

/// A source of choices (SplitMix64).
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low + 1))
    }
}

enum Happens {
    Wake(usize),
    /// To a device, of that boot if the input is about something that this boot did.
    Input(usize, Option<u64>, Input),
    Submit(usize),
    Crash(usize),
    Return(usize),
    /// A shell device says something, and its port is closed for a moment.
    ShellSays(usize, usize, Body),
}

/// A device of the shell mesh: one connection at a time, deaf while it measures or runs, and a closed port after each
/// message of its own.
struct Shell {
    closed_until: Duration,
    fails: u64,
}

/// How long its port is closed after each message (measured).
const SHELL_CLOSED: Duration = Duration::from_millis(120);

struct Node {
    device: Device,
    boots: u64,
    alive: bool,
    paused_until: Duration,
    abandoned: BTreeSet<SendId>,
    runs: BTreeMap<RunId, String>,
    stopped: BTreeSet<RunId>,
    /// Awards that began in this boot.
    began: BTreeSet<String>,
    executor_fails: u64,
    hangs: u64,
}

/// What a person has seen of one prompt.
#[derive(Default)]
struct Seen {
    prompt: String,
    text: String,
    outcome: Option<OutcomeStatus>,
    lost_with_its_device: bool,
}

struct World {
    shells: Vec<Shell>,
    choices: Choices,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Happens>,
    order: u64,
    nodes: Vec<Node>,
    loss: u64,
    lies: u64,
    copies: u64,
    crashes: bool,
    seen: BTreeMap<(usize, u64, TaskId), Seen>,
    prompts: BTreeMap<(usize, u64, u64), String>,
    submitted: u64,
    verbose: bool,
    tracing: bool,
    trace: String,
    /// Pauses are not drawn, which needs the numbers of letters, and bids do not age, which tells the time: then a
    /// device without its history goes on like the real one.
    twinned: bool,
}

fn name(node: usize) -> DeviceId {
    DeviceId::new(&format!("D{node}")).unwrap()
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(node + 1).unwrap()], 9999))
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut choices = Choices(seed);
        let size = 2 + choices.below(4);
        let mut world = Self {
            shells: Vec::new(),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            order: 0,
            nodes: Vec::new(),
            // A seed without faults now and then; most have some of them.
            loss: [0, 0, 5, 20, 40][choices.below(5) as usize],
            lies: [0, 0, 5, 20][choices.below(4) as usize],
            copies: [0, 0, 20, 50][choices.below(4) as usize],
            crashes: choices.percent(50),
            seen: BTreeMap::new(),
            prompts: BTreeMap::new(),
            submitted: 0,
            verbose,
            tracing: false,
            trace: String::new(),
            twinned: seed.is_multiple_of(5),
            choices,
        };
        for node in 0..size as usize {
            let fails = [0, 0, 10, 60][world.choices.below(4) as usize];
            let hangs = [0, 0, 0, 30][world.choices.below(4) as usize];
            let mut node_value = Node {
                device: world.device(node, 0),
                boots: 0,
                alive: true,
                paused_until: Duration::ZERO,
                abandoned: BTreeSet::new(),
                runs: BTreeMap::new(),
                stopped: BTreeSet::new(),
                began: BTreeSet::new(),
                executor_fails: fails,
                hangs,
            };
            node_value.boots = 0;
            world.nodes.push(node_value);
        }
        if world.choices.percent(50) {
            for _ in 0..1 + world.choices.below(3) {
                let fails = [0, 0, 50][world.choices.below(3) as usize];
                world.shells.push(Shell { closed_until: Duration::ZERO, fails });
            }
        }
        for node in 0..world.nodes.len() {
            world.begin(node);
        }
        for _ in 0..1 + world.choices.below(12) {
            let at = world.choices.millis(0, 60_000);
            let node = world.choices.below(size) as usize;
            world.later(at, Happens::Submit(node));
        }
        if world.crashes {
            for _ in 0..1 + world.choices.below(4) {
                let (at, node) = (world.choices.millis(0, 90_000), world.choices.below(size) as usize);
                world.later(at, Happens::Crash(node));
            }
        }
        world
    }

    fn device(&mut self, node: usize, boot: u64) -> Device {
        let me = Identity { device: name(node), address: Some(address(node)) };
        // Quiet must be reached, and a heartbeat is always pending: `bidmesh-sim` has worlds with them.
        let mut config = Config { detection: Detection::OFF, ..Config::default() };
        config.work.slots = 1 + u16::try_from(self.choices.below(3)).unwrap();
        config.limits.decisions = 4;
        if self.twinned {
            config.timing.retry_high = config.timing.retry_low;
            config.timing.bid_validity = Duration::from_secs(90 * 24 * 3_600);
        }
        let seed = Seed::from(self.choices.next() ^ boot);
        Device::new(me, seed, config, Restored::default())
    }

    fn begin(&mut self, node: usize) {
        let all = self.nodes.len() + self.shells.len();
        let lines = (0..all).filter(|n| *n != node).map(|n| (name(n), address(n))).collect();
        let sensors =
            Sensors { cpu: Load::from_ppm(self.choices.below(1_000_001) as u32), ..Sensors::default() };
        let (available, npu) = (self.choices.percent(85), self.choices.percent(30));
        let executor = Executor { available, npu, slots: None, why: String::new() };
        self.input(node, Input::SensorsRead(sensors));
        self.input(node, Input::ExecutorChanged(executor));
        self.input(node, Input::PeersEdited(lines));
    }

    fn later(&mut self, after: Duration, what: Happens) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), what);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.verbose || self.tracing {
            let line = format!("{:>9.3} {}", self.now.as_secs_f64(), line());
            if self.verbose {
                println!("{line}");
            }
            if self.tracing {
                self.trace.push_str(&line);
                self.trace.push('\n');
            }
        }
    }

    fn stormy(&self) -> bool {
        self.now < STORMY
    }

    fn play(&mut self) -> Vec<OutcomeStatus> {
        while let Some(((at, _), what)) = self.queue.pop_first() {
            if at > QUIET {
                break;
            }
            self.now = at;
            match what {
                Happens::Wake(node) => {
                    let due = |n: &Node| {
                        n.alive && n.device.deadline().is_some_and(|(due, _)| due.since_start() <= at)
                    };
                    if due(&self.nodes[node]) {
                        self.input(node, Input::Wake);
                    }
                }
                Happens::Input(node, boot, input) => {
                    let n = &self.nodes[node];
                    let wanted = n.alive && boot.is_none_or(|boot| boot == n.boots);
                    let answers = match &input {
                        Input::Delivered { send } | Input::SendFailed { send, .. } => {
                            !n.abandoned.contains(send)
                        }
                        Input::Generated { run, .. } => !n.stopped.contains(run),
                        _ => true,
                    };
                    if wanted && n.paused_until > at {
                        let rest = n.paused_until - at;
                        self.later(rest, Happens::Input(node, boot, input));
                    } else if wanted && answers {
                        self.input(node, input);
                    }
                }
                Happens::Submit(node) => self.submit(node),
                Happens::Crash(node) => self.crash(node),
                Happens::Return(node) => self.come_back(node),
                Happens::ShellSays(shell, to, body) => self.shell_says(shell, to, body),
            }
        }
        self.verdict()
    }

    fn submit(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        self.submitted += 1;
        let ticket = self.submitted;
        let prompt = format!("prompt {ticket}");
        self.prompts.insert((node, self.nodes[node].boots, ticket), prompt.clone());
        let mut submission = Submission::new(ticket, prompt);
        if self.choices.percent(15) {
            submission.deadline = Some(self.choices.millis(1_000, 60_000));
        }
        self.input(node, Input::Submit(submission));
    }

    /// Power is lost: nobody is told.
    fn crash(&mut self, node: usize) {
        self.say(|| format!("D{node} CRASH"));
        let n = &mut self.nodes[node];
        if !n.alive {
            return;
        }
        if self.choices.percent(40) {
            // It sleeps instead.
            n.paused_until = self.now + self.choices.millis(1_000, 50_000);
            return;
        }
        n.alive = false;
        let boot = n.boots;
        for ((of, in_boot, _), seen) in &mut self.seen {
            if *of == node && *in_boot == boot && seen.outcome.is_none() {
                seen.lost_with_its_device = true;
            }
        }
        let after = self.choices.millis(100, 40_000);
        self.later(after, Happens::Return(node));
    }

    fn come_back(&mut self, node: usize) {
        self.say(|| format!("D{node} RETURN"));
        let boot = self.nodes[node].boots + 1;
        let device = self.device(node, boot);
        let n = &mut self.nodes[node];
        n.device = device;
        n.boots = boot;
        n.alive = true;
        n.abandoned.clear();
        n.runs.clear();
        n.stopped.clear();
        n.began.clear();
        self.begin(node);
    }

    fn input(&mut self, node: usize, input: Input) {
        self.say(|| format!("D{node} <- {input:?}"));
        let now = Time::from_start(self.now);
        let mut out = Outbox::default();
        let device = &mut self.nodes[node].device;
        let mut twin = device.clone();
        let mut canonical = if self.twinned { without_history(device, now, &input) } else { None };
        device.handle(now, input.clone(), &mut out);
        device.check();
        let mut twins_out = Outbox::default();
        twin.handle(now, input, &mut twins_out);
        assert!(twin == *device && twins_out == out, "the same inputs have the same outputs");
        if let Some((twin, input)) = &mut canonical {
            let mut twins_out = Outbox::default();
            twin.handle(Canonical::PRESENT, input.clone(), &mut twins_out);
            assert_eq!(kinds(&twins_out), kinds(&out), "without its history it does otherwise: {input:?}");
            let (twin, real) = (twin.canonical(Canonical::PRESENT), device.canonical(now));
            if twin.device != real.device {
                let (left, right) = (in_common(&twin.device), in_common(&real.device));
                assert!(
                    left == right,
                    "{input:?}: without its history it goes on otherwise: {}",
                    difference(&left, &right)
                );
            }
        }
        if self.twinned {
            sleeps_until_its_deadline(device, now);
        }
        if let Some((at, _)) = device.deadline() {
            let rest = at.since(now);
            self.later(rest, Happens::Wake(node));
        }
        for event in &out.events {
            self.say(|| format!("D{node}  * {event:?}"));
            if let Event::RunStarted { label, .. } = event {
                assert!(self.nodes[node].began.insert(label.clone()), "{label} runs once in one start");
            }
        }
        for action in out.actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        self.say(|| format!("D{node} -> {action:?}"));
        let boot = Some(self.nodes[node].boots);
        match action {
            Action::Send { id, to, message, give_up_at, dialect, .. } => {
                let target = (0..self.nodes.len() + self.shells.len()).find(|n| address(*n) == to).unwrap();
                match target.checked_sub(self.nodes.len()) {
                    Some(shell) => self.send_to_shell(node, id, shell, &message, dialect, give_up_at),
                    None => self.send(node, id, target, message, give_up_at),
                }
            }
            Action::Abandon { id } => {
                self.nodes[node].abandoned.insert(id);
            }
            Action::Persist { sequence, .. } => {
                let after = self.choices.millis(0, 5);
                self.later(
                    after,
                    Happens::Input(node, boot, Input::Persisted { sequence, written: Written::Durable }),
                );
            }
            Action::Run { run, label, prompt, .. } => self.run(node, run, &label, &prompt),
            Action::Stop { run } => {
                if self.nodes[node].runs.remove(&run).is_some() {
                    self.nodes[node].stopped.insert(run);
                    let after = self.choices.millis(0, 50);
                    self.later(
                        after,
                        Happens::Input(node, boot, Input::Ran { run, outcome: RunOutcome::Stopped }),
                    );
                }
            }
            Action::Report(report) => self.report(node, report),
            Action::WritePeers { .. } | Action::Halt => {}
        }
    }

    fn run(&mut self, node: usize, run: RunId, label: &str, prompt: &str) {
        let boot = Some(self.nodes[node].boots);
        self.nodes[node].runs.insert(run, label.into());
        if self.choices.percent(self.nodes[node].hangs) && self.stormy() {
            return;
        }
        let output = signed(prompt, node, self.nodes[node].boots, label);
        let end = self.choices.millis(10, 20_000);
        let mut offset = 0;
        for piece in output.as_bytes().chunks(7) {
            let text = String::from_utf8_lossy(piece);
            let at = end * u32::try_from(offset).unwrap() / u32::try_from(output.len()).unwrap();
            let input = Input::Generated { run, offset, text: text.as_ref().into() };
            self.later(at, Happens::Input(node, boot, input));
            offset += piece.len() as u64;
        }
        let fails = self.choices.percent(self.nodes[node].executor_fails) && self.stormy();
        let outcome = if fails {
            RunOutcome::Failed("out of memory".into())
        } else {
            RunOutcome::Completed(output.as_str().into())
        };
        self.later(end, Happens::Input(node, boot, Input::Ran { run, outcome }));
    }

    fn send_to_shell(
        &mut self,
        node: usize,
        id: SendId,
        shell: usize,
        message: &Message,
        dialect: Dialect,
        give_up_at: Time,
    ) {
        let boot = Some(self.nodes[node].boots);
        let latency = self.choices.millis(1, 40);
        let storm = self.stormy();
        let (now, loss, lies) = (self.now, self.loss, self.lies);
        let closed = self.shells[shell].closed_until > now;
        if closed || (storm && self.choices.percent(loss)) {
            let input = Input::SendFailed { send: id, why: SendFailure::Refused };
            return self.later(latency, Happens::Input(node, boot, input));
        }
        let until_given_up = give_up_at.since(Time::from_start(now));
        let lied = storm && self.choices.percent(lies);
        let answer = if lied {
            (until_given_up, Input::SendFailed { send: id, why: SendFailure::Ambiguous })
        } else {
            (latency * 2, Input::Delivered { send: id })
        };
        self.later(answer.0, Happens::Input(node, boot, answer.1));
        if lied && self.choices.percent(50) {
            return;
        }
        let fails = self.shells[shell].fails;
        let busy = match &message.body {
            Body::BidRequest(_) => {
                let bid = Bid { cpu: Load::from_ppm(self.choices.below(1_000_000) as u32), ..Bid::default() };
                let after = self.choices.millis(600, 1_200);
                self.later(after, Happens::ShellSays(shell, node, Body::BidResponse(bid)));
                after
            }
            Body::Task(order) => {
                assert!(dialect.is_shell(), "a shell device is written to in its own form");
                let label = order.award.as_ref().unwrap().to_string();
                let from = self.nodes.len() + shell;
                let output = signed(&order.prompt, from, 0, &label);
                let failed = self.choices.percent(fails);
                let result = TaskResult {
                    award: order.award.clone(),
                    device: None,
                    status: if failed { Status::Error } else { Status::Completed },
                    output: if failed { "SLM not available".into() } else { output.into() },
                    output_was_not_utf8: false,
                    speed: None,
                };
                let after = self.choices.millis(300, 30_000);
                self.later(after, Happens::ShellSays(shell, node, Body::Result(result)));
                after
            }
            // Unknown types and notes are logged.
            _ => Duration::ZERO,
        };
        self.shells[shell].closed_until = now + latency + busy + SHELL_CLOSED;
    }

    /// Its sender tries five times within a second and may be unlucky; what arrived may arrive again.
    fn shell_says(&mut self, shell: usize, to: usize, body: Body) {
        let from = self.nodes.len() + shell;
        self.shells[shell].closed_until = self.shells[shell].closed_until.max(self.now + SHELL_CLOSED);
        let (loss, copies) = (self.loss, self.copies);
        let lost = self.stormy() && self.choices.percent(loss / 4);
        if !self.nodes[to].alive || lost {
            return;
        }
        let times = if self.stormy() && self.choices.percent(copies) { 1 + self.choices.below(4) } else { 1 };
        for n in 0..times {
            let after = self.choices.millis(1, 40) * u32::try_from(n + 1).unwrap();
            let message = Message { from: name(from), marker: None, body: body.clone() };
            let decoded = Decoded { message, repairs: Repairs::default() };
            let input = Input::Received { source: address(from), message: Ok(decoded) };
            self.later(after, Happens::Input(to, None, input));
        }
    }

    fn send(&mut self, node: usize, id: SendId, target: usize, message: Message, give_up_at: Time) {
        let boot = Some(self.nodes[node].boots);
        let there = self.nodes[target].alive && self.nodes[target].paused_until <= self.now;
        let latency = self.choices.millis(1, 40);
        let storm = self.stormy();
        let deliver = |world: &mut Self, after: Duration, message: &Message| {
            let decoded = Decoded { message: message.clone(), repairs: Repairs::default() };
            let input = Input::Received { source: address(node), message: Ok(decoded) };
            world.later(after, Happens::Input(target, None, input));
        };
        let answer = |world: &mut Self, after: Duration, input: Input| {
            world.later(after, Happens::Input(node, boot, input))
        };
        let until_given_up = give_up_at.since(Time::from_start(self.now));
        if !self.nodes[target].alive || (storm && self.choices.percent(self.loss)) {
            let (after, why) = match self.choices.below(3) {
                0 => (latency, SendFailure::Refused),
                1 => (until_given_up, SendFailure::Unreachable),
                _ => (latency * 2, SendFailure::Reset),
            };
            return answer(self, after, Input::SendFailed { send: id, why });
        }
        if !there {
            // Its kernel takes the connection; it reads when it wakes.
            deliver(self, latency, &message);
            return answer(self, until_given_up, Input::SendFailed { send: id, why: SendFailure::Ambiguous });
        }
        if storm && self.choices.percent(self.lies) {
            if self.choices.percent(50) {
                return answer(self, latency * 2, Input::Delivered { send: id });
            }
            deliver(self, latency, &message);
            return answer(self, until_given_up, Input::SendFailed { send: id, why: SendFailure::Ambiguous });
        }
        deliver(self, latency, &message);
        if storm && self.choices.percent(self.copies) {
            let late = self.choices.millis(1, 30_000);
            deliver(self, late, &message);
        }
        let after = latency + self.choices.millis(1, 40);
        answer(self, after, Input::Delivered { send: id });
        if let Body::Bye = message.body {
            panic!("nobody leaves here");
        }
    }

    fn report(&mut self, node: usize, report: Report) {
        let boot = self.nodes[node].boots;
        match report {
            Report::Admitted { ticket, task, .. } => {
                let prompt = self.prompts[&(node, boot, ticket)].clone();
                if self.choices.percent(10) {
                    let after = self.choices.millis(0, 20_000);
                    self.later(after, Happens::Input(node, Some(boot), Input::Cancel { task: task.clone() }));
                }
                let new = self.seen.insert((node, boot, task), Seen { prompt, ..Seen::default() });
                assert!(new.is_none(), "a task is admitted once");
            }
            Report::Refused { .. } => {}
            Report::Text { task, offset, text, .. } => {
                let seen = self.seen.get_mut(&(node, boot, task)).expect("told of a task that was admitted");
                assert!(seen.outcome.is_none(), "no text after the outcome");
                assert_eq!(offset, seen.text.len() as u64, "text comes without gaps");
                seen.text.push_str(&text);
            }
            Report::BrokenOff { task, shown, .. } => {
                let seen = self.seen.get_mut(&(node, boot, task)).expect("told of a task that was admitted");
                assert_eq!(shown, seen.text.len() as u64);
                seen.text.clear();
            }
            Report::Outcome { task, outcome } => {
                let seen = self.seen.get_mut(&(node, boot, task)).expect("told of a task that was admitted");
                assert!(seen.outcome.is_none(), "one outcome a task");
                seen.outcome = Some(outcome.status);
                if outcome.status == OutcomeStatus::Completed {
                    assert_eq!(seen.text, *outcome.output, "what was shown is the answer");
                    assert!(
                        outcome.output.starts_with(&format!("[{}]", seen.prompt)),
                        "it answers this prompt: {}",
                        outcome.output
                    );
                }
            }
            Report::Said { .. } => panic!("nobody says anything here"),
        }
    }

    fn verdict(&self) -> Vec<OutcomeStatus> {
        let mut ended = Vec::new();
        for ((node, _, task), seen) in &self.seen {
            match seen.outcome {
                Some(status) => ended.push(status),
                None => assert!(seen.lost_with_its_device, "D{node} {task} ({}) never ended", seen.prompt),
            }
        }
        for node in &self.nodes {
            for usage in node.device.usage() {
                assert!(usage.size <= usage.limit, "{usage:?}");
                let empty = ["tasks", "outgoing", "kept_results"];
                assert!(
                    !empty.contains(&usage.what) || usage.size == 0,
                    "{usage:?} an hour after the last prompt"
                );
            }
        }
        ended
    }
}

/// Nothing is due before the deadline, and something is due then: whoever is woken in between does nothing, and
/// whoever is woken at the deadline has another one.
fn sleeps_until_its_deadline(device: &Device, now: Time) {
    let woken = |device: &mut Device, at: Time| {
        let mut out = Outbox::default();
        device.handle(at, Input::Wake, &mut out);
        out
    };
    let deadline = device.deadline().map_or(now + Duration::from_secs(10_000), |(at, _)| at);
    assert!(deadline > now, "it has done all that is due: {:?}", device.deadline());
    let (mut straight, mut early) = (device.clone(), device.clone());
    let (half, last) = (now + deadline.since(now) / 2, now + (deadline.since(now) - Duration::from_nanos(1)));
    for at in [half, last] {
        assert!(woken(&mut early, at) == Outbox::default(), "nothing is due before {deadline}");
    }
    assert!(woken(&mut straight, deadline) == woken(&mut early, deadline) && straight == early, "{deadline}");
}

/// The device without its history, and the input as that one knows it; `None` if that is about a letter, a run
/// or a record of the past.
fn without_history(device: &Device, now: Time, input: &Input) -> Option<(Device, Input)> {
    if now == Time::ZERO {
        // A letter of the very first moment counts as one from before anybody was heard.
        return None;
    }
    let canonical = device.canonical(now);
    let mut input = input.clone();
    match &mut input {
        Input::Delivered { send } | Input::SendFailed { send, .. } => {
            assert_eq!(
                canonical.numbers.send(*send).is_some(),
                canonical.numbers.sends.contains(send),
                "{send:?}"
            );
            *send = canonical.numbers.send(*send)?;
        }
        Input::Generated { run, .. } | Input::Ran { run, .. } => *run = canonical.numbers.run(*run)?,
        Input::Persisted { sequence, .. } => {
            assert_eq!(
                canonical.numbers.sequence(*sequence).is_some(),
                canonical.numbers.sequences.contains(sequence)
            );
            *sequence = canonical.numbers.sequence(*sequence)?;
        }
        _ => {}
    }
    Some((canonical.device, input))
}

/// What was done and noticed, without names and numbers.
fn kinds(out: &Outbox) -> (Vec<std::mem::Discriminant<Action>>, Vec<std::mem::Discriminant<Event>>) {
    (
        out.actions.iter().map(std::mem::discriminant).collect(),
        out.events.iter().map(std::mem::discriminant).collect(),
    )
}

/// A device as text, without the names of bids, which hold the moment at which each was made, and without speeds.
fn in_common(device: &Device) -> String {
    let mut text = format!("{device:?}");
    for (from, to) in [("bid: Some(", ")"), ("speed: Some(Speed {", "})")] {
        let mut parts = text.split(from);
        let mut rest = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (field, _) = from.split_once(' ').unwrap();
            let kept = match part.split_once(to) {
                // A whole bid is no name.
                Some((name, after)) if !name.starts_with("Bid ") => format!("{field} None{after}"),
                _ => format!("{from}{part}"),
            };
            rest.push_str(&kept);
        }
        text = rest;
    }
    text
}

/// Where two texts begin to differ.
fn difference(left: &str, right: &str) -> String {
    let at = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(150)..text.len().min(at + 80)])
            .into_owned()
    };
    format!("{}\n{}", part(left), part(right))
}

/// What a worker produces, so that an answer tells who made it for what.
fn signed(prompt: &str, node: usize, boot: u64, label: &str) -> String {
    format!("[{prompt}] by D{node} in its start {boot} for {label}")
}
