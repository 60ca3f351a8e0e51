//! `~/.mesh_device_map` on the laptop: which phone of adb is which device, `ID:SERIAL:IP` a line.

use std::net::IpAddr;
use std::path::Path;

use bidmesh_core::id::DeviceId;

use super::atomic;
use super::entry;
use super::error::{Error, quote};

/// The content of the map.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceMap {
    lines: Vec<Line>,
}

/// A device that adb knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedDevice {
    /// Its id in the mesh.
    pub id: DeviceId,
    /// Its serial number as `adb devices` prints it; `ADDRESS:PORT` for a device that adb reaches by network.
    pub serial: String,
    /// Its address in the mesh, if it was known.
    pub ip: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Device(MappedDevice),
    Other(String),
}

const FORM: &str = "write ID:SERIAL:IP, for example Device_B:R58M123ABC:192.168.1.7";

impl DeviceMap {
    /// Reads the file; one that is not there has no devices.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&atomic::read(path)?.unwrap_or_default(), path)
    }

    /// Replaces the file, so that whoever reads it finds the old content or the new one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        atomic::write(path, self.to_text().as_bytes())
    }

    /// Reads the content; `path` is for the error, which names the first line that cannot be understood.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let text = std::str::from_utf8(entry::without_mark(bytes)).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or(bytes);
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            Error::line(path, line, "it is not UTF-8 text", FORM)
        })?;
        let read = |(number, line): (usize, &str)| match entry::meaning(line) {
            Some(meaning) => {
                let device =
                    MappedDevice::read(meaning).map_err(|what| Error::line(path, number + 1, what, FORM))?;
                Ok(Line::Device(device))
            }
            None => Ok(Line::Other(line.to_owned())),
        };
        Ok(Self { lines: text.lines().enumerate().map(read).collect::<Result<_, _>>()? })
    }

    /// The devices in the order of the file, each once: the first line of an id counts.
    pub fn devices(&self) -> Vec<&MappedDevice> {
        let mut devices: Vec<&MappedDevice> = Vec::new();
        for line in &self.lines {
            if let Line::Device(device) = line
                && devices.iter().all(|other| other.id != device.id)
            {
                devices.push(device);
            }
        }
        devices
    }

    /// Adds a device, or replaces its first line; its other lines go.
    pub fn set(&mut self, device: MappedDevice) {
        let same = |line: &Line| matches!(line, Line::Device(other) if other.id == device.id);
        let place = self.lines.iter().position(same).unwrap_or(self.lines.len());
        self.lines.retain(|line| !same(line));
        self.lines.insert(place.min(self.lines.len()), Line::Device(device));
    }

    /// Removes a device; whether it was there.
    pub fn remove(&mut self, id: &DeviceId) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !matches!(line, Line::Device(device) if device.id == *id));
        self.lines.len() < before
    }

    /// The content as it is written.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Device(device) => text.push_str(&device.write()),
                Line::Other(other) => text.push_str(other),
            }
            text.push('\n');
        }
        text
    }
}

impl MappedDevice {
    fn read(line: &str) -> Result<Self, String> {
        let missing = || format!("{} is not three fields", quote(line));
        let (id, rest) = line.split_once(':').ok_or_else(missing)?;
        // The serial of a device that adb reaches by network holds a colon itself.
        let (serial, ip) = match rest.strip_suffix(']').and_then(|rest| rest.rsplit_once(":[")) {
            Some((serial, v6)) => (serial, v6),
            None => rest.rsplit_once(':').ok_or_else(missing)?,
        };
        let (id, serial, ip) = (id.trim(), serial.trim(), ip.trim());
        let id = DeviceId::new(id).map_err(|error| format!("{} is no device id: {error}", quote(id)))?;
        if serial.is_empty() || serial.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("{} is no serial number", quote(serial)));
        }
        let ip = match ip {
            "" => None,
            ip => Some(ip.parse::<IpAddr>().map_err(|_| format!("{} is no address", quote(ip)))?),
        };
        Ok(Self { id, serial: serial.to_owned(), ip: ip.filter(|ip| !ip.is_unspecified()) })
    }

    fn write(&self) -> String {
        let ip = match self.ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            Some(IpAddr::V4(ip)) => ip.to_string(),
            None => String::new(),
        };
        format!("{}:{}:{ip}", self.id, self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> DeviceMap {
        DeviceMap::parse(text.as_bytes(), Path::new(".mesh_device_map")).unwrap()
    }

    #[test]
    fn serials_of_usb_and_network_are_read() {
        let text = "# mine\nA:R58M123ABC:192.168.1.7\r\n\nB:192.168.1.5:5555:192.168.1.5\nC:emulator-5554:\nA:x:10.0.0.1\n";
        let map = parse(text);
        let serials: Vec<&str> = map.devices().iter().map(|device| device.serial.as_str()).collect();
        assert_eq!(serials, ["R58M123ABC", "192.168.1.5:5555", "emulator-5554"]);
        assert_eq!(map.devices()[2].ip, None);
    }

    #[test]
    fn what_cannot_be_understood_names_its_line() {
        for text in [
            "# x\nA",
            "# x\nA:b",
            "# x\nA.b:c:10.0.0.1",
            "# x\nA::10.0.0.1",
            "# x\nA:b:phone",
            "# x\nA:b c:10.0.0.1",
            "# x\nA:b\u{7}c:10.0.0.1",
        ] {
            let error = DeviceMap::parse(text.as_bytes(), Path::new("map")).unwrap_err().to_string();
            assert!(error.starts_with("map:2: ") && error.contains("write ID:SERIAL:IP"), "{error}");
        }
        let error = DeviceMap::parse(b"\n\n\xff", Path::new("map")).unwrap_err().to_string();
        assert!(error.starts_with("map:3: "), "{error}");
    }

    #[test]
    fn a_file_is_read_back_and_one_that_is_missing_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".mesh_device_map");
        assert_eq!(DeviceMap::load(&path), Ok(DeviceMap::default()));
        let map = parse("# mine\nA:a:10.0.0.1\n");
        map.save(&path).unwrap();
        assert_eq!(DeviceMap::load(&path), Ok(map));
    }

    #[test]
    fn comments_and_order_stay() {
        let mut map = parse("# mine\nA:a:10.0.0.1\n# second\nB:b:10.0.0.2\nA:old:10.0.0.9\n");
        map.set(MappedDevice { id: DeviceId::new("A").unwrap(), serial: "new".into(), ip: None });
        assert_eq!(map.to_text(), "# mine\nA:new:\n# second\nB:b:10.0.0.2\n");
        assert!(map.remove(&DeviceId::new("B").unwrap()));
        assert!(!map.remove(&DeviceId::new("B").unwrap()), "it is gone");
        assert_eq!(map.to_text(), "# mine\nA:new:\n# second\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            devices in proptest::collection::btree_map("[A-C0-2_-]{1,3}", ("[!-~]{1,12}", any::<Option<IpAddr>>()), 0..5)
        ) {
            let mut map = parse("# comment\n");
            for (name, (serial, ip)) in &devices {
                let ip = ip.filter(|ip| !ip.is_unspecified());
                map.set(MappedDevice { id: DeviceId::new(name).unwrap(), serial: serial.clone(), ip });
            }
            prop_assert_eq!(parse(&map.to_text()), map);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = DeviceMap::parse(&bytes, Path::new("x"));
        }
    }
}
