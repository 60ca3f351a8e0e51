//! A line about how far something is, drawn anew again and again.

use std::io::Write;
use std::time::Duration;

use crate::output::Output;

/// Between two drawings.
pub const REDRAW: Duration = Duration::from_millis(200);
/// Characters of a bar.
const WIDTH: u64 = 30;

/// A line on stderr, drawn only on a terminal. Taken away when dropped.
#[derive(Debug)]
pub struct Redrawn {
    draws: bool,
    drawn: bool,
}

impl Redrawn {
    pub fn new(output: &Output) -> Self {
        Self { draws: output.draws(), drawn: false }
    }

    pub fn show(&mut self, line: &str) {
        if self.draws {
            // A terminal that went away shows nothing.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{line}");
            self.drawn = true;
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

impl Drop for Redrawn {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `done` of `all` as a bar.
pub fn bar(done: u64, all: u64) -> String {
    let full = done.min(all).saturating_mul(WIDTH).checked_div(all).unwrap_or(0);
    (0..WIDTH).map(|place| if place < full { '#' } else { '.' }).collect()
}
