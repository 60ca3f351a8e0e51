//! A device that says what a test wants it to say: the ways of being wrong that no real driver shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::draw::Seed;
use bidmesh_core::id::{BootId, DeviceId};
use bidmesh_core::wire::{Advertised, Body, Dialect, Marker, Message};
use bidmesh_io_tokio::network::{Incoming, Network, Outgoing};

/// One reply, and how long it takes.
#[derive(Clone, Debug)]
pub struct Reply {
    /// After this time.
    pub after: Duration,
    /// What.
    pub body: Body,
}

impl Reply {
    /// At once.
    pub const fn now(body: Body) -> Self {
        Self { after: Duration::ZERO, body }
    }
}

type Manner = dyn Fn(&Message) -> Vec<Reply> + Send + Sync;

/// A device without a driver. It answers HELLO as a bidmesh device does; everything else as it is told.
#[derive(Clone)]
pub struct Puppet {
    pub(crate) device: DeviceId,
    pub(crate) replies: Arc<Manner>,
}

impl Puppet {
    /// One of that name, which replies so to the sender of each message.
    pub fn new(device: DeviceId, replies: impl Fn(&Message) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        Self { device, replies: Arc::new(replies) }
    }

    /// Plays it for ever.
    pub(crate) async fn play<N: Network>(
        self,
        network: N,
        address: SocketAddr,
        peers: Vec<(DeviceId, SocketAddr)>,
        seed: u64,
    ) {
        let marker = Marker { version: Marker::VERSION, boot: BootId::draw(Seed::from(seed)) };
        loop {
            let Incoming { message: Ok(decoded), .. } = network.receive().await else { continue };
            let message = decoded.message;
            let Some((device, to)) = peers.iter().find(|(device, _)| *device == message.from).cloned() else {
                continue;
            };
            let mut replies = (self.replies)(&message);
            if matches!(message.body, Body::Hello(_) | Body::Discover(_)) {
                replies.push(Reply::now(Body::Hello(Advertised::from(address))));
            }
            for Reply { after, body } in replies {
                let message = Message { from: self.device.clone(), marker: Some(marker.clone()), body };
                let outgoing = Outgoing { device: device.clone(), to, message, dialect: Dialect::Bidmesh };
                let network = network.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    // Whether it arrives is part of the scene; it is in the record.
                    let _ = network.send(outgoing, Duration::from_secs(5)).await;
                });
            }
        }
    }
}
