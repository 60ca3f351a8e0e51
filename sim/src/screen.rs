//! What `bidmesh-sim` says on a terminal, in a file, and into a pipe that nobody reads any more.
//!
//! Colours are for terminals only, and not with `NO_COLOR` (anstream sees to both).

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anstyle::{AnsiColor, Style};

use bidmesh_sim::campaign::Swarm;

/// Writes a line to stdout. When nobody reads it the program ends, as a killed one would (128 + SIGPIPE).
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::screen::line(format_args!($($words)*)) };
}

/// See [`say!`].
pub(crate) fn line(words: Arguments<'_>) {
    match writeln!(anstream::stdout().lock(), "{words}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(141),
        Err(error) => {
            eprintln!("stdout could not be written: {error}; free some space or write elsewhere");
            exit(1)
        }
    }
}

/// Says each line of a run, each device in a colour of its own (after six devices they begin again).
pub(crate) fn by_device() -> impl FnMut(Option<&str>, &str) {
    const COLOURS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Yellow,
        AnsiColor::Green,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::Red,
    ];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    move |device, line| {
        let style = device.map_or_else(
            || Style::new().bold(),
            |device| {
                let next = seen.len();
                let place = *seen.entry(device.to_owned()).or_insert(next);
                COLOURS[place % COLOURS.len()].on_default()
            },
        );
        say!("{style}{line}{style:#}");
    }
}

/// How far a swarm is: a bar on a terminal, a line a minute in a log.
pub(crate) struct Progress {
    swarm: Swarm,
    started: Instant,
    bar: bool,
    minutes_told: AtomicU64,
}

impl Progress {
    pub(crate) fn of(swarm: Swarm) -> Self {
        let bar = std::io::stderr().is_terminal();
        Self { swarm, started: Instant::now(), bar, minutes_told: AtomicU64::new(0) }
    }

    /// So many worlds were played. Called by several threads.
    pub(crate) fn played(&self, worlds: u64) {
        let seconds = self.started.elapsed().as_secs();
        if self.bar {
            if worlds.is_multiple_of(100) {
                eprint!("\r{}", self.line(worlds));
            }
        } else if self.minutes_told.fetch_max(seconds / 60, Ordering::Relaxed) < seconds / 60 {
            eprintln!("{worlds} worlds, {seconds} s");
        }
    }

    pub(crate) fn over(&self) {
        if self.bar {
            eprintln!();
        }
    }

    /// A bar for the worlds or for the time, whichever ends it first.
    fn line(&self, done: u64) -> String {
        const WIDTH: usize = 30;
        let elapsed = self.started.elapsed();
        let of_worlds = done.saturating_mul(100) / self.swarm.worlds.max(1);
        let limit = self.swarm.limit.map_or(u128::MAX, |limit| limit.as_millis());
        let of_time = u64::try_from(elapsed.as_millis().saturating_mul(100) / limit.max(1)).unwrap_or(100);
        let percent = usize::try_from(of_worlds.max(of_time).min(100)).unwrap_or(100);
        let full = WIDTH * percent / 100;
        let (full, empty) = ("#".repeat(full), "-".repeat(WIDTH - full));
        format!("[{full}{empty}] {percent:>3} %  {done} worlds, {} s", elapsed.as_secs())
    }
}
