//! One state of a small mesh, and every step that leads on from it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bidmesh_core::canonical::Canonical;
use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{Executor, RunOutcome, SendFailure, Written};
use bidmesh_core::outbox::{Ignored, OutcomeStatus, RunId, SendId, Sequence};
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{Body, Decoded, Message, Repairs};
use bidmesh_core::{Action, Device, Event, Identity, Input, Outbox, Report, Submission, Time};

use super::rules::{Followed, Mark, Marks, Product, Rule};
use super::settings::{Budgets, Mesh};
use super::shell::Shell;

/// The digest of a node that was changed and not yet put in order.
const CHANGED: u64 = 0;

/// A device and what belongs to it.
#[derive(Clone, Debug)]
struct Node {
    /// Canonical: its clock shows [`Canonical::PRESENT`].
    device: Device,
    boot: u8,
    runs: BTreeMap<RunId, Run>,
    /// Records that are still being written.
    writing: BTreeSet<Sequence>,
    /// Awards that began in this start.
    began: BTreeSet<String>,
    /// What its runs gave, in any start.
    products: BTreeSet<Product>,
    /// Of all of the above: devices are large, and most steps change one.
    digest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    label: String,
    prompt: String,
    told: bool,
    hangs: bool,
    stopping: bool,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.device == other.device
            && (self.boot, &self.runs, &self.writing) == (other.boot, &other.runs, &other.writing)
            && (&self.began, &self.products) == (&other.began, &other.products)
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// A message on its way; or, once it was read late, only the answer that its sender is owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight {
    from: u8,
    to: u8,
    /// Which letter of its sender it is; `None` for copies, abandoned letters and what shell devices say.
    letter: Option<SendId>,
    message: Option<Arc<Message>>,
    /// Time passes for all only when nothing that is awaited is on its way; copies may come whenever they like.
    awaited: bool,
    digest: u64,
}

impl Flight {
    fn new(from: u8, to: u8, letter: Option<SendId>, message: Message) -> Self {
        let digest = digest(&message);
        Self { from, to, letter, message: Some(Arc::new(message)), awaited: true, digest }
    }

    fn key(&self) -> (u8, u8, Option<SendId>, bool, bool, u64) {
        (self.from, self.to, self.letter, self.awaited, self.message.is_some(), self.digest)
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// One state: devices, messages on their way, what may still go wrong, and what the rules remember.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    nodes: Vec<Arc<Node>>,
    shells: Vec<Shell>,
    /// Shell devices keep no state of their own about what they gave.
    shell_products: BTreeSet<Product>,
    flights: Vec<Flight>,
    budgets: Budgets,
    slow_store: bool,
    tasks: BTreeMap<(u8, TaskId), Followed>,
    broken: Option<Rule>,
}

/// One thing that happens. What it is in words only the world knows that it happens to ([`World::tell`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step(What);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Deliver {
        flight: usize,
        how: How,
    },
    Lose {
        flight: usize,
        told: Told,
    },
    /// The sender of a message that was read late is told.
    Answer {
        flight: usize,
    },
    Wake {
        node: usize,
    },
    /// Nothing else can happen: time passes for all.
    Idle,
    Ends {
        node: usize,
        run: RunId,
        how: End,
    },
    Hangs {
        node: usize,
        run: RunId,
    },
    Tells {
        node: usize,
        run: RunId,
    },
    Written {
        node: usize,
        sequence: Sequence,
    },
    ShellEnds {
        shell: usize,
        fails: bool,
    },
    Crash {
        node: usize,
    },
    Cancel {
        node: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum How {
    Once,
    AndKept,
    InDoubt,
    AnsweredLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Refused,
    Ambiguous,
    Delivered,
    /// It has no letter: nobody is told.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Completed,
    Failed,
    Stopped,
}

fn name(node: usize) -> DeviceId {
    // Letters, digits and few of them: always an id.
    #[allow(clippy::expect_used, reason = "see above")]
    DeviceId::new(&format!("D{node}")).expect("an id")
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, small(node) + 1], 9999))
}

/// Meshes have a handful of devices.
fn small(node: usize) -> u8 {
    u8::try_from(node).unwrap_or(u8::MAX)
}

fn node_at(address_: SocketAddr, all: usize) -> Option<usize> {
    (0..all).find(|node| address(*node) == address_)
}

impl World {
    /// All devices know each other, and every orchestrator was just handed its prompt.
    pub(super) fn begin(mesh: &Mesh, marks: &Marks) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            shells: vec![Shell::default(); usize::from(mesh.shells)],
            shell_products: BTreeSet::new(),
            flights: Vec::new(),
            budgets: mesh.budgets,
            slow_store: mesh.slow_store,
            tasks: BTreeMap::new(),
            broken: None,
        };
        let count = usize::from(mesh.orchestrators + mesh.bidders);
        for node in 0..count {
            world.nodes.push(Arc::new(start(mesh, node, 0)));
        }
        for node in 0..count {
            world.introduce(mesh, marks, node);
        }
        while !world.flights.is_empty() {
            world = world.after(mesh, marks, &Step(world.first()));
        }
        for node in 0..usize::from(mesh.orchestrators) {
            let prompt = format!("p{node}");
            world.input(marks, node, Canonical::PRESENT, Input::Submit(Submission::new(0, prompt)));
        }
        world.settle();
        world
    }

    fn first(&self) -> What {
        match self.flights[0].message {
            Some(_) => What::Deliver { flight: 0, how: How::Once },
            None => What::Answer { flight: 0 },
        }
    }

    /// What a device learns when it starts. Orchestrators know workers, and workers orchestrators.
    fn introduce(&mut self, mesh: &Mesh, marks: &Marks, node: usize) {
        let orchestrators = usize::from(mesh.orchestrators);
        let all = usize::from(mesh.orchestrators + mesh.bidders + mesh.shells);
        let worker = node >= orchestrators;
        let others = if worker { 0..orchestrators } else { orchestrators..all };
        let lines = others.map(|other| (name(other), address(other))).collect();
        let executor = Executor { available: worker, ..Executor::default() };
        self.input(marks, node, Canonical::PRESENT, Input::ExecutorChanged(executor));
        self.input(marks, node, Canonical::PRESENT, Input::PeersEdited(lines));
    }

    /// The rule that was broken on the way here.
    pub(super) fn broken(&self) -> Option<Rule> {
        self.broken
    }

    /// Everything that can happen next.
    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        let budgets = &self.budgets;
        let mut add = |what: What| steps.push(Step(what));
        for (flight, on_its_way) in self.flights.iter().enumerate() {
            if on_its_way.message.is_none() {
                add(What::Answer { flight });
                continue;
            }
            add(What::Deliver { flight, how: How::Once });
            if !on_its_way.awaited || self.is_deaf(on_its_way.to) {
                continue;
            }
            if budgets.copies > 0 {
                add(What::Deliver { flight, how: How::AndKept });
            }
            if on_its_way.letter.is_none() {
                if budgets.losses > 0 {
                    add(What::Lose { flight, told: Told::Nothing });
                }
                continue;
            }
            if budgets.lates > 0 {
                add(What::Deliver { flight, how: How::AnsweredLate });
            }
            if budgets.doubts > 0 {
                add(What::Deliver { flight, how: How::InDoubt });
            }
            if budgets.losses > 0 {
                for told in [Told::Refused, Told::Ambiguous, Told::Delivered] {
                    add(What::Lose { flight, told });
                }
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            self.run_steps(index, node, &mut add);
        }
        for (shell, _) in self.shells.iter().enumerate().filter(|(_, shell)| shell.runs.is_some()) {
            add(What::ShellEnds { shell, fails: false });
            if budgets.errors > 0 {
                add(What::ShellEnds { shell, fails: true });
            }
        }
        let orchestrators: BTreeSet<u8> = self.tasks.keys().map(|(node, _)| *node).collect();
        if budgets.crashes > 0 {
            let bidders = (0..self.nodes.len()).filter(|node| !orchestrators.contains(&small(*node)));
            bidders.for_each(|node| add(What::Crash { node }));
        }
        if budgets.cancels > 0 {
            for ((node, _), _) in self.tasks.iter().filter(|(_, task)| !task.ended) {
                add(What::Cancel { node: usize::from(*node) });
            }
        }
        let waits = |node: &Arc<Node>| node.device.deadline().is_some();
        if self.is_idle() {
            if self.nodes.iter().any(waits) {
                add(What::Idle);
            }
        } else if budgets.wakes > 0 {
            let waiting = self.nodes.iter().enumerate().filter(|(_, node)| waits(node));
            waiting.for_each(|(node, _)| add(What::Wake { node }));
        }
    }

    fn run_steps(&self, index: usize, node: &Node, add: &mut impl FnMut(What)) {
        for sequence in &node.writing {
            add(What::Written { node: index, sequence: *sequence });
        }
        for (id, run) in &node.runs {
            let ends = |how| What::Ends { node: index, run: *id, how };
            if run.stopping {
                add(ends(End::Stopped));
            }
            if run.hangs {
                continue;
            }
            add(ends(End::Completed));
            if run.stopping {
                continue;
            }
            if self.budgets.errors > 0 {
                add(ends(End::Failed));
            }
            if self.budgets.hangs > 0 {
                add(What::Hangs { node: index, run: *id });
            }
            if self.budgets.texts > 0 && !run.told {
                add(What::Tells { node: index, run: *id });
            }
        }
    }

    fn is_deaf(&self, to: u8) -> bool {
        let shell = usize::from(to).checked_sub(self.nodes.len());
        shell.and_then(|shell| self.shells.get(shell)).is_some_and(|shell| shell.runs.is_some())
    }

    /// Nothing that anybody awaits is on its way or being written, and no run will end by itself.
    fn is_idle(&self) -> bool {
        let goes_on = |node: &Arc<Node>| node.runs.values().any(|run| !run.hangs || run.stopping);
        !self.flights.iter().any(|flight| flight.awaited)
            && !self.nodes.iter().any(goes_on)
            && self.nodes.iter().all(|node| node.writing.is_empty())
            && self.shells.iter().all(|shell| shell.runs.is_none())
    }

    /// What a step of this world is, in words.
    pub fn tell(&self, step: &Step) -> String {
        let of = |flight: usize| {
            let Flight { from, to, message, awaited, .. } = &self.flights[flight];
            let kind = message.as_ref().map_or("", |message| message.body.kind());
            let loose = if *awaited { "" } else { " (a copy)" };
            format!("{kind} D{from} -> D{to}{loose}")
        };
        match step.0 {
            What::Deliver { flight, how: How::Once } => format!("{} arrives", of(flight)),
            What::Deliver { flight, how: How::AndKept } => format!("{} arrives and is copied", of(flight)),
            What::Deliver { flight, how: How::InDoubt } => {
                format!("{} arrives; its sender is told that nobody knows", of(flight))
            }
            What::Deliver { flight, how: How::AnsweredLate } => {
                format!("{} arrives; its sender is told later", of(flight))
            }
            What::Lose { flight, told } => format!("{} is lost; its sender is told {told:?}", of(flight)),
            What::Answer { flight } => format!("{}: its sender is told that it arrived", of(flight)),
            What::Wake { node } => {
                let why = self.nodes[node].device.deadline().map_or("", |(_, why)| why);
                format!("D{node} is woken early: {why}")
            }
            What::Idle => String::from("time passes"),
            What::Ends { node, run, how } => format!("D{node}: {run:?} ends: {how:?}"),
            What::Written { node, .. } => format!("D{node}: a record is written"),
            What::Hangs { node, run } => format!("D{node}: {run:?} hangs"),
            What::Tells { node, run } => format!("D{node}: {run:?} has generated text"),
            What::ShellEnds { shell, fails } => {
                format!(
                    "D{} (shell) ends its run{}",
                    self.nodes.len() + shell,
                    if fails { ": failed" } else { "" }
                )
            }
            What::Crash { node } => format!("D{node} loses power and is back"),
            What::Cancel { node } => format!("D{node}: its prompt is cancelled"),
        }
    }

    /// The state after one step.
    pub(super) fn after(&self, mesh: &Mesh, marks: &Marks, step: &Step) -> Self {
        let mut world = self.clone();
        let done = catch_unwind(AssertUnwindSafe(|| world.take(mesh, marks, step.0)));
        if done.is_err() {
            world.broken = Some(Rule::Invariants);
        }
        world.settle();
        world
    }

    fn take(&mut self, mesh: &Mesh, marks: &Marks, what: What) {
        let now = Canonical::PRESENT;
        match what {
            What::Deliver { flight, how } => self.deliver(marks, flight, how),
            What::Lose { flight, told } => {
                let flight = self.flights.remove(flight);
                self.budgets.losses -= 1;
                let fate = |send| match told {
                    Told::Refused => Some(Input::SendFailed { send, why: SendFailure::Refused }),
                    Told::Ambiguous => Some(Input::SendFailed { send, why: SendFailure::Ambiguous }),
                    Told::Delivered => Some(Input::Delivered { send }),
                    Told::Nothing => None,
                };
                if let Some(input) = flight.letter.and_then(fate) {
                    self.input(marks, usize::from(flight.from), now, input);
                }
            }
            What::Answer { flight } => {
                let flight = self.flights.remove(flight);
                self.answer(marks, &flight, |send| Input::Delivered { send });
            }
            What::Wake { node } => {
                self.budgets.wakes -= 1;
                if let Some((at, _)) = self.nodes[node].device.deadline() {
                    self.input(marks, node, at, Input::Wake);
                }
            }
            What::Idle => self.idle(marks),
            What::Ends { node, run, how } => self.ends(marks, node, run, how),
            What::Written { node, sequence } => {
                self.edit(node, |node| {
                    node.writing.remove(&sequence);
                });
                self.input(marks, node, now, Input::Persisted { sequence, written: Written::Durable });
            }
            What::Hangs { node, run } => {
                self.budgets.hangs -= 1;
                self.edit(node, |node| {
                    if let Some(run) = node.runs.get_mut(&run) {
                        run.hangs = true;
                    }
                });
            }
            What::Tells { node, run } => {
                self.budgets.texts -= 1;
                self.edit(node, |node| {
                    if let Some(run) = node.runs.get_mut(&run) {
                        run.told = true;
                    }
                });
                self.input(marks, node, now, Input::Generated { run, offset: 0, text: "[".into() });
            }
            What::ShellEnds { shell, fails } => self.shell_ends(shell, fails),
            What::Crash { node } => self.crash(mesh, marks, node),
            What::Cancel { node } => {
                self.budgets.cancels -= 1;
                let task =
                    self.tasks.keys().find(|(of, _)| usize::from(*of) == node).map(|(_, task)| task.clone());
                if let Some(task) = task {
                    self.input(marks, node, now, Input::Cancel { task });
                }
            }
        }
    }

    fn deliver(&mut self, marks: &Marks, index: usize, how: How) {
        let flight = self.flights.remove(index);
        if self.is_deaf(flight.to) {
            // Nothing to pay: that is how shell devices are.
            return self.answer(marks, &flight, |send| Input::SendFailed { send, why: SendFailure::Refused });
        }
        let Some(message) = flight.message.clone() else { return };
        match how {
            How::Once => {}
            How::AndKept => {
                self.budgets.copies -= 1;
                self.flights.push(Flight { letter: None, awaited: false, ..flight.clone() });
            }
            How::InDoubt => self.budgets.doubts -= 1,
            How::AnsweredLate => {
                self.budgets.lates -= 1;
                self.flights.push(Flight { message: None, digest: 0, ..flight.clone() });
            }
        }
        let to = usize::from(flight.to);
        match to.checked_sub(self.nodes.len()) {
            None => {
                let message = Decoded { message: message.as_ref().clone(), repairs: Repairs::default() };
                let source = address(usize::from(flight.from));
                self.input(marks, to, Canonical::PRESENT, Input::Received { source, message: Ok(message) });
            }
            Some(shell) => {
                if let Some(body) = self.shells[shell].reads(flight.from, &message.body) {
                    self.shell_says(shell, flight.from, body);
                }
            }
        }
        match how {
            How::Once | How::AndKept => self.answer(marks, &flight, |send| Input::Delivered { send }),
            How::InDoubt => {
                self.answer(marks, &flight, |send| Input::SendFailed { send, why: SendFailure::Ambiguous });
            }
            How::AnsweredLate => {}
        }
    }

    /// The sender of a letter is told what became of it. What was abandoned meanwhile nobody asks for.
    fn answer(&mut self, marks: &Marks, flight: &Flight, input: impl FnOnce(SendId) -> Input) {
        // The receiver acts first; it is never the sender, so the letter still has its number.
        if let Some(send) = flight.letter {
            self.input(marks, usize::from(flight.from), Canonical::PRESENT, input(send));
        }
    }

    fn shell_says(&mut self, shell: usize, to: u8, body: Body) {
        let from = self.nodes.len() + shell;
        let message = Message { from: name(from), marker: None, body };
        self.flights.push(Flight::new(small(from), to, None, message));
    }

    fn shell_ends(&mut self, shell: usize, fails: bool) {
        let Some((to, order)) = self.shells[shell].runs.take() else { return };
        let device = small(self.nodes.len() + shell);
        let award = order.award.as_ref().map(ToString::to_string).unwrap_or_default();
        let product = Product { prompt: order.prompt.to_string(), device, boot: 0, award };
        let output = (!fails).then(|| product.text());
        if fails {
            self.budgets.errors -= 1;
        } else {
            self.shell_products.insert(product);
        }
        self.shell_says(shell, to, Shell::result(&order, output));
    }

    fn ends(&mut self, marks: &Marks, index: usize, run: RunId, how: End) {
        let mut product = None;
        self.edit(index, |node| {
            let Some(ended) = node.runs.remove(&run) else { return };
            let made =
                Product { prompt: ended.prompt, device: small(index), boot: node.boot, award: ended.label };
            if how == End::Completed {
                node.products.insert(made.clone());
            }
            product = Some(made);
        });
        let outcome = match how {
            End::Completed => {
                RunOutcome::Completed(product.map(|p| p.text()).unwrap_or_default().as_str().into())
            }
            End::Failed => {
                self.budgets.errors -= 1;
                RunOutcome::Failed("out of memory".into())
            }
            End::Stopped => RunOutcome::Stopped,
        };
        self.input(marks, index, Canonical::PRESENT, Input::Ran { run, outcome });
    }

    /// What it ran and kept is gone; what it sent may arrive or not.
    fn crash(&mut self, mesh: &Mesh, marks: &Marks, index: usize) {
        self.budgets.crashes -= 1;
        let from = small(index);
        self.flights.retain(|flight| flight.from != from || flight.message.is_some());
        for flight in self.flights.iter_mut().filter(|flight| flight.from == from) {
            flight.letter = None;
            flight.awaited = false;
        }
        let products = self.nodes[index].products.clone();
        let boot = self.nodes[index].boot + 1;
        self.nodes[index] = Arc::new(Node { products, ..start(mesh, index, boot) });
        self.introduce(mesh, marks, index);
    }

    /// Time passes for all until the next deadline.
    fn idle(&mut self, marks: &Marks) {
        let next = self.nodes.iter().filter_map(|node| node.device.deadline()).map(|(at, _)| at).min();
        let Some(next) = next else { return };
        for node in 0..self.nodes.len() {
            if self.nodes[node].device.deadline().is_some_and(|(at, _)| at <= next) {
                self.input(marks, node, next, Input::Wake);
            } else {
                self.renew(node, self.nodes[node].device.canonical(next));
            }
        }
    }

    fn edit(&mut self, node: usize, change: impl FnOnce(&mut Node)) {
        let node = Arc::make_mut(&mut self.nodes[node]);
        node.digest = CHANGED;
        change(node);
    }

    /// Hands in an input and performs what it leads to; the store writes at once unless it is slow.
    fn input(&mut self, marks: &Marks, index: usize, now: Time, input: Input) {
        let mut device = self.nodes[index].device.clone();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Outbox::default();
            device.handle(now, input, &mut out);
            device.check();
            for event in out.events {
                self.noticed(marks, index, &event);
            }
            for action in out.actions {
                if let Action::Persist { sequence, barrier, .. } = action {
                    if barrier && self.slow_store {
                        self.edit(index, |node| {
                            node.writing.insert(sequence);
                        });
                        continue;
                    }
                    inputs.insert(0, Input::Persisted { sequence, written: Written::Durable });
                } else {
                    self.act(marks, index, action);
                }
            }
        }
        self.renew(index, device.canonical(now));
    }

    /// Puts a device back without its history, and everything that names its letters and runs.
    fn renew(&mut self, index: usize, canonical: Canonical) {
        let from = small(index);
        self.flights.retain_mut(|flight| {
            if flight.from == from && flight.letter.is_some() {
                flight.letter = flight.letter.and_then(|letter| canonical.numbers.send(letter));
                // Its sender gave it up: it may arrive, but nobody is told any more.
                flight.awaited &= flight.letter.is_some();
            }
            flight.letter.is_some() || flight.message.is_some()
        });
        self.edit(index, |node| {
            let runs = std::mem::take(&mut node.runs);
            node.runs =
                runs.into_iter().filter_map(|(id, run)| Some((canonical.numbers.run(id)?, run))).collect();
            let writing = std::mem::take(&mut node.writing);
            node.writing =
                writing.into_iter().filter_map(|former| canonical.numbers.sequence(former)).collect();
            node.device = canonical.device;
        });
    }

    fn act(&mut self, marks: &Marks, index: usize, action: Action) {
        match action {
            Action::Send { id, to, mut message, .. } => {
                // Speed is a measurement: states that differ in it only are alike.
                if let Body::Result(result) = &mut message.body {
                    result.speed = None;
                }
                if let Some(to) = node_at(to, self.nodes.len() + self.shells.len()) {
                    self.flights.push(Flight::new(small(index), small(to), Some(id), message));
                }
            }
            Action::Run { run, label, prompt, .. } => self.edit(index, |node| {
                let prompt = prompt.to_string();
                let run_ = Run { label, prompt, told: false, hangs: false, stopping: false };
                node.runs.insert(run, run_);
            }),
            Action::Stop { run } => {
                marks.met(Mark::CancelStopped);
                self.edit(index, |node| {
                    if let Some(run) = node.runs.get_mut(&run) {
                        run.stopping = true;
                    }
                });
            }
            Action::Report(report) => self.reported(marks, index, report),
            // An abandoned letter is told by `renew`: the device does not know it any more.
            Action::Abandon { .. } | Action::Persist { .. } | Action::WritePeers { .. } | Action::Halt => {}
        }
    }

    fn judge(&mut self, verdict: Result<(), Rule>) {
        if let Err(rule) = verdict {
            self.broken.get_or_insert(rule);
        }
    }

    fn reported(&mut self, marks: &Marks, index: usize, report: Report) {
        let node = small(index);
        match report {
            Report::Admitted { task, .. } => {
                self.tasks.insert((node, task), Followed::new(format!("p{index}")));
            }
            Report::BrokenOff { .. } => marks.met(Mark::BrokenOff),
            Report::Outcome { task, outcome } => {
                let products = self.nodes.iter().flat_map(|node| &node.products).chain(&self.shell_products);
                let answer = (outcome.status == OutcomeStatus::Completed)
                    .then(|| products.into_iter().find(|product| product.text() == *outcome.output))
                    .flatten()
                    .cloned();
                let device = outcome.device.and_then(|device| self.number(&device));
                if device.is_some_and(|device| usize::from(device) >= self.nodes.len()) {
                    marks.met(Mark::ShellCompleted);
                }
                let answer = answer.as_ref().zip(device);
                let verdict = match self.tasks.get_mut(&(node, task)) {
                    Some(followed) => followed.end(outcome.status, answer, marks),
                    None => Err(Rule::OneOutcome),
                };
                self.judge(verdict);
            }
            Report::Refused { .. } | Report::Text { .. } | Report::Said { .. } => {}
        }
    }

    fn number(&self, device: &DeviceId) -> Option<u8> {
        (0..self.nodes.len() + self.shells.len()).find(|node| name(*node) == *device).map(small)
    }

    fn noticed(&mut self, marks: &Marks, index: usize, event: &Event) {
        let node = small(index);
        match event {
            Event::RunStarted { label, .. } => {
                let mut new = true;
                self.edit(index, |node| new = node.began.insert(label.clone()));
                self.judge(if new { Ok(()) } else { Err(Rule::RunsOnce) });
            }
            Event::Awarded { task, to, attempt, .. } => {
                let to = self.number(to);
                if let (Some(followed), Some(to)) = (self.tasks.get_mut(&(node, task.clone())), to) {
                    let verdict = followed.award(*attempt, to);
                    self.judge(verdict);
                }
            }
            Event::AttemptLost { task, attempt, .. } => {
                if let Some(followed) = self.tasks.get_mut(&(node, task.clone())) {
                    let verdict = followed.lost(*attempt);
                    self.judge(verdict);
                }
            }
            Event::Resting { .. } => marks.met(Mark::Rested),
            Event::PeerChanged { restarted: true, .. } => marks.met(Mark::RestartSeen),
            Event::Ignored { why, .. } => match why {
                Ignored::Duplicate => marks.met(Mark::DuplicateIgnored),
                Ignored::Late => marks.met(Mark::LateBid),
                Ignored::AwardOver => marks.met(Mark::AwardOver),
                Ignored::OldBoot => marks.met(Mark::OldBoot),
                Ignored::UnknownTask => marks.met(Mark::UnknownTask),
                _ => {}
            },
            _ => {}
        }
    }

    /// Puts everything in its one order, and judges a state from which nothing leads on.
    fn settle(&mut self) {
        self.flights.sort_by_key(Flight::key);
        self.flights.dedup();
        for node in self.nodes.iter_mut().filter(|node| node.digest == CHANGED) {
            let Node { device, boot, runs, writing, began, products, .. } = &**node;
            let digest = digest(&(device, boot, runs, writing, began, products));
            Arc::make_mut(node).digest = digest;
        }
        let mut steps = Vec::new();
        if self.broken.is_none() && self.flights.is_empty() && self.is_idle() {
            self.steps(&mut steps);
            let verdict = if steps.iter().any(|step| step.leads_on()) { Ok(()) } else { self.end() };
            self.judge(verdict);
        }
    }

    /// Nothing more can happen.
    fn end(&self) -> Result<(), Rule> {
        if self.tasks.values().any(|task| !task.ended) {
            return Err(Rule::EndsAtAll);
        }
        if self.nodes.iter().any(|node| !node.runs.is_empty()) {
            return Err(Rule::NothingRuns);
        }
        let kept = ["tasks", "outgoing", "kept_results"];
        let owes = |node: &Arc<Node>| {
            node.device.usage().iter().any(|usage| kept.contains(&usage.what) && usage.size > 0)
        };
        if self.nodes.iter().any(owes) { Err(Rule::NothingOwed) } else { Ok(()) }
    }
}

impl Step {
    /// A crash that may still come does not keep a mesh from having come to its end.
    fn leads_on(&self) -> bool {
        !matches!(self.0, What::Crash { .. })
    }
}

/// A device at the moment of its start.
fn start(mesh: &Mesh, node: usize, boot: u8) -> Node {
    let me = Identity { device: name(node), address: Some(address(node)) };
    let seed = Seed::from((node as u64) << 8 | u64::from(boot));
    let device = Device::new(me, seed, mesh.config(), Restored::default());
    let device = device.canonical(Time::ZERO).device;
    let (runs, writing, began, products) = Default::default();
    Node { device, boot, runs, writing, began, products, digest: CHANGED }
}
