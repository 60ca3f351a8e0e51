//! Which start of a peer speaks: boot ids, new at each start, that may come late, cut off, or in the wrong order.

use super::{Peer, Peers};
use crate::id::{BootId, DeviceId};
use crate::time::Time;

/// Older boot ids that are remembered of a peer, so that delayed messages change nothing.
const OLD_BOOTS: usize = 4;

/// So many messages of an older start in a row, and none of the present one: it is the present one.
const OLD_BOOTS_IN_A_ROW: u32 = 5;

/// What a boot id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootSeen {
    Present,
    First,
    Restarted,
    /// Delayed; the third in a row means that two devices use one id.
    Old {
        equivocation: bool,
    },
}

impl Peer {
    fn is_old(&self, boot: &BootId) -> bool {
        let present = self.boot.as_ref().or(self.old_boots.back());
        let before = || self.old_boots.iter().any(|old| is_same_start(old, boot));
        !present.is_some_and(|present| is_same_start(present, boot)) && before()
    }

    fn see_boot(&mut self, boot: &BootId) -> BootSeen {
        if let Some(present) = self.boot.as_mut().filter(|present| is_same_start(present, boot)) {
            keep_longer(present, boot);
            self.old_boots_in_a_row = 0;
            return BootSeen::Present;
        }
        if self.boot.is_none()
            && let Some(mut last) = self.old_boots.pop_back_if(|last| is_same_start(last, boot))
        {
            // It spoke once without its marker (a HELLO that was cut off is a shell device's): it was there all along.
            keep_longer(&mut last, boot);
            self.boot = Some(last);
            return BootSeen::First;
        }
        if self.is_old(boot) {
            self.old_boot_messages = self.old_boot_messages.saturating_add(1);
            self.old_boots_in_a_row += 1;
            if self.old_boots_in_a_row < OLD_BOOTS_IN_A_ROW {
                return BootSeen::Old { equivocation: self.old_boot_messages == 3 };
            }
            // Only what was delayed taught this device the other one, in the wrong order.
            self.old_boots.retain(|old| !is_same_start(old, boot));
        }
        (self.old_boot_messages, self.old_boots_in_a_row) = (0, 0);
        let Some(old) = self.boot.replace(boot.clone()) else { return BootSeen::First };
        self.old_boots.push_back(old);
        if self.old_boots.len() > OLD_BOOTS {
            self.old_boots.pop_front();
        }
        // What it said about its load, and how often it spoke, was of a start that is over.
        self.believed_until = Time::ZERO;
        self.rhythm.forget();
        BootSeen::Restarted
    }
}

impl Peers {
    /// Whether a message with this boot id is of another start of a known device than the present one, as far as is known.
    pub(crate) fn is_of_other_boot(&self, device: &DeviceId, boot: &BootId) -> bool {
        let present = self.book.get(device).and_then(|peer| peer.boot.as_ref());
        present.is_some_and(|present| !is_same_start(present, boot))
    }

    /// Whether a message with this boot id is of an earlier start of a known device: it was delayed.
    pub(crate) fn is_of_old_boot(&self, device: &DeviceId, boot: Option<&BootId>) -> bool {
        self.book.get(device).zip(boot).is_some_and(|(peer, boot)| peer.is_old(boot))
    }

    /// `device` showed the marker with `boot`, or spoke without one where a bidmesh device never does (`None`).
    pub(crate) fn see_boot(
        &mut self,
        device: &DeviceId,
        boot: Option<&BootId>,
        now: Time,
    ) -> Option<BootSeen> {
        self.edit(device, now, |peer| match boot {
            Some(boot) => {
                let seen = peer.see_boot(boot);
                if !matches!(seen, BootSeen::Old { .. }) {
                    // Before its standing is looked at: what speaks is there.
                    peer.heard_now(now);
                }
                Some(seen)
            }
            None => {
                // It was wiped, or runs the shell listener again: from here on it is a shell device.
                if let Some(old) = peer.boot.take() {
                    peer.old_boots.push_back(old);
                    if peer.old_boots.len() > OLD_BOOTS {
                        peer.old_boots.pop_front();
                    }
                }
                None
            }
        })
        .flatten()
    }
}

/// HELLO has no end of its own, so a boot id may have been cut off: one that another begins with is the same start.
/// Else a device whose HELLO was cut once would be taken for a later start, and all that it says for delayed.
fn is_same_start(one: &BootId, other: &BootId) -> bool {
    one.as_str().starts_with(other.as_str()) || other.as_str().starts_with(one.as_str())
}

fn keep_longer(known: &mut BootId, seen: &BootId) {
    if known.as_str().len() < seen.as_str().len() {
        known.clone_from(seen);
    }
}
