//! ONE task from bid request to winner, and the runners-up. Knows nothing of other tasks, of letters, or of what
//! peers did before: it is told what each device said and when it was first tried, and says when it is over.
//!
//! An auction is over when every device asked has answered or is no longer waited for, at the latest at its
//! deadline. Patience ends the waiting only once a usable bid is there: a lone phone that needs 4 s still wins.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use crate::canonical::Renewal;
use crate::id::DeviceId;
use crate::input::SendFailure;
use crate::time::Time;
use crate::wire::{Bid, Dialect, Reason};

/// One auction, open or over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Auction {
    pub(crate) opened: Time,
    pub(crate) deadline: Time,
    asks: BTreeMap<DeviceId, Ask>,
    /// Derived: devices that have not answered and are still waited for.
    awaited: BTreeSet<DeviceId>,
    /// Derived: devices that have not answered.
    unanswered: usize,
    /// Derived: when patience with a device ends.
    patience: BTreeSet<(Time, DeviceId)>,
    /// Derived: devices that were not asked, since they were full.
    skipped: usize,
    /// Usable bids so far.
    usable: usize,
    /// When a question that was read and not answered may have to be asked again.
    reminder: Option<Time>,
}

/// One device that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ask {
    pub(crate) answer: Option<Answer>,
    /// How long it is waited for from the first attempt to reach it.
    patience: Duration,
    /// When that is over, once there was an attempt.
    patient_until: Option<Time>,
    /// It refused a connection at least once.
    pub(crate) refused_connections: bool,
    /// It was awarded this task in this auction already.
    pub(crate) spent: bool,
    /// All its slots were taken when the others were asked: it was asked late, and may have had no time to answer.
    pub(crate) asked_late: bool,
}

/// What a device said, or what stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// `dialect`: of the very message that the bid came in, which is the dialect of a TASK that awards it.
    Bid {
        bid: Bid,
        at: Time,
        dialect: Dialect,
    },
    Refused {
        reason: Reason,
    },
    Unreachable {
        why: SendFailure,
    },
    /// Not asked: all its slots were known to be taken.
    KnownBusy,
}

/// How long a device is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// From the first attempt to reach it.
    Patient(Duration),
    /// It is suspect, gone or only just back: asked, but not waited for.
    NotAtAll,
    /// It is known to be full: not even asked.
    Skipped,
}

/// Whether an answer counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    NotAsked,
    Repeated,
}

impl Auction {
    pub(crate) fn new(opened: Time, deadline: Time) -> Self {
        Self {
            opened,
            deadline,
            asks: BTreeMap::new(),
            awaited: BTreeSet::new(),
            unanswered: 0,
            patience: BTreeSet::new(),
            skipped: 0,
            usable: 0,
            reminder: None,
        }
    }

    /// A device is asked; one that was skipped may be asked after all.
    pub(crate) fn ask(&mut self, device: &DeviceId, waiting: Waiting) {
        let skipped = waiting == Waiting::Skipped;
        let ask = Ask {
            answer: skipped.then_some(Answer::KnownBusy),
            patience: if let Waiting::Patient(patience) = waiting { patience } else { Duration::ZERO },
            patient_until: None,
            refused_connections: false,
            spent: false,
            asked_late: self.asks.contains_key(device),
        };
        if skipped {
            self.skipped += 1;
        } else {
            self.unanswered += 1;
        }
        if matches!(waiting, Waiting::Patient(_)) {
            self.awaited.insert(device.clone());
        }
        if self.asks.insert(device.clone(), ask).is_some() {
            self.skipped -= 1;
        }
    }

    /// The first attempt to reach `device` is, or was, made at `at`.
    pub(crate) fn started(&mut self, device: &DeviceId, at: Time) {
        let Some(ask) = self.asks.get_mut(device) else { return };
        if ask.patient_until.is_none() && ask.answer.is_none() && self.awaited.contains(device) {
            let until = at + ask.patience;
            ask.patient_until = Some(until);
            self.patience.insert((until, device.clone()));
        }
    }

    /// `device` refused a connection: from the first time on it is waited for only so long.
    pub(crate) fn refused_connection(&mut self, device: &DeviceId, now: Time, patience: Duration) {
        let Some(ask) = self.asks.get_mut(device) else { return };
        if ask.refused_connections || ask.answer.is_some() {
            return;
        }
        ask.refused_connections = true;
        if let Some(until) = ask.patient_until {
            let sooner = until.min(now + patience);
            self.patience.remove(&(until, device.clone()));
            if self.awaited.contains(device) {
                ask.patient_until = Some(sooner);
                self.patience.insert((sooner, device.clone()));
            }
        }
    }

    /// `device` answered. `usable`: it has a free slot, as far as is known.
    pub(crate) fn answer(&mut self, device: &DeviceId, answer: Answer, usable: bool) -> Taken {
        let Some(ask) = self.asks.get_mut(device) else { return Taken::NotAsked };
        if ask.answer.is_some() {
            return Taken::Repeated;
        }
        ask.answer = Some(answer);
        self.unanswered -= 1;
        self.usable += usize::from(usable);
        self.awaited.remove(device);
        if let Some(until) = ask.patient_until {
            self.patience.remove(&(until, device.clone()));
        }
        Taken::Yes
    }

    /// At `at` somebody is to look at the questions that are still unanswered then.
    pub(crate) fn remind(&mut self, at: Time) {
        self.reminder = Some(self.reminder.map_or(at, |earlier| earlier.min(at)));
    }

    /// Ends patience that is over. Whether the auction is over too.
    pub(crate) fn advance(&mut self, now: Time) -> bool {
        self.reminder = self.reminder.filter(|at| *at > now);
        while let Some((until, device)) = self.patience.first().cloned() {
            if until > now {
                break;
            }
            self.patience.pop_first();
            self.awaited.remove(&device);
        }
        self.unanswered == 0 || now >= self.deadline || (self.usable > 0 && self.awaited.is_empty())
    }

    /// What was counted as usable no longer is: the auction goes on until somebody else bids.
    pub(crate) fn nothing_usable(&mut self) {
        self.usable = 0;
    }

    /// Whether there are bids, but none that was usable when that was looked at last.
    pub(crate) fn is_starved(&self) -> bool {
        self.usable == 0 && self.asks.values().any(|ask| matches!(ask.answer, Some(Answer::Bid { .. })))
    }

    /// The same, and a bid of `device` is among them.
    pub(crate) fn starves_for(&self, device: &DeviceId) -> bool {
        let bid = |ask: &Ask| !ask.spent && matches!(ask.answer, Some(Answer::Bid { .. }));
        self.usable == 0 && self.asks.get(device).is_some_and(bid)
    }

    /// Whether there is no usable bid, and devices were not asked.
    pub(crate) fn lacks_the_skipped(&self) -> bool {
        self.usable == 0 && self.skipped > 0
    }

    /// A slot became free at a device that has bid.
    pub(crate) fn usable_again(&mut self) {
        self.usable = self.usable.max(1);
    }

    pub(crate) fn next(&self) -> Time {
        self.reminder.map_or(self.waits_until(), |at| at.min(self.waits_until()))
    }

    /// When somebody is no longer waited for.
    fn waits_until(&self) -> Time {
        self.patience.first().map_or(self.deadline, |(until, _)| (*until).min(self.deadline))
    }

    /// After sleep: whoever could not answer meanwhile gets a fresh patience.
    pub(crate) fn grace(&mut self, now: Time, patience: Duration) {
        if self.deadline > now && self.waits_until() > now {
            return;
        }
        self.deadline = self.deadline.max(now + patience);
        let waiting: alloc::vec::Vec<DeviceId> = self
            .patience
            .iter()
            .take_while(|(until, _)| *until <= now)
            .map(|(_, device)| device.clone())
            .collect();
        for device in waiting {
            if let Some(ask) = self.asks.get_mut(&device)
                && let Some(until) = ask.patient_until
            {
                self.patience.remove(&(until, device.clone()));
                ask.patient_until = Some(now + patience);
                self.patience.insert((now + patience, device));
            }
        }
    }

    pub(crate) fn asks(&self) -> impl Iterator<Item = (&DeviceId, &Ask)> + Clone {
        self.asks.iter()
    }

    pub(crate) fn awaits_answer(&self, device: &DeviceId) -> bool {
        self.asks.get(device).is_some_and(|ask| ask.answer.is_none())
    }

    /// `device` was awarded the task; it is not chosen again in this auction.
    pub(crate) fn spend(&mut self, device: &DeviceId) {
        if let Some(ask) = self.asks.get_mut(device) {
            ask.spent = true;
        }
    }

    /// What `device` said to an award tells more than its bid.
    pub(crate) fn correct(&mut self, device: &DeviceId, answer: Answer) {
        if let Some(ask) = self.asks.get_mut(device)
            && ask.answer.is_some()
        {
            ask.answer = Some(answer);
        }
    }

    /// Whether anybody who was asked may still answer in time.
    pub(crate) fn may_go_on(&self, now: Time) -> bool {
        self.unanswered > 0 && now < self.deadline
    }

    pub(crate) fn check(&self) {
        let unanswered = self.asks.values().filter(|ask| ask.answer.is_none()).count();
        assert_eq!(self.unanswered, unanswered, "unanswered asks are counted");
        let skipped = self.asks.values().filter(|ask| ask.answer == Some(Answer::KnownBusy)).count();
        assert_eq!(self.skipped, skipped, "so are devices that were not asked");
        assert!(
            self.awaited.iter().all(|device| self.awaits_answer(device)),
            "only the unanswered are awaited"
        );
        assert!(
            self.patience.iter().all(|(_, device)| self.awaited.contains(device)),
            "patience is with the awaited"
        );
    }
}

impl Auction {
    /// Without its history (`crate::canonical`).
    pub(crate) fn canonical(&mut self, by: &Renewal, bid_validity: Duration) {
        self.deadline = by.due(self.deadline);
        self.reminder = self.reminder.map(|at| by.due(at));
        for ask in self.asks.values_mut() {
            ask.patient_until = ask.patient_until.map(|until| by.due(until));
            if let Some(Answer::Bid { at, .. }) = &mut ask.answer {
                *at = by.past(*at, bid_validity);
            }
        }
        let due = |(until, device): (Time, DeviceId)| (by.due(until), device);
        self.patience = core::mem::take(&mut self.patience).into_iter().map(due).collect();
        self.opened = self.deadline;
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    fn at(millis: u64) -> Time {
        Time::from_start(Duration::from_millis(millis))
    }

    fn bid() -> Answer {
        Answer::Bid { bid: Bid::default(), at: Time::ZERO, dialect: Dialect::Bidmesh }
    }

    fn open(devices: &[(&str, u64)]) -> Auction {
        let mut auction = Auction::new(Time::ZERO, at(10_000));
        for (name, patience) in devices {
            auction.ask(&id(name), Waiting::Patient(Duration::from_millis(*patience)));
            auction.started(&id(name), Time::ZERO);
        }
        auction
    }

    #[test]
    fn ends_when_all_have_answered() {
        let mut auction = open(&[("B", 1000), ("C", 1000)]);
        assert_eq!(auction.answer(&id("B"), bid(), true), Taken::Yes);
        assert!(!auction.advance(at(10)));
        assert_eq!(auction.answer(&id("C"), Answer::Refused { reason: Reason::Busy }, false), Taken::Yes);
        assert!(auction.advance(at(11)));
    }

    #[test]
    fn patience_counts_from_the_first_attempt_and_needs_a_usable_bid() {
        let mut auction = open(&[("B", 1000), ("S", 3000)]);
        auction.answer(&id("B"), bid(), true);
        assert!(!auction.advance(at(2999)));
        assert!(auction.advance(at(3000)));
        let mut alone = open(&[("B", 1000)]);
        assert!(!alone.advance(at(9999)), "nobody else can take it: a phone that needs 4 s still wins");
        assert!(alone.advance(at(10_000)));
    }

    #[test]
    fn a_bid_without_a_free_slot_ends_no_waiting() {
        let mut auction = open(&[("B", 1000), ("C", 1000)]);
        auction.answer(&id("B"), bid(), false);
        assert!(!auction.advance(at(5000)));
    }

    #[test]
    fn patience_that_ends_as_the_device_wakes_from_sleep_is_fresh() {
        for (asleep_until, over_at) in [(1000, 2000), (5000, 6000), (999, 1000)] {
            let mut auction = open(&[("B", 1000), ("C", 1000)]);
            auction.answer(&id("B"), bid(), true);
            auction.grace(at(asleep_until), Duration::from_secs(1));
            assert!(!auction.advance(at(over_at - 1)), "{asleep_until}");
            assert!(auction.advance(at(over_at)), "{asleep_until}");
        }
    }

    #[test]
    fn a_closed_port_is_waited_for_a_second() {
        let mut auction = open(&[("B", 100), ("S", 3000)]);
        auction.answer(&id("B"), bid(), true);
        auction.refused_connection(&id("S"), at(5), Duration::from_secs(1));
        auction.refused_connection(&id("S"), at(900), Duration::from_secs(1));
        assert!(!auction.advance(at(1004)));
        assert!(auction.advance(at(1005)));
    }

    #[test]
    fn the_suspect_are_not_waited_for_and_the_full_not_asked() {
        let mut auction = open(&[("B", 1000)]);
        auction.ask(&id("C"), Waiting::NotAtAll);
        auction.ask(&id("D"), Waiting::Skipped);
        auction.answer(&id("B"), bid(), true);
        assert!(auction.advance(at(1)));
        assert_eq!(auction.answer(&id("C"), bid(), true), Taken::Yes, "a late bid counts until the award");
        assert_eq!(auction.answer(&id("D"), bid(), true), Taken::Repeated);
        assert_eq!(auction.answer(&id("X"), bid(), true), Taken::NotAsked);
        auction.check();
    }

    #[test]
    fn the_deadline_counts_however_often_it_is_asked() {
        let mut auction = open(&[("B", 1000)]);
        for millis in [0, 500, 9_999] {
            assert!(!auction.advance(at(millis)));
        }
        assert_eq!(auction.next(), at(10_000));
        assert!(auction.advance(at(10_000)));
    }
}
