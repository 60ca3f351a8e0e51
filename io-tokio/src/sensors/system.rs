//! The sensors of the machine that this runs on.
//!
//! One reading opens half a dozen small files and keeps nothing but the last counters, so that an idle device
//! stays asleep and small.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bidmesh_core::input::Sensors as Reading;

use super::battery::{self, Battery, NoBattery};
use super::cpu::CpuProbe;
use super::heat::{HeatProbe, HeatSource};
use super::root::Root;
use super::termux::{self, TermuxBattery};
use super::{Description, Sensors, Source, memory};

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemSensorsOptions {
    /// The folder that holds `proc` and `sys`: `/`, or a tree of files in a test.
    pub root: PathBuf,
    /// The command that tells of the battery where the kernel hides it, if it is installed.
    pub battery_command: Option<PathBuf>,
}

impl Default for SystemSensorsOptions {
    /// This machine, and `termux-battery-status` where the person's path or Termux has it.
    fn default() -> Self {
        Self { root: "/".into(), battery_command: termux::find() }
    }
}

/// The sensors of this machine. The load is that between two readings: the first one does not know it.
#[derive(Debug)]
pub struct SystemSensors {
    probes: Arc<Mutex<Probes>>,
    termux: Option<TermuxBattery>,
    heat: HeatSource,
}

#[derive(Debug)]
struct Probes {
    root: Root,
    cpu: CpuProbe,
    heat: HeatProbe,
    description: Description,
}

impl SystemSensors {
    /// Looks around once: which battery and which temperature there are.
    pub fn new(options: SystemSensorsOptions) -> Self {
        let root = Root::new(options.root);
        let hidden = match battery::sample(&root) {
            Ok((battery, _)) => battery.charge.is_none(),
            Err(NoBattery::Unreadable(_)) => true,
            Err(NoBattery::None) => false,
        };
        let command = options.battery_command.filter(|_| hidden);
        let termux = command.map(|command| TermuxBattery::new(&command, termux::LIMIT));
        let heat = HeatProbe::choose(&root, termux.is_some());
        let source = heat.source();
        let probes = Probes { root, cpu: CpuProbe::default(), heat, description: Description::default() };
        Self { probes: Arc::new(Mutex::new(probes)), termux, heat: source }
    }

    /// Whose temperature is read; decides which limit fits it. Does not change while this lives.
    pub fn heat_source(&self) -> HeatSource {
        self.heat
    }
}

#[async_trait]
impl Sensors for SystemSensors {
    async fn read(&self) -> Reading {
        let elsewhere = self.termux.as_ref().map(TermuxBattery::latest);
        let probes = self.probes.clone();
        // A fuel gauge on a slow bus can take tens of milliseconds, in which no message should wait.
        let reading = tokio::task::spawn_blocking(move || lock(&probes).sample(elsewhere));
        // It fails only while the runtime shuts down.
        reading.await.unwrap_or_default()
    }

    fn describe(&self) -> Description {
        lock(&self.probes).description.clone()
    }
}

impl Probes {
    fn sample(&mut self, elsewhere: Option<Result<Battery, String>>) -> Reading {
        let (cpu, cpu_source) = self.cpu.sample(&self.root);
        let (ram, ram_source) = memory::sample(&self.root);
        let (battery, battery_source) = self.battery(elsewhere);
        let (temperature, temperature_source) =
            self.heat.sample(&self.root, (battery.temperature, &battery_source.to_string()));
        self.description = Description {
            cpu: cpu_source,
            ram: ram_source,
            battery: battery_source,
            temperature: temperature_source,
        };
        let minute_of_day = super::minute_of_day();
        Reading { cpu, ram, battery: battery.charge, charging: battery.charging, temperature, minute_of_day }
    }

    /// The kernel's word on the battery, else that of the command.
    fn battery(&self, elsewhere: Option<Result<Battery, String>>) -> (Battery, Source) {
        let (battery, why) = match battery::sample(&self.root) {
            Ok((battery, source)) if battery.charge.is_some() => return (battery, source),
            Ok((battery, Source::Unknown { why })) => (battery, why),
            Ok((battery, source)) => (battery, source.to_string()),
            Err(none) => (Battery::default(), none.words()),
        };
        match elsewhere {
            Some(Ok(told)) => (told, Source::measured(termux::COMMAND)),
            Some(Err(trouble)) => (battery, Source::unknown(format!("{why}; {trouble}"))),
            None => (battery, Source::unknown(why)),
        }
    }
}

/// The probes are whole between two statements: a panic elsewhere cannot have left them broken.
fn lock(probes: &Mutex<Probes>) -> MutexGuard<'_, Probes> {
    probes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;
    use bidmesh_core::load::{DeciCelsius, Load, Percent};

    fn sensors(tree: &Tree) -> SystemSensors {
        SystemSensors::new(SystemSensorsOptions { root: tree.root().path(""), battery_command: None })
    }

    #[tokio::test]
    async fn a_phone_is_read_whole() {
        let tree = Tree::new();
        tree.write("proc/stat", "cpu 100 0 0 900 0 0 0 0\n");
        tree.write("proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 6000 kB\n");
        for (file, text) in [("type", "Battery"), ("capacity", "83"), ("status", "Charging"), ("temp", "314")]
        {
            tree.write(&format!("sys/class/power_supply/battery/{file}"), text);
        }
        let sensors = sensors(&tree);
        assert_eq!(sensors.heat_source(), HeatSource::Battery);
        assert_eq!(sensors.read().await.cpu, None, "the first reading has no earlier one to compare with");
        tree.write("proc/stat", "cpu 150 0 0 950 0 0 0 0\n");
        let expected = Reading {
            cpu: Load::from_ppm(500_000),
            ram: Load::from_ppm(250_000),
            battery: Percent::new(83),
            charging: Some(true),
            temperature: Some(DeciCelsius(314)),
            minute_of_day: None,
        };
        let reading = sensors.read().await;
        assert!(reading.minute_of_day.is_some(), "every machine has a clock, right or wrong");
        assert_eq!(Reading { minute_of_day: None, ..reading }, expected);
        insta::assert_debug_snapshot!(sensors.describe(), @r#"
        Description {
            cpu: Measured {
                from: "/proc/stat",
            },
            ram: Measured {
                from: "/proc/meminfo",
            },
            battery: Measured {
                from: "/sys/class/power_supply/battery",
            },
            temperature: Measured {
                from: "the battery, /sys/class/power_supply/battery",
            },
        }
        "#);
    }

    #[tokio::test]
    async fn an_empty_system_knows_nothing_and_says_why() {
        let tree = Tree::new();
        let sensors = sensors(&tree);
        assert_eq!(Reading { minute_of_day: None, ..sensors.read().await }, Reading::default());
        let told = sensors.describe();
        for source in [told.cpu, told.ram, told.battery, told.temperature] {
            assert!(matches!(source, Source::Unknown { .. }), "{source}");
        }
    }

    #[tokio::test]
    async fn where_the_kernel_hides_the_battery_the_command_tells_it() {
        let tree = Tree::new();
        tree.deny("sys/class/power_supply/battery/type");
        tree.write("sys/class/thermal/thermal_zone0/type", "cpu");
        tree.write("sys/class/thermal/thermal_zone0/temp", "71000");
        tree.program(
            "termux-battery-status",
            r#"echo '{"percentage": 12, "status": "FULL", "temperature": 30.5}'"#,
        );
        let sensors = SystemSensors::new(SystemSensorsOptions {
            root: tree.root().path(""),
            battery_command: Some(tree.root().path("termux-battery-status")),
        });
        assert_eq!(sensors.heat_source(), HeatSource::Battery);
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            loop {
                let reading = sensors.read().await;
                if reading.battery.is_some() {
                    return reading;
                }
                // Until then the processor's heat does not stand in for the battery's.
                assert_eq!(reading.temperature, None);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        let told = told.await.unwrap();
        assert_eq!((told.battery, told.charging), (Percent::new(12), Some(true)));
        assert_eq!(told.temperature, Some(DeciCelsius(305)));
    }

    #[tokio::test]
    async fn where_the_kernel_does_not_tell_the_charge_the_command_does() {
        let tree = Tree::new();
        tree.write("sys/class/power_supply/battery/type", "Battery");
        let sensors = sensors(&tree);
        let told = Battery { charge: Percent::new(12), charging: Some(false), temperature: None };
        let (battery, source) = lock(&sensors.probes).battery(Some(Ok(told)));
        assert_eq!((battery, source), (told, Source::measured(termux::COMMAND)));
        let (battery, source) = lock(&sensors.probes).battery(Some(Err("it hangs".into())));
        assert_eq!(battery.charge, None);
        let source = source.to_string();
        assert!(source.contains("no charge that can be read") && source.ends_with("it hangs"), "{source}");
    }

    #[tokio::test]
    async fn a_board_without_a_battery_runs_no_command() {
        let tree = Tree::new();
        tree.write("sys/class/power_supply/AC/type", "Mains");
        tree.program("termux-battery-status", "echo '{}'");
        let sensors = SystemSensors::new(SystemSensorsOptions {
            root: tree.root().path(""),
            battery_command: Some(tree.root().path("termux-battery-status")),
        });
        assert!(sensors.termux.is_none());
        assert_eq!(sensors.read().await.battery, None);
        assert_eq!(sensors.describe().battery.to_string(), "unknown: /sys/class/power_supply: no battery");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_machine_knows_its_memory() {
        let reading = SystemSensors::new(SystemSensorsOptions::default()).read().await;
        assert!(reading.ram.is_some_and(|ram| ram > Load::IDLE && ram < Load::FULL));
    }
}
