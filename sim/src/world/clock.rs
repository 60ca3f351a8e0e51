//! A device's own clock: it began when the device started, may run fast or slow, and may jump.

use std::time::Duration;

use bidmesh_core::Time;

const MILLION: u128 = 1_000_000;

/// A clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    born: Duration,
    /// How fast it runs, in parts per million.
    rate: u128,
    ahead: Duration,
    behind: Duration,
}

impl Clock {
    /// A right clock that starts now.
    pub const fn new(now: Duration) -> Self {
        Self { born: now, rate: MILLION, ahead: Duration::ZERO, behind: Duration::ZERO }
    }

    /// Runs so fast from now on.
    pub fn drift(&mut self, now: Duration, parts_per_million: u32) {
        let shown = self.of(now).since_start();
        *self = Self {
            born: now,
            rate: u128::from(parts_per_million.max(1)),
            ahead: shown,
            behind: Duration::ZERO,
        };
    }

    /// Jumps ahead.
    pub fn jump(&mut self, by: Duration) {
        self.ahead += by;
    }

    /// Jumps back.
    pub fn fall_back(&mut self, by: Duration) {
        self.behind += by;
    }

    /// What it shows.
    pub fn of(&self, now: Duration) -> Time {
        let since = now.saturating_sub(self.born).as_nanos() * self.rate / MILLION;
        Time::from_start((nanos(since) + self.ahead).saturating_sub(self.behind))
    }

    /// When it shows this, never earlier.
    pub fn when(&self, time: Time) -> Duration {
        let since = (time.since_start() + self.behind).saturating_sub(self.ahead);
        self.born + nanos((since.as_nanos() * MILLION).div_ceil(self.rate))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_shows_then_is_not_before_what_was_asked_for() {
        let second = Duration::from_secs(1);
        let mut clock = Clock::new(second);
        for rate in [1_000_000, 1_050_000, 950_123] {
            clock.drift(second * 10, rate);
            clock.jump(second);
            let wanted = clock.of(second * 10) + second * 7;
            assert!(clock.of(clock.when(wanted)) >= wanted);
        }
        let before = clock.of(second * 20);
        clock.fall_back(second * 5);
        assert_eq!(before.since(clock.of(second * 20)), second * 5);
    }
}
