//! What the machines of one device share while one input is handled: the moment, the settings, who this device
//! is, and the places where effects go. Made anew by [`crate::Device::handle`] for each input.

use crate::chronicle::Chronicle;
use crate::config::Config;
use crate::draw::Seed;
use crate::id::{BootId, DeviceId};
use crate::mail::Mail;
use crate::outbox::{Action, Event, Ignored, Outbox, Record, Report, Sequence};
use crate::peers::Peers;
use crate::time::Time;
use crate::wire::Dialect;

/// Who a device is and, where it matters, which start of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Me {
    pub(crate) id: DeviceId,
    pub(crate) boot: BootId,
    pub(crate) seed: Seed,
    pub(crate) address: Option<core::net::SocketAddr>,
    /// The number of the record that was handed to the store last.
    pub(crate) sequence: u64,
}

pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) config: &'a Config,
    pub(crate) me: &'a mut Me,
    pub(crate) peers: &'a mut Peers,
    pub(crate) mail: &'a mut Mail,
    pub(crate) chronicle: &'a mut Chronicle,
    pub(crate) out: &'a mut Outbox,
}

impl Context<'_> {
    pub(crate) fn act(&mut self, action: Action) {
        self.out.actions.push(action);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.out.events.push(event);
    }

    pub(crate) fn report(&mut self, report: Report) {
        self.act(Action::Report(report));
    }

    pub(crate) fn ignore(&mut self, from: &DeviceId, why: Ignored) {
        self.tell(Event::Ignored { from: Some(from.clone()), why });
    }

    /// Hands a record to the store; what depends on it waits for the sequence that comes back.
    pub(crate) fn persist(&mut self, record: Record, barrier: bool) -> Sequence {
        self.me.sequence += 1;
        let sequence = Sequence(self.me.sequence);
        self.act(Action::Persist { sequence, record, barrier });
        sequence
    }

    pub(crate) fn is_me(&self, device: &DeviceId) -> bool {
        *device == self.me.id
    }
}

impl Context<'_> {
    /// Puts a letter on its way.
    pub(crate) fn post(&mut self, draft: crate::mail::Draft) -> Option<crate::outbox::SendId> {
        let (mail, mut post) = self.mail();
        mail.post(&mut post, draft)
    }

    /// Nobody cares about this letter any more.
    pub(crate) fn abandon(&mut self, id: crate::outbox::SendId) {
        let (mail, mut post) = self.mail();
        mail.abandon(&mut post, id);
    }

    /// The mail, and what it needs of everything else.
    pub(crate) fn mail(&mut self) -> (&mut Mail, crate::mail::Post<'_>) {
        let Self { now, config, me, peers, mail, out, .. } = self;
        (mail, crate::mail::Post { now: *now, config, me, peers, out })
    }

    /// A note to a peer that nobody waits for, as the address book says that it speaks.
    pub(crate) fn notify(&mut self, to: &DeviceId, body: crate::wire::Body) {
        let draft = crate::mail::notice(to, body, self.now, self.config);
        self.post(draft);
    }

    /// How a message of `from` is answered: with the marker if it showed it (`shell`: it did not), whatever the address book
    /// takes it for. It may ask from where the address book does not know it, so that its marker is not believed there.
    pub(crate) fn answers_in(&self, from: &DeviceId, shell: bool) -> Dialect {
        if shell { self.peers.dialect(from, self.config) } else { Dialect::Bidmesh }
    }

    /// The same to a peer that showed the marker with the message that this answers; shell devices do not know such notes.
    pub(crate) fn notify_bidmesh(&mut self, to: &DeviceId, body: crate::wire::Body) {
        self.notify_in(Dialect::Bidmesh, to, body);
    }

    /// As [`Context::notify`], in this dialect.
    pub(crate) fn notify_in(&mut self, dialect: Dialect, to: &DeviceId, body: crate::wire::Body) {
        let address = self.peers.get(to).map(|peer| (peer.address, dialect));
        let draft = crate::mail::notice(to, body, self.now, self.config);
        self.post(crate::mail::Draft { address, ..draft });
    }
}
