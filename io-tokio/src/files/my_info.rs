//! `my_info.txt`: this device's own line, `ID:IP:PORT`, for shell scripts that share the directory.

use std::net::IpAddr;
use std::path::Path;

use bidmesh_core::id::DeviceId;

use super::entry::{self, Entry};
use super::error::Error;

/// The content of a my_info.txt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MyInfo {
    /// This device.
    pub id: DeviceId,
    /// Its address; `None` if it was not known when the file was written.
    pub ip: Option<IpAddr>,
    /// The mesh port.
    pub port: u16,
}

impl MyInfo {
    /// Reads the first line that is neither empty nor a comment; `None` if there is none.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Option<Self>, Error> {
        let text = String::from_utf8_lossy(entry::without_mark(bytes));
        let line = text.lines().enumerate().find_map(|(number, line)| Some((number, entry::meaning(line)?)));
        let Some((number, line)) = line else { return Ok(None) };
        let read = Entry::read(line).map_err(|(what, remedy)| Error::line(path, number + 1, what, remedy))?;
        Ok(Some(Self { id: read.id, ip: read.ip, port: read.port }))
    }

    /// The content as it is written; an unknown address as scripts write it.
    pub fn to_text(&self) -> String {
        match self.ip {
            Some(ip) => format!("{}\n", entry::write(&self.id, (ip, self.port).into())),
            None => format!("{}:0.0.0.0:{}\n", self.id, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_is_read_whatever_stands_around_it() {
        let path = Path::new("my_info.txt");
        let info = MyInfo::parse(b"\n# me\nDevice_A:192.168.1.5:9999\r\n", path).unwrap().unwrap();
        assert_eq!(info.to_text(), "Device_A:192.168.1.5:9999\n");
        assert_eq!(MyInfo::parse(b"\n\n", path), Ok(None));
        let error = MyInfo::parse(b"\nDevice_A\n", path).unwrap_err();
        assert!(error.to_string().starts_with("my_info.txt:2: `Device_A` has no address"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[A-Za-z0-9_-]{1,64}", ip: Option<IpAddr>, port: u16) {
            let ip = ip.filter(|ip| !ip.is_unspecified());
            let info = MyInfo { id: DeviceId::new(&name).unwrap(), ip, port };
            prop_assert_eq!(MyInfo::parse(info.to_text().as_bytes(), Path::new("x")).unwrap(), Some(info));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = MyInfo::parse(&bytes, Path::new("x"));
        }
    }
}
