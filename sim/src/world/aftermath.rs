//! The end of the storm: a random core is healed, the rest is dead for good, and new prompts must be answered.

use std::time::Duration;

use bidmesh_core::input::Sensors;
use bidmesh_core::snapshot::Health;
use bidmesh_core::{Input, Submission};

use super::choices::Choices;
use super::fault::Fault;
use super::trace::Line;
use super::{Happens, Power, World};
use crate::page::Mark;

/// After the storm beliefs, pauses and suspicions of it are over by then.
const CALM: Duration = Duration::from_secs(600);

/// So long after the last prompts heartbeats end, so that the mesh may come to rest.
const LAST_BEATS: Duration = Duration::from_secs(60);

impl World {
    pub(super) fn in_core(&self, node: usize) -> bool {
        let core = Choices::split(self.plan.seed, "core").draw();
        let whole = !self.plan.small_core;
        let chosen = Choices::split(core ^ (node as u64).wrapping_mul(0x9e37_79b9), "core").percent(40);
        // The first is always an orchestrator of the core, the second its worker; a device with another's name never.
        self.nodes[node].doubles.is_none() && (whole || node < 2 || chosen) && !self.nodes[node].liar
    }

    /// The storm is over.
    pub(super) fn heal(&mut self) {
        self.say(|_| Line::of_all("the storm is over: the core is healed, the rest is dead"));
        self.draw(0, Mark::Note, "the storm is over");
        self.healed = true;
        self.links.heal();
        for shell in 0..self.shells.len() {
            let dead = self.plan.small_core && self.shell.percent(60);
            let now = self.now;
            let device = &mut self.shells[shell];
            device.older = false;
            if dead {
                device.off = true;
            } else if device.off {
                device.restarts(now);
                self.draw(self.nodes.len() + shell, Mark::Up, "starts again");
            }
        }
        let mut asleep = Duration::ZERO;
        for node in 0..self.nodes.len() {
            if !self.in_core(node) {
                if self.is_on(node) {
                    self.nodes[node].power = Power::Off { silent: self.storm.percent(70) };
                    self.draw(node, Mark::Down, "is dead for good");
                    self.oracle.lost(node);
                }
                continue;
            }
            match self.nodes[node].power {
                Power::Off { .. } => {
                    self.recover(node);
                    self.start(node);
                }
                Power::Asleep(until) if self.sleeps_on(node) => asleep = asleep.max(until - self.now),
                Power::Asleep(_) => {
                    self.awaken(node);
                    self.draw(node, Mark::Up, "wakes up");
                    self.tend(node);
                }
                Power::On => self.tend(node),
            }
        }
        if asleep > self.plan.config.timing.result_kept {
            self.oracle.mark("a device sleeps for longer than results are kept");
        }
        // A person writes down where everybody is now.
        for node in 0..self.nodes.len() {
            if self.nodes[node].power == Power::On {
                let lines = self.lines_for(node);
                self.feed(node, Input::PeersEdited(lines));
            }
        }
        self.later(asleep + CALM, Happens::AskAgain);
    }

    /// Half of those that sleep at the end of the storm sleep on for as long as it was drawn: not where signs of life among
    /// many would be most of what happens meanwhile.
    fn sleeps_on(&self, node: usize) -> bool {
        const BEATING: usize = 8;
        let quiet = self.plan.config.detection.heartbeat.is_zero() || self.nodes.len() <= BEATING;
        quiet && Choices::split(self.plan.seed ^ (node as u64) << 32, "sleeps on").percent(50)
    }

    /// A device has all that it needs from now on.
    fn recover(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.available = true;
        it.sensors = Sensors {
            battery: None,
            charging: Some(true),
            temperature: None,
            minute_of_day: None,
            ..it.sensors
        };
    }

    /// And hears so.
    fn tend(&mut self, node: usize) {
        self.recover(node);
        let (sensors, npu) = (self.nodes[node].sensors, self.nodes[node].npu);
        self.feed(node, Input::SensorsRead(sensors));
        self.feed(node, super::executor(true, npu));
        self.feed(node, Input::Resume);
    }

    /// It has slept for as long as it was to.
    pub(super) fn wakes_up(&mut self, node: usize) {
        if self.nodes[node].power != Power::Asleep(self.now) {
            return;
        }
        self.awaken(node);
        self.draw(node, Mark::Up, "wakes up");
        self.say(|w| Line::of(&w.nodes[node].id, "wakes up"));
        if self.healed {
            self.oracle.mark("a device sleeps on after the storm");
            self.tend(node);
            let lines = self.lines_for(node);
            self.feed(node, Input::PeersEdited(lines));
        }
    }

    /// Nobody gives signs of life any more.
    pub(super) fn fall_silent(&mut self) {
        self.plan.config.detection.heartbeat = Duration::ZERO;
        for node in 0..self.nodes.len() {
            if self.is_on(node) {
                self.feed(node, Input::Reconfigured(Box::new(self.config(node))));
            }
        }
    }

    /// L9: everybody who gives signs of life knows who is there.
    fn judge_detection(&mut self) {
        let detection = self.plan.config.detection;
        let odd = self.oddly_set() || self.faults.has(Fault::BookFlooded);
        if detection.heartbeat.is_zero() || odd || self.oracle.doubled {
            return;
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].power != Power::On {
                continue;
            }
            let now = self.nodes[node].clock.of(self.now);
            for peer in self.nodes[node].subject.device().snapshot(now).peers {
                let Some(other) = self.nodes.iter().position(|it| it.id == peer.device) else { continue };
                if peer.boot.is_none() {
                    // It never showed that it is one of ours.
                    continue;
                }
                let there = self.nodes[other].power == Power::On;
                // What was held back for minutes, or waited while this device slept, may have come just now: from who is
                // dead, or of where the peer was long ago.
                let lately = peer.heard.is_some_and(|heard| now.since(heard) < CALM / 2);
                let moved = there && peer.address != self.nodes[other].address;
                // Who was told of an old place of the other is found by it, if it knows where, and that it is one of ours:
                // to a shell device nobody gives signs of life.
                let knows_me = self.nodes[other].subject.device().snapshot(now).peers;
                let knows_me =
                    knows_me.iter().any(|it| it.address == self.nodes[node].address && it.boot.is_some());
                if (lately && (!there || moved)) || (moved && !knows_me) {
                    continue;
                }
                // Who came and went too often is known to be there, and is not waited for.
                let believed = matches!(peer.health, Health::Alive | Health::Busy | Health::Back);
                if there != believed {
                    let (id, health) = (self.nodes[node].id.clone(), peer.health.as_str());
                    let is = if there { "is there" } else { "is not there" };
                    self.oracle
                        .violate("L9", || format!("{id} takes {} for {health}, which {is}", peer.device));
                }
            }
        }
    }

    /// L2: new prompts at the orchestrators of the core.
    pub(super) fn ask_again(&mut self) {
        self.judge_detection();
        self.later(LAST_BEATS, Happens::FallSilent);
        for node in 0..self.hubs.min(4) {
            if !self.in_core(node) || !self.is_on(node) {
                continue;
            }
            for number in 0..2_u64 {
                let ticket = (1 << 62) | self.ticket;
                self.ticket += 1;
                self.again.insert((node, ticket));
                let prompt = format!("after the storm {number} of {}", self.nodes[node].id);
                self.feed(node, Input::Submit(Submission::new(ticket, prompt)));
            }
        }
    }
}
