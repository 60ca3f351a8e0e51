//! A device under test, as it is, or with one known defect planted around it. The defects show that the invariants
//! can fail: `bidmesh-sim canary` must find each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use bidmesh_core::config::Limits;
use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::input::Prompts;
use bidmesh_core::load::Load;
use bidmesh_core::outbox::{Refusal, SendId};
use bidmesh_core::wire::{
    Bid, Body, DecodeError, Decoded, Dialect, Message, Progress, Text, WireLimits, decode,
};
use bidmesh_core::{Action, Config, Device, Event, Input, Outbox, Report, Submission, Time};

macro_rules! defects {
    ($($defect:ident $name:literal $words:literal $($rule:literal)+),+ $(,)?) => {
        /// A defect that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Defect {
            $(#[doc = concat!("Of the device: ", $words, ".")] $defect,)+
        }

        impl Defect {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$defect),+];

            /// One word for command lines and files.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$defect => $name),+ }
            }

            /// In words.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$defect => $words),+ }
            }

            /// The rules that may find it first.
            pub const fn rules(self) -> &'static [&'static str] {
                match self { $(Self::$defect => &[$($rule),+]),+ }
            }
        }
    };
}

defects! {
    CopiesCounted "copies-counted" "a copy of a bid counts as another device's bid" "S5" "S3",
    CopiesRun "copies-run" "a copy of a TASK runs again" "S7" "S16",
    ReportedTwice "reported-twice" "each outcome is reported twice" "S1",
    LostWake "lost-wake" "nobody wakes the device when a worker is silent" "L1" "L5" "L9",
    WorstWins "worst-wins" "the worst bid wins" "S4",
    WrongPrompt "wrong-prompt" "a worker runs the prompt that it ran before" "S2",
    UnknownFirst "unknown-first" "a bid without a load counts as an idle device's" "S4",
    RefusalCounted "refusal-counted" "a refusal counts as a bid" "S5" "S3",
    BaseForNpu "base-for-npu" "a winner with an NPU gets the prompt for everybody" "S2",
    TextTwice "text-twice" "text is shown twice" "S2",
    OutcomeLost "outcome-lost" "nobody is told how a task ended" "S15",
    AdmissionLost "admission-lost" "nobody is told that a prompt was admitted" "S15",
    LimitDoubled "limit-doubled" "a run may take twice as long as configured" "S16",
    NumberedAnew "numbered-anew" "every attempt is the first" "S6",
    AnotherAnswered "another-answered" "an outcome names another device than the one that answered" "S8" "S2",
    OutputCut "output-cut" "the last character of an answer is lost" "S2",
    SendsWhereTold "sends-where-told" "an answer goes to an address that a message made up" "S11",
    Chatter "chatter" "each question is sent a dozen times" "S11",
    Greets "greets" "each HELLO is sent a dozen times" "S11",
    Spins "spins" "a deadline stays in the past" "S12",
    Draws "draws" "a bid holds a number that is drawn anew each time" "S13",
    DeafWhileBusy "deaf-while-busy" "a device that runs a prompt answers no question" "L8",
    PilesUp "piles-up" "a device that says that it is full counts as free" "L4" "S4",
    NeverForgiven "never-forgiven" "a device that could not be reached once is never heard again" "L3",
    NeverRests "never-rests" "a worker sees neither its battery nor its heat nor the hour" "S19",
    HardOfHearing "hard-of-hearing" "only the first few heartbeats of a peer are heard" "S18" "L9",
    CancelIgnored "cancel-ignored" "a task goes on when its person gives up" "L1" "S15",
    AnybodyAnswers "anybody-answers" "a RESULT counts as that of the device that was given its award" "S8" "S2",
    AnyWorkAnswers "any-work-answers" "a RESULT without an id counts for an award that its device was given" "S8",
    EverAble "ever-able" "a worker does not hear that its executor is gone" "S19",
    EchoForgotten "echo-forgotten" "a TASK for a shell's echo is written as it is" "S2",
    Unescaped "unescaped" "text of an answer is put into a message as it is" "S9",
    Hoards "hoards" "ten times as much is remembered as configured" "S10",
    MendsCuts "mends-cuts" "a message that was cut off is closed and believed" "S14",
    SaysItAgain "says-it-again" "a bid is sent four times, to be sure" "L6",
    QueueLeaks "queue-leaks" "the place of a prompt in the queue is not given back when it ends" "L2",
    OneClient "one-client" "whoever submits counts as the same client" "L10",
}

impl Defect {
    /// The defect of that name.
    ///
    /// # Errors
    /// There is none; with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|defect| defect.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|defect| defect.name()).collect();
            format!("there is no defect {name:?}; there are {}", names.join(", "))
        })
    }
}

/// A device, perhaps with a defect.
#[derive(Clone, Debug)]
pub struct Subject {
    device: Device,
    planted: Option<Box<Planted>>,
}

#[derive(Clone, Debug)]
struct Planted {
    defect: Defect,
    asked: BTreeMap<TaskId, BTreeSet<DeviceId>>,
    bids: BTreeSet<(DeviceId, TaskId)>,
    tasks: BTreeMap<(DeviceId, AwardId), u32>,
    last_prompt: Option<Text>,
    submitted: Vec<Prompts>,
    given: BTreeMap<AwardId, DeviceId>,
    sends: BTreeMap<SendId, DeviceId>,
    unforgiven: BTreeSet<DeviceId>,
    heartbeats: BTreeMap<DeviceId, u32>,
    running: bool,
    ran: bool,
    /// Prompts that ended.
    ended: u32,
}

impl Subject {
    /// The device, with the defect if there is one.
    pub fn new(mut device: Device, config: &Config, defect: Option<Defect>) -> Self {
        if defect == Some(Defect::Hoards) {
            let mut config = config.clone();
            hoard(&mut config.limits);
            device.handle(Time::ZERO, Input::Reconfigured(Box::new(config)), &mut Outbox::default());
        }
        let planted = defect.map(|defect| {
            Box::new(Planted {
                defect,
                asked: BTreeMap::new(),
                bids: BTreeSet::new(),
                tasks: BTreeMap::new(),
                last_prompt: None,
                submitted: Vec::new(),
                given: BTreeMap::new(),
                sends: BTreeMap::new(),
                unforgiven: BTreeSet::new(),
                heartbeats: BTreeMap::new(),
                running: false,
                ran: false,
                ended: 0,
            })
        });
        Self { device, planted }
    }

    /// As [`decode`].
    ///
    /// # Errors
    /// If it is no message.
    pub fn read(&self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let message = decode(bytes, &WireLimits::default());
        match &self.planted {
            Some(planted) if planted.defect == Defect::MendsCuts => {
                message.or_else(|why| decode(&closed(bytes), &WireLimits::default()).map_err(|_| why))
            }
            _ => message,
        }
    }

    /// As [`Device::handle`].
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox) {
        let Some(planted) = &mut self.planted else { return self.device.handle(now, input, out) };
        let mut input = input;
        if let Some(refused) = planted.turns_away(&input) {
            return out.actions.push(Action::Report(refused));
        }
        if !planted.spoil_input(&mut input) {
            return;
        }
        self.device.handle(now, input, out);
        planted.running = !self.device.snapshot(now).runs.is_empty();
        planted.spoil_output(out);
    }

    /// As [`Device::deadline`].
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let planted = |defect| self.planted.as_ref().is_some_and(|planted| planted.defect == defect);
        let lost = planted(Defect::LostWake);
        if planted(Defect::Spins) && self.planted.as_ref().is_some_and(|planted| planted.ran) {
            return Some((Time::ZERO, "a deadline that nobody clears"));
        }
        self.device.deadline().filter(|(_, why)| !(lost && why.contains("the worker")))
    }

    /// The device itself.
    pub const fn device(&self) -> &Device {
        &self.device
    }
}

/// How many places the queue of [`Defect::QueueLeaks`] has.
const QUEUE: u32 = 4;

impl Planted {
    /// What becomes of a prompt that the device does not see at all.
    fn turns_away(&self, input: &Input) -> Option<Report> {
        match input {
            Input::Submit(Submission { ticket, .. })
                if self.defect == Defect::QueueLeaks && self.ended >= QUEUE =>
            {
                let why = Refusal::QueueFull;
                Some(Report::Refused { ticket: *ticket, why, retry_after_ms: None })
            }
            _ => None,
        }
    }

    /// `false`: the device does not see it at all.
    fn spoil_input(&mut self, input: &mut Input) -> bool {
        match input {
            Input::Submit(submission) => {
                self.submitted.push(submission.prompts.clone());
                if self.defect == Defect::OneClient {
                    submission.client = None;
                }
            }
            Input::SendFailed { send, .. } => self.unforgiven.extend(self.sends.remove(send)),
            Input::SensorsRead(sensors) if self.defect == Defect::NeverRests => {
                (sensors.battery, sensors.temperature, sensors.minute_of_day) = (None, None, None);
            }
            Input::ExecutorChanged(executor) if self.defect == Defect::EverAble => executor.available = true,
            Input::Cancel { .. } => return self.defect != Defect::CancelIgnored,
            Input::Reconfigured(config) if self.defect == Defect::Hoards => hoard(&mut config.limits),
            Input::Received { message: Ok(decoded), .. } => return self.spoil_message(&mut decoded.message),
            _ => {}
        }
        true
    }

    fn spoil_message(&mut self, message: &mut Message) -> bool {
        let from = message.from.clone();
        match (self.defect, &mut message.body) {
            (Defect::CopiesCounted, Body::BidResponse(bid)) => {
                let Some(task) = bid.task.clone() else { return true };
                if !self.bids.insert((from, task.clone())) {
                    let silent = |device: &&DeviceId| !self.bids.contains(&((*device).clone(), task.clone()));
                    if let Some(other) = self.asked.get(&task).and_then(|asked| asked.iter().find(silent)) {
                        message.from = other.clone();
                        message.marker = None;
                        bid.task = None;
                    }
                }
            }
            (Defect::WorstWins, Body::BidResponse(bid)) => {
                bid.npu = !bid.npu;
                bid.cpu = bid.cpu.and_then(|cpu| Load::from_ppm(Load::FULL.ppm() - cpu.ppm()));
            }
            (Defect::UnknownFirst, Body::BidResponse(bid)) => bid.cpu = bid.cpu.or(Some(Load::IDLE)),
            (Defect::PilesUp, Body::BidResponse(bid)) => {
                if let Some(capacity) = &mut bid.capacity {
                    (capacity.running, capacity.yours, capacity.slots) = (0, 0, u16::MAX);
                }
            }
            (Defect::NeverForgiven, Body::BidResponse(_)) => return !self.unforgiven.contains(&from),
            (Defect::RefusalCounted, Body::Refuse(refuse)) => {
                let (task, capacity) = (refuse.task.clone(), refuse.capacity);
                message.body = Body::BidResponse(Bid { task, capacity, ..Bid::default() });
            }
            (Defect::HardOfHearing, Body::Hello(_)) => {
                let heard = self.heartbeats.entry(from).or_default();
                *heard += 1;
                return *heard < 8;
            }
            (Defect::AnybodyAnswers, Body::Result(result)) => {
                let given = result.award.as_ref().and_then(|award| self.given.get(award));
                if let Some(device) = given.filter(|device| **device != from) {
                    (message.from, message.marker) = (device.clone(), None);
                }
            }
            (Defect::AnyWorkAnswers, Body::Result(result)) if result.award.is_none() => {
                let given = self.given.iter().rfind(|(_, device)| **device == from);
                result.award = given.map(|(award, _)| award.clone());
            }
            (Defect::DeafWhileBusy, Body::BidRequest(_)) => return !self.running,
            (Defect::CopiesRun, Body::Task(order)) => {
                let Some(award) = order.award.clone() else { return true };
                let seen = self.tasks.entry((from, award.clone())).or_default();
                *seen += 1;
                if *seen > 1 {
                    order.award = AwardId::new(&format!("{award}.x{seen}")).ok();
                }
            }
            _ => {}
        }
        true
    }

    fn spoil_output(&mut self, out: &mut Outbox) {
        for event in &mut out.events {
            match event {
                Event::RunStarted { label, .. } => *label = unmarked(label).into(),
                Event::Finished { .. } => self.ended += 1,
                Event::Awarded { attempt, .. } if self.defect == Defect::NumberedAnew => *attempt = 1,
                _ => {}
            }
        }
        let mut actions = Vec::new();
        for mut action in std::mem::take(&mut out.actions) {
            let copies = match &mut action {
                Action::Report(report) => self.spoil_report(report),
                Action::Send { .. } => self.spoil_send(&mut action),
                Action::Run { label, prompt, limit, .. } => {
                    *label = unmarked(label).into();
                    self.ran = true;
                    match self.defect {
                        Defect::WrongPrompt => {
                            let last = self.last_prompt.replace(prompt.clone());
                            *prompt = last.unwrap_or_else(|| prompt.clone());
                        }
                        Defect::LimitDoubled => *limit *= 2,
                        _ => {}
                    }
                    1
                }
                _ => 1,
            };
            actions.extend(std::iter::repeat_n(action, copies));
        }
        out.actions = actions;
    }

    /// How often it is told.
    fn spoil_report(&self, report: &mut Report) -> usize {
        match (self.defect, report) {
            (Defect::ReportedTwice, Report::Outcome { .. }) | (Defect::TextTwice, Report::Text { .. }) => 2,
            (Defect::OutcomeLost, Report::Outcome { .. }) => 0,
            (Defect::AdmissionLost, Report::Admitted { .. }) => 0,
            (Defect::AnotherAnswered, Report::Outcome { outcome, .. }) => {
                if outcome.device.is_some() {
                    outcome.device = DeviceId::new("Somebody").ok();
                }
                1
            }
            (Defect::OutputCut, Report::Outcome { outcome, .. }) => {
                let mut shorter = outcome.output.to_string();
                shorter.pop();
                outcome.output = shorter.into();
                1
            }
            _ => 1,
        }
    }

    /// How often it is sent.
    fn spoil_send(&mut self, action: &mut Action) -> usize {
        let Action::Send { id, device, to, message, dialect, .. } = action else { return 1 };
        self.sends.insert(*id, device.clone());
        if let Body::Task(order) = &message.body {
            self.given.extend(order.award.clone().map(|award| (award, device.clone())));
        }
        match &mut message.body {
            Body::Hello(_) if self.defect == Defect::Greets => return 12,
            Body::BidRequest(request) => {
                if let Some(task) = &request.task {
                    self.asked.entry(task.clone()).or_default().insert(device.clone());
                }
                if self.defect == Defect::Chatter {
                    return 12;
                }
            }
            Body::BidResponse(bid) => match self.defect {
                Defect::SaysItAgain => return 4,
                Defect::SendsWhereTold => *to = (super::VICTIM, 9999).into(),
                Defect::Draws => {
                    static DRAWN: AtomicU32 = AtomicU32::new(0);
                    bid.cpu = Load::from_ppm(DRAWN.fetch_add(1, Ordering::Relaxed) % 1_000_000);
                }
                _ => {}
            },
            Body::Task(_) if self.defect == Defect::EchoForgotten && *dialect == Dialect::Shell => {
                *dialect = Dialect::ShellLiteral;
            }
            Body::Task(order) if self.defect == Defect::BaseForNpu => {
                let meant = |prompts: &&Prompts| prompts.npu.as_ref() == Some(&order.prompt);
                if let Some(prompts) = self.submitted.iter().find(meant) {
                    order.prompt = prompts.base.clone();
                }
            }
            Body::Accept(accept) => unmark(&mut accept.award),
            Body::Progress(Progress { award, offset, text }) if self.defect == Defect::Unescaped => {
                let payload =
                    format!("{{\"task_id\": \"{award}\", \"offset\": {offset}, \"text\": \"{text}\"}}");
                message.body = Body::Unknown { kind: "PROGRESS".into(), payload: payload.into() };
            }
            Body::Progress(progress) => unmark(&mut progress.award),
            Body::Reject(reject) => unmark(&mut reject.award),
            Body::Result(result) => {
                if let Some(award) = &mut result.award {
                    unmark(award);
                }
            }
            _ => {}
        }
        1
    }
}

fn hoard(limits: &mut Limits) {
    for limit in [&mut limits.closed_tasks, &mut limits.tombstones, &mut limits.outgoing] {
        *limit *= 10;
    }
}

/// A message with everything closed that is open at its end.
fn closed(bytes: &[u8]) -> Vec<u8> {
    let (mut closed, mut open) = (bytes.to_vec(), Vec::new());
    let (mut quoted, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => open.push(b'}'),
            b'[' if !quoted => open.push(b']'),
            b'}' | b']' if !quoted => drop(open.pop()),
            _ => {}
        }
    }
    closed.extend(quoted.then_some(b'"'));
    closed.extend(open.iter().rev());
    closed.push(b'\n');
    closed
}

/// An award without the mark that [`Defect::CopiesRun`] puts on copies.
fn unmarked(label: &str) -> &str {
    match label.rsplit_once(".x") {
        Some((award, copy)) if !copy.is_empty() && copy.len() < 4 && copy.parse::<u32>().is_ok() => award,
        _ => label,
    }
}

fn unmark(award: &mut AwardId) {
    if let Ok(plain) = AwardId::new(unmarked(award.as_str())) {
        *award = plain;
    }
}

/// The prompt that a winner must get, by the rule of the protocol's document and not by core's code.
pub(crate) fn expected_prompt(prompts: &Prompts, npu: bool) -> &Text {
    let own = if npu { &prompts.npu } else { &prompts.cpu };
    own.as_ref().unwrap_or(&prompts.base)
}
