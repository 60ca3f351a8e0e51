//! Signs of life to bidmesh peers that have been told nothing for a while. HELLO is the heartbeat: it needs no answer.
//! A shell device gets one only while messages to it fail: it says nothing by itself, and what is doubted is given no work.
//!
//! Anything that a peer was told is as good, so a peer is looked at once a period and told only if nothing was, or if it
//! is silent itself.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::standing::Standing;
use super::{Peer, Peers, Rules};
use crate::id::DeviceId;
use crate::time::Time;

/// A peer that is gone, or a shell device for as many periods, and cannot be reached is tried so many times more seldom: it says HELLO itself when it starts
/// again. One that can be reached and says nothing may have been told something wrong about this device.
const SELDOM: u32 = 8;
/// After sleep the heartbeats that are due leave within this time.
const SPREAD: Duration = Duration::from_secs(10);

/// When which peer is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Beats {
    due: BTreeSet<(Time, DeviceId)>,
}

impl Beats {
    /// Sees to it that a peer gets heartbeats if it should, and none if it should not.
    pub(super) fn arm(&mut self, device: &DeviceId, peer: &mut Peer, now: Time, rules: &Rules) {
        let wanted = (peer.is_bidmesh() || peer.failing.is_some()) && !rules.heartbeat().is_zero();
        match (wanted, peer.beat) {
            (true, None) => self.set(device, peer, Some(now + period(device, peer, now, rules))),
            // It is back, and was to be tried more seldom.
            (true, Some(at)) if at.since(now) > rules.heartbeat() && !is_tried_seldom(peer, now, rules) => {
                self.set(device, peer, Some(now + period(device, peer, now, rules)));
            }
            (false, Some(_)) => {
                self.set(device, peer, None);
                peer.told = None;
            }
            _ => {}
        }
    }

    fn set(&mut self, device: &DeviceId, peer: &mut Peer, at: Option<Time>) {
        self.forget(device, peer);
        peer.beat = at;
        self.due.extend(at.map(|at| (at, device.clone())));
    }

    pub(super) fn forget(&mut self, device: &DeviceId, peer: &Peer) {
        if let Some(at) = peer.beat {
            self.due.remove(&(at, device.clone()));
        }
    }

    /// After sleep all would be due at once.
    pub(super) fn spread(&mut self, device: &DeviceId, peer: &mut Peer, now: Time, rules: &Rules) {
        if peer.beat.is_some_and(|at| at <= now) {
            let latest = SPREAD.min(rules.heartbeat());
            let after =
                rules.seed.between(LEAST, latest.max(LEAST), "after sleep", &[device.as_str().as_bytes()]);
            self.set(device, peer, Some(now + after));
        }
    }

    pub(super) fn deadline(&self) -> Option<(Time, &'static str)> {
        self.due.first().map(|(at, _)| (*at, "a peer may be due a sign of life"))
    }

    pub(super) fn extend(&mut self, due: Option<(Time, DeviceId)>) {
        self.due.extend(due);
    }

    pub(super) fn check(&self, book: &BTreeMap<DeviceId, Peer>) {
        let armed = book.iter().filter_map(|(device, peer)| Some((peer.beat?, device.clone())));
        assert!(self.due.iter().cloned().eq(armed.collect::<BTreeSet<_>>()), "each heartbeat has its time");
    }
}

/// No heartbeat follows another in the same moment, whatever the settings say.
const LEAST: Duration = Duration::from_millis(1);

/// How long until a peer is looked at again: between three quarters of the period and all of it, another for each peer
/// and start, so that devices that started together do not beat together.
fn period(device: &DeviceId, peer: &Peer, now: Time, rules: &Rules) -> Duration {
    let whole = rules.heartbeat();
    let whole = if is_tried_seldom(peer, now, rules) { whole * SELDOM } else { whole };
    rules.seed.between(whole * 3 / 4, whole, "heartbeat", &[device.as_str().as_bytes()]).max(LEAST)
}

/// After how long a shell device that cannot be reached is tried more seldom.
pub(super) fn seldom(rules: &Rules) -> Duration {
    rules.heartbeat() * SELDOM
}

fn is_tried_seldom(peer: &Peer, now: Time, rules: &Rules) -> bool {
    let Some(since) = peer.failing else { return peer.left };
    // Nobody's silence means anything with a shell device.
    let gone =
        if peer.is_bidmesh() { peer.standing == Standing::Gone } else { now.since(since) >= seldom(rules) };
    peer.left || gone
}

impl Peers {
    /// Peers that are due a sign of life now.
    pub(crate) fn due_heartbeats(&mut self, now: Time) -> Vec<DeviceId> {
        let mut due = Vec::new();
        while let Some((at, device)) = self.beats.due.first().cloned() {
            if at > now {
                break;
            }
            self.beats.due.pop_first();
            let Some(peer) = self.book.get_mut(&device) else { continue };
            peer.beat = None;
            let wait = period(&device, peer, now, &self.rules);
            // Whatever it was told meanwhile was a sign of life, too. But who says nothing may have been told something
            // wrong about this device, and only HELLO says where this one is.
            let told = peer.told.filter(|_| !peer.suspect());
            let next = told.map(|told| told + wait).filter(|next| *next > now);
            if next.is_none() {
                due.push(device.clone());
            }
            self.beats.set(&device, peer, Some(next.unwrap_or(now + wait)));
        }
        due
    }
}
