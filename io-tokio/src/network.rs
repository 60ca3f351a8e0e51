//! Messages to peers and from them. Whether each takes a connection of its own, as today, or goes through a
//! lasting session is this module's secret: nothing above it may assume a connection.
//!
//! [`TcpNetwork`] is the one of today: one message a connection, since that is all that a shell device's netcat
//! can do. What strangers can make it hold is bounded by [`TcpLimits`]; what became of their connections is told by
//! [`Counts`]. How a message is taken and how one is offered stand in `take.rs` and `offer.rs`, with the reasons.

mod admission;
mod counts;
mod limits;
mod listen;
mod offer;
mod take;
mod tcp;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::{DecodeError, Decoded, Dialect, Message};

pub use counts::Counts;
pub use limits::TcpLimits;
pub use tcp::{BindError, TcpNetwork};

/// Carries messages. Clones share the same network.
pub trait Network: Clone + Send + Sync + 'static {
    /// Offers one message once, until `within` has passed at the latest. `Ok` means that the peer has read it.
    /// Never tries again by itself: that is a decision of core's.
    fn send(
        &self,
        outgoing: Outgoing,
        within: Duration,
    ) -> impl Future<Output = Result<(), SendFailure>> + Send;

    /// The next message that arrived. Messages wait in a bounded queue; while it is full nothing is read.
    fn receive(&self) -> impl Future<Output = Incoming> + Send;
}

/// A message to a peer.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Who it is for.
    pub device: DeviceId,
    /// Where.
    pub to: SocketAddr,
    /// What.
    pub message: Message,
    /// How it is written.
    pub dialect: Dialect,
}

/// A message that arrived, or what came instead of one.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Where it came from.
    pub source: SocketAddr,
    /// What the decoder made of it.
    pub message: Result<Decoded, DecodeError>,
}
