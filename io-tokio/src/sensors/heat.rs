//! The temperature: the battery's where there is one, else the processor's.
//!
//! The two are no substitute for each other: 45 °C is the limit of a battery and a processor at rest. So the source
//! is chosen once, at start, and told ([`HeatSource`]), so that the limit can fit it.

use bidmesh_core::load::DeciCelsius;
use serde::Serialize;

use super::root::Root;
use super::{Source, battery, portable};

const ZONES: &str = "sys/class/thermal";
/// Phones have up to about a hundred.
const ZONES_MAX: usize = 512;
/// What is colder or hotter is a broken sensor, or one that is switched off.
const SANE: std::ops::RangeInclusive<i64> = -400..=1250;

/// Whose temperature is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeatSource {
    /// The battery's, or that of the device's skin beside it.
    Battery,
    /// The processor's, which is far hotter at work than a battery may ever be.
    Processor,
    /// Nobody's.
    #[default]
    Unknown,
}

/// Where the temperature is read, chosen once.
#[derive(Clone, Debug, Default)]
pub(super) enum HeatProbe {
    /// With the battery.
    Battery,
    /// From these zones of the kernel, which are all of one source; the hottest counts.
    Zones(HeatSource, Vec<String>),
    /// Through the library, where there are no zones.
    Portable,
    /// Nowhere.
    #[default]
    Unknown,
}

impl HeatProbe {
    /// Looks for the best source. `battery_elsewhere`: a battery that the kernel's files do not show will tell.
    pub(super) fn choose(root: &Root, battery_elsewhere: bool) -> Self {
        let own = battery::sample(root).is_ok_and(|(battery, _)| battery.temperature.is_some());
        if own || battery_elsewhere {
            return Self::Battery;
        }
        for source in [HeatSource::Battery, HeatSource::Processor] {
            let zones: Vec<String> = root
                .names(ZONES)
                .into_iter()
                .filter(|name| name.starts_with("thermal_zone"))
                .take(ZONES_MAX)
                .filter(|name| kind(root, name) == source && zone(root, name).is_some())
                .collect();
            if !zones.is_empty() {
                return Self::Zones(source, zones);
            }
        }
        if portable::processor_temperature(root).is_some() { Self::Portable } else { Self::Unknown }
    }

    /// Whose temperature this is.
    pub(super) fn source(&self) -> HeatSource {
        match self {
            Self::Battery => HeatSource::Battery,
            Self::Zones(source, _) => *source,
            Self::Portable => HeatSource::Processor,
            Self::Unknown => HeatSource::Unknown,
        }
    }

    /// The temperature, and where it comes from. `battery` is what the battery says at this moment.
    pub(super) fn sample(
        &self,
        root: &Root,
        battery: (Option<DeciCelsius>, &str),
    ) -> (Option<DeciCelsius>, Source) {
        match self {
            Self::Battery => match battery {
                (Some(value), from) => (Some(value), Source::measured(format!("the battery, {from}"))),
                (None, from) => (None, Source::unknown(format!("the battery tells none ({from})"))),
            },
            Self::Zones(source, zones) => {
                let hottest = zones
                    .iter()
                    .filter_map(|name| Some((zone(root, name)?, name)))
                    .max_by_key(|(value, _)| *value);
                let whose = if *source == HeatSource::Battery { "battery" } else { "processor" };
                match hottest {
                    Some((value, name)) => {
                        (Some(value), Source::measured(format!("the {whose}, /{ZONES}/{name}")))
                    }
                    None => (
                        None,
                        Source::unknown(format!("/{ZONES}: the zones of the {whose} tell nothing now")),
                    ),
                }
            }
            Self::Portable => match portable::processor_temperature(root) {
                Some(value) => (Some(value), Source::measured("the processor, the sysinfo library")),
                None => (None, Source::unknown("the sysinfo library tells nothing now")),
            },
            Self::Unknown => (
                None,
                Source::unknown(format!("no battery and no zone of /{ZONES} that tells a temperature")),
            ),
        }
    }
}

/// Whose zone this is, by its type as vendors write it.
fn kind(root: &Root, name: &str) -> HeatSource {
    let Some(kind) = root.word(&format!("{ZONES}/{name}/type")) else { return HeatSource::Unknown };
    let kind = kind.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    if has(&["battery", "skin", "quiet_therm", "quiet-therm"]) || kind == "batt" || kind == "bat" {
        HeatSource::Battery
    } else if has(&["cpu", "x86_pkg", "soc", "k10temp", "big", "little", "mtktsap"]) {
        HeatSource::Processor
    } else {
        HeatSource::Unknown
    }
}

/// A zone's temperature. The kernel's unit is a thousandth of a degree; some vendors write tenths or whole degrees.
fn zone(root: &Root, name: &str) -> Option<DeciCelsius> {
    let value = root.number(&format!("{ZONES}/{name}/temp"))?;
    match value.unsigned_abs() {
        // A sensor that is switched off reads 0.
        0 => None,
        1..150 => sane(value * 10),
        150..1000 => sane(value),
        _ => sane(value / 100),
    }
}

/// Tenths of a degree as a temperature, if a device can have it.
pub(super) fn sane(tenths: i64) -> Option<DeciCelsius> {
    SANE.contains(&tenths).then_some(tenths).and_then(|tenths| i16::try_from(tenths).ok()).map(DeciCelsius)
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;

    fn tree(zones: &[(&str, &str)]) -> Tree {
        let tree = Tree::new();
        for (number, (kind, temp)) in zones.iter().enumerate() {
            tree.write(&format!("{ZONES}/thermal_zone{number}/type"), format!("{kind}\n"));
            tree.write(&format!("{ZONES}/thermal_zone{number}/temp"), format!("{temp}\n"));
        }
        tree.write("sys/class/thermal/cooling_device0/type", "cpu");
        tree
    }

    fn read(tree: &Tree) -> (HeatSource, Option<i16>) {
        let probe = HeatProbe::choose(&tree.root(), false);
        let (value, _) = probe.sample(&tree.root(), (None, "no battery"));
        (probe.source(), value.map(|value| value.0))
    }

    #[test]
    fn a_zone_of_the_battery_is_preferred_to_a_hotter_processor() {
        let tree =
            tree(&[("cpu-0-0", "71000"), ("battery", "31500"), ("gpu", "90000"), ("skin-therm", "33000")]);
        assert_eq!(read(&tree), (HeatSource::Battery, Some(330)));
        for name in ["batt", "bat"] {
            assert_eq!(
                read(&self::tree(&[("cpu", "71000"), (name, "31500")])),
                (HeatSource::Battery, Some(315))
            );
        }
    }

    #[test]
    fn the_hottest_zone_of_the_processor_counts_where_no_battery_tells() {
        let tree = tree(&[("cpu-0-0", "61000"), ("cpu-0-1", "64400"), ("modem", "90000")]);
        assert_eq!(read(&tree), (HeatSource::Processor, Some(644)));
    }

    #[test]
    fn whose_temperature_it_is_is_said() {
        for (kind, whose) in [("battery", "battery"), ("cpu", "processor")] {
            let tree = tree(&[(kind, "31500")]);
            let (_, source) = HeatProbe::choose(&tree.root(), false).sample(&tree.root(), (None, ""));
            let from = format!("the {whose}, /sys/class/thermal/thermal_zone0");
            assert_eq!(source, Source::measured(from));
        }
    }

    #[test]
    fn units_of_vendors_are_told_apart_by_their_size() {
        for (text, expected) in
            [("45", Some(450)), ("451", Some(451)), ("45100", Some(451)), ("-10000", Some(-100))]
        {
            assert_eq!(read(&tree(&[("cpu", text)])).1, expected, "{text}");
        }
    }

    #[test]
    fn what_no_device_survives_is_unknown() {
        for text in ["0", "-274000", "200000", "9999999999999999999", "", "x"] {
            assert_eq!(read(&tree(&[("cpu", text)])), (HeatSource::Unknown, None), "{text:?}");
        }
    }

    #[test]
    fn a_zone_that_falls_silent_is_unknown_and_not_replaced_by_another_kind() {
        let tree = tree(&[("battery", "31500"), ("cpu", "80000")]);
        let probe = HeatProbe::choose(&tree.root(), false);
        tree.write(&format!("{ZONES}/thermal_zone0/temp"), "0");
        let (value, source) = probe.sample(&tree.root(), (None, ""));
        assert_eq!(value, None);
        assert!(matches!(source, Source::Unknown { .. }));
    }
}
