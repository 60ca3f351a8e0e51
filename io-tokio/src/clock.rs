//! Time as core wants it: since the device started, sleep included.

use std::future::Future;

use bidmesh_core::Time;

/// A clock.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time since this clock was made.
    fn now(&self) -> Time;

    /// Returns at `until` or soon after; a device that slept returns late.
    fn sleep_until(&self, until: Time) -> impl Future<Output = ()> + Send;
}
