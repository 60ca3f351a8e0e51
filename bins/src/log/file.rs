//! The file behind the log: never longer than two times a limit, never written to faster than a phone's flash likes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Line;

/// When the file is this long it becomes `….log.1`, which it replaces.
const BYTES_MAX: u64 = 1 << 20;
/// Lines a second; whoever floods this device does not wear out its flash.
const LINES_PER_SECOND_MAX: u32 = 100;

/// The log of a device, open for writing.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    second: u64,
    lines: u32,
    left_out: u64,
}

/// Where its older part is.
pub fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// What people wrote to each other stands in it: it is its owner's alone.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl LogFile {
    /// Opens the log at `path` and goes on at its end.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = append_to(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, bytes_max: BYTES_MAX, second: 0, lines: 0, left_out: 0 })
    }

    /// Writes one line, if there is room for it in this second.
    pub fn write(&mut self, at: SystemTime, line: &Line) -> io::Result<()> {
        let second = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if second != self.second {
            let left_out = std::mem::take(&mut self.left_out);
            (self.second, self.lines) = (second, 0);
            if left_out > 0 {
                self.append(
                    at,
                    &Line::new("WARN", 0, format!("{left_out} lines were left out: too many in a second")),
                )?;
            }
        }
        if self.lines >= LINES_PER_SECOND_MAX {
            self.left_out += 1;
            return Ok(());
        }
        self.lines += 1;
        self.append(at, line)
    }

    fn append(&mut self, at: SystemTime, line: &Line) -> io::Result<()> {
        let mut written = line.written(at);
        written.push('\n');
        if self.bytes > 0 && self.bytes + written.len() as u64 > self.bytes_max {
            fs::rename(&self.path, rotated(&self.path))?;
            self.file = append_to(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(written.as_bytes())?;
        self.bytes += written.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn the_log_stays_within_its_limit_and_loses_the_oldest_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh_Device_A.log");
        let mut log = LogFile { bytes_max: 200, ..LogFile::open(path.clone()).unwrap() };
        for number in 0..50 {
            log.write(at(number), &Line::new("INFO", 0, format!("line {number}"))).unwrap();
        }
        let (now, before) = (fs::read_to_string(&path).unwrap(), fs::read_to_string(rotated(&path)).unwrap());
        assert!(now.len() <= 200 && before.len() <= 200);
        assert!(now.ends_with("line 49\n") && !before.contains("line 0\n"));
        // Nothing is lost between the two.
        let numbers = |text: &str| {
            text.lines().map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).collect::<Vec<_>>()
        };
        let both = numbers(&(before + &now));
        assert!(both.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }

    #[test]
    fn a_flood_is_counted_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh_Device_A.log");
        let mut log = LogFile::open(path.clone()).unwrap();
        for _ in 0..1_000 {
            log.write(at(1), &Line::new("INFO", 0, "flood")).unwrap();
        }
        log.write(at(2), &Line::new("INFO", 0, "calm")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 102);
        assert!(text.contains("[WARN] 900 lines were left out"));
    }
}
