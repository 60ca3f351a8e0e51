//! The kinds of fault that a world can suffer, by the letters of docs/testing.md: M of messages, D of devices, O of
//! orchestrators, B inside the code's own choices. A seed arms a random subset, often one, sometimes none: what is
//! left out at random finds other defects than everything at once.

use super::choices::Choices;
use bidmesh_core::wire::Body;

/// Where a task is when a fault meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No task is concerned.
    Idle,
    /// Bids are collected.
    Collecting,
    /// The award is on its way.
    Awarded,
    /// A worker runs it.
    Running,
    /// It has ended at the worker, or altogether.
    Finished,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Collecting, Self::Awarded, Self::Running, Self::Finished];

    /// The letter of the table.
    pub const fn letter(self) -> char {
        match self {
            Self::Idle => 'I',
            Self::Collecting => 'C',
            Self::Awarded => 'A',
            Self::Running => 'R',
            Self::Finished => 'F',
        }
    }

    /// The phase that a message belongs to.
    pub const fn of(body: &Body) -> Self {
        match body {
            Body::BidRequest(_) | Body::BidResponse(_) | Body::Refuse(_) => Self::Collecting,
            Body::Task(_) | Body::Accept(_) | Body::Reject(_) => Self::Awarded,
            Body::Progress(_) | Body::Query(_) | Body::Cancel(_) => Self::Running,
            Body::Result(_) | Body::Ack(_) | Body::SlmResult(_) => Self::Finished,
            Body::Hello(_)
            | Body::Discover(_)
            | Body::Text(_)
            | Body::SlmPrompt(_)
            | Body::Bye
            | Body::Unknown { .. } => Self::Idle,
        }
    }
}

macro_rules! faults {
    ($($name:ident $number:literal $phased:literal $words:literal),+ $(,)?) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = concat!($number, ": ", $words, ".")] $name,)+
        }

        impl Fault {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its number in docs/testing.md.
            pub const fn number(self) -> &'static str {
                match self { $(Self::$name => $number),+ }
            }

            /// In words.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words),+ }
            }

            /// Whether it must be met in every phase of a task.
            pub const fn phased(self) -> bool {
                match self { $(Self::$name => $phased),+ }
            }
        }
    };
}

faults! {
    Refused "M1" true "lost, the sender is told at once",
    ToldLate "M2" true "lost, the sender is told late",
    LostInSilence "M3" true "lost, the sender is told success",
    DeliveredToldFailed "M4" true "delivered, the sender is told failure",
    Copied "M5" true "copied, at once and up to minutes later",
    Reordered "M6" true "overtaken by later messages",
    Held "M7" true "held back for minutes, then delivered",
    Cut "M8" true "cut at a byte",
    Hostile "M11" false "bytes that are no message, or an odd one",
    OddNumbers "M12" false "a shell's bid with numbers that are none",
    OneWay "M13" true "one direction of a link is dead",
    Swizzled "M13s" true "links stop one by one and return in another order",
    Partitioned "M14" true "the mesh falls in two",
    SlowLink "M15" true "a link of a few kilobytes a second",
    Killed "D1" true "killed: its peers are refused",
    PowerLost "D2" true "power lost: silence",
    Moved "D3a" false "returns at another address",
    Doubled "D3b" false "two devices with one id",
    Older "D3c" false "a shell device returns with older software, without task ids",
    Asleep "D4" true "sleeps, then all that is overdue at once",
    ClockWrong "D5" false "a clock that drifts or jumps",
    BatteryDying "D6" false "the charge falls, work is refused, power ends",
    Slow "D7" false "runs ten to a hundred times slower",
    ExecutorFails "D8" false "the executor fails, hangs, says nothing or too much",
    Liar "D9" false "bids best and gives no result but those of awards it never got",
    EqualMetrics "D10" false "all devices say the same of themselves, for ever",
    BookFlooded "D11" false "strangers fill the address book",
    DiskFails "D11d" false "records cannot be written",
    OwnerPauses "D12" false "an owner pauses the device, or leaves in order",
    OrchestratorLost "O1" true "an orchestrator with open tasks is lost",
    Together "O2" false "several orchestrators ask at one instant",
    Burst "O3" false "many prompts at one instant",
    NobodyAble "O5" false "for a while nobody has an executor",
    Cancelled "O6" true "a person gives up",
    OddSettings "B1" false "settings at their extremes",
    OddWakes "B2" false "woken early, twice or late",
}

/// How many kinds there are.
pub const KINDS: usize = Fault::ALL.len();

/// Kinds that are younger than the recorded seeds. They are drawn after all others, whose worlds so stay as they were.
const YOUNGER: [Fault; 3] = [Fault::Older, Fault::Together, Fault::NobodyAble];

/// Which faults a seed has, how often they happen, and how often each happened, by phase.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Percent, by kind; 0 is not armed.
    rates: [u64; KINDS],
    /// How often each happened in which phase.
    pub counts: [[u64; 5]; KINDS],
}

impl Faults {
    /// None.
    pub const fn none() -> Self {
        Self { rates: [0; KINDS], counts: [[0; 5]; KINDS] }
    }

    /// The subset and the rates of a seed.
    pub fn draw(choices: &mut Choices) -> Self {
        let mut faults = Self::none();
        let share = choices.pick([0, 0, 1, 1, 1, 15, 30, 30, 60]);
        let single = choices.index(KINDS - YOUNGER.len());
        for (number, fault) in Fault::ALL.iter().filter(|fault| !YOUNGER.contains(fault)).enumerate() {
            faults.draw_one(choices, share, *fault, share == 1 && number == single);
        }
        // Now and then one of these is the only one instead.
        let single = choices.index(KINDS);
        if share == 1 && single < YOUNGER.len() {
            faults = Self::none();
        }
        for (number, fault) in YOUNGER.into_iter().enumerate() {
            faults.draw_one(choices, share, fault, share == 1 && number == single);
        }
        faults
    }

    /// Every kind draws, armed or not: leaving one out leaves the others as they were.
    fn draw_one(&mut self, choices: &mut Choices, share: u64, fault: Fault, single: bool) {
        let (armed, rate) = (choices.percent(share), choices.pick([2, 5, 15, 40]));
        if armed || single {
            self.arm(fault, rate);
        }
    }

    /// The rate of a kind in percent; 0 if it is not armed.
    pub const fn rate(&self, fault: Fault) -> u64 {
        self.rates[fault as usize]
    }

    /// Arms, or with 0 disarms, a kind.
    pub fn arm(&mut self, fault: Fault, rate: u64) {
        self.rates[fault as usize] = rate;
    }

    /// Whether a seed has it.
    pub const fn has(&self, fault: Fault) -> bool {
        self.rate(fault) > 0
    }

    /// All kinds that the seed has.
    pub fn armed(&self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.has(*fault))
    }

    /// Whether it happens now; counted if so.
    pub fn strikes(&mut self, choices: &mut Choices, fault: Fault, phase: Phase) -> bool {
        let strikes = self.has(fault) && choices.percent(self.rate(fault));
        if strikes {
            self.count(fault, phase);
        }
        strikes
    }

    /// It happened.
    pub fn count(&mut self, fault: Fault, phase: Phase) {
        self.counts[fault as usize][phase as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_worlds_of_its_own() {
        let alone = |fault: Fault| {
            (0..5_000).any(|seed| {
                let faults = Faults::draw(&mut Choices::split(seed, "faults"));
                faults.armed().eq([fault])
            })
        };
        for fault in Fault::ALL {
            assert!(alone(*fault), "{}", fault.number());
        }
    }
}
