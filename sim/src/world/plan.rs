//! The world that a seed draws: how many devices of which kind, what they are asked, what goes wrong. Topology,
//! workload and faults come from streams of their own, so each can be cut down while the others stay.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bidmesh_core::Config;

use super::choices::Choices;
use super::fault::{Fault, Faults};
use super::settings;

/// How large a world may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As the swarm draws it: mostly 2 to 8, sometimes up to 200.
    Drawn,
    /// So many bidmesh devices.
    Devices(usize),
}

/// What is left out of a drawn world, to make a failure smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Fault kinds that do not happen.
    pub faults: Vec<Fault>,
    /// Prompts that are not asked, by number.
    pub tasks: Vec<usize>,
    /// Only so many of the devices.
    pub devices: Option<usize>,
    /// No shell devices.
    pub shells: bool,
    /// Events of the storm that do not happen, by number ([`World::optional`](super::World::optional)).
    pub events: BTreeSet<u64>,
}

/// Seeds from here on are for campaigns.
pub const CAMPAIGNS_FROM: u64 = 1_000_000;

/// Whose settings are drawn anew, each within the bounds that a person may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anew {
    /// Nobody's.
    Nobodys,
    /// Those of all devices, the same for each.
    Everybodys,
    /// Each device's, for itself.
    Each,
}

impl Anew {
    fn draw(seed: u64) -> Self {
        // What any settings do to a world is looked for in campaigns; the seeds that everybody plays keep to those that worlds
        // were made for. A stream of such a name leaves the worlds of `sim/seeds.txt` as they were.
        if seed < CAMPAIGNS_FROM {
            return Self::Nobodys;
        }
        match Choices::split(seed, "edits of all").below(100) {
            0..6 => Self::Everybodys,
            6..14 => Self::Each,
            _ => Self::Nobodys,
        }
    }
}

/// One prompt of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its number.
    pub number: usize,
    /// When.
    pub at: Duration,
    /// At which device; taken modulo the devices.
    pub device: usize,
    /// The person gives up after this time.
    pub cancel_after: Option<Duration>,
    /// Only so many devices are asked, others each time; else all, or some as it is drawn.
    pub among: Option<usize>,
    /// Nothing else about it is drawn: no deadline, no policy of its own.
    pub plain: bool,
    /// Only the auction is asked for.
    pub dry: bool,
    /// Others ask at the same instant, at other devices.
    pub together: bool,
    /// Seed of everything else about it.
    pub draw: u64,
}

impl Ask {
    /// A prompt about which nothing is said yet.
    pub const fn new(number: usize, at: Duration, device: usize, draw: u64) -> Self {
        let (cancel_after, among, plain, dry, together) = (None, None, false, false, false);
        Self { number, at, device, cancel_after, among, plain, dry, together, draw }
    }
}

/// A drawn world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of this seed.
    pub seed: u64,
    /// bidmesh devices.
    pub devices: usize,
    /// Shell devices.
    pub shells: usize,
    /// Faults happen until then.
    pub storm: Duration,
    /// What is asked.
    pub asks: Vec<Ask>,
    /// Which faults, and how often.
    pub faults: Faults,
    /// Every message is written as bytes and read again.
    pub bytes: bool,
    /// Every input is handled twice, side by side.
    pub twins: bool,
    /// Settings of all devices, before anything of them is drawn anew.
    pub config: Config,
    /// Which of them are drawn anew, by how many.
    pub anew: Anew,
    /// People take devices out of peers.txt, and write them in again.
    pub edited: bool,
    /// Devices get warm.
    pub warm: bool,
    /// Percent of devices with a store.
    pub stores: u64,
    /// After the storm most devices are dead for good, and the rest must still work.
    pub small_core: bool,
    /// Events of the storm that do not happen.
    pub without: BTreeSet<u64>,
    /// What is other than the seed says.
    pub varied: Varied,
}

/// What may be changed in a world although an outcome should stay as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Varied {
    /// Other latencies, so another order of everything.
    pub links: u64,
    /// The first letter of bidmesh devices' names.
    pub letter: char,
    /// The last device has the highest load and no NPU.
    pub last_is_worst: bool,
    /// Loads stay as they are.
    pub steady: bool,
    /// Each device can run prompts.
    pub all_able: bool,
}

impl Varied {
    /// Nothing.
    pub const NOTHING: Self =
        Self { links: 0, letter: 'D', last_is_worst: false, steady: false, all_able: false };
}

impl Plan {
    /// The world of a seed.
    pub fn draw(seed: u64, size: Size, without: &Without) -> Self {
        let mut topology = Choices::split(seed, "topology");
        let drawn = match topology.below(200) {
            0 => topology.between(64, 200),
            1..20 => topology.between(9, 24),
            _ => topology.between(2, 8),
        };
        let drawn = usize::try_from(drawn).unwrap_or(2);
        let devices = if let Size::Devices(devices) = size { devices } else { drawn };
        let devices = without.devices.map_or(devices, |fewer| devices.min(fewer)).max(1);
        let shells = if topology.percent(50) { 1 + topology.index(3) } else { 0 };
        let (bytes, twins) = (topology.percent(25), topology.percent(12));
        let stores = topology.pick([0, 0, 50, 100]);
        let small_core = topology.percent(70);

        let mut faults = Faults::draw(&mut Choices::split(seed, "faults"));
        without.faults.iter().for_each(|fault| faults.arm(*fault, 0));
        let storm = Duration::from_secs(120);
        let asks = workload(seed, storm, &faults)
            .into_iter()
            .filter(|ask| !without.tasks.contains(&ask.number))
            .collect();
        let config = settings::draw(seed, faults.has(Fault::OddSettings), devices);
        Self {
            seed,
            devices,
            shells: if without.shells { 0 } else { shells },
            storm,
            asks,
            faults,
            bytes,
            // Twice the memory and time: for small worlds.
            twins: twins && devices <= 24,
            config,
            anew: Anew::draw(seed),
            edited: Choices::split(seed, "removal of people").percent(8),
            warm: Choices::split(seed, "climate").percent(15),
            stores,
            small_core,
            without: without.events.clone(),
            varied: Varied::NOTHING,
        }
    }
}

fn workload(seed: u64, storm: Duration, faults: &Faults) -> Vec<Ask> {
    let mut choices = Choices::split(seed, "workload");
    let number = choices.pick([1, 2, 4, 8, 12, 20]);
    let spread = u64::try_from(storm.as_millis()).unwrap_or(u64::MAX) / 2;
    let mut asks: Vec<Ask> = (0..number)
        .map(|number| {
            let (at, device, draw) = (choices.millis(0, spread), choices.index(1 << 16), choices.draw());
            let after = choices.millis(0, 20_000);
            let cancelled = choices.percent(faults.rate(Fault::Cancelled).max(5));
            let cancel_after = (cancelled && faults.has(Fault::Cancelled)).then_some(after);
            Ask { cancel_after, ..Ask::new(number, at, device, draw) }
        })
        .collect();
    if faults.has(Fault::Burst) {
        let (at, device) = (choices.millis(0, spread), choices.index(1 << 16));
        let many = choices.pick([10, 30, 100]);
        asks.extend((0..many).map(|n| Ask::new(number + n, at, device, choices.draw())));
    }
    if faults.has(Fault::Together) {
        together(&mut Choices::split(seed, "together"), spread, &mut asks);
    }
    asks
}

/// A few times several people ask at one instant, at devices beside each other.
fn together(choices: &mut Choices, spread: u64, asks: &mut Vec<Ask>) {
    for _ in 0..choices.between(1, 4) {
        let (at, first, many) = (choices.millis(0, spread), choices.index(1 << 16), 2 + choices.index(3));
        for device in first..first + many {
            asks.push(Ask { together: true, ..Ask::new(asks.len(), at, device, choices.draw()) });
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} bidmesh devices, {} shell devices, {} prompts{}{}",
            self.seed,
            self.devices,
            self.shells,
            self.asks.len(),
            if self.bytes { ", every message as bytes" } else { "" },
            if self.twins { ", every input twice" } else { "" },
        )?;
        writeln!(
            f,
            "slots {}, policy {}, heartbeats {}, {} % with a store, {} core after the storm{}",
            self.config.work.slots,
            self.config.policy,
            match self.config.detection.heartbeat.as_secs() {
                0 => "never".into(),
                seconds => format!("after {seconds} s"),
            },
            self.stores,
            if self.small_core { "a small" } else { "a whole" },
            match self.anew {
                Anew::Nobodys => "",
                Anew::Everybodys => ", settings drawn anew",
                Anew::Each => ", settings drawn anew for each device",
            },
        )?;
        let armed: Vec<String> =
            self.faults.armed().map(|x| format!("{} {} %", x.number(), self.faults.rate(x))).collect();
        write!(f, "faults: {}", if armed.is_empty() { "none".into() } else { armed.join(", ") })
    }
}
