//! One world at a time in a process, each from the same state of tokio's task numbers.
//!
//! A crashed host's tasks, and the connections that they hold, are dropped in an order that tokio derives from task
//! numbers, which count through the whole process: it keeps tasks in [`SHARDS`] lists by number, and empties one list
//! after the other. Each dropped connection says goodbye, and each goodbye draws a latency. So without this a world
//! with a crash depends on how many tasks other tests have spawned before.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lists of a current-thread runtime (tokio 1.54, `OwnedTasks`).
const SHARDS: u64 = 4;

static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other world exists, and sees to it that the next task has a number that is divisible by [`SHARDS`].
pub(crate) fn take() -> MutexGuard<'static, ()> {
    // A world that panicked is over as well.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let number = || {
        let id = runtime.as_ref().ok()?.spawn(async {}).id();
        id.to_string().parse::<u64>().ok()
    };
    while let Some(number) = number() {
        if number % SHARDS == SHARDS - 1 {
            return turn;
        }
    }
    // Said here, and not noticed later as a seed that does not repeat itself.
    assert!(runtime.is_ok() && number().is_some(), "tokio does not tell task numbers any more");
    turn
}
