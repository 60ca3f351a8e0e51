//! How far a batch is, in words.

use crate::redrawn;

/// Of `all` prompts: those that ended with and without an answer, and those that are asked now.
pub fn line(answered: usize, unanswered: usize, asked: usize, all: usize) -> String {
    let done = (answered + unanswered).min(all);
    let without = match unanswered {
        0 => String::new(),
        count => format!(", {count} of them without an answer"),
    };
    format!("[{}]  {done} of {all}{without}, {asked} asked", redrawn::bar(done as u64, all as u64))
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
