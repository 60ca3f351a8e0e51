//! Which mesh is explored, and how much may go wrong in it.

use std::fmt;
use std::time::Duration;

use bidmesh_core::Config;
use bidmesh_core::config::Detection;

/// A mesh and what may happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mesh {
    /// Devices that ask one prompt each; they run nothing themselves.
    pub orchestrators: u8,
    /// Devices that run prompts, one at a time.
    pub bidders: u8,
    /// Shell devices besides.
    pub shells: u8,
    /// Whether a record is written later than others act on what they hear meanwhile; else at once.
    pub slow_store: bool,
    /// Whether devices give each other signs of life, and judge each other by them.
    pub heartbeats: bool,
    /// What may go wrong.
    pub budgets: Budgets,
}

/// How often each kind of fault may happen in the whole life of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budgets {
    /// A message arrives, and a copy of it may arrive at any later time.
    pub copies: u8,
    /// A message is lost; its sender is told that it was refused, that nobody knows, or that it arrived.
    pub losses: u8,
    /// A message arrives, but its sender is told that nobody knows.
    pub doubts: u8,
    /// A message arrives, and its sender is told so later than others act on it.
    pub lates: u8,
    /// A device's next deadline comes before what is on its way to it.
    pub wakes: u8,
    /// A run fails.
    pub errors: u8,
    /// A run never ends by itself.
    pub hangs: u8,
    /// A bidder loses power and is back at once, without memory.
    pub crashes: u8,
    /// The person does not want the answer any more.
    pub cancels: u8,
    /// A run tells a piece of its text before it ends.
    pub texts: u8,
}

impl Budgets {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        copies: 0,
        losses: 0,
        doubts: 0,
        lates: 0,
        wakes: 0,
        errors: 0,
        hangs: 0,
        crashes: 0,
        cancels: 0,
        texts: 0,
    };

    fn named(&self) -> [(u8, &'static str); 10] {
        [
            (self.copies, "copies"),
            (self.losses, "losses"),
            (self.doubts, "doubts"),
            (self.lates, "late answers"),
            (self.wakes, "early wakes"),
            (self.errors, "errors"),
            (self.hangs, "hangs"),
            (self.crashes, "crashes"),
            (self.cancels, "cancels"),
            (self.texts, "texts"),
        ]
    }
}

impl fmt::Display for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.orchestrators, self.bidders)?;
        if self.shells > 0 {
            write!(f, " + {} shell", self.shells)?;
        }
        if self.heartbeats {
            write!(f, ", heartbeats")?;
        }
        if self.slow_store {
            write!(f, ", slow store")?;
        }
        for (count, name) in self.budgets.named().into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        Ok(())
    }
}

impl Mesh {
    /// The settings of its devices: as they are usually, but with draws that do not depend on how many letters there
    /// were before, and with ends that are near, so that the idle steps of a hanging run are few.
    pub(super) fn config(&self) -> Config {
        let s = Duration::from_secs;
        let mut config = Config::default();
        // A heartbeat is always pending: all other meshes come to rest.
        let beating = Detection { heartbeat: s(10), ..Detection::OFF };
        config.detection = if self.heartbeats { beating } else { Detection::OFF };
        let timing = &mut config.timing;
        timing.retry_low = timing.retry_high;
        timing.result_timeout = s(30);
        timing.run_limit = s(30);
        timing.result_offer_max = s(4);
        timing.result_kept = s(60);
        timing.busy_pause_max = s(4);
        timing.ageing = Duration::ZERO;
        timing.hello_interval = Duration::ZERO;
        // Only shell devices are judged by when they were heard.
        timing.shell_busy = if self.shells > 0 { s(10) } else { Duration::ZERO };
        config
    }
}
