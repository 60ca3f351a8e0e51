//! Core's own time: how long this device has been running, sleep included.
//!
//! A value can be made by a test or a fuzzer as well as by a driver; nothing in core can read a clock.

use core::fmt;
use core::ops::{Add, AddAssign};
use core::time::Duration;

use serde::Serialize;

/// A moment, as the time since the device started. Starts at [`Time::ZERO`], counts while the device sleeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// The moment at which the device started.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment `since_start` after the device started.
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long the device had been running at this moment.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment so long before this one; the start of the device when that is earlier.
    pub(crate) fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }

    /// Milliseconds since the device started; saturates after 584 million years.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// A later moment. Saturates instead of overflowing: durations come from settings that people write.
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Time {
    /// Seconds with three decimals, as in transcripts: `12.345s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

impl Serialize for Time {
    /// Milliseconds since the device started.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn adding_saturates() {
        assert_eq!((Time::from_start(Duration::MAX) + Duration::from_secs(1)).since_start(), Duration::MAX);
    }

    #[test]
    fn a_moment_moves_by_what_is_added() {
        let mut moment = Time::from_start(Duration::from_secs(2));
        moment += Duration::from_secs(3);
        assert_eq!(moment.since_start(), Duration::from_secs(5));
        assert_eq!(moment.before(Duration::from_secs(1)).since_start(), Duration::from_secs(4));
        assert_eq!(moment.before(Duration::from_secs(9)), Time::ZERO);
    }

    #[test]
    fn displays_milliseconds() {
        assert_eq!(Time::from_start(Duration::from_micros(12_345_678)).to_string(), "12.345s");
    }
}
