//! A device without its history: what a model checker compares.
//!
//! Two devices that came by different ways to where they behave alike differ in their clocks, in how many letters,
//! runs and records they have numbered, and in what only people read. [`Canonical`] takes that away: the present
//! is one fixed moment, a past that decides nothing any more is one moment too, and what is still open is numbered
//! from one. Each machine knows its own moments and numbers (`canonical` in its module); this is how they change.

use alloc::vec::Vec;
use core::time::Duration;

use crate::device::Device;
use crate::outbox::{RunId, SendId, Sequence};
use crate::time::Time;

/// The present of every canonical device. Nothing looks back as far as this.
const PRESENT: Time = Time::from_start(Duration::from_secs(30 * 24 * 3_600));

/// A device as it is now, whatever led to it. It goes on at [`Canonical::PRESENT`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Canonical {
    /// The device; its clock shows [`Canonical::PRESENT`].
    pub device: Device,
    /// What has another number in it than before.
    pub numbers: Numbers,
}

impl Canonical {
    /// What the clock of a canonical device shows.
    pub const PRESENT: Time = PRESENT;
}

/// All that is open, in rising order of its former numbers: the first of each kind is number 1 now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numbers {
    /// Letters on their way.
    pub sends: Vec<SendId>,
    /// Runs that go on.
    pub runs: Vec<RunId>,
    /// Records that the store owes an answer for.
    pub sequences: Vec<Sequence>,
}

impl Numbers {
    /// The new number of a letter, if it is still on its way.
    pub fn send(&self, former: SendId) -> Option<SendId> {
        place(&self.sends, &former).map(SendId)
    }

    /// The new number of a run, if it still goes on.
    pub fn run(&self, former: RunId) -> Option<RunId> {
        place(&self.runs, &former).map(RunId)
    }

    /// The new number of a record that the store owes an answer for.
    pub fn sequence(&self, former: Sequence) -> Option<Sequence> {
        place(&self.sequences, &former).map(Sequence)
    }
}

fn place<T: Ord>(numbers: &[T], number: &T) -> Option<u64> {
    numbers.binary_search(number).ok().map(|index| index as u64 + 1)
}

/// How moments and numbers change.
pub(crate) struct Renewal {
    now: Time,
    pub(crate) numbers: Numbers,
}

impl Renewal {
    pub(crate) fn new(now: Time, numbers: Numbers) -> Self {
        Self { now, numbers }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// A moment after which something is due or not believed any more.
    pub(crate) fn due(&self, moment: Time) -> Time {
        self.past(moment, Duration::ZERO)
    }

    /// A moment that is asked for its age: all that are older than `matters` are alike.
    pub(crate) fn past(&self, moment: Time, matters: Duration) -> Time {
        let age = self.now.since(moment).min(matters.saturating_add(Duration::from_nanos(1)));
        if moment < self.now { PRESENT.before(age) } else { PRESENT + moment.since(self.now) }
    }

    /// The same, where one that is older than `matters` is as good as none.
    pub(crate) fn recent(&self, moment: Option<Time>, matters: Duration) -> Option<Time> {
        moment.filter(|moment| self.now.since(*moment) <= matters).map(|moment| self.past(moment, matters))
    }

    /// When a letter was sent, compared with when its receiver was `heard`: before, since, or just now.
    pub(crate) fn sent(&self, sent: Time, heard: Option<Time>) -> Time {
        if heard.is_some_and(|heard| sent < heard) || sent == Time::ZERO {
            Time::ZERO
        } else {
            self.due(sent)
        }
    }
}
