//! Which phone is which device of the mesh.

use std::collections::{BTreeMap, BTreeSet};

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::DeviceMap;

use super::plan::Seen;
use super::probe::Probe;

/// A phone under one of adb's names, and what it said there.
pub type Named<'a> = (&'a str, Option<&'a Probe>);

/// Whether two of adb's names, one by cable and one by network, are of one phone. Some makers give all their phones one
/// serial number; their addresses tell those apart.
pub fn is_one_phone((name, probe): Named<'_>, (other_name, other): Named<'_>) -> bool {
    match (probe, other) {
        (Some(one), Some(other)) => {
            one.serial.is_some() && one.serial == other.serial && one.addresses == other.addresses
        }
        (Some(one), None) => one.serial.as_deref() == Some(other_name),
        (None, Some(other)) => other.serial.as_deref() == Some(name),
        (None, None) => false,
    }
}

/// Each phone once: by the name under which it can be asked, that the map has for it, that it has by cable.
pub fn each_once(seen: Vec<Seen>, map: &DeviceMap) -> Vec<Seen> {
    let rank = |phone: &Seen| {
        let serial = &phone.attached.serial;
        (phone.probe.is_err(), by_serial(map, serial).is_none(), is_by_network(serial))
    };
    let mut once: Vec<Seen> = Vec::new();
    for phone in seen {
        match once.iter_mut().find(|other| is_one_phone(other.named(), phone.named())) {
            Some(other) => {
                let chosen = other.chosen || phone.chosen;
                if rank(&phone) < rank(other) {
                    *other = phone;
                }
                other.chosen = chosen;
            }
            None => once.push(phone),
        }
    }
    once
}

fn by_serial(map: &DeviceMap, serial: &str) -> Option<DeviceId> {
    map.devices().into_iter().find(|device| device.serial == serial).map(|device| device.id.clone())
}

/// `ADDRESS:PORT`, which says where a phone is and not which one.
fn is_by_network(serial: &str) -> bool {
    serial.contains(':')
}

/// Names by serial number: as the map has it, else as the phone says, else the next letter.
pub fn names(seen: &[Seen], map: &DeviceMap) -> BTreeMap<String, DeviceId> {
    let mut names = BTreeMap::new();
    for phone in seen {
        if let Some(id) = by_serial(map, &phone.attached.serial) {
            names.insert(phone.attached.serial.clone(), id);
        }
    }
    for phone in seen {
        let id = mapped_otherwise(phone, map).filter(|id| names.values().all(|named| named != id));
        if let Some(id) = id.filter(|_| !names.contains_key(&phone.attached.serial)) {
            names.insert(phone.attached.serial.clone(), id);
        }
    }
    let mut taken: BTreeSet<DeviceId> = map.devices().iter().map(|device| device.id.clone()).collect();
    // Phones with a name of their own first, or a new one could take it; last those that nobody knows anything of.
    let (read, unread): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|phone| phone.probe.is_ok());
    for own in [true, false] {
        for phone in read.iter().chain(&unread) {
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

/// A phone that the map has under another of adb's names: its own serial number, or an address that it had, which may
/// be anybody's now; there its own word counts.
fn mapped_otherwise(phone: &Seen, map: &DeviceMap) -> Option<DeviceId> {
    let probe = phone.probe.as_ref().ok()?;
    let by_own = probe.serial.as_deref().and_then(|serial| by_serial(map, serial));
    by_own.or_else(|| {
        let devices = map.devices();
        let id = probe.id()?;
        devices.iter().any(|device| device.id == id && is_by_network(&device.serial)).then_some(id)
    })
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

    /// A phone with this serial number of its own, as adb sees it under `name`.
    fn under(name: &str, own: &str, says: &str) -> Seen {
        let printed = format!(
            "\n@@ serial\n{own}\n@@ addresses\n31: wlan0    inet 10.0.0.7/24\n\
             @@ device_config.json\n{{\"device_id\": \"{says}\"}}\n"
        );
        Seen { probe: Ok(Probe::read_for_tests(&printed, "@@")), ..seen(name, None) }
    }

    fn map(text: &str) -> DeviceMap {
        DeviceMap::parse(text.as_bytes(), Path::new("map")).unwrap()
    }

    #[test]
    fn a_phone_that_adb_sees_twice_is_one_phone() {
        let both = || vec![under("10.0.0.7:5555", "S1", "Device_A"), under("S1", "S1", "Device_A")];
        let kept = |map: &DeviceMap, seen| {
            let once = each_once(seen, map);
            once.into_iter().map(|phone| phone.attached.serial).collect::<Vec<_>>()
        };
        assert_eq!(kept(&map(""), both()), ["S1"]);
        assert_eq!(kept(&map("Device_A:10.0.0.7:5555:\n"), both()), ["10.0.0.7:5555"]);
        let locked = vec![both().remove(0), Seen { probe: Err("locked".into()), ..seen("S1", None) }];
        assert_eq!(kept(&map("Device_A:S1:\n"), locked), ["10.0.0.7:5555"]);
        // Two of a maker who gives all phones one number.
        let mut alike = both();
        alike[0].probe.as_mut().unwrap().addresses.clear();
        assert_eq!(kept(&map(""), alike).len(), 2);
        let mut chosen = both();
        chosen[1].chosen = false;
        assert!(each_once(chosen, &map("")).iter().all(|phone| phone.chosen));
    }

    #[test]
    fn a_phone_keeps_its_name_whichever_way_adb_sees_it() {
        let name =
            |map_text: &str, phone: Seen| names(&[phone], &map(map_text)).into_values().next().unwrap();
        for (known, phone) in [
            ("Device_C:S1:\n", under("10.0.0.7:5555", "S1", "Device_X")),
            ("Device_C:10.0.0.7:5555:\n", under("S1", "S1", "Device_C")),
            ("Device_C:10.0.0.9:5555:\n", under("10.0.0.7:5555", "S1", "Device_C")),
        ] {
            assert_eq!(name(known, phone).as_str(), "Device_C", "{known}");
        }
        // A copy of its directory on another phone is not it.
        assert_eq!(name("Device_C:S2:\n", under("S1", "S1", "Device_C")).as_str(), "Device_A");
    }

    #[test]
    fn a_phone_that_cannot_be_asked_takes_no_name_from_one_that_can() {
        let locked = Seen { probe: Err("locked".into()), ..seen("a", None) };
        let names = names(&[locked, seen("b", None), seen("c", Some("Device_B"))], &DeviceMap::default());
        assert_eq!(
            [&names["a"], &names["b"], &names["c"]].map(DeviceId::as_str),
            ["Device_C", "Device_A", "Device_B"]
        );
    }

    #[test]
    fn names_never_run_out() {
        let letters: Vec<String> = [0, 25, 26, 51, 52, 701, 702].map(letters).into();
        assert_eq!(letters, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }
}
