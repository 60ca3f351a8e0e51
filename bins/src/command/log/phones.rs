//! The logs of devices on phones, one or all merged by time.

use std::time::Duration;

use bidmesh_io_tokio::files::MappedDevice;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Log;
use crate::adb::{QUICK, quoted};
use crate::exit::{Exit, Failure};
use crate::log;
use crate::output::{Output, one_line};
use crate::phones::{MESH, Phones, ended, failed};
use crate::signals::Signals;

/// What the phones print of the past when they are asked comes within this time; it is sorted.
const PAST: Duration = Duration::from_millis(1_500);
/// Lines that wait to be printed; who prints more waits.
const WAITING_MAX: usize = 1_024;

/// A line, and whose it is by its place in the list.
type Line = (usize, String);

pub async fn run(output: &Output, flags: &Log) -> Result<Exit, Failure> {
    let phones = Phones::open(&flags.map)?;
    let devices = match &flags.device {
        Some(device) => vec![phones.named(device)?],
        None => phones.all()?,
    };
    let printer = Printer::new(output, &devices);
    if flags.follow {
        return follow(&phones, &devices, flags.lines, &printer).await;
    }
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        let script = past(device, flags.lines);
        match phones.adb.shell(&device.serial, &script, QUICK).await {
            Ok(said) if said.status == 0 => {
                lines.extend(said.stdout.lines().map(|line| (number, line.to_owned())))
            }
            Ok(said) => {
                let message = format!("{}: no log is on it: {}", device.id, said.last_words());
                failures.push(Failure::failed(message));
            }
            Err(error) => failures.push(failed(&device.id, &error)),
        }
    }
    by_time(&mut lines);
    lines.iter().try_for_each(|line| printer.print(line))?;
    ended(output, devices.len(), failures)
}

/// The last lines of a log, its older part included.
fn past(device: &MappedDevice, lines: usize) -> String {
    let path = path(device);
    format!("[ -r {path} ] || exec cat {path}; cat {path}.1 {path} 2>/dev/null | tail -n {lines}")
}

fn path(device: &MappedDevice) -> String {
    quoted(&format!("{MESH}/mesh_{}.log", device.id))
}

/// Lines that have no time of their own stay behind the one before them.
fn by_time(lines: &mut [Line]) {
    let mut time = vec![String::new(); lines.iter().map(|line| line.0 + 1).max().unwrap_or(0)];
    let mut keyed: Vec<(String, Line)> = Vec::with_capacity(lines.len());
    for line in lines.iter() {
        if let Some((at, ..)) = log::parse(&line.1) {
            time[line.0] = at.to_owned();
        }
        keyed.push((time[line.0].clone(), line.clone()));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    for (place, (_, line)) in lines.iter_mut().zip(keyed) {
        *place = line;
    }
}

async fn follow(
    phones: &Phones,
    devices: &[MappedDevice],
    past: usize,
    printer: &Printer<'_>,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (told, mut lines) = mpsc::channel(WAITING_MAX);
    for (number, device) in devices.iter().enumerate() {
        // A log that is rotated goes on under its name; only newer tails know that.
        let script = format!(
            "if tail --help 2>&1 | grep -q -e -F; then exec tail -n {past} -F {path} 2>/dev/null; \
             else exec tail -n {past} -f {path}; fi",
            path = path(device)
        );
        let child = phones.adb.stream(&device.serial, &script).map_err(|error| failed(&device.id, &error))?;
        let (told, name, output) = (told.clone(), device.id.clone(), *printer.output);
        tokio::spawn(async move {
            read(child, number, told).await;
            output.note(&format!("{name}: nothing more comes of its log: the phone went away, or has none"));
        });
    }
    drop(told);
    let mut first = Vec::new();
    let sorted = Instant::now() + PAST;
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => first.push(line),
                None => break,
            },
            () = sleep_until(sorted) => break,
            () = signals.next() => return Ok(Exit::Ok),
        }
    }
    by_time(&mut first);
    first.iter().try_for_each(|line| printer.print(line))?;
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => printer.print(&line)?,
                None => return Err(Failure::failed("no phone is there any more; look at `bidmesh status --all`")),
            },
            () = signals.next() => return Ok(Exit::Ok),
        }
    }
}

async fn read(mut child: Child, number: usize, told: mpsc::Sender<Line>) {
    let Some(stdout) = child.stdout.take() else { return };
    let mut lines = BufReader::new(stdout).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if told.send((number, line)).await.is_err() {
            return;
        }
    }
}

/// Prints lines with the names of their devices.
struct Printer<'a> {
    output: &'a Output,
    names: Vec<String>,
    width: usize,
}

impl<'a> Printer<'a> {
    fn new(output: &'a Output, devices: &[MappedDevice]) -> Self {
        let names: Vec<String> = devices.iter().map(|device| device.id.to_string()).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        Self { output, names, width }
    }

    fn print(&self, (number, line): &Line) -> Result<(), Failure> {
        let name = &self.names[*number];
        if self.output.json {
            return self.output.json(&log::json(Some(name), line));
        }
        if self.names.len() == 1 {
            return self.output.foreign(&format!("{line}\n"));
        }
        let padded = format!("{name:width$}", width = self.width);
        self.output.result(&format!("{}  {}\n", self.output.coloured(*number, &padded), one_line(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_many_devices_are_in_the_order_of_their_times() {
        let line = |number, text: &str| (number, text.to_owned());
        let mut lines = vec![
            line(0, "[2026-01-01 00:00:01] [INFO] a"),
            line(0, "no time, but after a"),
            line(0, "[2026-01-01 00:00:03] [INFO] c"),
            line(1, "[2026-01-01 00:00:02] [INFO] b"),
        ];
        by_time(&mut lines);
        let order: Vec<usize> = lines.iter().map(|line| line.0).collect();
        assert_eq!(order, [0, 0, 1, 0]);
        assert_eq!(lines[1].1, "no time, but after a");
    }
}
