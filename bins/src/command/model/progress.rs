//! How far something is, on one line of a terminal. Elsewhere only its beginning is said.

use std::time::{Duration, Instant};

use crate::output::Output;
use crate::redrawn::{self, Redrawn};

/// A line that is drawn anew.
#[derive(Debug)]
pub struct Progress {
    line: Redrawn,
    output: Output,
    what: String,
    begun: Instant,
}

impl Progress {
    pub fn new(output: &Output) -> Self {
        Self { line: Redrawn::new(output), output: *output, what: String::new(), begun: Instant::now() }
    }

    /// Something else begins.
    pub fn begin(&mut self, what: &str) {
        self.clear();
        self.what = what.into();
        self.begun = Instant::now();
        if !self.output.draws() && !self.output.json {
            self.output.note(what);
        }
    }

    pub fn show(&mut self, done: u64, of: u64) {
        self.line.show(&line(&self.what, done, of, self.begun.elapsed()));
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        self.line.clear();
    }
}

fn line(what: &str, done: u64, of: u64, elapsed: Duration) -> String {
    let of = of.max(1);
    let done = done.min(of);
    let bar = redrawn::bar(done, of);
    let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000);
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1_000) / millis;
    let speed = if done > 0 { format!("  {} MB/s", megabytes(rate)) } else { String::new() };
    format!("{what}  [{bar}] {:>3}%  {} of {} MB{speed}", done * 100 / of, megabytes(done), megabytes(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let second = Duration::from_secs(1);
        assert_eq!(
            line("fetching", 46_000_000, 92_000_000, 2 * second),
            "fetching  [###############...............]  50%  46.0 of 92.0 MB  23.0 MB/s"
        );
        assert_eq!(
            line("fetching", 0, 0, Duration::ZERO),
            "fetching  [..............................]   0%  0.0 of 0.0 MB"
        );
        assert!(line("fetching", 200, 100, second).contains("100%"), "a size that was guessed too low");
    }
}
