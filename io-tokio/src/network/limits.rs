//! What a device grants to whoever connects to it.

use std::time::Duration;

use bidmesh_core::wire::WireLimits;

/// Limits of the TCP network. All memory and time that a stranger can take is a sum of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// The longest message, in and out.
    pub wire: WireLimits,
    /// Incoming connections at one time; a further one is reset at once.
    pub connections: usize,
    /// Incoming connections at one time from one address; a further one is reset at once.
    pub connections_per_address: usize,
    /// How long a connection may stay without a first byte.
    pub first_byte: Duration,
    /// How long a message may take from the connection's beginning until it is whole and taken over.
    pub whole_message: Duration,
    /// How long the peer is given to close its side after its message is whole. 250 ms is enough for every netcat
    /// to see our half-close and exit.
    pub closing: Duration,
    /// Bytes of messages that are not whole yet or were not received yet, in all; the connection that would exceed
    /// it is reset. The first 16 KiB of each message do not count, so that ordinary messages pass whatever others
    /// hold. The memory behind a message can be three times as large while it is read and decoded.
    pub held_bytes: usize,
    /// The same for one address.
    pub held_bytes_per_address: usize,
    /// Whole messages that wait for [`super::Network::receive`].
    pub queue: usize,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            wire: WireLimits::default(),
            connections: 256,
            connections_per_address: 32,
            first_byte: Duration::from_secs(5),
            whole_message: Duration::from_secs(30),
            closing: Duration::from_millis(250),
            held_bytes: 32 << 20,
            held_bytes_per_address: 16 << 20,
            queue: 64,
        }
    }
}
