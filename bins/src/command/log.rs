//! `bidmesh log`: the device's log, as it is or as it grows. Reads the file: it works after the device has ended.
//! With a device's name, or `--all`: the logs of devices on phones.

mod phones;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use clap::Args;

use crate::cli::Shared;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::log;
use crate::output::Output;
use crate::phones::MapFlag;
use crate::signals::Signals;

const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Flags of `log`.
#[derive(Debug, Args)]
pub struct Log {
    /// A device on a phone, by the device map [default: the device of this machine]
    #[arg(value_name = "DEVICE")]
    pub device: Option<DeviceId>,
    /// All devices of the device map, merged
    #[arg(long, conflicts_with = "device")]
    pub all: bool,
    #[command(flatten)]
    pub map: MapFlag,
    /// Go on as it grows, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// How many lines of the past
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
    pub lines: usize,
}

pub async fn run(shared: &Shared, flags: Log) -> Result<Exit, Failure> {
    let output = shared.output();
    if flags.all || flags.device.is_some() {
        return phones::run(&output, &flags).await;
    }
    let directory = device::directory(shared)?;
    let path = directory.log(&device::id(&directory)?);
    let mut tail = Tail::open(path.clone()).map_err(|error| unreadable(&path, &error))?;
    let past = tail.past(flags.lines).map_err(|error| unreadable(&path, &error))?;
    show(&output, &past)?;
    if !flags.follow {
        return Ok(Exit::Ok);
    }
    let mut signals = Signals::listen()?;
    loop {
        tokio::select! {
            () = signals.next() => return Ok(Exit::Ok),
            () = tokio::time::sleep(LOOK_AGAIN) => {
                let new = tail.new_lines().map_err(|error| unreadable(&path, &error))?;
                show(&output, &new)?;
            }
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "no device has run here yet; start one with `bidmesh up`, or use --dir",
        _ => "are you the user who started the device?",
    };
    Failure::failed(format!("the log {} cannot be read: {error}; {advice}", path.display()))
}

fn show(output: &Output, lines: &[String]) -> Result<(), Failure> {
    for line in lines {
        if output.json {
            output.json(&log::json(None, line))?;
        } else {
            output.foreign(&format!("{line}\n"))?;
        }
    }
    Ok(())
}

/// A log that is read while it grows and is rotated.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: File,
    unfinished: Vec<u8>,
}

impl Tail {
    fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: File::open(&path)?, path, unfinished: Vec::new() })
    }

    /// The last lines of the log, its older part included.
    fn past(&mut self, lines: usize) -> io::Result<Vec<String>> {
        let mut past = match fs::read(log::rotated(&self.path)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).lines().map(String::from).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        past.extend(self.new_lines()?);
        Ok(past.split_off(past.len().saturating_sub(lines)))
    }

    /// Whole lines that have come since; reads the rotated file to its end before it goes on with the new one.
    fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = self.rest()?;
        let read = self.file.stream_position()?;
        match File::open(&self.path) {
            Ok(mut now) => {
                // A file that is shorter than what was read of it is another one.
                if now.seek(SeekFrom::End(0))? < read {
                    now.rewind()?;
                    self.file = now;
                    lines.extend(self.rest()?);
                }
                Ok(lines)
            }
            // Between the two steps of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(lines),
            Err(error) => Err(error),
        }
    }

    fn rest(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.unfinished)?;
        let Some(end) = self.unfinished.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let whole: Vec<u8> = self.unfinished.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(String::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_follows_a_log_through_rotation_and_shows_whole_lines_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh_Device_A.log");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntwo\nthr").unwrap();
        let mut tail = Tail::open(path.clone()).unwrap();
        assert_eq!(tail.past(1).unwrap(), ["two"]);
        file.write_all(b"ee\nfour\n").unwrap();
        assert_eq!(tail.new_lines().unwrap(), ["three", "four"]);
        file.write_all(b"five\n").unwrap();
        fs::rename(&path, log::rotated(&path)).unwrap();
        fs::write(&path, "six\n").unwrap();
        assert_eq!(tail.new_lines().unwrap(), ["five", "six"]);
        assert_eq!(Tail::open(path).unwrap().past(2).unwrap(), ["five", "six"]);
    }
}
