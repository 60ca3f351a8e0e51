//! The battery's charge, whether it charges, and its temperature, from `/sys/class/power_supply`.

use bidmesh_core::load::{DeciCelsius, Percent};

use super::Source;
use super::heat::sane;
use super::root::Root;

const SUPPLIES: &str = "sys/class/power_supply";
/// Real devices have fewer than a dozen.
const SUPPLIES_MAX: usize = 64;

/// What a battery says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Battery {
    pub(super) charge: Option<Percent>,
    pub(super) charging: Option<bool>,
    pub(super) temperature: Option<DeciCelsius>,
}

/// What was found instead of a battery's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoBattery {
    /// The system lists its supplies and none of them is a battery: a board, a desktop.
    None,
    /// Nothing can be read: the reason, in words.
    Unreadable(String),
}

impl NoBattery {
    pub(super) fn words(&self) -> String {
        match self {
            Self::None => format!("/{SUPPLIES}: no battery"),
            Self::Unreadable(why) => why.clone(),
        }
    }
}

/// The device's battery, and where it stands.
pub(super) fn sample(root: &Root) -> Result<(Battery, Source), NoBattery> {
    if let Err(error) = std::fs::read_dir(root.path(SUPPLIES)) {
        return Err(NoBattery::Unreadable(Root::refusal(SUPPLIES, &error)));
    }
    let names = root.names(SUPPLIES);
    let (mut batteries, mut plugged, mut unreadable) = (Vec::new(), None, None);
    for name in names.iter().take(SUPPLIES_MAX) {
        match root.read(&format!("{SUPPLIES}/{name}/type")).as_deref().map(str::trim) {
            Ok("Battery") if !is_accessory(root, name) => batteries.push(name.as_str()),
            Ok("Mains" | "USB" | "Wireless") => {
                let online = root.number(&format!("{SUPPLIES}/{name}/online")).map(|online| online > 0);
                plugged = plugged.max(online);
            }
            Ok(_) => {}
            Err(error) => unreadable = Some(Root::refusal(&format!("{SUPPLIES}/{name}/type"), error)),
        }
    }
    // Android's own name for the one that counts; some phones list the fuel gauge beside it.
    if batteries.contains(&"battery") {
        batteries = vec!["battery"];
    }
    if batteries.is_empty() {
        return Err(unreadable.map_or(NoBattery::None, NoBattery::Unreadable));
    }
    let read: Vec<Battery> = batteries.iter().map(|name| one(root, name, plugged)).collect();
    let from = batteries.iter().map(|name| format!("/{SUPPLIES}/{name}")).collect::<Vec<_>>().join(", ");
    let battery = together(&read);
    match battery.charge {
        Some(_) => Ok((battery, Source::measured(from))),
        None => Ok((battery, Source::unknown(format!("{from}: no charge that can be read")))),
    }
}

/// Whether this is the battery of a mouse or a pen.
fn is_accessory(root: &Root, name: &str) -> bool {
    root.word(&format!("{SUPPLIES}/{name}/scope")).as_deref() == Some("Device")
}

fn one(root: &Root, name: &str, plugged: Option<bool>) -> Battery {
    let file = |file: &str| format!("{SUPPLIES}/{name}/{file}");
    let charging = match root.word(&file("status")).as_deref() {
        Some("Charging" | "Full") => Some(true),
        Some("Discharging") => Some(false),
        // Held below full on purpose, or not told: what counts is whether it is being drained.
        Some("Not charging") => Some(plugged.unwrap_or(false)),
        _ => plugged,
    };
    Battery {
        charge: root.number(&file("capacity")).and_then(percent),
        charging,
        // The kernel's unit is a tenth of a degree.
        temperature: root.number(&file("temp")).and_then(sane),
    }
}

/// A laptop may have two: their mean charge, charging if one is, the hotter temperature.
fn together(batteries: &[Battery]) -> Battery {
    let charges: Vec<u32> = batteries.iter().filter_map(|b| b.charge).map(|c| u32::from(c.value())).collect();
    let count = u32::try_from(charges.len()).unwrap_or(u32::MAX);
    let mean = charges.iter().sum::<u32>().checked_div(count);
    Battery {
        charge: mean.and_then(|mean| percent(i64::from(mean))),
        charging: batteries.iter().filter_map(|b| b.charging).max(),
        temperature: batteries.iter().filter_map(|b| b.temperature).max(),
    }
}

pub(super) fn percent(value: i64) -> Option<Percent> {
    Percent::new(u8::try_from(value).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;

    fn supply(tree: &Tree, name: &str, files: &[(&str, &str)]) {
        for (file, text) in files {
            tree.write(&format!("{SUPPLIES}/{name}/{file}"), format!("{text}\n"));
        }
    }

    fn numbers(tree: &Tree) -> (Option<u8>, Option<bool>, Option<i16>) {
        let (battery, _) = sample(&tree.root()).unwrap();
        (battery.charge.map(Percent::value), battery.charging, battery.temperature.map(|t| t.0))
    }

    #[test]
    fn a_phone() {
        let tree = Tree::new();
        let files = [("type", "Battery"), ("capacity", "83"), ("status", "Discharging"), ("temp", "314")];
        supply(&tree, "battery", &files);
        supply(&tree, "bms", &[("type", "Battery"), ("capacity", "12"), ("status", "Unknown")]);
        supply(&tree, "usb", &[("type", "USB"), ("online", "0")]);
        assert_eq!(numbers(&tree), (Some(83), Some(false), Some(314)));
        assert_eq!(sample(&tree.root()).unwrap().1, Source::measured("/sys/class/power_supply/battery"));
    }

    #[test]
    fn a_laptop_with_two_batteries_and_a_mouse() {
        let tree = Tree::new();
        supply(&tree, "BAT0", &[("type", "Battery"), ("capacity", "20"), ("status", "Discharging")]);
        supply(&tree, "BAT1", &[("type", "Battery"), ("capacity", "81"), ("status", "Charging")]);
        supply(&tree, "mouse", &[("type", "Battery"), ("scope", "Device"), ("capacity", "3")]);
        assert_eq!(numbers(&tree), (Some(50), Some(true), None));
    }

    #[test]
    fn a_battery_that_is_held_below_full_is_not_drained() {
        let tree = Tree::new();
        supply(&tree, "AC", &[("type", "Mains"), ("online", "1")]);
        supply(&tree, "BAT0", &[("type", "Battery"), ("capacity", "80"), ("status", "Not charging")]);
        assert_eq!(numbers(&tree), (Some(80), Some(true), None));
        supply(&tree, "AC", &[("online", "0")]);
        assert_eq!(numbers(&tree).1, Some(false), "without a plug it is");
        let tree = Tree::new();
        supply(&tree, "BAT0", &[("type", "Battery"), ("capacity", "80"), ("status", "Not charging")]);
        assert_eq!(numbers(&tree).1, Some(false), "nor is a plug that nobody tells of believed in");
    }

    #[test]
    fn a_plug_that_gives_less_than_is_needed_does_not_charge() {
        let tree = Tree::new();
        supply(&tree, "usb", &[("type", "USB"), ("online", "1")]);
        supply(&tree, "battery", &[("type", "Battery"), ("capacity", "50"), ("status", "Discharging")]);
        assert_eq!(numbers(&tree).1, Some(false));
        supply(&tree, "battery", &[("status", "?")]);
        assert_eq!(numbers(&tree).1, Some(true), "where the battery does not say, the plug does");
    }

    #[test]
    fn garbage_is_unknown() {
        for (capacity, temp) in [("101", "99999"), ("-1", "-5000"), ("", ""), ("full", "hot")] {
            let tree = Tree::new();
            let files = [("type", "Battery"), ("capacity", capacity), ("status", "?"), ("temp", temp)];
            supply(&tree, "battery", &files);
            assert_eq!(numbers(&tree), (None, None, None), "{capacity:?}");
            assert!(matches!(sample(&tree.root()).unwrap().1, Source::Unknown { .. }));
        }
    }

    #[test]
    fn no_battery_and_no_permission_are_told_apart() {
        let tree = Tree::new();
        assert!(matches!(sample(&tree.root()), Err(NoBattery::Unreadable(_))));
        supply(&tree, "AC", &[("type", "Mains"), ("online", "1")]);
        assert_eq!(sample(&tree.root()), Err(NoBattery::None));
        tree.deny("sys/class/power_supply/battery/type");
        assert!(matches!(sample(&tree.root()), Err(NoBattery::Unreadable(_))));
    }
}
