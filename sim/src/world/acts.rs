//! What a device asks for is done: messages pass, prompts run, records are written, people submit and give up.

use std::time::Duration;

use bidmesh_core::input::{Priority, Prompts, RunOutcome, SendFailure, Written};
use bidmesh_core::outbox::{RunId, SendId};
use bidmesh_core::policy::Policy;
use bidmesh_core::wire::{Body, Decoded, Dialect, Message, Repairs, Text, WireLimits, decode, encode};
use bidmesh_core::{Action, Input, Report, Submission, Time};

use super::choices::Choices;
use super::fault::{Fault, Phase};
use super::link::{Crossing, Passage};
use super::plan::Ask;
use super::trace::Line;
use super::{Happens, Power, VICTIM, World, heard, place};
use crate::page::Mark;

impl World {
    pub(super) fn act(&mut self, node: usize, action: Action) {
        self.say(|w| Line::of(&w.nodes[node].id, format!("-> {}", super::trace::action(&action))));
        let boot = self.nodes[node].boot;
        match action {
            Action::Send { id, to, message, dialect, give_up_at, .. } => {
                self.send(node, id, to, message, dialect, give_up_at);
            }
            Action::Abandon { id } => {
                self.nodes[node].abandoned.insert(id);
            }
            Action::Persist { sequence, record, barrier } => {
                let after = self.link.micros(50, 5_000);
                self.later(after, Happens::Written(node, boot, Box::new((sequence, record, barrier))));
            }
            Action::Run { run, label, prompt, npu, limit } => self.run(node, run, &label, prompt, npu, limit),
            Action::Stop { run } => {
                if self.nodes[node].runs.remove(&run).is_some() {
                    self.nodes[node].stopped.insert(run);
                    let after = self.runs.millis(0, 50);
                    let stopped = Input::Ran { run, outcome: RunOutcome::Stopped };
                    self.later(after, Happens::Input(node, Some(boot), Box::new(stopped)));
                }
            }
            Action::Report(Report::Admitted { ticket, task, .. }) => {
                let after = self.plan.asks.get(usize::try_from(ticket >> 32).unwrap_or(usize::MAX));
                if let Some(after) = after.and_then(|ask| ask.cancel_after) {
                    self.later(after, Happens::GiveUp(node, boot, task));
                }
            }
            Action::Report(_) | Action::WritePeers { .. } => {}
            Action::Halt => {
                let it = &mut self.nodes[node];
                it.power = Power::Off { silent: false };
                self.draw(node, Mark::Down, "ends in order");
                self.oracle.lost(node);
                let after = self.storm.millis(1_000, 30_000);
                self.later(after, Happens::Return(node));
            }
        }
    }

    fn answer(&mut self, node: usize, after: Duration, input: Input) {
        let boot = self.nodes[node].boot;
        self.later(after, Happens::Input(node, Some(boot), Box::new(input)));
    }

    fn send(
        &mut self,
        node: usize,
        id: SendId,
        to: std::net::SocketAddr,
        message: Message,
        dialect: Dialect,
        give_up_at: Time,
    ) {
        let patience = self.nodes[node].clock.when(give_up_at).saturating_sub(self.now);
        if to.ip() == std::net::IpAddr::from(VICTIM) {
            self.oracle.violate("S11", || format!("{} sends to an address that a message made up", to));
        }
        let devices = self.nodes.len();
        let target = place(to).filter(|target| match target.checked_sub(devices) {
            None => self.nodes[*target].address == to,
            Some(shell) => self.shells.get(shell).is_some_and(|shell| shell.address == to),
        });
        let Some(target) = target else {
            let why = Input::SendFailed { send: id, why: SendFailure::Unreachable };
            return self.answer(node, patience, why);
        };
        let phase = Phase::of(&message.body);
        self.aim(node, target, phase);
        let crossing = Crossing { from: node, to: target, phase, bytes: size(&message), patience };
        let storm = self.stormy();
        let mut passage = self.links.pass(&mut self.link, &mut self.faults, crossing, storm);
        let drawn = self.page.is_some().then(|| {
            let bytes = encode(&message, dialect).unwrap_or_default();
            (message.body.kind().to_owned(), String::from_utf8_lossy(&bytes).into_owned())
        });
        if let Some(shell) = target.checked_sub(devices) {
            self.send_to_shell(node, shell, &message, dialect, &mut passage);
        } else {
            self.send_to_device(node, target, message, dialect, patience, &mut passage);
        }
        if let (Some(page), Some((kind, bytes))) = (&mut self.page, drawn) {
            page.arrow(node, target, self.now, &passage, kind, bytes);
        }
        let told = match passage.told {
            Some(why) => Input::SendFailed { send: id, why },
            None => Input::Delivered { send: id },
        };
        self.answer(node, passage.told_after, told);
    }

    pub(super) fn send_to_device(
        &mut self,
        node: usize,
        target: usize,
        message: Message,
        dialect: Dialect,
        patience: Duration,
        passage: &mut Passage,
    ) {
        match self.nodes[target].power {
            Power::Off { silent } => {
                let lost = if silent {
                    Passage::lost(patience, SendFailure::Unreachable)
                } else {
                    Passage::lost(passage.told_after, SendFailure::Refused)
                };
                *passage = lost;
                return;
            }
            // Its kernel takes the connection, and nobody reads it yet.
            Power::Asleep(_) if passage.told.is_none() => {
                (passage.told_after, passage.told) = (patience, Some(SendFailure::Ambiguous));
            }
            _ => {}
        }
        let source = self.nodes[node].address;
        if self.plan.bytes || passage.cut.is_some() {
            let Some(bytes) = self.written_out(&message, dialect) else { return };
            let bytes = self.cut_off(target, &message.body, bytes, passage.cut, dialect);
            for at in &passage.arrives {
                self.later(*at, Happens::Bytes(target, source, bytes.clone()));
            }
            return;
        }
        let Some((last, copies)) = passage.arrives.split_last() else { return };
        for at in copies {
            self.arrive(target, *at, source, message.clone());
        }
        self.arrive(target, *last, source, message);
    }

    fn arrive(&mut self, target: usize, after: Duration, source: std::net::SocketAddr, message: Message) {
        let decoded = Decoded { message, repairs: Repairs::default() };
        let input = Input::Received { source, message: Ok(decoded) };
        self.later(after, Happens::Input(target, None, Box::new(input)));
    }

    /// S9: what is written can be read and written again.
    fn written_out(&mut self, message: &Message, dialect: Dialect) -> Option<Vec<u8>> {
        let Ok(bytes) = encode(message, dialect) else {
            if !dialect.is_shell() {
                self.oracle.violate("S9", || format!("cannot be written: {message:?}"));
            }
            return None;
        };
        if dialect.is_shell() {
            return Some(bytes);
        }
        match decode(&bytes, &WireLimits::default()) {
            Ok(read) if encode(&read.message, dialect).as_ref() == Ok(&bytes) => {}
            other => self.oracle.violate("S9", || format!("does not come back: {message:?} as {other:?}")),
        }
        Some(bytes)
    }

    /// S14: a strict message that is cut off is none.
    fn cut_off(
        &mut self,
        target: usize,
        body: &Body,
        mut bytes: Vec<u8>,
        cut: Option<u64>,
        dialect: Dialect,
    ) -> Vec<u8> {
        let Some(thousandths) = cut else { return bytes };
        let whole = bytes.len().saturating_sub(1) as u64;
        bytes.truncate(usize::try_from(whole * thousandths / 1000).unwrap_or(0));
        let bare = matches!(
            body,
            Body::Hello(_)
                | Body::Discover(_)
                | Body::Text(_)
                | Body::SlmPrompt(_)
                | Body::SlmResult(_)
                | Body::Unknown { .. }
        );
        if !bare && !dialect.is_shell() && self.nodes[target].subject.read(&bytes).is_ok() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.oracle.violate("S14", || format!("cut off and still a message: {text}"));
        }
        bytes
    }

    /// Bytes arrived.
    pub(super) fn read(&mut self, node: usize, source: std::net::SocketAddr, bytes: &[u8]) {
        if self.is_on(node) {
            let message = self.nodes[node].subject.read(bytes);
            self.feed(node, Input::Received { source, message });
        }
    }

    /// A store is done with a record.
    pub(super) fn written(
        &mut self,
        node: usize,
        boot: u64,
        (sequence, record, barrier): (bidmesh_core::outbox::Sequence, bidmesh_core::outbox::Record, bool),
    ) {
        if !self.is_on(node) || self.nodes[node].boot != boot {
            return;
        }
        let now = self.now;
        let has_store = self.nodes[node].store.is_some();
        let fails = has_store
            && barrier
            && self.stormy()
            && self.faults.strikes(&mut self.storm, Fault::DiskFails, Phase::Idle);
        let written = match &mut self.nodes[node].store {
            Some(_) if fails => Written::Failed,
            Some(store) => {
                store.push((record, now));
                Written::Durable
            }
            None => Written::NotKept,
        };
        self.feed(node, Input::Persisted { sequence, written });
    }

    fn run(&mut self, node: usize, run: RunId, label: &str, prompt: Text, npu: bool, limit: Duration) {
        let storm = self.stormy();
        let it = &mut self.nodes[node];
        it.runs.insert(run, prompt.clone());
        it.runs_lately += 1;
        let cpu = it.sensors.cpu.unwrap_or(bidmesh_core::load::Load::IDLE);
        let (phone, warm, id, boot) = (it.phone, it.runs_lately, it.id.clone(), it.boot);
        let slower = if storm { it.slower } else { 1 };
        if slower > 1 {
            self.faults.count(Fault::Slow, Phase::Running);
        }
        let pace = phone.pace(&mut self.runs, cpu, prompt.len(), warm, slower);
        let processor = if npu { "NPU" } else { "CPU" };
        let mut output = format!(
            "[{prompt}] by {id} in start {boot} on its {processor} for {label}\nwith \"quotes\", a \\n and ünïcödé"
        );
        let failed = |why: &str| RunOutcome::Failed(why.into());
        let mut outcome = None;
        let mut takes = None;
        if storm && self.faults.strikes(&mut self.runs, Fault::ExecutorFails, Phase::Running) {
            match self.runs.below(5) {
                0 => outcome = Some(failed("out of memory")),
                1 => output.clear(),
                2 => output = output.repeat(self.runs.pick([10, 100])),
                3 => (outcome, takes) = (Some(failed("it hung, and was stopped at its limit")), Some(limit)),
                _ => (outcome, takes) = (Some(failed("killed")), Some(self.runs.millis(0, 3_000))),
            }
        }
        let pieces = self.runs.between(1, 12);
        let takes = takes.unwrap_or(pace.first + pace.token * self.runs.pick([5, 20, 60]));
        let (takes, outcome) =
            if takes > limit { (limit, Some(failed("stopped at its limit"))) } else { (takes, outcome) };
        self.generate(node, run, &output, pace.first.min(takes), takes, pieces);
        let output: Text = output.into();
        self.oracle.produced(&id, &prompt, &output);
        let outcome = outcome.unwrap_or_else(|| RunOutcome::Completed(output.into()));
        self.answer(node, takes, Input::Ran { run, outcome });
    }

    /// The output in pieces, evenly between the first token and the end.
    fn generate(
        &mut self,
        node: usize,
        run: RunId,
        output: &str,
        first: Duration,
        takes: Duration,
        pieces: u64,
    ) {
        let length = output.len().div_ceil(usize::try_from(pieces).unwrap_or(1)).max(1);
        let mut from = 0;
        let mut number = 0_u32;
        let gap = (takes - first) / u32::try_from(pieces + 1).unwrap_or(u32::MAX);
        while from < output.len() {
            let mut to = (from + length).min(output.len());
            while !output.is_char_boundary(to) {
                to += 1;
            }
            let input = Input::Generated { run, offset: from as u64, text: output[from..to].into() };
            self.answer(node, first + gap * number, input);
            (from, number) = (to, number + 1);
        }
    }

    /// A person asks.
    pub(super) fn ask(&mut self, ask: &Ask) {
        let node = ask.device % self.hubs.max(1);
        if !self.is_on(node) || matches!(self.nodes[node].power, Power::Asleep(_)) {
            return;
        }
        let mut choices = Choices::split(ask.draw, "ask");
        let number = ask.number;
        if number == 0 && self.faults.has(Fault::Burst) {
            self.faults.count(Fault::Burst, Phase::Idle);
        }
        if ask.together {
            let phase = self.phase_of(node);
            self.faults.count(Fault::Together, phase);
        }
        let filler = "a line with \"quotes\" and a \\ \n"
            .repeat(usize::try_from(choices.pick([0, 0, 1, 20])).unwrap_or(0));
        let prompt = self.worded(ask, format!("p{number} {filler}"));
        let mut submission = Submission::new((number as u64) << 32 | self.ticket, prompt);
        self.ticket += 1;
        if let Some(among) = ask.among {
            let first = number * among % self.nodes.len().max(1);
            let some = (0..among).map(|next| (first + next) % self.nodes.len());
            submission.eligible = Some(some.map(|other| self.nodes[other].id.clone()).collect());
        }
        submission.dry_run = ask.dry;
        if !ask.plain {
            self.draw_submission(&mut choices, number, &filler, &mut submission);
        }
        self.feed(node, Input::Submit(submission));
    }

    /// Where there are shell devices people often ask what those might garble.
    fn worded(&self, ask: &Ask, prompt: String) -> String {
        let mut choices = Choices::split(ask.draw, "words");
        if ask.plain || self.shells.is_empty() || !choices.percent(40) {
            return prompt;
        }
        heard::special(&mut choices, &prompt)
    }

    /// Everything about a prompt that a person might have said.
    fn draw_submission(
        &self,
        choices: &mut Choices,
        number: usize,
        filler: &str,
        submission: &mut Submission,
    ) {
        if choices.percent(20) {
            let own = |what: &str| Some(Text::from(format!("p{number} for {what} {filler}")));
            submission.prompts.npu = own("npu");
            submission.prompts.cpu = own("cpu");
        }
        if choices.percent(15) {
            submission.deadline = Some(choices.millis(500, 90_000));
        }
        if choices.percent(20) {
            submission.priority = Priority::new(choices.pick([0, 9])).unwrap_or_default();
        }
        if choices.percent(20) {
            submission.policy = Some(choices.pick([Policy::Weighted, Policy::NpuFirst]));
        }
        if choices.percent(10) {
            let some = (0..self.nodes.len()).filter(|_| choices.percent(50));
            let some = some.map(|other| self.nodes[other].id.clone()).collect();
            submission.eligible = Some(some);
        }
        if choices.percent(10) {
            submission.client = Some("an app".into());
        }
        if choices.percent(10) {
            // The same key at the same device is the same task, with whatever prompt.
            submission.key = Some(choices.pick(["key a", "key b"]).into());
            submission.prompts = Prompts { base: "the same".into(), npu: None, cpu: None };
        }
        submission.dry_run = choices.percent(4);
        submission.attached = choices.percent(70);
        if submission.client.is_none() && choices.percent(25) {
            submission.client = Some("another app".into());
        }
    }
}

/// About how long a message is.
fn size(message: &Message) -> usize {
    let text = match &message.body {
        Body::Task(order) => order.prompt.len(),
        Body::Result(result) => result.output.len(),
        Body::Progress(progress) => progress.text.len(),
        Body::Text(text) | Body::SlmPrompt(text) | Body::SlmResult(text) => text.len(),
        _ => 0,
    };
    text + 150
}
