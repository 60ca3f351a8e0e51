//! `control.json` in the mesh directory: where the running device's control API is, and the token for it. Only its
//! owner can read it. What a killed device left behind does no harm: its port is closed, and its token opens nothing.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const CONTROL_FILE: &str = "control.json";

/// What `control.json` says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Which device runs.
    pub device_id: String,
    /// Its process.
    pub pid: u32,
    /// The port of the control API on 127.0.0.1.
    pub port: u16,
    /// The secret for it.
    pub token: String,
}

/// Where it is.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(CONTROL_FILE)
}

/// A `control.json` that is there; removed when dropped.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
}

impl Published {
    /// Tells this machine's owner where the control API is.
    pub fn publish(directory: &Path, control: &Control) -> io::Result<Self> {
        let path = path(directory);
        // tempfile creates with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer(&mut file, control)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(Self { path })
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Left behind it does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the device of `directory` is controlled, or was; `None` if it ended in order.
pub fn find(directory: &Path) -> io::Result<Option<Control>> {
    match fs::read(path(directory)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn control() -> Control {
        Control { device_id: "A".into(), pid: 1, port: 2, token: "t".into() }
    }

    #[test]
    fn is_found_while_it_is_published_and_not_after() {
        let directory = tempfile::tempdir().unwrap();
        assert!(find(directory.path()).unwrap().is_none());
        let published = Published::publish(directory.path(), &control()).unwrap();
        assert!(find(directory.path()).unwrap() == Some(control()));
        drop(published);
        assert!(find(directory.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_its_owner_reads_the_token() {
        let directory = tempfile::tempdir().unwrap();
        // A file that a killed device left, or that somebody made readable, does not lend its mode.
        fs::write(path(directory.path()), "left behind").unwrap();
        let published = Published::publish(directory.path(), &control()).unwrap();
        assert_eq!(fs::metadata(&published.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path()), "{").unwrap();
        assert!(find(directory.path()).is_err());
    }
}
