//! How far a batch is, on one line of a terminal.

use std::io::Write;
use std::time::Duration;

use crate::output::Output;

/// Between two drawings.
pub const REDRAW: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

/// A line that is drawn anew, on stderr and only on a terminal.
#[derive(Debug)]
pub struct Bar {
    draws: bool,
    drawn: bool,
}

impl Bar {
    pub fn new(output: &Output) -> Self {
        Self { draws: output.stderr_is_terminal && !output.quiet && !output.json, drawn: false }
    }

    pub fn show(&mut self, answered: usize, unanswered: usize, asked: usize, all: usize) {
        if self.draws {
            // A terminal that went away shows nothing.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{}", line(answered, unanswered, asked, all));
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

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(answered: usize, unanswered: usize, asked: usize, all: usize) -> String {
    let done = (answered + unanswered).min(all);
    let full = (done * WIDTH).checked_div(all).unwrap_or_default();
    let bar = "#".repeat(full) + &".".repeat(WIDTH - full);
    let without = match unanswered {
        0 => String::new(),
        count => format!(", {count} of them without an answer"),
    };
    format!("[{bar}]  {done} of {all}{without}, {asked} asked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far() {
        assert_eq!(
            line(28, 2, 8, 60),
            "[###############...............]  30 of 60, 2 of them without an answer, 8 asked"
        );
        assert_eq!(line(0, 0, 0, 0), "[..............................]  0 of 0, 0 asked");
    }
}
