//! Faults that strike a device, a link or the whole mesh.

use std::collections::BTreeSet;
use std::time::Duration;

use bidmesh_core::hours::{Hours, MinuteOfDay};
use bidmesh_core::input::Sensors;
use bidmesh_core::load::{DeciCelsius, Load, Percent};
use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;
use bidmesh_core::{Input, Time};

use super::choices::Choices;
use super::clock::Clock;
use super::fault::{Fault, Phase};
use super::trace::Line;
use super::{Happens, Power, Subject, VICTIM, World, address};
use crate::page::Mark;

/// Faults that strike now and then, rather than with a message or a run.
const STRIKING: [Fault; 15] = [
    Fault::Killed,
    Fault::PowerLost,
    Fault::Moved,
    Fault::Asleep,
    Fault::ClockWrong,
    Fault::BatteryDying,
    Fault::OneWay,
    Fault::Swizzled,
    Fault::Partitioned,
    Fault::Hostile,
    Fault::BookFlooded,
    Fault::OwnerPauses,
    Fault::OrchestratorLost,
    Fault::Older,
    Fault::NobodyAble,
];

impl World {
    /// Everything that is known from the beginning.
    pub(super) fn schedule(&mut self) {
        for ask in self.plan.asks.clone() {
            self.later(ask.at, Happens::Ask(Box::new(ask)));
        }
        let storm = u64::try_from(self.plan.storm.as_millis()).unwrap_or(u64::MAX);
        for fault in STRIKING {
            // Every kind has a stream of its own.
            let mut choices = Choices::split(self.plan.seed, fault.number());
            let times = match self.faults.rate(fault) {
                0 => 0,
                rate => 1 + rate / 5,
            };
            for _ in 0..times {
                let at = choices.millis(0, storm * 3 / 4);
                self.later(at, Happens::Strike(fault));
            }
        }
        for node in 0..self.nodes.len().min(64) {
            let after = self.storm.millis(1_000, 20_000);
            self.later(after, Happens::Sensors(node));
        }
        for shell in 0..self.shells.len() {
            for _ in 0..self.shell.below(4) {
                let at = self.shell.millis(2_000, storm / 2);
                self.later(at, Happens::ShellAsks(shell));
            }
        }
        self.plan_edits(storm);
        self.later(self.plan.storm, Happens::Heal);
    }

    /// The sensors are read: loads change.
    pub(super) fn sense(&mut self, node: usize) {
        if !self.stormy() || self.plan.varied.steady {
            return;
        }
        let next = self.storm.millis(5_000, 30_000);
        let load = u32::try_from(self.storm.below(1_000_001)).unwrap_or(0);
        self.later(next, Happens::Sensors(node));
        let it = &mut self.nodes[node];
        it.runs_lately = it.runs_lately.saturating_sub(1);
        if !it.liar && !self.faults.has(Fault::EqualMetrics) {
            it.sensors.cpu = it.sensors.cpu.and(Load::from_ppm(load));
        }
        self.feel(node);
        let sensors = self.nodes[node].sensors;
        if self.is_on(node) {
            self.feed(node, Input::SensorsRead(sensors));
        }
    }

    /// Heat and the time of day, from a stream of their own: in the worlds that have them, an hour passes in a minute.
    pub(super) fn feel(&mut self, node: usize) {
        let mut choices =
            Choices::split(self.plan.seed ^ (node as u64) << 32 ^ self.now.as_secs(), "climate");
        let sensors = &mut self.nodes[node].sensors;
        if self.plan.warm {
            sensors.temperature = Some(DeciCelsius(choices.pick([250, 400, 440, 460, 500])));
        }
        if self.plan.config.work.hours != Hours::default() {
            let minute = u16::try_from(self.now.as_secs() % 1_440).unwrap_or(0);
            sensors.minute_of_day = MinuteOfDay::new(minute / 60, minute % 60);
        }
    }

    /// Where the tasks of a device are: what it runs, what it waits for.
    pub(super) fn phase_of(&self, node: usize) -> Phase {
        let snapshot = self.nodes[node].subject.device().snapshot(Time::ZERO);
        let phases = snapshot.tasks.iter().map(|task| match task.phase {
            "auction" | "queued" | "resting" | "admitting" => Phase::Collecting,
            "awarded" => Phase::Awarded,
            "running" | "asking" => Phase::Running,
            _ => Phase::Finished,
        });
        let works = (!snapshot.runs.is_empty()).then_some(Phase::Running);
        let kept = (snapshot.kept_results > 0).then_some(Phase::Finished);
        phases
            .chain(works)
            .chain(kept)
            .max_by_key(|phase| (*phase != Phase::Finished, *phase))
            .unwrap_or(Phase::Idle)
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        let all = self.nodes.len() + self.shells.len();
        match fault {
            // Younger than the recorded seeds: what the others draw stays as it was.
            Fault::Older => return self.ages(),
            Fault::NobodyAble => return self.disable(),
            _ => {}
        }
        let victim = self.storm.index(all);
        match fault {
            Fault::OneWay => {
                let other = self.storm.index(all);
                self.links.kill(victim, other);
                let after = self.storm.millis(500, 30_000);
                self.later(after, Happens::Mend(victim, other));
            }
            Fault::Swizzled => self.swizzle(all),
            Fault::Partitioned => {
                let alone = self.storm.percent(30);
                let sides =
                    (0..all).map(|n| if alone { n == victim } else { self.storm.percent(50) }).collect();
                self.links.part(sides);
                let after = self.storm.millis(500, 40_000);
                self.later(after, Happens::Reunite);
            }
            _ if victim >= self.nodes.len() => self.strike_shell(victim - self.nodes.len(), fault),
            Fault::OrchestratorLost => self.lose_orchestrator(),
            _ => self.strike_device(victim, fault),
        }
    }

    /// A TASK, or a result, is on its way: moments so short that a fault at any time hardly ever meets them. One of the
    /// two falls now and then before it has done with it.
    pub(super) fn aim(&mut self, from: usize, to: usize, phase: Phase) {
        if !self.stormy() || !matches!(phase, Phase::Awarded | Phase::Finished) {
            return;
        }
        for fault in [Fault::Killed, Fault::PowerLost, Fault::OrchestratorLost] {
            if self.faults.has(fault) && self.aim.percent(3) {
                let victim = if fault == Fault::OrchestratorLost || self.aim.percent(50) { from } else { to };
                let after = self.aim.millis(0, 60);
                self.later(after, Happens::Falls(victim, fault));
            }
        }
    }

    /// Unless it is down already, or the storm is over.
    pub(super) fn falls(&mut self, node: usize, fault: Fault) {
        if !self.stormy() || node >= self.nodes.len() || !self.is_on(node) {
            return;
        }
        let phase = self.phase_of(node);
        self.faults.count(fault, phase);
        self.fall(node, fault != Fault::Killed);
    }

    /// Links stop one by one over seconds, and return in another order.
    fn swizzle(&mut self, all: usize) {
        let mut stopped: Vec<usize> = (0..all).filter(|_| self.storm.percent(50)).collect();
        for device in &stopped {
            self.links.clog(*device);
        }
        while !stopped.is_empty() {
            let next = stopped.swap_remove(self.storm.index(stopped.len()));
            let after = self.storm.millis(500, 15_000);
            self.later(after, Happens::Unclog(next));
        }
    }

    fn strike_shell(&mut self, shell: usize, fault: Fault) {
        if !matches!(fault, Fault::Killed | Fault::PowerLost) || self.shells[shell].off {
            return;
        }
        self.faults.count(fault, Phase::Idle);
        self.shells[shell].off = true;
        self.draw(self.nodes.len() + shell, Mark::Down, "has no power");
        self.say(|w| Line::of(&w.shells[shell].id, "has no power"));
        let (number, after) = (self.nodes.len() + shell, self.storm.millis(500, 40_000));
        self.later(after, Happens::Return(number));
    }

    /// The owner of a shell device puts older software on it.
    fn ages(&mut self) {
        let mut choices = Choices::split(self.plan.seed ^ self.now.as_secs(), "older");
        let victim = choices.index(self.shells.len());
        let Some(shell) = self.shells.get_mut(victim).filter(|shell| !shell.off && !shell.older) else {
            return;
        };
        (shell.off, shell.older) = (true, true);
        self.faults.count(Fault::Older, Phase::Idle);
        self.say(|w| Line::of(&w.shells[victim].id, "gets older software"));
        let number = self.nodes.len() + victim;
        self.later(choices.millis(500, 10_000), Happens::Return(number));
    }

    /// The executors of all devices that are awake go away, and come back.
    fn disable(&mut self) {
        let mut choices = Choices::split(self.plan.seed ^ self.now.as_secs(), "nobody able");
        self.disabled_until = self.disabled_until.max(self.now + choices.millis(5_000, 40_000));
        self.later(self.disabled_until - self.now, Happens::AbleAgain);
        for node in 0..self.nodes.len() {
            if self.nodes[node].power == Power::On {
                let phase = self.phase_of(node);
                self.faults.count(Fault::NobodyAble, phase);
                self.feed(node, super::executor(false, self.nodes[node].npu));
            }
        }
    }

    pub(super) fn enable(&mut self) {
        if !self.stormy() || self.now < self.disabled_until {
            return;
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].power == Power::On {
                let it = &self.nodes[node];
                self.feed(node, super::executor(it.available, it.npu));
            }
        }
    }

    fn lose_orchestrator(&mut self) {
        let busy: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.is_on(*node))
            .filter(|node| self.oracle.view(*node).tasks.values().any(|task| task.finished == 0))
            .collect();
        if !busy.is_empty() {
            let node = busy[self.storm.index(busy.len())];
            let phase = self.phase_of(node);
            self.faults.count(Fault::OrchestratorLost, phase);
            let silent = self.storm.percent(50);
            self.fall(node, silent);
        }
    }

    fn strike_device(&mut self, node: usize, fault: Fault) {
        if !self.is_on(node) {
            return;
        }
        let phase = self.phase_of(node);
        match fault {
            Fault::Killed | Fault::PowerLost => {
                self.faults.count(fault, phase);
                self.fall(node, fault == Fault::PowerLost);
            }
            Fault::Moved => {
                self.faults.count(fault, phase);
                let it = &mut self.nodes[node];
                it.moves += 1;
                it.address = address(node, it.moves);
                let at = it.address;
                if self.storm.percent(50) {
                    self.feed(node, Input::AddressChanged(Some(at)));
                } else {
                    self.fall(node, true);
                }
            }
            Fault::Asleep => {
                self.faults.count(fault, phase);
                self.oracle.excuse(node);
                let longest = self.storm.pick([3, 30, 90, 7_200]);
                let during = self.storm.millis(1_000, longest * 1_000).min(Duration::from_secs(7_200));
                let until = self.now + during;
                self.nodes[node].power = Power::Asleep(until);
                self.draw(node, Mark::Down, "sleeps");
                self.say(|w| Line::of(&w.nodes[node].id, format!("sleeps for {during:?}")));
                self.later(during, Happens::Awake(node));
            }
            Fault::ClockWrong => {
                self.faults.count(fault, phase);
                self.oracle.excuse(node);
                let (now, by) = (self.now, self.storm.millis(10, 20_000));
                let rate = u32::try_from(self.storm.between(900_000, 1_100_000)).unwrap_or(1_000_000);
                let clock = &mut self.nodes[node].clock;
                match self.storm.below(3) {
                    0 => clock.drift(now, rate),
                    1 => clock.jump(by),
                    _ => clock.fall_back(by),
                }
                self.set_alarm(node);
            }
            Fault::BatteryDying => self.drain(node, phase),
            Fault::OwnerPauses => {
                self.faults.count(fault, phase);
                let input = match self.storm.below(4) {
                    0 => Input::Shutdown { within: self.storm.millis(0, 20_000) },
                    1 => Input::Pause { during: None },
                    _ => Input::Pause { during: Some(self.storm.millis(100, 30_000)) },
                };
                self.feed(node, input);
            }
            Fault::Hostile => self.be_hostile(node),
            Fault::BookFlooded => self.flood(node),
            _ => {}
        }
    }

    /// The charge falls; below its limit the device refuses work; in the end its power is lost.
    fn drain(&mut self, node: usize, phase: Phase) {
        self.faults.count(Fault::BatteryDying, phase);
        let it = &mut self.nodes[node];
        let charge = it.sensors.battery.map_or(30, Percent::value).saturating_sub(12);
        it.sensors = Sensors { battery: Percent::new(charge), charging: Some(false), ..it.sensors };
        let sensors = it.sensors;
        self.feed(node, Input::SensorsRead(sensors));
        if charge == 0 {
            self.fall(node, true);
        } else {
            let after = self.storm.millis(2_000, 10_000);
            self.later(after, Happens::Strike(Fault::BatteryDying));
        }
    }

    /// Bytes of all kinds from somebody: no message, an odd one, or a forged answer.
    fn be_hostile(&mut self, node: usize) {
        self.faults.count(Fault::Hostile, Phase::Idle);
        let from = self.nodes[self.storm.index(self.nodes.len())].id.clone();
        let me = self.nodes[node].id.clone();
        let task = self.oracle.view(node).tasks.keys().next().map_or("task_1".into(), ToString::to_string);
        let samples: [Vec<u8>; 16] = [
            b"".into(),
            b"\n".into(),
            b"GET / HTTP/1.1\r\n\r\n".into(),
            b"TASK|x".into(),
            format!("\u{feff}HELLO|{from}|").into_bytes(),
            format!("HELLO|{from}|10.255.0.1:9999").into_bytes(),
            b"DISCOVER|Victim|10.255.0.1:9999:bidmesh/1:abcdefgh".into(),
            format!("NOVEL|{from}|{{}}").into_bytes(),
            format!("TEXT|{from}|\u{0}\r\n|||").into_bytes(),
            format!("BID_RESPONSE|{me}|{{}}").into_bytes(),
            format!("BID_RESPONSE|{from}|{{\"task_id\": \"{task}\", \"cpu_load\": -1e999}}").into_bytes(),
            format!("RESULT|{from}|{{\"task_id\": \"{task}.1.zzzzz\", \"device_id\": \"{from}\", \"status\": \"completed\", \"output\": \"forged\"}}").into_bytes(),
            format!("TASK|Stranger|{{\"prompt\": \"{}\"}}", "[".repeat(300)).into_bytes(),
            format!("QUERY|{from}|{{\"bidmesh\": 1, \"boot\": \"aaaaaaaa\", \"task_id\": \"../x\"}}").into_bytes(),
            format!("ACCEPT|{from}|{}", "{\"a\":".repeat(400)).into_bytes(),
            (0..200).map(|_| u8::try_from(self.storm.below(256)).unwrap_or(0)).collect(),
        ];
        let source = std::net::SocketAddr::from((
            if self.storm.percent(50) { [10, 254, 0, 9] } else { VICTIM },
            4_000,
        ));
        let source =
            if source.ip() == std::net::IpAddr::from(VICTIM) { self.nodes[node].address } else { source };
        let bytes = samples[self.storm.index(16)].clone();
        self.read(node, source, &bytes);
    }

    /// Strangers introduce themselves until the book is full.
    fn flood(&mut self, node: usize) {
        self.faults.count(Fault::BookFlooded, Phase::Idle);
        for _ in 0..self.storm.between(1, 40) {
            let number = self.storm.below(1_000);
            let source =
                std::net::SocketAddr::from(([10, 254, 1, 7], 1_024 + u16::try_from(number).unwrap_or(0)));
            let bytes = format!("HELLO|Stranger{number}|:{}", source.port()).into_bytes();
            self.read(node, source, &bytes);
        }
    }

    /// The device is gone: killed, or without power. It comes back later.
    fn fall(&mut self, node: usize, silent: bool) {
        let how = if silent { "loses power" } else { "is killed" };
        self.draw(node, Mark::Down, how);
        self.say(|w| Line::of(&w.nodes[node].id, how));
        let it = &mut self.nodes[node];
        it.power = Power::Off { silent };
        it.held.clear();
        it.wake = None;
        self.oracle.lost(node);
        let longest = self.storm.pick([500, 10_000, 60_000]);
        let after = self.storm.millis(100, longest);
        self.later(after, Happens::Return(node));
    }

    pub(super) fn come_back(&mut self, node: usize) {
        if let Some(shell) = node.checked_sub(self.nodes.len()) {
            if !self.healed {
                let now = self.now;
                self.shells[shell].restarts(now);
                self.draw(node, Mark::Up, "starts again");
            }
            return;
        }
        if self.is_on(node) || (self.healed && !self.in_core(node)) {
            return;
        }
        self.start(node);
    }

    pub(super) fn start(&mut self, node: usize) {
        let now = self.now;
        let boot = self.nodes[node].boot + 1;
        let it = &mut self.nodes[node];
        let restored = it.store.as_mut().map(|store| restored(store, now)).unwrap_or_default();
        let (id, at) = (it.id.clone(), it.address);
        let device = self.device(node, &id, at, boot, restored);
        let subject = Subject::new(device, &self.config(node), self.defect);
        let it = &mut self.nodes[node];
        it.subject = subject;
        (it.boot, it.power, it.clock, it.latest, it.wake) =
            (boot, Power::On, Clock::new(now), Time::ZERO, None);
        it.runs.clear();
        it.stopped.clear();
        it.abandoned.clear();
        if it.sensors.battery.is_some_and(|charge| charge.value() < 20) {
            it.sensors.charging = Some(true);
        }
        self.draw(node, Mark::Up, "starts again");
        self.say(|w| Line::of(&w.nodes[node].id, format!("starts again ({boot})")));
        self.begin(node);
        if self.healed {
            // A pause of before the start goes on.
            self.feed(node, Input::Resume);
        }
    }
}

/// What a store hands to the next start: everything that still matters, with its age.
fn restored(store: &mut Vec<(Record, Duration)>, now: Duration) -> Restored {
    let work = |record: &Record| match record {
        Record::Started { orchestrator, award, digest, .. } => {
            Some((0, orchestrator.clone(), award.clone(), *digest))
        }
        Record::Kept { orchestrator, award, digest, .. } => {
            Some((1, orchestrator.clone(), award.clone(), *digest))
        }
        Record::Forgotten { orchestrator, award, digest } => {
            Some((2, orchestrator.clone(), award.clone(), *digest))
        }
        _ => None,
    };
    let there: BTreeSet<_> = store.iter().filter_map(|(record, _)| work(record)).collect();
    // What came later took the place of what was before.
    store.retain(|(record, _)| {
        work(record).is_none_or(|(step, orchestrator, award, digest)| {
            let later = |step: i32| there.contains(&(step, orchestrator.clone(), award.clone(), digest));
            !(step + 1..=2).any(later)
        })
    });
    let records = store.iter().map(|(record, at)| (record.clone(), now.saturating_sub(*at))).collect();
    Restored { records }
}
