//! What a device gets back from its store when it starts: read once, by [`crate::Device::new`].
//!
//! Time begins at zero at each start, so restored records carry ages (from the wall clock at load, never below
//! zero) instead of moments.

use alloc::vec::Vec;
use core::time::Duration;

use crate::outbox::Record;

/// The records of earlier starts that still matter, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restored {
    /// Each with its age when it was read.
    pub records: Vec<(Record, Duration)>,
}
