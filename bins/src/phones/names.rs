//! Which phone is which device of the mesh.

use std::collections::{BTreeMap, BTreeSet};

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::DeviceMap;

use super::plan::Seen;
use super::probe::Probe;

/// Names by serial number: as the map has it, else as the phone says, else the next letter.
pub fn names(seen: &[Seen], map: &DeviceMap) -> BTreeMap<String, DeviceId> {
    let mapped: BTreeMap<String, DeviceId> =
        map.devices().iter().map(|device| (device.serial.clone(), device.id.clone())).collect();
    let mut taken: BTreeSet<DeviceId> = map.devices().iter().map(|device| device.id.clone()).collect();
    let mut names = BTreeMap::new();
    for phone in seen.iter().filter(|phone| mapped.contains_key(&phone.attached.serial)) {
        names.insert(phone.attached.serial.clone(), mapped[&phone.attached.serial].clone());
    }
    // Phones with a name of their own first, or a new one could take it.
    for own in [true, false] {
        for phone in seen {
            let serial = &phone.attached.serial;
            if names.contains_key(serial) {
                continue;
            }
            let says = phone.probe.as_ref().ok().and_then(Probe::id).filter(|id| own && !taken.contains(id));
            let id = match says {
                Some(id) => id,
                None if own => continue,
                None => next_name(&taken),
            };
            taken.insert(id.clone());
            names.insert(serial.clone(), id);
        }
    }
    names
}

/// `Device_A` to `Device_Z`, then `Device_AA` and on.
fn next_name(taken: &BTreeSet<DeviceId>) -> DeviceId {
    (0_u32..)
        .filter_map(|number| DeviceId::new(&format!("Device_{}", letters(number))).ok())
        .find(|id| !taken.contains(id))
        .unwrap_or_else(|| unreachable!("there are more names than phones"))
}

fn letters(mut number: u32) -> String {
    let mut letters = Vec::new();
    loop {
        // Below 26.
        letters.push(char::from(b'A' + u8::try_from(number % 26).unwrap_or(0)));
        match (number / 26).checked_sub(1) {
            Some(rest) => number = rest,
            None => break letters.iter().rev().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adb::{Attached, State};
    use std::path::Path;

    fn seen(serial: &str, own_name: Option<&str>) -> Seen {
        let printed = own_name
            .map_or_else(String::new, |id| format!("\n@@ device_config.json\n{{\"device_id\": \"{id}\"}}\n"));
        let attached = Attached { serial: serial.into(), state: State::Ready, model: None };
        Seen { attached, chosen: true, probe: Ok(Probe::read_for_tests(&printed, "@@")) }
    }

    #[test]
    fn names_are_kept_from_the_map_then_from_the_phone_and_new_ones_follow() {
        let phones = [
            seen("new", None),
            seen("own", Some("Device_A")),
            seen("copy", Some("Device_A")),
            seen("known", Some("Else")),
        ];
        let map = DeviceMap::parse(b"Device_C:known:\nDevice_B:absent:\n", Path::new("map")).unwrap();
        let names = names(&phones, &map);
        let names: Vec<(&str, &str)> = names.iter().map(|(s, id)| (s.as_str(), id.as_str())).collect();
        assert_eq!(
            names,
            [("copy", "Device_E"), ("known", "Device_C"), ("new", "Device_D"), ("own", "Device_A")]
        );
    }

    #[test]
    fn names_never_run_out() {
        let letters: Vec<String> = [0, 25, 26, 51, 52, 701, 702].map(letters).into();
        assert_eq!(letters, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }
}
