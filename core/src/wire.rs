//! The wire format: `TYPE|FROM|PAYLOAD`, one message at a time.
//!
//! [`decode`] turns bytes as they came from a connection into a [`Message`], [`encode`] turns one into the bytes
//! that a given peer understands, [`Framer`] tells when a message on a stream is whole. Nothing here decides
//! anything; nothing here panics on bytes from outside. The format is described in `docs/protocol.md`.

mod message;

pub use message::{
    Accept, Advertised, Bid, BidRequest, Body, Capacity, Decoded, Dialect, Marker, Message, Progress, Query,
    Reason, Refuse, Reject, Repairs, Status, TASK_TYPE_INFERENCE, TaskOrder, TaskResult, Text,
};
