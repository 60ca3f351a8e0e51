//! Decision records for whoever asks: those that core holds, and from the store those that it does not hold any more.
//! Whoever asks waits for the disk; the driver does not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bidmesh_core::decision::Decision;
use bidmesh_core::id::TaskId;

use crate::store::{DatedDecision, Store};

/// A decision record, and how old it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgedDecision {
    /// Its moments are of the start of the device in which they were: only the time between two of them says anything.
    pub decision: Decision,
    /// How long ago the task was submitted; of a task that was taken up again, how long ago that was.
    pub age: Duration,
}

/// What core holds, and where to look for the rest. Whoever gets it lets go of the store when it has looked.
pub(crate) struct Recalled<T> {
    pub(super) held: T,
    pub(super) store: Arc<dyn Store>,
    /// By the wall clock.
    pub(super) now: SystemTime,
}

impl<T: fmt::Debug> fmt::Debug for Recalled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recalled").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Recalled<Option<AgedDecision>> {
    pub(super) async fn one(self, task: &TaskId) -> Option<AgedDecision> {
        match self.held {
            Some(held) => Some(held),
            // Nothing depends on it, and the store says itself what is the matter with it.
            None => Some(aged(self.store.decision(task).await.ok()??, self.now)),
        }
    }
}

impl Recalled<Vec<AgedDecision>> {
    pub(super) async fn all(self) -> Vec<AgedDecision> {
        let stored = self.store.decisions().await.unwrap_or_default();
        let held: BTreeSet<TaskId> = self.held.iter().map(|held| held.decision.task.clone()).collect();
        let earlier = stored.into_iter().filter(|stored| !held.contains(&stored.decision.task));
        earlier.map(|stored| aged(stored, self.now)).chain(self.held).collect()
    }
}

/// A clock that was set back makes no task younger than what it took.
fn aged(DatedDecision { decision, submitted }: DatedDecision, now: SystemTime) -> AgedDecision {
    let took = decision.ended.map_or(Duration::ZERO, |ended| ended.since(decision.submitted));
    let age = now.duration_since(submitted).unwrap_or(Duration::ZERO).max(took);
    AgedDecision { decision, age }
}
