//! All values, as the program uses them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bidmesh_core::Config;
use bidmesh_core::id::DeviceId;
use bidmesh_core::load::DeciCelsius;
use bidmesh_core::wire::WireLimits;

use super::value::{Executor, Secret};
use crate::execute::Preset;
use crate::store::StoreOptions;

/// The values of all settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// What core goes by. [`super::Settings::core`] gives it with the limit of heat that fits the sensors.
    pub core: Config,
    /// What device_config.json says.
    pub device: DeviceValues,
    /// Where peers reach this device.
    pub listen: SocketAddr,
    /// What runs prompts.
    pub executor: ExecutorValues,
    /// What is taken from outside.
    pub network: NetworkValues,
    /// What is measured.
    pub sensors: SensorValues,
    /// What survives the process.
    pub store: StoreValues,
    /// The port of the control API on loopback; 0 lets the system choose.
    pub control_port: u16,
    /// How long running work may take at an orderly end.
    pub shutdown_within: Duration,
}

/// Who this device is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceValues {
    /// Its id; `None`: not chosen yet.
    pub id: Option<DeviceId>,
    /// Whether it has an NPU; `None`: detected.
    pub has_npu: Option<bool>,
}

/// What runs prompts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ExecutorValues {
    /// A command, a server, the embedded model, or nothing; `None`: nobody has said.
    pub run: Option<Executor>,
    /// What a command prints around its answers.
    pub preset: Preset,
    /// Whether it uses the NPU.
    pub npu: bool,
    /// The model that a server is asked for; `None`: the server's own choice.
    pub model: Option<String>,
    /// The most tokens of an answer of a server or of the embedded model; `None`: as they like.
    pub tokens: Option<u32>,
    /// The key that a server wants.
    pub key: Option<Secret>,
}

/// What is taken from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkValues {
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// Connections at a time, in all.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_address: usize,
    /// How long a connection may stay without a first byte.
    pub first_byte: Duration,
    /// How long a message may take in all.
    pub whole_message: Duration,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorValues {
    /// How often the sensors are read.
    pub interval: Duration,
    /// The limit of heat where only the processor's temperature is known.
    pub processor_heat_max: DeciCelsius,
}

/// What survives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreValues {
    /// Whether anything does.
    pub enabled: bool,
    /// Whether a commit waits until the disk has it.
    pub sync: bool,
    /// How long ended tasks and acknowledged results are remembered.
    pub age: Duration,
}

/// Ended prompts that are remembered: more than may be open at once, so that a batch of as many as that can be asked
/// again and finds what is done.
const CLOSED_TASKS: usize = 16_384;

impl Default for Values {
    fn default() -> Self {
        let mut core = Config::default();
        core.limits.closed_tasks = CLOSED_TASKS;
        Self {
            core,
            device: DeviceValues::default(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9999),
            executor: ExecutorValues::default(),
            network: NetworkValues {
                message_bytes: WireLimits::default().message_bytes,
                connections: 256,
                connections_per_address: 32,
                first_byte: Duration::from_secs(5),
                whole_message: Duration::from_secs(30),
            },
            sensors: SensorValues {
                interval: Duration::from_secs(5),
                // Boards and laptops slow themselves down some degrees above.
                processor_heat_max: DeciCelsius(850),
            },
            store: StoreValues {
                enabled: true,
                sync: StoreOptions::default().sync,
                age: StoreOptions::default().age,
            },
            control_port: 0,
            shutdown_within: Duration::from_secs(10),
        }
    }
}
