//! Plays a transcript: reads its lines, drives one device, writes down what the device did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::config::Detection;
use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{SendFailure, Written};
use bidmesh_core::outbox::{Record, RunId, SendId, Sequence};
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::{Dialect, WireLimits, decode};
use bidmesh_core::{Action, Config, Device, Identity, Input, Outbox, Time};

mod names;
mod read;
mod show;

use names::Names;

/// Lines that a device may write for one input before the transcript is taken for a loop.
const STEPS_MAX: usize = 2_000;

/// Plays the inputs of `text`; gives it back with what the device really did.
pub(crate) fn play(file: &str, text: &str) -> String {
    let mut player = Player::new();
    let mut played = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("  ") {
            continue;
        }
        writeln!(played, "{line}").unwrap();
        let content = line.split(" #").next().unwrap_or("").trim();
        if content.is_empty() || line.starts_with('#') {
            continue;
        }
        // Shown if the device panics.
        eprintln!("{file}:{}", number + 1);
        player.line(content).unwrap_or_else(|why| panic!("{file}:{}: {why}: {line}", number + 1));
        for told in player.told.drain(..) {
            writeln!(played, "  {told}").unwrap();
        }
    }
    played
}

/// How a peer's address behaves towards what the device sends.
#[derive(Clone, Copy, PartialEq)]
enum Link {
    /// Reads everything at once.
    Delivers,
    /// Nothing becomes of it until a line says so.
    Holds,
    /// Refuses every connection.
    Refuses,
}

struct Player {
    device: Option<Device>,
    config: Config,
    now: Duration,
    names: Names,
    peers: BTreeMap<String, Peer>,
    store_holds: bool,
    sends: BTreeMap<SendId, (String, String)>,
    writes: Vec<(Sequence, Record)>,
    /// What the store has, and since when.
    written: Vec<(Record, Duration)>,
    starts: u64,
    /// What the network and the store answer by themselves.
    answers: Vec<Input>,
    quiet_events: bool,
    retries: bool,
    /// Sends that were shown.
    tried: BTreeSet<SendId>,
    told: Vec<String>,
}

fn me() -> Identity {
    Identity { device: DeviceId::new("A").unwrap(), address: Some(SocketAddr::from(([10, 0, 0, 1], 9999))) }
}

struct Peer {
    address: SocketAddr,
    shell: bool,
    boot: String,
    link: Link,
}

impl Player {
    fn new() -> Self {
        Self {
            device: None,
            config: Config { detection: Detection::OFF, ..Config::default() },
            now: Duration::ZERO,
            names: Names::default(),
            peers: BTreeMap::new(),
            store_holds: false,
            sends: BTreeMap::new(),
            writes: Vec::new(),
            written: Vec::new(),
            starts: 1,
            answers: Vec::new(),
            quiet_events: false,
            retries: false,
            tried: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let words = read::words(line)?;
        let rest = words.get(1..).unwrap_or_default();
        match words.first().map(String::as_str) {
            Some("config") if self.device.is_some() => Err("settings come before everything else".into()),
            Some("config") => read::configure(&mut self.config, rest),
            Some("retries") => {
                self.retries = rest == ["shown"];
                Ok(())
            }
            Some("peers") => self.peers_line(rest),
            Some("link") => self.link(rest),
            Some("store") => {
                self.store_holds = rest == ["holds"];
                Ok(())
            }
            Some("events") => {
                self.quiet_events = rest == ["off"];
                Ok(())
            }
            Some("at") => {
                let time = read::duration(rest.first().ok_or("a time is missing")?)?;
                self.run_until(time)?;
                self.input(rest.get(1..).unwrap_or_default())
            }
            Some("asleep") => {
                self.now = read::duration(rest.first().ok_or("a time is missing")?)?;
                self.handle(Input::Wake);
                Ok(())
            }
            Some("decision") => {
                let task = self.names.real(rest.first().ok_or("a task is missing")?);
                let task = TaskId::new(&task).map_err(|error| error.to_string())?;
                match self.device().decision(&task).cloned() {
                    Some(decision) => self.show(show::decision(&decision)),
                    None => self.told.push("no decision".into()),
                }
                Ok(())
            }
            Some("status") => {
                let now = Time::from_start(self.now);
                let status = self.device().snapshot(now);
                self.show(show::status(&status));
                Ok(())
            }
            Some("restart") => {
                read::configure(&mut self.config, rest)?;
                self.restart();
                Ok(())
            }
            Some("until") => self.run_until(read::duration(rest.first().ok_or("a time is missing")?)?),
            _ => Err("no such line".into()),
        }
    }

    /// `peers B C shell S T`: who is in the address book from the start.
    fn peers_line(&mut self, words: &[String]) -> Result<(), String> {
        let mut shell = false;
        let mut lines = Vec::new();
        for word in words {
            if word == "shell" {
                shell = true;
                continue;
            }
            let last = 2 + u8::try_from(self.peers.len()).map_err(|_| "too many peers")?;
            let address = SocketAddr::from(([10, 0, 0, last], 9999));
            let boot = format!("{}1", word.to_lowercase());
            self.peers.insert(word.clone(), Peer { address, shell, boot, link: Link::Delivers });
            lines.push((DeviceId::new(word).map_err(|error| error.to_string())?, address));
        }
        self.quietly(Input::PeersEdited(lines));
        let bidmesh: Vec<String> =
            self.peers.iter().filter(|(_, peer)| !peer.shell).map(|(name, _)| name.clone()).collect();
        for name in bidmesh {
            let hello = self.received(&name, "HELLO", &[])?;
            self.quietly(hello);
        }
        Ok(())
    }

    /// Hands in what every transcript begins with and no reader wants to see.
    fn quietly(&mut self, input: Input) {
        self.handle(input);
        self.told.clear();
    }

    fn show(&mut self, lines: Vec<String>) {
        for line in lines {
            let line = self.names.hide(&line);
            self.told.push(line);
        }
    }

    /// Power is lost and comes back at once: the device begins anew, at time zero, with what its store has.
    fn restart(&mut self) {
        let now = self.now;
        let records =
            self.written.iter().map(|(record, at)| (record.clone(), now.saturating_sub(*at))).collect();
        for (_, at) in &mut self.written {
            *at = Duration::ZERO;
        }
        self.starts += 1;
        self.sends.clear();
        self.tried.clear();
        self.writes.clear();
        self.now = Duration::ZERO;
        let device = Device::new(me(), Seed::from(self.starts), self.config.clone(), Restored { records });
        self.names.boot(device.snapshot(Time::ZERO).boot.as_str(), &format!("a{}", self.starts));
        self.device = Some(device);
        let lines =
            self.peers.iter().map(|(name, peer)| (DeviceId::new(name).unwrap(), peer.address)).collect();
        self.handle(Input::PeersEdited(lines));
    }

    fn link(&mut self, words: &[String]) -> Result<(), String> {
        let [name, how] = words else { return Err("link PEER delivers|holds|refuses".into()) };
        let link = match how.as_str() {
            "delivers" => Link::Delivers,
            "holds" => Link::Holds,
            "refuses" => Link::Refuses,
            _ => return Err("link PEER delivers|holds|refuses".into()),
        };
        self.peers.get_mut(name).ok_or("no such peer")?.link = link;
        Ok(())
    }

    fn input(&mut self, words: &[String]) -> Result<(), String> {
        let Some((first, rest)) = words.split_first() else { return Err("an input is missing".into()) };
        let input = match first.as_str() {
            "delivered" if rest.is_empty() => Input::Delivered { send: SendId(u64::MAX) },
            "delivered" => Input::Delivered { send: self.find_send(rest)? },
            "failed" => {
                let why = match rest.get(2).map(String::as_str) {
                    Some("refused") => SendFailure::Refused,
                    Some("unreachable") => SendFailure::Unreachable,
                    Some("reset") => SendFailure::Reset,
                    Some("ambiguous") => SendFailure::Ambiguous,
                    Some("too_long") => SendFailure::TooLong,
                    _ => return Err("failed PEER TYPE refused|unreachable|reset|ambiguous|too_long".into()),
                };
                Input::SendFailed { send: self.find_send(rest.get(..2).unwrap_or_default())?, why }
            }
            "persisted" | "unwritable" => {
                if self.writes.is_empty() {
                    return Err("nothing is being written".into());
                }
                let (sequence, record) = self.writes.remove(0);
                let written = if first == "persisted" { Written::Durable } else { Written::Failed };
                if written == Written::Durable {
                    self.written.push((record, self.now));
                }
                Input::Persisted { sequence, written }
            }
            "generated" => {
                let run = read::run(rest.first())?;
                let offset =
                    rest.get(1).and_then(|word| word.parse().ok()).ok_or("generated RUN OFFSET TEXT")?;
                Input::Generated {
                    run,
                    offset,
                    text: rest.get(2).ok_or("a text is missing")?.as_str().into(),
                }
            }
            name if self.peers.contains_key(name) => {
                let kind = rest.first().ok_or("a message type is missing")?.clone();
                self.received(name, &kind, rest.get(1..).unwrap_or_default())?
            }
            _ => read::input(words, &self.names)?,
        };
        self.handle(input);
        Ok(())
    }

    /// The last message of this type to this peer whose fate is open.
    fn find_send(&mut self, words: &[String]) -> Result<SendId, String> {
        let [name, kind] = words else { return Err("PEER TYPE".into()) };
        let found =
            self.sends.iter().rev().find(|(_, (to, what))| to == name && what == kind).map(|(id, _)| *id);
        let id = found.ok_or_else(|| format!("no {kind} is on its way to {name}"))?;
        self.sends.remove(&id);
        Ok(id)
    }

    /// A message as the peer's own bytes, through the real decoder.
    fn received(&mut self, name: &str, kind: &str, fields: &[String]) -> Result<Input, String> {
        let peer = self.peers.get_mut(name).ok_or("no such peer")?;
        let mut source = peer.address;
        let bytes = read::message(name, peer.shell, &mut peer.boot, &mut source, kind, fields, &self.names)?;
        let message = decode(&bytes, &WireLimits::default());
        Ok(Input::Received { source, message })
    }

    /// Hands in Wakes as they are due.
    fn run_until(&mut self, until: Duration) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let due = self.device().deadline().map(|(at, why)| (at.since_start(), why));
            let Some((at, why)) = due.filter(|(at, _)| *at <= until) else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(at);
            let mark = self.told.len();
            self.handle(Input::Wake);
            if self.told.len() > mark {
                self.told.insert(mark, format!("{} {why}", Time::from_start(self.now)));
            }
        }
        Err("it never comes to rest".into())
    }

    fn device(&mut self) -> &mut Device {
        let config = &self.config;
        let names = &mut self.names;
        self.device.get_or_insert_with(|| {
            let device = Device::new(me(), Seed::from(1), config.clone(), Restored::default());
            names.boot(device.snapshot(Time::ZERO).boot.as_str(), "a1");
            device
        })
    }

    fn handle(&mut self, input: Input) {
        let mut inputs = vec![input];
        for _ in 0..STEPS_MAX {
            let Some(input) = inputs.pop() else { return };
            let now = Time::from_start(self.now);
            let mut out = Outbox::default();
            let device = self.device();
            device.handle(now, input, &mut out);
            device.check();
            for action in out.actions {
                self.act(&action);
            }
            if !self.quiet_events {
                for event in out.events {
                    let line = self.names.hide(&show::event(&event));
                    self.told.push(line);
                }
            }
            inputs.splice(0..0, self.answers.drain(..).rev());
        }
        panic!("the device and its surroundings answer each other without end");
    }

    fn act(&mut self, action: &Action) {
        let again = matches!(action, Action::Send { id, .. } if !self.tried.insert(*id));
        if let Some(line) = show::action(action).filter(|_| self.retries || !again) {
            let mut line = self.names.hide(&line);
            if let Action::Send { device, to, .. } = action
                && self.peers.get(device.as_str()).is_some_and(|peer| peer.address != *to)
            {
                line.push_str(&format!(" at {to}"));
            }
            self.told.push(line);
        }
        match action {
            Action::Send { id, device, message, dialect, .. } => {
                let link = self.peers.get(device.as_str()).map_or(Link::Delivers, |peer| peer.link);
                let spoken =
                    !dialect.is_shell() || bidmesh_core::wire::encode(message, Dialect::Shell).is_ok();
                match link {
                    _ if !spoken => {
                        self.answers.push(Input::SendFailed { send: *id, why: SendFailure::NotSpoken })
                    }
                    Link::Delivers => self.answers.push(Input::Delivered { send: *id }),
                    Link::Refuses => {
                        self.answers.push(Input::SendFailed { send: *id, why: SendFailure::Refused })
                    }
                    Link::Holds => {
                        self.sends.insert(*id, (device.as_str().into(), message.body.kind().into()));
                    }
                }
            }
            Action::Abandon { id } => {
                self.sends.remove(id);
            }
            Action::Persist { sequence, record, .. } if self.store_holds => {
                self.writes.push((*sequence, record.clone()));
            }
            Action::Persist { sequence, record, .. } => {
                self.written.push((record.clone(), self.now));
                self.answers.push(Input::Persisted { sequence: *sequence, written: Written::Durable })
            }
            Action::Run { run: RunId(_), .. }
            | Action::Stop { .. }
            | Action::Report(_)
            | Action::WritePeers { .. }
            | Action::Halt => {}
        }
    }
}
