//! Who is out there: address, dialect, boot, health, how many of our awards each holds, what each said about its
//! load. Knows nothing of tasks.
//!
//! How many slots are believed free is kept as a sum that each change to a peer brings up to date, so that
//! deciding whether an auction may open costs the same with ten peers and with ten thousand.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::canonical::Renewal;
use crate::config::{Config, Timing};
use crate::id::{BootId, DeviceId};
use crate::time::Time;
use crate::wire::{Bid, Dialect, Speed};

mod book;
mod boots;
mod heartbeats;
mod slots;
mod standing;
mod suspicion;

pub(crate) use book::NotAdmitted;
pub(crate) use boots::BootSeen;
use heartbeats::Beats;
use slots::Local;
use standing::{Rules, Standing};
pub(crate) use suspicion::GAPS;
use suspicion::{Flaps, Rhythm};

/// The address book.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Peers {
    book: BTreeMap<DeviceId, Peer>,
    /// The order of peers.txt: shell devices use the first line of an id, people expect theirs where they put it.
    order: Vec<DeviceId>,
    /// Removed by a person; they stay out until a person adds them again.
    removed: VecDeque<DeviceId>,
    /// This device itself, as a worker.
    local: Local,
    /// Derived: slots believed free in all, this device's included.
    free: u64,
    /// Derived: how many devices are known to be full.
    full: usize,
    /// Derived: when a belief or a standing ends and the peer must be looked at again.
    beliefs: BTreeSet<(Time, DeviceId)>,
    /// Derived from the settings: when whose silence means what.
    rules: Rules,
    beats: Beats,
    /// When this device woke from sleep last: what it could not hear before is held against nobody.
    attentive_since: Option<Time>,
    /// Whose standing has changed; empty between two inputs.
    changed: Vec<(DeviceId, Standing)>,
}

/// One device of the address book.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) listed: bool,
    /// Present start, if it ever showed the marker; `None` makes it a shell device.
    pub(crate) boot: Option<BootId>,
    old_boots: VecDeque<BootId>,
    /// Messages of an older boot since the present one showed itself first …
    old_boot_messages: u32,
    /// … and since it did so last.
    old_boots_in_a_row: u32,
    pub(crate) heard: Option<Time>,
    /// Since when sends fail, if nothing was heard or delivered since.
    pub(crate) failing: Option<Time>,
    /// It lost an award by silence and has not been heard since.
    silent: bool,
    /// It said goodbye and has not been heard since.
    left: bool,
    rhythm: Rhythm,
    flaps: Flaps,
    /// What follows from all of these; changes with time alone, too.
    standing: Standing,
    /// When a message to it was delivered last, if it gets heartbeats.
    told: Option<Time>,
    /// When it is owed a heartbeat unless it was told something meanwhile; `None`: it gets none.
    beat: Option<Time>,
    /// HELLO was delivered to this address since we started.
    pub(crate) greeted: bool,
    hello_answered: Option<Time>,
    pub(crate) bid: Option<(Time, Bid)>,
    /// How fast it was with our last prompt that it answered, by its own word.
    pub(crate) speed: Option<Speed>,
    slots: u16,
    /// Slots that others' tasks take there, until the belief ends.
    others: u16,
    believed_until: Time,
    /// Awards of ours that it holds.
    pub(crate) awards: u16,
    /// The one question that a shell device is being asked.
    pub(crate) question: Option<Question>,
    /// It sent a RESULT although a probe had been delivered: probes prove nothing there.
    pub(crate) probe_exempt: bool,
    /// Derived: what it adds to the sums.
    counted_free: u16,
    counted_full: bool,
    /// Derived: when it must be looked at again.
    look_at: Option<Time>,
}

/// A BID_REQUEST on its way to a shell device, or waiting for the bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// When it was first tried; once it was read, when that was.
    pub(crate) since: Option<Time>,
    /// The letter, until it has been read.
    pub(crate) letter: Option<crate::outbox::SendId>,
    /// When the letter is given up.
    pub(crate) until: Time,
    /// The number of the task that it names.
    pub(crate) task: u64,
}

impl Peer {
    fn new(address: SocketAddr, listed: bool) -> Self {
        Self {
            address,
            listed,
            boot: None,
            old_boots: VecDeque::new(),
            old_boot_messages: 0,
            old_boots_in_a_row: 0,
            heard: None,
            failing: None,
            silent: false,
            left: false,
            rhythm: Rhythm::default(),
            flaps: Flaps::default(),
            standing: Standing::New,
            told: None,
            beat: None,
            greeted: false,
            hello_answered: None,
            bid: None,
            speed: None,
            slots: 1,
            others: 0,
            believed_until: Time::ZERO,
            awards: 0,
            question: None,
            probe_exempt: false,
            counted_free: 0,
            counted_full: false,
            look_at: None,
        }
    }

    pub(crate) fn is_bidmesh(&self) -> bool {
        self.boot.is_some()
    }

    /// Something failed, or it was silent for longer than it ever is: it is asked, but no slot is believed free there.
    pub(crate) fn suspect(&self) -> bool {
        self.standing.is_doubted()
    }

    /// Whether an auction waits for its answer.
    pub(crate) fn waited_for(&self) -> bool {
        !self.suspect() && self.standing != Standing::Back
    }

    /// Refuses now, but was heard a short while ago: a shell device that works for somebody else.
    pub(crate) fn shell_busy(&self, now: Time, timing: &Timing) -> bool {
        !self.is_bidmesh() && self.heard.is_some_and(|heard| now.since(heard) < timing.shell_busy)
    }

    fn heard_now(&mut self, now: Time) {
        self.heard = Some(now);
        self.failing = None;
        self.silent = false;
        self.left = false;
    }
}

impl Peers {
    pub(crate) fn get(&self, device: &DeviceId) -> Option<&Peer> {
        self.book.get(device)
    }

    pub(crate) fn len(&self) -> usize {
        self.book.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DeviceId, &Peer)> {
        self.book.iter()
    }

    /// Changes a peer and brings the sums up to date.
    pub(crate) fn edit<R>(
        &mut self,
        device: &DeviceId,
        now: Time,
        change: impl FnOnce(&mut Peer) -> R,
    ) -> Option<R> {
        let peer = self.book.get_mut(device)?;
        let result = change(peer);
        self.count(device, now);
        Some(result)
    }

    fn count(&mut self, device: &DeviceId, now: Time) {
        let Some(peer) = self.book.get_mut(device) else { return };
        if peer.stand(now, &self.rules, self.attentive_since) {
            self.changed.push((device.clone(), peer.standing));
        }
        self.beats.arm(device, peer, now, &self.rules);
        self.free = self.free + u64::from(peer.free(now)) - u64::from(peer.counted_free);
        self.full = self.full + usize::from(peer.full(now)) - usize::from(peer.counted_full);
        peer.counted_free = peer.free(now);
        peer.counted_full = peer.full(now);
        let believed = peer.others > 0 || peer.slots == 0;
        let belief = Some(peer.believed_until).filter(|until| believed && *until > now);
        let look_at =
            belief.into_iter().chain(peer.stands_until(now, &self.rules, self.attentive_since)).min();
        if peer.look_at == look_at {
            return;
        }
        if let Some(before) = peer.look_at {
            self.beliefs.remove(&(before, device.clone()));
        }
        peer.look_at = look_at;
        if let Some(at) = look_at {
            self.beliefs.insert((at, device.clone()));
        }
    }

    fn drop_peer(&mut self, device: &DeviceId) {
        if let Some(peer) = self.book.remove(device) {
            self.free -= u64::from(peer.counted_free);
            self.full -= usize::from(peer.counted_full);
            if let Some(at) = peer.look_at {
                self.beliefs.remove(&(at, device.clone()));
            }
            self.beats.forget(device, &peer);
            self.order.retain(|id| id != device);
        }
    }

    /// Ends beliefs and standings whose time is over.
    pub(crate) fn advance(&mut self, now: Time) {
        while let Some((until, device)) = self.beliefs.first().cloned() {
            if until > now {
                break;
            }
            self.beliefs.pop_first();
            if let Some(peer) = self.book.get_mut(&device) {
                peer.look_at = None;
            }
            self.count(&device, now);
        }
    }

    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        let belief = self.beliefs.first().map(|(until, _)| (*until, "what is believed of a peer ends"));
        belief.into_iter().chain(self.beats.deadline()).min_by_key(|(at, _)| *at)
    }

    pub(crate) fn dialect(&self, device: &DeviceId, config: &Config) -> Dialect {
        match self.book.get(device) {
            Some(peer) if peer.is_bidmesh() => Dialect::Bidmesh,
            _ if config.literal_echo.contains(device) => Dialect::ShellLiteral,
            _ => Dialect::Shell,
        }
    }

    /// Something came from `device`.
    pub(crate) fn heard(&mut self, device: &DeviceId, now: Time) {
        self.edit(device, now, |peer| peer.heard_now(now));
    }

    /// HELLO came from `device`: if nothing was heard before it for a while, that while is part of its rhythm.
    pub(crate) fn heartbeat(&mut self, device: &DeviceId, now: Time) {
        let (attentive_since, silence_counts) = (self.attentive_since, self.rules.counts_silence());
        self.edit(device, now, |peer| {
            // A gap that this device slept through says nothing about the peer.
            let since = peer.heard.filter(|heard| attentive_since.is_none_or(|since| *heard >= since));
            if let (Some(since), true, true) = (since, silence_counts, peer.is_bidmesh()) {
                peer.rhythm.note(now.since(since));
            }
            peer.heard_now(now);
        });
    }

    /// A message to `device` arrived.
    pub(crate) fn delivered(&mut self, device: &DeviceId, now: Time) {
        self.edit(device, now, |peer| {
            peer.failing = None;
            peer.told = peer.beat.map(|_| now);
        });
    }

    /// A message to `device`, sent at `sent`, could not be delivered. What was heard since then says more.
    pub(crate) fn failed(&mut self, device: &DeviceId, now: Time, sent: Time) {
        self.edit(device, now, |peer| {
            if peer.heard.is_none_or(|heard| heard <= sent) {
                peer.failing.get_or_insert(now);
            }
        });
    }

    /// `device` lost an award of ours by silence.
    pub(crate) fn silent(&mut self, device: &DeviceId, now: Time) {
        self.edit(device, now, |peer| peer.silent = true);
    }

    /// `device` said goodbye.
    pub(crate) fn left(&mut self, device: &DeviceId, now: Time) {
        self.edit(device, now, |peer| peer.left = true);
    }

    /// The derived sums equal what they are derived from.
    pub(crate) fn check(&self, now: Time) {
        let free: u64 = self.book.values().map(|peer| u64::from(peer.counted_free)).sum();
        assert_eq!(self.free, free, "the sum of free slots is kept up to date");
        assert_eq!(
            self.full,
            self.book.values().filter(|peer| peer.counted_full).count(),
            "so is the count of full devices"
        );
        for (device, peer) in &self.book {
            assert_eq!(
                peer.counted_free,
                peer.free(now),
                "{device}: what it adds to the sum is what it has free"
            );
            let stands = peer.stands(now, &self.rules, self.attentive_since);
            assert_eq!(
                peer.standing, stands,
                "{device}: its standing is what follows from what is known of it"
            );
            let looked_at = peer.look_at.is_none_or(|at| self.beliefs.contains(&(at, device.clone())));
            assert!(looked_at, "{device}: it is looked at when something may change");
            assert!(peer.rhythm.len() <= GAPS, "{device}: its rhythm is of few gaps");
        }
        let looks = self.book.values().filter(|peer| peer.look_at.is_some()).count();
        assert_eq!(self.beliefs.len(), looks, "nobody is looked at twice");
        self.beats.check(&self.book);
        assert_eq!(self.order.len(), self.book.len(), "each peer has one place in the order");
        assert!(self.order.iter().all(|id| self.book.contains_key(id)), "and only peers have one");
    }
}

impl Peers {
    /// Without its history (`crate::canonical`). What was measured or said for people only is left out.
    pub(crate) fn canonical(&mut self, by: &Renewal, timing: &Timing) {
        self.attentive_since = self.attentive_since.map(|since| by.past(since, timing.shell_busy));
        self.beliefs.clear();
        self.beats = Beats::default();
        for (device, peer) in &mut self.book {
            peer.canonical_standing(by, &self.rules);
            peer.heard =
                peer.heard.map(|heard| by.past(heard, timing.shell_busy.max(peer.patience(&self.rules))));
            peer.hello_answered = by.recent(peer.hello_answered, timing.hello_interval);
            peer.believed_until = by.due(peer.believed_until);
            if peer.believed_until <= crate::canonical::Canonical::PRESENT {
                peer.others = 0;
                peer.believed_until = Time::ZERO;
            }
            if let Some(question) = &mut peer.question {
                question.since = question.since.map(|since| by.past(since, timing.shell_silence()));
                question.letter = question.letter.and_then(|letter| by.numbers.send(letter));
                question.until = by.due(question.until);
            }
            peer.bid = None;
            peer.speed = None;
            peer.look_at = peer.look_at.map(|at| by.due(at));
            self.beliefs.extend(peer.look_at.map(|at| (at, device.clone())));
            peer.told = peer.told.map(|told| by.past(told, self.rules.heartbeat()));
            peer.beat = peer.beat.map(|at| by.due(at));
            self.beats.extend(peer.beat.map(|at| (at, device.clone())));
        }
    }
}

#[cfg(test)]
mod tests;
