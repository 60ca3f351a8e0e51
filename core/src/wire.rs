//! The wire format: `TYPE|FROM|PAYLOAD`, one message at a time.
//!
//! [`decode`] turns bytes as they came from a connection into a [`Message`], [`encode`] turns one into the bytes
//! that a given peer understands, [`Framer`] tells when a message on a stream is whole. Nothing here decides
//! anything; nothing here panics on bytes from outside. The format is described in `docs/protocol.md`.

mod address;
mod decode;
mod encode;
mod error;
mod escape;
mod fields;
mod framer;
mod head;
mod message;
mod repair;

pub use decode::decode;
pub use encode::encode;
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use framer::{Framer, Framing};
pub use message::{
    Accept, Advertised, Bid, BidRequest, Body, Capacity, Decoded, Dialect, Marker, Message, Progress, Query,
    Reason, Refuse, Reject, Repairs, Speed, Status, TASK_TYPE_INFERENCE, TaskOrder, TaskResult, Text,
};

/// What is taken from one connection, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WireLimits {
    /// The longest message, in bytes, its line end included.
    pub message_bytes: usize,
}

impl Default for WireLimits {
    /// 8 MiB: a hundred times what a shell device can carry, and what a phone can hold a few of.
    fn default() -> Self {
        Self { message_bytes: 8 * 1024 * 1024 }
    }
}
