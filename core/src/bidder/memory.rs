//! What is remembered of work that is over, so that a copied TASK which comes late runs nothing. Bounded: at the
//! limit the oldest is forgotten.

use alloc::collections::{BTreeMap, VecDeque};

use super::work::WorkKey;
use crate::canonical::Renewal;
use crate::id::{AwardId, DeviceId};
use crate::time::Time;

/// Tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Memory {
    stones: BTreeMap<WorkKey, Stone>,
    order: VecDeque<WorkKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stone {
    what: Remembered,
    /// Work without an award id is known again for a short while only: the same prompt may be meant twice.
    until: Option<Time>,
}

/// How work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Remembered {
    /// It was run, and its result is no longer kept.
    Done,
    /// It was cancelled before it came.
    Cancelled,
}

impl Memory {
    pub(crate) fn len(&self) -> usize {
        self.stones.len()
    }

    /// What is remembered of this work.
    pub(crate) fn recall(&self, key: &WorkKey, now: Time) -> Option<Remembered> {
        let own = self.stones.get(key).filter(|stone| stone.until.is_none_or(|until| now < until));
        let cancelled =
            || key.award.as_ref().and_then(|award| self.stones.get(&WorkKey::any(&key.from, award)));
        own.or_else(cancelled).map(|stone| stone.what)
    }

    /// Whether anything is remembered of an award.
    pub(crate) fn knows(&self, from: &DeviceId, award: &AwardId) -> bool {
        self.stones.range(WorkKey::range(from, award)).next().is_some()
    }

    /// An award was cancelled whose TASK has not come yet, so that its prompt is not known.
    pub(crate) fn cancel(&mut self, from: &DeviceId, award: &AwardId, now: Time, limit: usize) {
        self.remember(WorkKey::any(from, award), Remembered::Cancelled, None, now, limit);
    }

    pub(crate) fn remember(
        &mut self,
        key: WorkKey,
        what: Remembered,
        until: Option<Time>,
        now: Time,
        limit: usize,
    ) {
        if self.stones.insert(key.clone(), Stone { what, until }).is_none() {
            self.order.push_back(key);
        }
        let over = |stone: Option<&Stone>| stone.is_none_or(|s| s.until.is_some_and(|until| until <= now));
        while self.order.len() > limit
            || self.order.front().is_some_and(|oldest| over(self.stones.get(oldest)))
        {
            if let Some(oldest) = self.order.pop_front() {
                self.stones.remove(&oldest);
            }
        }
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.stones.len(), self.order.len(), "each tombstone has one place in the order");
    }
}

impl Memory {
    /// Without its history (`crate::canonical`).
    pub(crate) fn canonical(&mut self, by: &Renewal) {
        for stone in self.stones.values_mut() {
            stone.until = stone.until.map(|until| by.due(until));
        }
    }
}
