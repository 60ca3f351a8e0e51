//! What a message means, by its type; and what its sender's name, address and boot id say before that.

use core::net::SocketAddr;

use super::Running;
use crate::id::DeviceId;
use crate::outbox::{Action, Event, Ignored};
use crate::peers::{BootSeen, NotAdmitted};
use crate::wire::{Advertised, Body, DecodeError, Decoded, Dialect, Marker, Message};

impl Running<'_> {
    pub(super) fn received(&mut self, source: SocketAddr, message: Result<Decoded, DecodeError>) {
        let Ok(Decoded { message, repairs }) = message else {
            self.out.events.push(Event::Ignored { from: None, why: Ignored::Malformed });
            return;
        };
        let from = message.from.clone();
        if from == self.protocol.me.id {
            return self.ignore(&from, Ignored::Myself);
        }
        if repairs.any() {
            let kind = message.body.kind().into();
            self.out.events.push(Event::Repaired { from: from.clone(), kind });
        }
        match message.body {
            Body::Hello(address) => self.introduced(source, &from, address, message.marker.as_ref(), false),
            Body::Discover(address) => self.introduced(source, &from, address, message.marker.as_ref(), true),
            _ => self.told(source, message),
        }
    }

    fn ignore(&mut self, from: &DeviceId, why: Ignored) {
        self.out.events.push(Event::Ignored { from: Some(from.clone()), why });
    }

    /// HELLO and DISCOVER: the only messages whose sender's address is believed, since it must be the source's own.
    fn introduced(
        &mut self,
        source: SocketAddr,
        from: &DeviceId,
        advertised: Advertised,
        marker: Option<&Marker>,
        discover: bool,
    ) {
        if advertised.ip.is_some_and(|ip| ip != source.ip()) {
            return self.ignore(from, Ignored::ForeignAddress);
        }
        let address = SocketAddr::new(source.ip(), advertised.port);
        let (now, limit) = (self.protocol.now, self.protocol.config.limits.peers);
        let mut seen = None;
        if self.protocol.peers.is_of_old_boot(from, marker.map(|marker| &marker.boot)) {
            // Where it was then says nothing about where it is.
            let Ok(present) = self.see_boot(from, marker, true) else { return };
            seen = present;
        }
        // Before anything else: whoever speaks is not to be judged by its silence until now.
        self.heard(from, discover);
        let moved = match self.protocol.peers.introduce(from, address, now, limit) {
            Ok(moved) => moved,
            Err(NotAdmitted::Removed) => return self.ignore(from, Ignored::Removed),
            Err(NotAdmitted::Full) => return self.ignore(from, Ignored::BookFull),
        };
        if moved {
            self.heard(from, discover);
        }
        let Ok(boot) = self.see_boot(from, marker, true) else { return };
        let boot = seen.or(boot);
        if moved {
            self.count_awards(from);
            let peers = self.protocol.peers.lines();
            self.out.actions.push(Action::WritePeers { peers });
        }
        let restarted = boot == Some(BootSeen::Restarted);
        let changed = moved || restarted || boot == Some(BootSeen::First);
        if changed {
            self.out.events.push(Event::PeerChanged { peer: from.clone(), address, restarted });
        }
        let interval = self.protocol.config.timing.hello_interval;
        let due = changed && self.protocol.peers.answer_hello(from, now, interval);
        if due || discover {
            self.greet(from);
        }
        if moved && !restarted {
            self.orchestrate(|this, ctx| this.ask_anew(ctx, from));
        }
        // Whoever waited for this device may be told now.
        self.protocol.bidder.heard(from, now);
    }

    /// A known device introduced itself. HELLO is its heartbeat; DISCOVER is said when a person wants it.
    fn heard(&mut self, from: &DeviceId, discover: bool) {
        let (peers, now) = (&mut self.protocol.peers, self.protocol.now);
        if discover { peers.heard(from, now) } else { peers.heartbeat(from, now) }
    }

    /// What the boot id says of a known device. `Err`: the message is of an earlier start and changes nothing.
    fn see_boot(
        &mut self,
        from: &DeviceId,
        marker: Option<&Marker>,
        always_marked: bool,
    ) -> Result<Option<BootSeen>, ()> {
        if marker.is_none() && !always_marked {
            return Ok(None);
        }
        let now = self.protocol.now;
        let boot = self.protocol.peers.see_boot(from, marker.map(|marker| &marker.boot), now);
        match boot {
            Some(BootSeen::Old { equivocation }) => {
                if equivocation {
                    self.out.events.push(Event::Equivocation { peer: from.clone() });
                }
                self.ignore(from, Ignored::OldBoot);
                Err(())
            }
            Some(BootSeen::Restarted) => {
                self.orchestrate(|this, ctx| this.restarted(ctx, from));
                Ok(boot)
            }
            Some(BootSeen::First) => {
                self.orchestrate(|this, ctx| this.turned_out_bidmesh(ctx, from));
                Ok(boot)
            }
            Some(BootSeen::Present) | None => Ok(boot),
        }
    }

    /// Everything but HELLO and DISCOVER.
    fn told(&mut self, source: SocketAddr, message: Message) {
        let Message { from, marker, body } = message;
        if self.protocol.peers.is_removed(&from) && is_work(&body) {
            return self.ignore(&from, Ignored::Removed);
        }
        let known = self.protocol.peers.get(&from).map(|peer| peer.address);
        match known {
            Some(address) => {
                self.protocol.peers.heard(&from, self.protocol.now);
                if address.ip() != source.ip() {
                    // Taken as its word, but not as news of a restart: that would shut out its true messages.
                    self.out.events.push(Event::WrongSource { from: from.clone(), source });
                    if body == Body::Bye {
                        // Whoever is elsewhere cannot take leave for it.
                        return;
                    }
                } else if body == Body::Bye
                    && marker.as_ref().is_some_and(|m| self.protocol.peers.is_of_other_boot(&from, &m.boot))
                {
                    // Nobody's first word is that it leaves: it was delayed, and the present start has not left.
                    return self.ignore(&from, Ignored::OldBoot);
                } else {
                    // A bidmesh device marks every bid; a RESULT or ACK of an earlier start is worth as much as ever.
                    let always_marked = matches!(body, Body::BidResponse(_));
                    let timeless = matches!(body, Body::Result(_) | Body::Ack(_));
                    if self.see_boot(&from, marker.as_ref(), always_marked).is_err() && !timeless {
                        return;
                    }
                }
            }
            // It could not be answered: there is no address for it.
            None if is_work(&body) => return self.ignore(&from, Ignored::Stranger),
            None => {}
        }
        let shell = marker.is_none();
        self.meant(&from, body, shell);
    }

    pub(super) fn message_from_myself(&mut self, message: Message) {
        let from = message.from.clone();
        self.meant(&from, message.body, false);
    }

    /// `shell`: the sender did not show the marker with this message.
    fn meant(&mut self, from: &DeviceId, body: Body, shell: bool) {
        match body {
            Body::BidRequest(request) => self.work(|this, ctx| this.bid_request(ctx, from, &request, shell)),
            Body::Task(order) => self.work(|this, ctx| this.task(ctx, from, &order, shell)),
            Body::SlmPrompt(prompt) => self.slm_prompt(from, &prompt),
            Body::Cancel(award) => self.work(|this, ctx| this.cancel(ctx, from, &award)),
            Body::Query(query) => self.work(|this, ctx| this.query(ctx, from, &query.award, query.have)),
            Body::Ack(award) => self.work(|this, ctx| this.acknowledged(ctx, from, &award)),
            Body::BidResponse(bid) => {
                let dialect = if shell {
                    self.protocol.peers.dialect(from, &self.protocol.config)
                } else {
                    Dialect::Bidmesh
                };
                self.orchestrate(|this, ctx| this.bid(ctx, from, bid, dialect));
            }
            Body::Refuse(refuse) => self.orchestrate(|this, ctx| this.refused(ctx, from, refuse)),
            Body::Accept(accept) => self.orchestrate(|this, ctx| this.accept(ctx, from, &accept)),
            Body::Reject(reject) => self.orchestrate(|this, ctx| this.reject(ctx, from, reject)),
            Body::Progress(progress) => self.orchestrate(|this, ctx| this.progress(ctx, from, &progress)),
            Body::Result(result) => self.orchestrate(|this, ctx| this.result(ctx, from, &result, !shell)),
            Body::Bye => {
                self.protocol.peers.left(from, self.protocol.now);
                self.out.events.push(Event::PeerLeft { peer: from.clone() });
            }
            Body::Text(text) => self.out.events.push(Event::TextReceived { from: from.clone(), text }),
            Body::SlmResult(output) => {
                self.out.events.push(Event::SlmResultReceived { from: from.clone(), output })
            }
            Body::Unknown { .. } => self.ignore(from, Ignored::UnknownType),
            // Known by their own way in; this device says neither to itself.
            Body::Hello(_) | Body::Discover(_) => {}
        }
    }

    /// SLM_PROMPT is run here if this device can, else it is auctioned: a shell user has the mesh behind one address.
    fn slm_prompt(&mut self, from: &DeviceId, prompt: &crate::wire::Text) {
        let admit = self.protocol.config.admit;
        if *from != self.protocol.me.id && !self.protocol.peers.admits(from, admit) {
            return self.ignore(from, Ignored::Stranger);
        }
        if self.work(|this, ctx| this.slm_prompt(ctx, from, prompt)) {
            return;
        }
        let taken = self.orchestrate(|this, ctx| this.submit_for_peer(ctx, from, prompt.clone()));
        if !taken {
            let sorry = "SLM not available: this device cannot run the prompt and its queue is full".into();
            self.share(|ctx| ctx.notify(from, Body::SlmResult(sorry)));
        }
    }
}

/// Whether a message asks this device to work, and so must come from a device that is known here.
fn is_work(body: &Body) -> bool {
    matches!(
        body,
        Body::BidRequest(_)
            | Body::Task(_)
            | Body::SlmPrompt(_)
            | Body::Cancel(_)
            | Body::Query(_)
            | Body::Ack(_)
    )
}
