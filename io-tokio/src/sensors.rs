//! How the device is: load, memory, battery, heat, NPU. Sampled in the background, never while a bid waits; every
//! value may be unknown, and what is unknown ranks last.
//!
//! Where Android or a container forbids a file the next best source is used, and [`Sensors::describe`] says which
//! one that is. Nothing is taken at its word that a kernel gives instead of a refusal: zeros, constants, values out
//! of range.

mod battery;
mod cpu;
mod fixed;
mod heat;
mod memory;
pub mod npu;
mod portable;
mod root;
mod system;
mod termux;

use async_trait::async_trait;
use bidmesh_core::hours::MinuteOfDay;
use bidmesh_core::input::Sensors as Reading;
use serde::Serialize;

pub use fixed::FixedSensors;
pub use heat::HeatSource;
pub use system::{SystemSensors, SystemSensorsOptions};

/// The local time of day: the zone is that of the system, of `TZ` or of Android's setting, else UTC.
fn minute_of_day() -> Option<MinuteOfDay> {
    let now = jiff::Zoned::now();
    MinuteOfDay::new(now.hour().unsigned_abs().into(), now.minute().unsigned_abs().into())
}

/// Reads what can be measured.
#[async_trait]
pub trait Sensors: Send + Sync {
    /// One reading. May take a while (some batteries answer late), never panics.
    async fn read(&self) -> Reading;

    /// Where each value of the last reading came from, for `status`.
    fn describe(&self) -> Description {
        Description::default()
    }
}

/// Where the values of a reading come from.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Description {
    /// The processor's load.
    pub cpu: Source,
    /// The share of memory in use.
    pub ram: Source,
    /// The battery's charge, and whether it charges.
    pub battery: Source,
    /// The temperature.
    pub temperature: Source,
}

/// Where one value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Source {
    /// Measured.
    Measured {
        /// A file, a system call or a command, in words.
        from: String,
    },
    /// Derived from something related, since the value itself cannot be read here.
    Estimated {
        /// A file, a system call or a command, in words.
        from: String,
        /// Why it is not measured.
        why: String,
    },
    /// Not known.
    Unknown {
        /// Why, in words.
        why: String,
    },
}

impl Source {
    fn measured(from: impl Into<String>) -> Self {
        Self::Measured { from: from.into() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::unknown("nothing was read yet")
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Measured { from } => f.write_str(from),
            Self::Estimated { from, why } => write!(f, "estimated from {from} ({why})"),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}
