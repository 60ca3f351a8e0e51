//! What happened to incoming connections, counted.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// Incoming connections since the start, by what became of them. Every accepted connection is counted once more
/// when its fate is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections that were made.
    pub accepted: u64,
    /// Messages that were handed over, those that could not be decoded and those that were too long included.
    pub received: u64,
    /// Of those: longer than the limit.
    pub too_long: u64,
    /// Connections that were closed without a byte: somebody looked whether the port is open.
    pub empty: u64,
    /// Reset: too many connections were open, in all or from that address.
    pub refused: u64,
    /// Reset: no first byte, or no whole message, in time.
    pub timed_out: u64,
    /// Cut off by the peer or the network before the message was whole.
    pub broken: u64,
    /// Reset: too many bytes of unfinished messages were held, in all or for that address.
    pub crowded_out: u64,
    /// Reset: the message was whole, and the queue stayed full until its time was over.
    pub not_taken: u64,
    /// Reset: this device closed its port.
    pub closing: u64,
    /// Times that the system would not hand out a connection (most often: too many open files).
    pub accept_errors: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes of messages that are held now, as [`super::TcpLimits::held_bytes`] counts them.
    pub held_bytes: u64,
}

/// [`Counts`] that many connections write to.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Counts>);

impl Counter {
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn read(&self) -> Counts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
