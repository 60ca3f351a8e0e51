//! A panic of somebody else's code is a fact to be reported, not the end of the device.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::panics;

/// What `work` returns, or what it said when it panicked. It is not touched again after a panic: nobody can see the
/// state that it left.
pub(super) async fn shield<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| words(panic.as_ref()))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let whole = panics::said(panic).unwrap_or("no message");
    whole.lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_its_first_line() {
        assert_eq!(shield(async { 1 }).await, Ok(1));
        assert_eq!(shield(async { panic!("lost\nthe rest") }).await, Err::<(), _>("lost".into()));
        let number = 7;
        assert_eq!(shield(async move { panic!("lost {number}") }).await, Err::<(), _>("lost 7".into()));
    }
}
