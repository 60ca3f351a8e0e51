//! Time as core wants it: since the device started, sleep included.
//!
//! A phone sleeps: `CLOCK_MONOTONIC`, which std and tokio read, stands still then, and a tokio timer fires late by as
//! long as the phone slept. [`BootClock`] reads `CLOCK_BOOTTIME` and waits on a timer of that same clock.

use std::future::Future;
use std::time::{Duration, SystemTime};

use bidmesh_core::Time;

/// A clock.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time since this clock was made.
    fn now(&self) -> Time;

    /// Returns at `until` or soon after; a device that slept returns late.
    fn sleep_until(&self, until: Time) -> impl Future<Output = ()> + Send;

    /// The calendar's time, for logs; nothing is decided by it.
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The clock of a real device: counts while it sleeps (`CLOCK_BOOTTIME` on Linux and Android; elsewhere
/// `CLOCK_MONOTONIC`, which counts sleep on Apple's systems and does not on others).
#[derive(Clone, Copy, Debug)]
pub struct BootClock {
    start: Duration,
}

impl BootClock {
    /// A clock that reads zero now.
    pub fn new() -> Self {
        Self { start: since_boot() }
    }
}

impl Default for BootClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for BootClock {
    fn now(&self) -> Time {
        Time::from_start(since_boot().saturating_sub(self.start))
    }

    async fn sleep_until(&self, until: Time) {
        loop {
            let left = until.since(self.now());
            if left.is_zero() {
                return;
            }
            // A short wait needs no timer of its own: whoever falls asleep in it wakes late by less than this.
            // A long one gets a timer that goes on through sleep, so that a device that wakes notices at once what
            // it missed, and one that stays awake is woken once, not every few seconds to look.
            if left <= SHORT {
                tokio::time::sleep(left).await;
            } else if boot_timer(left).await.is_err() {
                // No descriptor left, or a kernel that has no such timer: look again now and then.
                tokio::time::sleep(left.min(RECHECK)).await;
            }
        }
    }
}

/// Up to this, a wait uses tokio's timer: one system call instead of four.
const SHORT: Duration = Duration::from_secs(1);

/// How often a long wait looks at the clock where there is no timer that goes on through sleep.
const RECHECK: Duration = Duration::from_secs(30);

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(CLOCK);
    // Neither is ever negative on these clocks, and nanoseconds are below a thousand million.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Waits for `left` on a timer that counts sleep.
#[cfg(any(target_os = "linux", target_os = "android"))]
async fn boot_timer(left: Duration) -> std::io::Result<()> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            // Below a thousand million: always fits. The field is 32 bits wide on some phones.
            tv_nsec: i32::try_from(left.subsec_nanos()).unwrap_or(0).into(),
        },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    // Deprecated since it also takes types whose descriptor may be closed or exchanged behind its back; an `OwnedFd`
    // keeps its descriptor open and the same. The replacement is an unsafe function, and nothing here is unsafe.
    #[allow(deprecated)]
    let timer = tokio::io::unix::AsyncFd::with_interest(timer, tokio::io::Interest::READABLE)?;
    // The timer is used once: nothing has to be read from it.
    timer.readable().await?.retain_ready();
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
async fn boot_timer(_left: Duration) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// tokio's clock, for simulations and tests that pause or steer it.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that reads zero now. Must be made inside a runtime.
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        Time::from_start(self.start.elapsed())
    }

    async fn sleep_until(&self, until: Time) {
        match self.start.checked_add(until.since_start()) {
            Some(until) => tokio::time::sleep_until(until).await,
            // Later than the runtime can count: never.
            None => std::future::pending().await,
        }
    }

    /// 1 January 1970 and the time since: two runs of one seed must not differ.
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_boot_clock_waits_on_both_kinds_of_timer() {
        let clock = BootClock::new();
        let short = clock.now() + Duration::from_millis(20);
        clock.sleep_until(short).await;
        assert!(clock.now() >= short);
        let long = clock.now() + SHORT + Duration::from_millis(50);
        clock.sleep_until(long).await;
        assert!(clock.now() >= long);
        clock.sleep_until(Time::ZERO).await;
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn a_timer_of_the_boot_clock_fires() {
        let clock = BootClock::new();
        let waited =
            tokio::time::timeout(Duration::from_secs(20), boot_timer(Duration::from_millis(20))).await;
        assert!(waited.expect("fires").is_ok());
        assert!(clock.now().since_start() >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_wait_of_the_boot_clock_needs_no_timer_of_the_runtime_to_be_long() {
        // Far away: neither overflows nor returns.
        let clock = BootClock::new();
        let never = clock.sleep_until(Time::from_start(Duration::MAX));
        assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_simulated_clock_follows_the_runtime() {
        let clock = TokioClock::new();
        clock.sleep_until(Time::from_start(Duration::from_secs(3600))).await;
        assert_eq!(clock.now().since_start().as_secs(), 3600);
        assert_eq!(clock.wall().duration_since(SystemTime::UNIX_EPOCH).expect("after").as_secs(), 3600);
        let never = clock.sleep_until(Time::from_start(Duration::MAX));
        assert!(tokio::time::timeout(Duration::from_secs(9), never).await.is_err());
    }
}
