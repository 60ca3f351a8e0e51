//! Waiting for a condition with a deadline, the only kind of waiting that tests do; and waiting for many things at
//! once, since devices sleep more than they work.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks `condition` again and again until it gives a value.
///
/// # Panics
/// When it has given none for `deadline`; the message names `what` was waited for.
pub fn wait_until<T>(deadline: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    try_until(deadline, condition).unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}

/// As [`wait_until`], for who has more to say about a deadline that was missed: gives `None` then.
pub fn try_until<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let value = condition();
        if value.is_some() || start.elapsed() >= deadline {
            return value;
        }
        sleep(Duration::from_millis(5));
    }
}

/// Checks all `cases` at the same time, each in a thread that has the name of the test.
///
/// # Panics
/// If a check does, once all have ended.
pub fn all_at_once<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let check = &check;
    std::thread::scope(|scope| {
        for case in cases {
            let thread = std::thread::Builder::new().name(test.clone());
            thread.spawn_scoped(scope, move || check(case)).expect("threads can be had");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn cases_are_checked_at_the_same_time() {
        let all = Barrier::new(3);
        all_at_once(0..3, |_| {
            all.wait();
        });
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn one_failed_check_fails_the_test() {
        all_at_once(0..3, |case| assert!(case != 1));
    }

    #[test]
    fn a_missed_deadline_gives_nothing() {
        assert_eq!(try_until(Duration::ZERO, || None::<()>), None);
        assert_eq!(try_until(Duration::ZERO, || Some(1)), Some(1));
    }
}
