//! The orderly end: new work is refused, what runs may finish or is handed back, results are taken, the others are told.

use alloc::vec::Vec;

use super::Running;
use crate::id::DeviceId;
use crate::mail::{Draft, Purpose};
use crate::outbox::Action;
use crate::time::Time;
use crate::wire::Body;

/// The device ends in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaving {
    /// Work may finish until then, and what is handed back may be taken until a little later.
    Working {
        by: Time,
        extended: bool,
    },
    /// BYE is on its way; ends then at the latest.
    Parting {
        by: Time,
    },
    Halted,
}

impl Running<'_> {
    pub(super) fn shutdown(&mut self, within: core::time::Duration) {
        let by = self.protocol.now + within;
        match &mut self.protocol.leaving {
            None => self.protocol.leaving = Some(Leaving::Working { by, extended: false }),
            Some(Leaving::Working { by: earlier, .. } | Leaving::Parting { by: earlier }) => {
                *earlier = by.min(*earlier)
            }
            Some(Leaving::Halted) => return,
        }
        self.protocol.bidder.leave(by);
        self.orchestrate(|this, ctx| this.leave(ctx));
    }

    /// Ends in order: first what runs, then what is owed to others, then BYE.
    pub(super) fn part(&mut self) {
        let now = self.protocol.now;
        match self.protocol.leaving {
            Some(Leaving::Working { by, extended }) => {
                let owes = self.protocol.bidder.is_working() || self.protocol.bidder.kept() > 0;
                let working = owes || self.protocol.orchestrator.is_closing();
                // What was handed back gets a little more time to be taken.
                let grace = self.protocol.config.timing.award_send;
                if working && now < by {
                    return;
                }
                if self.protocol.bidder.is_working() && !extended {
                    self.protocol.leaving = Some(Leaving::Working { by: now + grace, extended: true });
                    return;
                }
                self.say_bye();
                self.protocol.leaving = Some(Leaving::Parting { by: now + grace });
                self.part();
            }
            Some(Leaving::Parting { by }) => {
                let owed = self.protocol.mail.has(|_, purpose| {
                    matches!(purpose, Purpose::Bye | Purpose::Result { .. } | Purpose::Notice)
                });
                if !owed || by <= now {
                    self.protocol.leaving = Some(Leaving::Halted);
                    self.out.actions.push(Action::Halt);
                }
            }
            Some(Leaving::Halted) | None => {}
        }
    }

    fn say_bye(&mut self) {
        let bidmesh = self.protocol.peers.iter().filter(|(_, peer)| peer.is_bidmesh() && !peer.suspect());
        let devices: Vec<DeviceId> = bidmesh.map(|(device, _)| device.clone()).collect();
        let give_up_at = self.protocol.now + self.protocol.config.timing.award_send;
        for to in devices {
            self.post(Draft { to, address: None, body: Body::Bye, purpose: Purpose::Bye, give_up_at });
        }
    }
}
