//! A few worlds with a story each, readable by somebody who has never seen the mesh: `bidmesh-sim scenario NAME`.

use std::time::Duration;

use crate::world::HEARTBEATS_AMONG;
use crate::world::fault::{Fault, Faults};
use crate::world::plan::{Anew, Ask, Plan, Size, Without};

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub story: &'static str,
    devices: usize,
    shells: usize,
    faults: &'static [(Fault, u64)],
    prompts: usize,
    stores: u64,
}

const HERD: Scenario = Scenario {
    name: "herd",
    story: "A thousand devices, four of which know all the others: every auction is answered by a thousand bids.",
    devices: 1_000,
    shells: 0,
    faults: &[],
    prompts: 8,
    stores: 0,
};

/// All stories.
pub const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "lossy",
        story: "Four devices behind a bad access point: a fifth of all messages is lost, some are copied, and the sender is often told the opposite of what happened. Each prompt still ends once.",
        devices: 4,
        shells: 0,
        faults: &[
            (Fault::Refused, 10),
            (Fault::LostInSilence, 10),
            (Fault::DeliveredToldFailed, 10),
            (Fault::Copied, 20),
        ],
        prompts: 4,
        stores: 0,
    },
    Scenario {
        name: "partition",
        story: "Six devices in two rooms; the door closes now and then, and nobody on one side hears the other.",
        devices: 6,
        shells: 0,
        faults: &[(Fault::Partitioned, 20)],
        prompts: 4,
        stores: 0,
    },
    Scenario {
        name: "doze",
        story: "Phones that sleep in the middle of an auction, of a run, of asking; when they wake, everything that is overdue comes at once.",
        devices: 4,
        shells: 0,
        faults: &[(Fault::Asleep, 25)],
        prompts: 4,
        stores: 100,
    },
    HERD,
    Scenario {
        name: "shell-mix",
        story: "Two bidmesh devices among three phones of the shell mesh: one connection at a time, deaf while they run, and answers that come twice.",
        devices: 2,
        shells: 3,
        faults: &[(Fault::Copied, 20)],
        prompts: 5,
        stores: 0,
    },
    Scenario {
        name: "battery",
        story: "Phones whose charge falls while they work: below a fifth they refuse, at nothing they are gone without a word, and the next best bidder gets the prompt.",
        devices: 5,
        shells: 0,
        faults: &[(Fault::BatteryDying, 40), (Fault::PowerLost, 10)],
        prompts: 6,
        stores: 50,
    },
    Scenario {
        name: "two-orchestrators",
        story: "Two people at two devices ask at the same instant, and there are few slots: whoever comes second is turned away at once and goes to the next best.",
        devices: 3,
        shells: 0,
        faults: &[(Fault::EqualMetrics, 5)],
        prompts: 6,
        stores: 0,
    },
];

impl Scenario {
    /// The story of that name.
    pub fn find(name: &str) -> Option<Self> {
        SCENARIOS.into_iter().find(|scenario| scenario.name == name)
    }

    /// Its world.
    pub fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::draw(seed, Size::Devices(self.devices), &Without::default());
        plan.faults = Faults::none();
        for (fault, rate) in self.faults {
            plan.faults.arm(*fault, *rate);
        }
        (plan.shells, plan.stores, plan.small_core) = (self.shells, self.stores, false);
        (plan.bytes, plan.twins) = (false, false);
        let mut config = bidmesh_core::Config::default();
        config.limits.decisions = 8;
        if self.devices > HEARTBEATS_AMONG {
            config.detection.heartbeat = Duration::ZERO;
        }
        (plan.config, plan.anew, plan.edited) = (config, Anew::Nobodys, false);
        plan.varied.all_able = true;
        plan.storm = Duration::from_secs(60);
        let spread = if self.name == "two-orchestrators" { 0 } else { 4 };
        plan.asks = asks(seed, self.prompts, spread);
        plan
    }
}

/// A quiet mesh of this size, to measure by: eight prompts, nothing goes wrong.
pub fn steady(devices: usize) -> Plan {
    Scenario { devices, ..HERD }.plan(1)
}

/// A hundred auctions of 200 bidders each, and one that asks all devices.
pub fn herd(devices: usize) -> Plan {
    let mut plan = steady(devices);
    plan.storm = Duration::from_secs(600);
    plan.asks = asks(1, 101, 5);
    for ask in &mut plan.asks {
        ask.among = (ask.number < 100).then_some(200);
        ask.plain = true;
    }
    plan
}

/// A quiet mesh whose loads stay as they are; only the auctions of its prompts are asked for, each `spread` seconds after
/// the one before.
pub fn decisions(seed: u64, devices: usize, prompts: usize, spread: u64) -> Plan {
    let mut plan = Scenario { devices, ..HERD }.plan(seed);
    plan.asks = asks(seed, prompts, spread);
    for ask in &mut plan.asks {
        ask.at += Duration::from_secs(20);
        (ask.device, ask.plain, ask.dry) = (0, true, true);
    }
    plan.storm = Duration::from_secs(30 + spread * prompts as u64);
    plan.varied.steady = true;
    plan
}

fn asks(seed: u64, prompts: usize, spread: u64) -> Vec<Ask> {
    let ask = |number: usize| {
        let draw = seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ask::new(number, Duration::from_secs(1 + spread * number as u64), number % 2, draw)
    };
    (0..prompts).map(ask).collect()
}
