//! What happens to one message between two devices: whether it arrives, when, how often, and what its sender is
//! told, which need not be the truth.

use std::collections::BTreeSet;
use std::time::Duration;

use bidmesh_core::input::SendFailure;

use super::choices::Choices;
use super::fault::{Fault, Faults, Phase};

/// All links of a world. Devices and shell devices are numbered together.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Directions in which nothing passes.
    dead: BTreeSet<(usize, usize)>,
    /// Which side of a partition each is on; empty while there is none.
    sides: Vec<bool>,
    /// Devices whose links are stopped.
    clogged: BTreeSet<usize>,
    /// Devices whose link carries this many bytes a second.
    slow: Vec<Option<u32>>,
}

/// How a message passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When it arrives, each time that it does, from now.
    pub arrives: Vec<Duration>,
    /// It arrives cut off: this many thousandths of it.
    pub cut: Option<u64>,
    /// When its sender hears of it, from now.
    pub told_after: Duration,
    /// What its sender hears; `None`: delivered.
    pub told: Option<SendFailure>,
}

impl Passage {
    /// It never arrives, and its sender hears so then.
    pub const fn lost(told_after: Duration, why: SendFailure) -> Self {
        Self { arrives: Vec::new(), cut: None, told_after, told: Some(why) }
    }
}

/// One message about to pass.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
    /// What it belongs to.
    pub phase: Phase,
    /// How long it is, in bytes.
    pub bytes: usize,
    /// How long its sender waits.
    pub patience: Duration,
}

impl Links {
    /// Links between so many devices.
    pub fn new(devices: usize) -> Self {
        Self { slow: vec![None; devices], ..Self::default() }
    }

    /// One direction dies.
    pub fn kill(&mut self, from: usize, to: usize) {
        self.dead.insert((from, to));
    }

    /// It lives again.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.dead.remove(&(from, to));
    }

    /// The mesh falls in two; `true` and `false` do not hear each other.
    pub fn part(&mut self, sides: Vec<bool>) {
        self.sides = sides;
    }

    /// Stops all links of a device.
    pub fn clog(&mut self, device: usize) {
        self.clogged.insert(device);
    }

    /// Lets them go on.
    pub fn unclog(&mut self, device: usize) {
        self.clogged.remove(&device);
    }

    /// The link of a device carries so many bytes a second.
    pub fn slow(&mut self, device: usize, rate: u32) {
        if let Some(slow) = self.slow.get_mut(device) {
            *slow = Some(rate);
        }
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.dead.clear();
        self.sides.clear();
        self.clogged.clear();
        self.slow.fill(None);
    }

    /// Why nothing passes in this direction, if so.
    fn blocked(&self, from: usize, to: usize) -> Option<Fault> {
        if self.clogged.contains(&from) || self.clogged.contains(&to) {
            Some(Fault::Swizzled)
        } else if self.sides.get(from) != self.sides.get(to) {
            Some(Fault::Partitioned)
        } else if self.dead.contains(&(from, to)) {
            Some(Fault::OneWay)
        } else {
            None
        }
    }

    /// The fate of a message. `storm`: faults may happen.
    pub fn pass(
        &self,
        choices: &mut Choices,
        faults: &mut Faults,
        crossing: Crossing,
        storm: bool,
    ) -> Passage {
        let Crossing { from, to, phase, bytes, patience } = crossing;
        if let Some(fault) = self.blocked(from, to) {
            faults.count(fault, phase);
            return Passage::lost(patience, SendFailure::Unreachable);
        }
        let mut latency = choices.micros(500, 40_000);
        if let Some(rate) = self.slow_rate(from, to) {
            faults.count(Fault::SlowLink, phase);
            latency += Duration::from_secs(bytes as u64) / rate;
        }
        let back = choices.micros(500, 40_000);
        if self.blocked(to, from).is_some() {
            // The word that it was read does not come back; half the time not even the connection is made.
            faults.count(Fault::OneWay, phase);
            let mut passage = Passage::lost(patience, SendFailure::Unreachable);
            if choices.percent(50) {
                passage.arrives.push(latency);
                passage.told = Some(SendFailure::Ambiguous);
            }
            return passage;
        }
        let mut passage =
            Passage { arrives: vec![latency], cut: None, told_after: latency + back, told: None };
        if storm {
            Self::trouble(choices, faults, phase, patience, &mut passage);
        }
        if passage.told_after > patience {
            // Its sender has stopped waiting; whether it arrives all the same, nobody knows.
            passage.told_after = patience;
            passage.told = Some(SendFailure::Ambiguous);
        }
        passage
    }

    fn slow_rate(&self, from: usize, to: usize) -> Option<u32> {
        let rate = |device: usize| self.slow.get(device).copied().flatten();
        match (rate(from), rate(to)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn trouble(
        choices: &mut Choices,
        faults: &mut Faults,
        phase: Phase,
        patience: Duration,
        passage: &mut Passage,
    ) {
        let soon = passage.told_after;
        if faults.strikes(choices, Fault::Refused, phase) {
            *passage = Passage::lost(soon, SendFailure::Refused);
            return;
        }
        if faults.strikes(choices, Fault::ToldLate, phase) {
            *passage = Passage::lost(patience, SendFailure::Unreachable);
            return;
        }
        if faults.strikes(choices, Fault::LostInSilence, phase) {
            passage.arrives.clear();
            return;
        }
        if faults.strikes(choices, Fault::Cut, phase) {
            passage.cut = Some(choices.below(1000));
            passage.told = Some(choices.pick([SendFailure::Reset, SendFailure::Ambiguous]));
        }
        if faults.strikes(choices, Fault::DeliveredToldFailed, phase) {
            let (after, why) = choices.pick([
                (patience, SendFailure::Ambiguous),
                (soon, SendFailure::Reset),
                (patience, SendFailure::Unreachable),
            ]);
            (passage.told_after, passage.told) = (after, Some(why));
        }
        if faults.strikes(choices, Fault::Reordered, phase) {
            // Overtaken on its way, or it arrives long before its sender hears that it did.
            let late = choices.millis(10, 1_500);
            match choices.percent(50) {
                true => {
                    passage.arrives.iter_mut().for_each(|at| *at += late);
                    passage.told_after += late;
                }
                false => passage.told_after += late,
            }
        }
        if faults.strikes(choices, Fault::Held, phase) {
            let late = choices.pick([2, 12, 45, 400]);
            let late = choices.millis(500, late * 1_000);
            passage.arrives.iter_mut().for_each(|at| *at += late);
            passage.told_after += late;
        }
        if faults.strikes(choices, Fault::Copied, phase)
            && let Some(first) = passage.arrives.first().copied()
        {
            for _ in 0..choices.between(1, 4) {
                let longest = choices.pick([50, 2_000, 30_000, 300_000]);
                passage.arrives.push(first + choices.millis(0, longest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROSSING: Crossing =
        Crossing { from: 0, to: 1, phase: Phase::Idle, bytes: 100, patience: Duration::from_secs(2) };

    fn pass(links: &Links, faults: &mut Faults, crossing: Crossing) -> Passage {
        links.pass(&mut Choices::split(1, "link"), faults, crossing, true)
    }

    #[test]
    fn a_whole_link_delivers_once_and_says_so() {
        let passage = pass(&Links::new(2), &mut Faults::none(), CROSSING);
        assert_eq!((passage.arrives.len(), passage.told), (1, None));
        assert!(passage.told_after > passage.arrives[0]);
    }

    #[test]
    fn a_dead_direction_is_silence_and_its_other_one_is_doubt() {
        let mut links = Links::new(2);
        links.kill(0, 1);
        let there = pass(&links, &mut Faults::none(), CROSSING);
        assert_eq!(there, Passage::lost(CROSSING.patience, SendFailure::Unreachable));
        let back = pass(&links, &mut Faults::none(), Crossing { from: 1, to: 0, ..CROSSING });
        assert!(back.told.is_some());
        links.heal();
        assert_eq!(pass(&links, &mut Faults::none(), CROSSING).told, None);
    }

    #[test]
    fn a_partition_cuts_across_and_not_within() {
        let mut links = Links::new(3);
        links.part(vec![true, false, true]);
        let mut faults = Faults::none();
        assert!(pass(&links, &mut faults, CROSSING).told.is_some());
        assert!(pass(&links, &mut faults, Crossing { to: 2, ..CROSSING }).told.is_none());
        assert_eq!(faults.counts[Fault::Partitioned as usize][Phase::Idle as usize], 1);
    }

    #[test]
    fn success_can_be_a_lie() {
        let mut faults = Faults::none();
        faults.arm(Fault::LostInSilence, 100);
        let passage = pass(&Links::new(2), &mut faults, CROSSING);
        assert_eq!((passage.arrives.len(), passage.told), (0, None));
    }
}
