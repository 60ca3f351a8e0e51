//! Slots: how many each device is believed to have free. What a device said with its bid or refusal is believed for a
//! while, and our own awards are counted.

use core::time::Duration;

use super::{Peer, Peers};
use crate::config::Timing;
use crate::id::DeviceId;
use crate::time::Time;
use crate::wire::Capacity;

/// This device as its own orchestrator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Local {
    /// It would take a task if a slot were free.
    pub(crate) usable: bool,
    pub(crate) slots: u16,
    /// Slots that other orchestrators' tasks take.
    pub(crate) others: u16,
    /// Awards of ours that it holds.
    pub(crate) awards: u16,
}

impl Peer {
    pub(super) fn believed_others(&self, now: Time) -> u16 {
        if now < self.believed_until { self.others } else { 0 }
    }

    pub(super) fn free(&self, now: Time) -> u16 {
        if self.suspect() { 0 } else { self.free_if_there(now) }
    }

    /// What it said last, if it is a bidmesh device; it may turn out again that it is one. That it has none is believed
    /// for a while, as its load is.
    pub(super) fn slots(&self, now: Time) -> u16 {
        if !self.is_bidmesh() || (self.slots == 0 && now >= self.believed_until) { 1 } else { self.slots }
    }

    pub(super) fn free_if_there(&self, now: Time) -> u16 {
        self.slots(now).saturating_sub(self.believed_others(now)).saturating_sub(self.awards)
    }

    /// All its slots are taken: by our own awards, or as far as is believed of a device that answers.
    pub(super) fn full(&self, now: Time) -> bool {
        let slots = self.slots(now);
        slots > 0 && (self.awards >= slots || (!self.suspect() && self.free(now) == 0))
    }
}

impl Local {
    pub(crate) fn free(&self) -> u16 {
        if self.usable { self.slots.saturating_sub(self.others).saturating_sub(self.awards) } else { 0 }
    }

    pub(super) fn full(&self) -> bool {
        self.usable && self.free() == 0
    }
}

impl Peers {
    /// Whether it has more slots free than before.
    pub(crate) fn set_local(&mut self, usable: bool, slots: u16, others: u16) -> bool {
        let before = self.local.free();
        self.local = Local { usable, slots, others, awards: self.local.awards };
        self.local.free() > before
    }

    pub(crate) fn local(&self) -> Local {
        self.local
    }

    /// One award more or less is held by `device`, which may be this one.
    pub(crate) fn award(&mut self, device: &DeviceId, is_me: bool, now: Time, more: bool) {
        let step = |awards: u16| if more { awards.saturating_add(1) } else { awards.saturating_sub(1) };
        if is_me {
            self.local.awards = step(self.local.awards);
        } else {
            self.edit(device, now, |peer| peer.awards = step(peer.awards));
        }
    }

    pub(crate) fn free(&self, device: &DeviceId, is_me: bool, now: Time) -> u16 {
        if is_me { self.local.free() } else { self.book.get(device).map_or(0, |peer| peer.free(now)) }
    }

    /// The same without a doubt that it is there: it has just bid, and a TASK will show.
    pub(crate) fn free_if_there(&self, device: &DeviceId, is_me: bool, now: Time) -> u16 {
        if is_me {
            self.local.free()
        } else {
            self.book.get(device).map_or(0, |peer| peer.free_if_there(now))
        }
    }

    /// Whether `device` is known to have all its slots taken, by us or by others.
    pub(crate) fn known_full(&self, device: &DeviceId, is_me: bool, now: Time) -> bool {
        if is_me { self.local.full() } else { self.book.get(device).is_some_and(|peer| peer.full(now)) }
    }

    /// Slots believed free in all.
    pub(crate) fn free_total(&self) -> u64 {
        self.free + u64::from(self.local.free())
    }

    /// Whether anybody is known to be full.
    pub(crate) fn anybody_full(&self) -> bool {
        self.full > 0 || self.local.full()
    }

    /// What `device` said about its load, with a bid or a refusal. `retry_after` makes it full for that long.
    pub(crate) fn believe(
        &mut self,
        device: &DeviceId,
        now: Time,
        capacity: Option<Capacity>,
        retry_after: Option<Duration>,
        timing: &Timing,
    ) {
        self.edit(device, now, |peer| {
            if let Some(capacity) = capacity {
                peer.slots = capacity.slots;
                peer.others = capacity.running.saturating_sub(capacity.yours);
                peer.believed_until = now + timing.belief;
            }
            if let Some(pause) = retry_after {
                peer.others = peer.slots.max(1);
                peer.believed_until = now + pause.min(timing.belief);
            }
        });
    }
}
