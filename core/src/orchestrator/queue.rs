//! Tasks that wait for a free slot: by priority, then age, with ageing so that none starves.
//!
//! Waiting for `ageing` raises a task by one priority. Since all waiting tasks age alike, their order never
//! changes: a task's place is its submission, moved back by `ageing` for each priority that it lacks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::time::Duration;

use crate::id::DeviceId;
use crate::input::Priority;
use crate::time::Time;

/// The only devices that a task may run on; `None`: all.
pub(crate) type Eligible = Option<Arc<BTreeSet<DeviceId>>>;

/// All waiting tasks, in one lane for each set of eligible devices: a task that waits for one busy device
/// holds up no task that others could run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Queue {
    lanes: BTreeMap<Eligible, BTreeSet<Place>>,
}

/// A task's place; the least is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    since: Time,
    number: u64,
}

impl Place {
    pub(crate) fn new(submitted: Time, priority: Priority, number: u64, ageing: Duration) -> Self {
        let lacks = u32::from(Priority::HIGHEST.value() - priority.value());
        Self { since: submitted + ageing.saturating_mul(lacks), number }
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

impl Queue {
    pub(crate) fn insert(&mut self, eligible: &Eligible, place: Place) {
        self.lanes.entry(eligible.clone()).or_default().insert(place);
    }

    pub(crate) fn remove(&mut self, eligible: &Eligible, place: Place) {
        if let Some(lane) = self.lanes.get_mut(eligible) {
            lane.remove(&place);
            if lane.is_empty() {
                self.lanes.remove(eligible);
            }
        }
    }

    /// The first of each lane, the most urgent first.
    pub(crate) fn heads(&self) -> BTreeSet<(Place, Eligible)> {
        self.lanes.iter().filter_map(|(eligible, lane)| Some((*lane.first()?, eligible.clone()))).collect()
    }

    /// How many tasks are before `place`.
    pub(crate) fn before(&self, place: Place) -> usize {
        self.lanes.values().map(|lane| lane.range(..place).count()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(crate) fn contains(&self, eligible: &Eligible, place: Place) -> bool {
        self.lanes.get(eligible).is_some_and(|lane| lane.contains(&place))
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const AGEING: Duration = Duration::from_secs(30);

    fn place(submitted: u64, priority: u8, number: u64) -> Place {
        Place::new(
            Time::from_start(Duration::from_secs(submitted)),
            Priority::new(priority).unwrap(),
            number,
            AGEING,
        )
    }

    #[test]
    fn priority_then_age() {
        assert!(place(10, 6, 2) < place(0, 5, 1), "a higher priority goes first");
        assert!(place(0, 5, 1) < place(1, 5, 2), "among equals the older goes first");
    }

    #[test]
    fn waiting_raises_a_task() {
        assert!(place(0, 5, 1) < place(31, 6, 2), "half a minute older is worth one priority");
        assert!(
            place(0, 0, 1) < place(271, 9, 2),
            "nothing starves: nine priorities are four and a half minutes"
        );
    }

    proptest! {
        #[test]
        fn everything_leaves_once_and_in_order(tasks in prop::collection::vec((0u64..600, 0u8..10), 0..60)) {
            let mut queue = Queue::default();
            for (number, (submitted, priority)) in tasks.iter().enumerate() {
                queue.insert(&None, place(*submitted, *priority, number as u64));
            }
            let mut left = Vec::new();
            while let Some((next, eligible)) = queue.heads().pop_first() {
                prop_assert_eq!(queue.before(next), 0);
                queue.remove(&eligible, next);
                left.push(next);
            }
            prop_assert_eq!(left.len(), tasks.len());
            prop_assert!(left.is_sorted());
        }

        #[test]
        fn a_lane_for_each_set_of_devices(tasks in prop::collection::vec((0u64..600, 0u8..10, 0u8..3), 1..40), gone in 0usize..40) {
            let sets: Vec<Eligible> = [None, Some("B"), Some("C")]
                .into_iter()
                .map(|name| name.map(|name| Arc::new(BTreeSet::from([DeviceId::new(name).unwrap()]))))
                .collect();
            let mut queue = Queue::default();
            let mut all: Vec<(Eligible, Place)> = Vec::new();
            for (number, (submitted, priority, set)) in tasks.iter().enumerate() {
                let (set, place) = (&sets[usize::from(*set)], place(*submitted, *priority, number as u64));
                queue.insert(set, place);
                all.push((set.clone(), place));
            }
            let (set, place) = all.remove(gone % all.len());
            prop_assert!(queue.contains(&set, place));
            queue.remove(&set, place);
            prop_assert!(!queue.contains(&set, place));
            prop_assert_eq!((queue.len(), queue.is_empty()), (all.len(), all.is_empty()));
            let first = |wanted: &Eligible| all.iter().filter(|(set, _)| set == wanted).map(|(_, place)| *place).min();
            let heads: BTreeSet<(Place, Eligible)> =
                sets.iter().filter_map(|set| Some((first(set)?, set.clone()))).collect();
            prop_assert_eq!(queue.heads(), heads);
            for (set, place) in &all {
                prop_assert!(queue.contains(set, *place));
                let before = all.iter().filter(|(_, other)| other < place).count();
                prop_assert_eq!(queue.before(*place), before, "whatever lane they stand in");
            }
        }
    }
}
