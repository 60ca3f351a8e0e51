//! The phones of this machine: which phone of adb is which device of the mesh, and what the laptop does with one.
//!
//! `probe` asks a phone how it is, `names` says what it is called, `plan` what it needs, `transfer` copies files that may
//! break off, `program` finds the program for its processor, `remote` starts, stops and talks to the device on it.

pub mod names;
pub mod plan;
pub mod probe;
pub mod program;
pub mod remote;
pub mod transfer;

use std::path::PathBuf;

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::{DeviceMap, MappedDevice};
use clap::Args;

use crate::adb::{Adb, AdbError};
use crate::device::of_files;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use remote::Remote;

/// Where the mesh is on a phone. Nothing is written there outside of it.
pub const MESH: &str = "/data/local/tmp/mesh";
/// The program on a phone.
pub const PROGRAM: &str = "/data/local/tmp/mesh/bidmesh";
/// Shell functions that find what runs on a phone. They must not be found themselves: the shell's own command line holds
/// them.
const RUNNING: &str = include_str!("phones/running.sh");
/// What stands for all phones of the map.
const ALL: &str = "all";

/// Where the device map is.
#[derive(Clone, Debug, Default, Args)]
pub struct MapFlag {
    /// Which phone is which device [default: ~/.mesh_device_map]
    #[arg(long = "map", value_name = "FILE", env = "BIDMESH_DEVICE_MAP")]
    pub map: Option<PathBuf>,
}

impl MapFlag {
    pub fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.map {
            return Ok(path.clone());
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        home.map(|home| home.join(".mesh_device_map")).ok_or_else(|| {
            Failure::usage("there is no home directory to keep the device map in; name one with --map")
        })
    }

    pub fn read(&self) -> Result<DeviceMap, Failure> {
        DeviceMap::load(&self.path()?).map_err(of_files)
    }
}

/// The phones of the device map.
#[derive(Debug)]
pub struct Phones {
    pub adb: Adb,
    map: DeviceMap,
}

impl Phones {
    pub fn open(map: &MapFlag) -> Result<Self, Failure> {
        Ok(Self { adb: Adb::new(), map: map.read()? })
    }

    /// Every phone of the map, at least one.
    pub fn all(&self) -> Result<Vec<MappedDevice>, Failure> {
        let devices: Vec<MappedDevice> = self.map.devices().into_iter().cloned().collect();
        if devices.is_empty() {
            return Err(Failure::new(
                Exit::Failed,
                "no_phones",
                "no phones are known here; attach them and run `bidmesh setup`",
            ));
        }
        Ok(devices)
    }

    /// The phone of a device.
    pub fn named(&self, id: &DeviceId) -> Result<MappedDevice, Failure> {
        let devices = self.all()?;
        devices.iter().find(|device| device.id == *id).cloned().ok_or_else(|| {
            let names: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
            let message = format!(
                "{id} is not in the device map; there are {}; `bidmesh setup` adds attached phones",
                names.join(", ")
            );
            Failure::new(Exit::Usage, "unknown_phone", message)
        })
    }

    /// The phones with these names; `all`, or none at all: every one.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<MappedDevice>, Failure> {
        if names.is_empty() || names.iter().any(|name| name == ALL) {
            return self.all();
        }
        let mut chosen: Vec<MappedDevice> = Vec::new();
        for name in names {
            let id = DeviceId::new(name)
                .map_err(|why| Failure::usage(format!("`{name}` is no device id: {why}")))?;
            let device = self.named(&id)?;
            if !chosen.contains(&device) {
                chosen.push(device);
            }
        }
        Ok(chosen)
    }

    pub fn remote(&self, device: &MappedDevice) -> Remote {
        Remote::new(self.adb.clone(), device.id.clone(), device.serial.clone())
    }
}

/// What went wrong with adb itself, as the end of a command.
pub fn adb_failed(error: &AdbError) -> Failure {
    let code = if matches!(error, AdbError::NotInstalled(_)) { "no_adb" } else { "adb_broken" };
    Failure::new(Exit::Failed, code, error.to_string())
}

/// What went wrong with a phone, as the end of a command.
pub fn failed(id: &DeviceId, error: &AdbError) -> Failure {
    let code = match error {
        AdbError::NotInstalled(_) | AdbError::ServerSilent => return adb_failed(error),
        AdbError::Usage(_) => return Failure::usage(format!("{id}: {error}")),
        AdbError::Gone => "phone_gone",
        AdbError::Unauthorized => "unauthorized_phone",
        AdbError::Full => "disk_full",
        AdbError::TimedOut(_) => "phone_silent",
        AdbError::Refused { .. } | AdbError::Other(_) => "failed",
    };
    Failure::new(Exit::Failed, code, format!("{id}: {error}"))
}

/// The end of a command that was for `phones` phones: one phone's failure as it is, of several each on its line.
pub fn ended(output: &Output, phones: usize, failures: Vec<Failure>) -> Result<Exit, Failure> {
    match (failures.as_slice(), phones) {
        ([], _) => Ok(Exit::Ok),
        ([failure], 1) => Err(failure.clone()),
        (failures, _) => {
            failures.iter().for_each(|failure| output.failure(failure));
            Err(Failure::silent(Exit::Failed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn phones(map: &str) -> Phones {
        Phones { adb: Adb::new(), map: DeviceMap::parse(map.as_bytes(), Path::new("map")).unwrap() }
    }

    #[test]
    fn phones_are_chosen_by_name_and_each_once() {
        let phones = phones("Device_A:a:10.0.0.1\nDevice_B:b:\n");
        let chosen = |names: &[&str]| -> Result<Vec<String>, String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chosen = phones.chosen(&names).map_err(|failure| failure.message)?;
            Ok(chosen.into_iter().map(|device| device.id.to_string()).collect())
        };
        assert_eq!(chosen(&[]).unwrap(), ["Device_A", "Device_B"]);
        assert_eq!(chosen(&["Device_B", "Device_B"]).unwrap(), ["Device_B"]);
        assert_eq!(chosen(&["Device_B", "all"]).unwrap(), ["Device_A", "Device_B"]);
        assert!(chosen(&["Device_C"]).unwrap_err().contains("there are Device_A, Device_B"));
        assert!(chosen(&["a|b"]).is_err());
    }

    #[test]
    fn an_empty_map_says_how_to_fill_it() {
        assert!(phones("# none\n").all().unwrap_err().message.contains("bidmesh setup"));
    }
}
