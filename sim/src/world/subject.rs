//! A device under test, as it is, or with one known defect planted around it. The defects show that the invariants
//! can fail: `bidmesh-sim canary` must find each of them.

use std::collections::{BTreeMap, BTreeSet};

use bidmesh_core::id::{AwardId, DeviceId, TaskId};
use bidmesh_core::input::Prompts;
use bidmesh_core::load::Load;
use bidmesh_core::wire::{Body, Text};
use bidmesh_core::{Action, Device, Event, Input, Outbox, Report, Time};

/// A defect that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// A copy of a bid counts as the bid of a device that has not answered.
    CopiesCounted,
    /// A copy of a TASK runs again.
    CopiesRun,
    /// Each outcome is reported twice.
    ReportedTwice,
    /// Nobody wakes the device when a worker is silent.
    LostWake,
    /// The worst bid wins.
    WorstWins,
    /// A worker runs the prompt that it ran before.
    WrongPrompt,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CopiesCounted,
        Self::CopiesRun,
        Self::ReportedTwice,
        Self::LostWake,
        Self::WorstWins,
        Self::WrongPrompt,
    ];

    /// One word for command lines and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CopiesCounted => "copies-counted",
            Self::CopiesRun => "copies-run",
            Self::ReportedTwice => "reported-twice",
            Self::LostWake => "lost-wake",
            Self::WorstWins => "worst-wins",
            Self::WrongPrompt => "wrong-prompt",
        }
    }

    /// The defect of that name.
    ///
    /// # Errors
    /// There is none; with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|defect| defect.name() == name);
        found.ok_or_else(|| format!("there is no defect {name:?}; there are {}", names()))
    }

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::CopiesCounted => "a copy of a bid counts as another device's bid",
            Self::CopiesRun => "a copy of a TASK runs again",
            Self::ReportedTwice => "each outcome is reported twice",
            Self::LostWake => "nobody wakes the device when a worker is silent",
            Self::WorstWins => "the worst bid wins",
            Self::WrongPrompt => "a worker runs the prompt that it ran before",
        }
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
}

impl Subject {
    /// The device, with the defect if there is one.
    pub fn new(device: Device, defect: Option<Defect>) -> Self {
        let planted = defect.map(|defect| {
            Box::new(Planted {
                defect,
                asked: BTreeMap::new(),
                bids: BTreeSet::new(),
                tasks: BTreeMap::new(),
                last_prompt: None,
            })
        });
        Self { device, planted }
    }

    /// As [`Device::handle`].
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox) {
        let Some(planted) = &mut self.planted else { return self.device.handle(now, input, out) };
        let mut input = input;
        planted.spoil_input(&mut input);
        self.device.handle(now, input, out);
        planted.spoil_output(out);
    }

    /// As [`Device::deadline`].
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let lost = self.planted.as_ref().is_some_and(|p| p.defect == Defect::LostWake);
        self.device.deadline().filter(|(_, why)| !(lost && why.contains("the worker")))
    }

    /// The device itself.
    pub const fn device(&self) -> &Device {
        &self.device
    }
}

impl Planted {
    fn spoil_input(&mut self, input: &mut Input) {
        let Input::Received { message: Ok(decoded), .. } = input else { return };
        let message = &mut decoded.message;
        let from = message.from.clone();
        match (self.defect, &mut message.body) {
            (Defect::CopiesCounted, Body::BidResponse(bid)) => {
                let Some(task) = bid.task.clone() else { return };
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
            (Defect::CopiesRun, Body::Task(order)) => {
                let Some(award) = order.award.clone() else { return };
                let seen = self.tasks.entry((from, award.clone())).or_default();
                *seen += 1;
                if *seen > 1 {
                    order.award = AwardId::new(&format!("{award}.x{seen}")).ok();
                }
            }
            _ => {}
        }
    }

    fn spoil_output(&mut self, out: &mut Outbox) {
        if self.defect == Defect::ReportedTwice {
            let outcome = |action: &Action| matches!(action, Action::Report(Report::Outcome { .. }));
            let again: Vec<Action> = out.actions.iter().filter(|a| outcome(a)).cloned().collect();
            out.actions.extend(again);
        }
        for event in &mut out.events {
            if let Event::RunStarted { label, .. } = event {
                *label = unmarked(label).into();
            }
        }
        for action in &mut out.actions {
            match action {
                Action::Run { label, prompt, .. } => {
                    *label = unmarked(label).into();
                    if self.defect == Defect::WrongPrompt {
                        let last = self.last_prompt.replace(prompt.clone());
                        *prompt = last.unwrap_or_else(|| prompt.clone());
                    }
                }
                Action::Send { device, message, .. } => match &mut message.body {
                    Body::BidRequest(request) => {
                        if let Some(task) = &request.task {
                            self.asked.entry(task.clone()).or_default().insert(device.clone());
                        }
                    }
                    Body::Accept(accept) => unmark(&mut accept.award),
                    Body::Progress(progress) => unmark(&mut progress.award),
                    Body::Reject(reject) => unmark(&mut reject.award),
                    Body::Result(result) => {
                        if let Some(award) = &mut result.award {
                            unmark(award);
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
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
