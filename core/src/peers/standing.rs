//! Whether a peer is there, as far as is known: from what was heard, what failed, and how long it has been silent.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Peer, Peers};
use crate::canonical::Renewal;
use crate::config::{Config, Detection};
use crate::draw::Seed;
use crate::id::DeviceId;
use crate::outbox::Event;
use crate::snapshot::{Health, PeerSnapshot};
use crate::time::Time;

/// What is believed of a peer's being there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// Never heard, and nothing failed.
    New,
    Alive,
    /// A message failed, an award was lost by silence, or it is silent for longer than it usually is.
    Suspect,
    /// The same for so long that it is probably not there.
    Gone,
    /// It said goodbye.
    Left,
    /// Heard again, but it came and went too often lately.
    Back,
}

impl Standing {
    /// Whether it may not be there.
    pub(crate) const fn is_doubted(self) -> bool {
        matches!(self, Self::Suspect | Self::Gone | Self::Left)
    }

    const fn health(self) -> Health {
        match self {
            Self::New => Health::New,
            Self::Alive => Health::Alive,
            Self::Suspect => Health::Suspect,
            Self::Gone | Self::Left => Health::Gone,
            Self::Back => Health::Back,
        }
    }
}

/// The settings that decide it, and the heartbeats that go with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    detection: Detection,
    shell_busy: Duration,
    /// This device runs on its battery and beats half as often.
    saving: bool,
    pub(super) seed: Seed,
}

impl Default for Rules {
    fn default() -> Self {
        Self { detection: Detection::OFF, shell_busy: Duration::ZERO, saving: false, seed: Seed::new(0) }
    }
}

impl Rules {
    /// Whether silence means anything: only where heartbeats are usual.
    pub(super) fn counts_silence(&self) -> bool {
        !self.detection.heartbeat.is_zero()
    }

    /// How long a peer may have been told nothing; zero: it gets no heartbeats.
    pub(super) fn heartbeat(&self) -> Duration {
        self.detection.heartbeat * if self.saving { 2 } else { 1 }
    }

    /// A device that cannot be reached for this long is gone; `None`: no device is.
    fn unreachable(&self, bidmesh: bool) -> Option<Duration> {
        let after = self.detection.unreachable;
        let after = if bidmesh { after } else { after.max(self.shell_busy) };
        (!self.detection.unreachable.is_zero()).then_some(after)
    }
}

impl Peer {
    /// When its silence reaches a level of suspicion; sleep of this device is no silence of the peer's.
    fn silent_too_long_at(&self, level: u8, rules: &Rules, attentive_since: Option<Time>) -> Option<Time> {
        if !rules.counts_silence() || !self.is_bidmesh() {
            return None;
        }
        Some(self.heard?.max(attentive_since.unwrap_or(Time::ZERO)) + self.rhythm.silence_at(level)?)
    }

    fn gone_at(&self, rules: &Rules, attentive_since: Option<Time>) -> Option<Time> {
        let since = |failing: Time| failing.max(attentive_since.unwrap_or(Time::ZERO));
        let unreachable = self.failing.zip(rules.unreachable(self.is_bidmesh()));
        let unreachable = unreachable.map(|(failing, after)| since(failing) + after);
        let silent = self.silent_too_long_at(rules.detection.gone, rules, attentive_since);
        unreachable.into_iter().chain(silent).min()
    }

    /// What follows from what is known.
    pub(super) fn stands(&self, now: Time, rules: &Rules, attentive_since: Option<Time>) -> Standing {
        let over = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if self.left {
            Standing::Left
        } else if over(self.gone_at(rules, attentive_since)) {
            Standing::Gone
        } else if self.failing.is_some()
            || self.silent
            || over(self.silent_too_long_at(rules.detection.suspect, rules, attentive_since))
        {
            Standing::Suspect
        } else if self.flaps.damped_until(now).is_some() {
            Standing::Back
        } else if self.heard.is_none() {
            Standing::New
        } else {
            Standing::Alive
        }
    }

    /// Brings the standing up to date. Whether others should hear of the change.
    pub(super) fn stand(&mut self, now: Time, rules: &Rules, attentive_since: Option<Time>) -> bool {
        let before = self.standing;
        self.standing = self.stands(now, rules, attentive_since);
        let returned = matches!(before, Standing::Suspect | Standing::Gone) && !self.standing.is_doubted();
        // A shell device is deaf whenever it works: it comes and goes by nature.
        if returned && self.is_bidmesh() {
            self.flaps.returned(now, rules.detection.damping);
            self.standing = self.stands(now, rules, attentive_since);
        }
        // Who is heard for the first time, and who leaves in order, is told by events of their own.
        before != self.standing && before != Standing::New && self.standing != Standing::Left
            || before == Standing::New && self.standing.is_doubted() && self.standing != Standing::Left
    }

    /// When time alone changes the standing.
    pub(super) fn stands_until(
        &self,
        now: Time,
        rules: &Rules,
        attentive_since: Option<Time>,
    ) -> Option<Time> {
        let suspect = self.silent_too_long_at(rules.detection.suspect, rules, attentive_since);
        let gone = self.gone_at(rules, attentive_since);
        let changes = [suspect, gone, self.flaps.damped_until(now)];
        changes.into_iter().flatten().filter(|at| *at > now && !self.left).min()
    }

    /// How long ago it may have been heard for that to matter.
    pub(super) fn patience(&self, rules: &Rules) -> Duration {
        self.rhythm.silence_at(rules.detection.gone.max(rules.detection.suspect)).unwrap_or_default()
    }

    /// Without its history (`crate::canonical`).
    pub(super) fn canonical_standing(&mut self, by: &Renewal, rules: &Rules) {
        let unreachable = rules.unreachable(self.is_bidmesh());
        // How seldom a shell device gets HELLO depends on how long it has failed, too.
        let seldom =
            Some(super::heartbeats::seldom(rules)).filter(|after| !self.is_bidmesh() && !after.is_zero());
        self.failing = self.failing.map(|failing| match unreachable.max(seldom) {
            Some(after) => by.past(failing, after),
            None => Time::ZERO,
        });
        self.flaps.canonical(by, rules.detection.damping);
    }
}

impl Peers {
    /// Takes the settings over; `saving`: this device runs on its battery.
    pub(crate) fn configure(&mut self, config: &Config, saving: bool, seed: Seed, now: Time) {
        let detection = config.detection;
        let rules = Rules { detection, shell_busy: config.timing.shell_busy, saving, seed };
        if rules == self.rules {
            return;
        }
        self.rules = rules;
        self.look_at_all(now);
    }

    /// This device slept: what it could not hear is held against nobody, and its own heartbeats leave one by one.
    pub(crate) fn slept(&mut self, now: Time) {
        self.attentive_since = Some(now);
        for (device, peer) in &mut self.book {
            self.beats.spread(device, peer, now, &self.rules);
        }
        self.look_at_all(now);
    }

    fn look_at_all(&mut self, now: Time) {
        let devices: Vec<DeviceId> = self.book.keys().cloned().collect();
        for device in devices {
            self.count(&device, now);
        }
    }

    /// Gaps that are remembered, of all peers.
    pub(crate) fn gaps(&self) -> usize {
        self.book.values().map(|peer| peer.rhythm.len()).sum()
    }

    /// Whether somebody must still hear of a change.
    pub(crate) fn owes_news(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The changes of standings since they were asked for last.
    pub(crate) fn take_changes(&mut self) -> impl Iterator<Item = Event> {
        let told =
            |(peer, standing): (DeviceId, Standing)| Event::PeerHealth { peer, health: standing.health() };
        core::mem::take(&mut self.changed).into_iter().map(told)
    }

    pub(crate) fn snapshot(&self, now: Time, config: &Config) -> Vec<PeerSnapshot> {
        let health = |peer: &Peer| match peer.standing {
            Standing::Suspect | Standing::Gone if peer.shell_busy(now, &config.timing) => Health::Busy,
            Standing::Alive | Standing::New | Standing::Back if peer.full(now) => Health::Busy,
            standing => standing.health(),
        };
        let line = |device: &DeviceId| {
            let peer = self.book.get(device)?;
            let heard = peer.heard.map(|heard| heard.max(self.attentive_since.unwrap_or(Time::ZERO)));
            let suspicion = heard.filter(|_| self.rules.counts_silence() && peer.is_bidmesh());
            Some(PeerSnapshot {
                device: device.clone(),
                address: peer.address,
                dialect: self.dialect(device, config),
                boot: peer.boot.clone(),
                health: health(peer),
                suspicion: suspicion.and_then(|heard| peer.rhythm.level(now.since(heard))),
                heard: peer.heard,
                bid: peer.bid.as_ref().map(|(_, bid)| bid.clone()),
                speed: peer.speed,
                bid_at: peer.bid.as_ref().map(|(at, _)| *at),
                awards: peer.awards,
                free: peer.free(now),
                listed: peer.listed,
            })
        };
        self.order.iter().filter_map(line).collect()
    }
}
