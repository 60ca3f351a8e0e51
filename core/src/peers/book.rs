//! Who is in the address book, and where: by its own HELLO, or since a person wrote it down. What a person removed stays
//! out until a person adds it again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::{Peer, Peers};
use crate::config::{Admit, Config};
use crate::id::DeviceId;
use crate::time::Time;

/// Why a device does not come into the address book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    Removed,
    Full,
}

/// What a person changed in peers.txt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edited {
    /// Devices that are new or have moved.
    pub(crate) changed: Vec<DeviceId>,
    /// Devices that are not there any more.
    pub(crate) gone: Vec<DeviceId>,
}

impl Peers {
    pub(crate) fn removed_len(&self) -> usize {
        self.removed.len()
    }

    /// Whether `device` may have work done here.
    pub(crate) fn admits(&self, device: &DeviceId, admit: Admit) -> bool {
        match admit {
            Admit::Any => !self.removed.contains(device),
            Admit::Hello => self.book.contains_key(device),
            Admit::Listed => self.book.get(device).is_some_and(|peer| peer.listed),
        }
    }

    pub(crate) fn is_removed(&self, device: &DeviceId) -> bool {
        self.removed.contains(device)
    }

    /// `device` introduced itself from `address`. `Ok(true)`: it is new or has moved, so peers.txt is to be written.
    pub(crate) fn introduce(
        &mut self,
        device: &DeviceId,
        address: SocketAddr,
        now: Time,
        limit: usize,
    ) -> Result<bool, NotAdmitted> {
        if self.removed.contains(device) {
            return Err(NotAdmitted::Removed);
        }
        if !self.book.contains_key(device) {
            if self.book.len() >= limit {
                return Err(NotAdmitted::Full);
            }
            self.add(device, address, false, now);
            return Ok(true);
        }
        let moved = self.edit(device, now, |peer| {
            let moved = peer.address != address;
            if moved {
                peer.address = address;
                peer.greeted = false;
            }
            moved
        });
        Ok(moved == Some(true))
    }

    /// Whether HELLO to `device` is due as an answer; remembers that it is given.
    pub(crate) fn answer_hello(&mut self, device: &DeviceId, now: Time, interval: Duration) -> bool {
        self.edit(device, now, |peer| {
            let due = peer.hello_answered.is_none_or(|last| now.since(last) >= interval);
            if due {
                peer.hello_answered = Some(now);
            }
            due
        })
        .unwrap_or(false)
    }

    pub(super) fn add(&mut self, device: &DeviceId, address: SocketAddr, listed: bool, now: Time) {
        self.book.insert(device.clone(), Peer::new(address, listed));
        self.order.push(device.clone());
        self.count(device, now);
    }

    /// Takes over what a person wrote into peers.txt.
    pub(crate) fn edited(
        &mut self,
        lines: &[(DeviceId, SocketAddr)],
        me: &DeviceId,
        config: &Config,
        now: Time,
    ) -> Edited {
        let mut first: BTreeMap<&DeviceId, SocketAddr> = BTreeMap::new();
        let mut order = Vec::new();
        for (device, address) in lines {
            // The first line of an id counts, as on shell devices; a line about this device says nothing.
            if device != me && !first.contains_key(device) && first.len() < config.limits.peers {
                first.insert(device, *address);
                order.push(device.clone());
            }
        }
        let gone: Vec<DeviceId> = self.book.keys().filter(|id| !first.contains_key(id)).cloned().collect();
        for device in &gone {
            self.drop_peer(device);
            self.removed.push_back(device.clone());
            while self.removed.len() > config.limits.removed_peers {
                self.removed.pop_front();
            }
        }
        let mut changed = Vec::new();
        for device in &order {
            let Some(address) = first.get(device).copied() else { continue };
            self.removed.retain(|id| id != device);
            let same = self.edit(device, now, |peer| {
                peer.listed = true;
                let same = peer.address == address;
                if !same {
                    peer.address = address;
                    peer.greeted = false;
                }
                same
            });
            match same {
                Some(true) => {}
                Some(false) => changed.push(device.clone()),
                None => {
                    self.add(device, address, true, now);
                    changed.push(device.clone());
                }
            }
        }
        self.order = order;
        Edited { changed, gone }
    }

    /// The content of peers.txt.
    pub(crate) fn lines(&self) -> Vec<(DeviceId, SocketAddr)> {
        self.order.iter().filter_map(|id| self.book.get(id).map(|peer| (id.clone(), peer.address))).collect()
    }
}
