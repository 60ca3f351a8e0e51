//! Shell devices in the world: what they do with a message, and when they answer.

use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::{Body, Dialect, Message, Text};

use super::fault::{Fault, Phase};
use super::link::{Crossing, Passage};
use super::trace::Line;
use super::{Happens, World, heard, place};

/// What a shell device does, and then says.
#[derive(Debug)]
pub(super) enum Job {
    /// It measured for a bid.
    Bid { to: DeviceId },
    /// It ran a TASK: what was asked, and what its model script got.
    Result { to: DeviceId, task: String, asked: Text, prompt: String },
    /// It ran an SLM_PROMPT.
    SlmResult { to: DeviceId, prompt: String },
    /// It was asked for its address.
    Hello { to: DeviceId },
}

impl World {
    /// What becomes of a message to a shell device; changes what its sender is told.
    pub(super) fn send_to_shell(
        &mut self,
        node: usize,
        shell: usize,
        message: &Message,
        dialect: Dialect,
        passage: &mut Passage,
    ) {
        let device = &self.shells[shell];
        if device.off {
            passage.arrives.clear();
            passage.told = Some(SendFailure::Unreachable);
            return;
        }
        let Some(first) = passage.arrives.first().copied() else { return };
        if let Some(why) = device.turns_away(self.now + first) {
            passage.arrives.clear();
            if passage.told.is_none() {
                passage.told = Some(why);
            }
            return;
        }
        let Some(line) = self.written_for_shell(shell, message, dialect) else {
            passage.told = Some(SendFailure::NotSpoken);
            return;
        };
        if passage.cut.is_some() {
            // It logs what it could not read; its port is closed for a moment all the same.
            self.shells[shell].takes(&mut self.shell, self.now + first, Duration::ZERO);
            return;
        }
        // Copies meet a port that is closed, as long as it works on the first; later ones are read.
        for at in passage.arrives.clone() {
            if self.shells[shell].turns_away(self.now + at).is_none() {
                self.heard_by_shell(shell, message, &line);
                self.shell_reads(node, shell, message, &line, at);
            }
        }
    }

    /// S2: only TASK's dialect is of its bid.
    fn written_for_shell(&mut self, shell: usize, message: &Message, dialect: Dialect) -> Option<Vec<u8>> {
        if matches!(message.body, Body::Task(_)) && !dialect.is_shell() {
            let id = self.shells[shell].id.clone();
            self.oracle
                .violate("S2", || format!("TASK to the shell device {id} is written in another dialect"));
        }
        bidmesh_core::wire::encode(message, dialect).ok()
    }

    /// It takes the bytes apart; `message` says what they mean, and who sent them.
    fn shell_reads(&mut self, node: usize, shell: usize, message: &Message, line: &[u8], after: Duration) {
        let (to, from_address) = (message.from.clone(), self.nodes[node].address);
        let echo = self.shells[shell].echo;
        let read = |text: Option<Vec<u8>>| {
            String::from_utf8_lossy(&text.unwrap_or_default()).trim_end_matches('\n').to_owned()
        };
        let (job, work) = match read(echo.kind(line)).as_str() {
            "HELLO" => {
                self.shells[shell].notes(&to, from_address);
                (None, Duration::ZERO)
            }
            "DISCOVER" => {
                self.shells[shell].notes(&to, from_address);
                (Some(Job::Hello { to }), Duration::from_millis(20))
            }
            "BID_REQUEST" => (Some(Job::Bid { to }), self.shell.millis(600, 1_100)),
            "TASK" => {
                let longest = self.shell.pick([1_000, 5_000, 60_000]);
                let takes = self.shell.millis(300, longest);
                // The model script ends at 300 s.
                let hangs = self.stormy()
                    && self.faults.strikes(&mut self.shell, Fault::ExecutorFails, Phase::Running);
                let takes = if hangs { Duration::from_secs(300) } else { takes };
                let (task, prompt) = (read(echo.task_id(line)), read(echo.task_prompt_file(line)));
                let asked = heard::text_of(&message.body).cloned().unwrap_or_default();
                (Some(Job::Result { to, task, asked, prompt }), takes)
            }
            "SLM_PROMPT" => {
                let prompt = read(echo.printed_payload(line));
                (Some(Job::SlmResult { to, prompt }), self.shell.millis(300, 5_000))
            }
            // Also what has no type that it knows.
            _ => (None, Duration::ZERO),
        };
        let at = self.now + after;
        self.shells[shell].takes(&mut self.shell, at, work);
        let boot = self.shells[shell].boot;
        if let Some(job) = job {
            self.later(after + work, Happens::ShellDone(shell, boot, Box::new(job)));
        }
    }

    pub(super) fn shell_done(&mut self, shell: usize, boot: u64, job: Job) {
        let device = &self.shells[shell];
        if device.off || device.boot != boot {
            return;
        }
        let id = device.id.clone();
        let fails = self.stormy() && self.shell.percent(device.fails);
        let (to, bytes, phase) = match job {
            Job::Bid { to } => {
                if device.odd_numbers {
                    self.faults.count(Fault::OddNumbers, Phase::Collecting);
                }
                (to, self.shells[shell].bid(&mut self.shell), Phase::Collecting)
            }
            Job::Hello { to } => (to, format!("HELLO|{id}|{}", device.address).into_bytes(), Phase::Idle),
            Job::Result { to, task, asked, prompt } => {
                let output =
                    format!("[{prompt}] by {id} for {task}\n\x1b[1m\"raw\"\x1b[0m \\n \"output\": \"x");
                let (status, output) =
                    if fails { ("error", "SLM not available".into()) } else { ("completed", output) };
                let task = if device.older { "" } else { &task };
                let bytes = device.result(task, status, &output);
                // Whether it is what was asked was looked at when it was read.
                self.oracle.produced(&id, &asked, &output.into());
                (to, bytes, Phase::Finished)
            }
            Job::SlmResult { to, prompt } => {
                (to, format!("SLM_RESULT|{id}|[{prompt}] by {id}").into_bytes(), Phase::Finished)
            }
        };
        self.shell_sends(shell, &to, &bytes, phase);
    }

    /// Its sender tries up to five spellings of netcat within a second; each may have delivered.
    fn shell_sends(&mut self, shell: usize, to: &DeviceId, bytes: &[u8], phase: Phase) {
        self.shells[shell].says(&mut self.shell, self.now);
        self.say(|w| {
            Line::of(
                &w.shells[shell].id,
                format!("-> {to} {}", String::from_utf8_lossy(bytes).escape_debug()),
            )
        });
        // Whom it never heard of it cannot answer; whoever moved is answered at the first address.
        let Some(address) = self.shells[shell].address_of(to) else { return };
        let Some(target) =
            place(address).filter(|n| self.nodes.get(*n).is_some_and(|it| it.address == address))
        else {
            return;
        };
        let from = self.nodes.len() + shell;
        for attempt in 0..5_u32 {
            if !self.is_on(target) {
                return;
            }
            let patience = Duration::from_secs(2);
            let crossing = Crossing { from, to: target, phase, bytes: bytes.len(), patience };
            let storm = self.stormy();
            let passage = self.links.pass(&mut self.shell, &mut self.faults, crossing, storm);
            let source = self.shells[shell].address;
            if let Some(page) = &mut self.page {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let kind = text.split('|').next().unwrap_or_default().to_owned();
                page.arrow(from, target, self.now, &passage, kind, text);
            }
            for at in &passage.arrives {
                let mut bytes = bytes.to_vec();
                if let Some(thousandths) = passage.cut {
                    let length = bytes.len() as u64 * thousandths / 1000;
                    bytes.truncate(usize::try_from(length).unwrap_or(0));
                }
                // A shell's raw RESULT has no end of its own: cut, it would be another answer. The adapter takes it
                // for whole only where it ends as one.
                let whole = passage.cut.is_none() || phase != Phase::Finished;
                if whole {
                    self.later(
                        *at + Duration::from_millis(150) * attempt,
                        Happens::Bytes(target, source, bytes),
                    );
                }
            }
            if passage.told.is_none() {
                return;
            }
        }
    }

    /// A person at a shell device asks a bidmesh device, in the seed's own words.
    pub(super) fn shell_asks(&mut self, shell: usize) {
        let device = &self.shells[shell];
        if device.off {
            return;
        }
        let (id, address) = (device.id.clone(), device.address);
        let node = self.shell.index(self.hubs);
        let to = self.nodes[node].id.clone();
        let number = self.shell.below(3);
        let said = match self.shell.below(5) {
            0 => format!("DISCOVER|{id}|:{}", address.port()),
            1 => format!("BID_REQUEST|{id}|{{\"type\": \"inference\"}}"),
            2 => format!("SLM_PROMPT|{id}|say {number} & more|please"),
            3 => format!("TASK|{id}|{{\"task_id\": \"task_{number}\", \"prompt\": \"Hello {number}\"}}"),
            _ => format!("TASK|{id}|{{\"prompt\": \"Hello {number}\"}}"),
        };
        let here = self.nodes[node].address;
        self.shells[shell].notes(&to, here);
        self.oracle.mark("a shell device asks");
        self.shell_sends(shell, &to, said.as_bytes(), Phase::Idle);
    }
}
