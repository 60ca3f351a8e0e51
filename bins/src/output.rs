//! Where words go: results to stdout, everything else to stderr. A reader that went away ends the command
//! quietly; text from other devices cannot move a terminal's cursor.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// How this command talks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Results are JSON.
    pub json: bool,
    /// Nothing on stderr but errors.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// A person looks at stdout.
    pub stdout_is_terminal: bool,
    /// A person looks at stderr.
    pub stderr_is_terminal: bool,
    no_color: bool,
}

impl Output {
    pub fn new(json: bool, quiet: bool, verbose: u8) -> Self {
        Self {
            json,
            quiet,
            verbose,
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            // https://no-color.org: set and not empty, whatever it says.
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        }
    }

    /// Whether somebody can be asked something.
    pub fn person_is_there(&self) -> bool {
        io::stdin().is_terminal() && self.stderr_is_terminal && !self.json && !self.quiet
    }

    /// Whether a line on stderr may be drawn anew.
    pub const fn draws(&self) -> bool {
        self.stderr_is_terminal && !self.quiet && !self.json
    }

    /// Writes a result as it is, and flushes: answers arrive piece by piece.
    pub fn result(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| stdout_failed(&error))
    }

    /// Writes text that another device made. On a terminal its control characters are taken out.
    pub fn foreign(&self, text: &str) -> Result<(), Failure> {
        if self.stdout_is_terminal { self.result(&harmless(text)) } else { self.result(text) }
    }

    /// Writes one JSON object on one line.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_string(value)
            .map_err(|error| Failure::failed(format!("the result could not be written as JSON: {error}")))?;
        line.push('\n');
        self.result(&line)
    }

    /// Tells a person something that is no result, unless they asked for quiet. It may hold what another device said.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.say(&harmless(text));
        }
    }

    /// As [`Output::note`], in a weaker colour where there is one.
    pub fn aside(&self, text: &str) {
        if self.stderr_is_terminal && !self.no_color && !self.quiet {
            self.say(&format!("\x1b[2m{}\x1b[0m", harmless(text)));
        } else {
            self.note(text);
        }
    }

    /// `text` in one of six colours where a person looks at stdout.
    pub fn coloured(&self, number: usize, text: &str) -> String {
        if self.stdout_is_terminal && !self.no_color {
            // Cyan, yellow, green, magenta, blue, red.
            let colour = [36, 33, 32, 35, 34, 31][number % 6];
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The one line of an error; with `--json` an object.
    pub fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        if self.json {
            let error = serde_json::json!({ "error": { "code": failure.code, "message": failure.message } });
            self.say(&error.to_string());
        } else {
            self.say(&format!("bidmesh: {}", harmless(&failure.message)));
        }
    }

    fn say(&self, text: &str) {
        // Nowhere is left to complain about a closed stderr.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn stdout_failed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::silent(Exit::ClosedPipe)
    } else {
        Failure::failed(format!("stdout could not be written: {error}; free some space or write elsewhere"))
    }
}

/// `text` without what could drive a terminal: control characters other than newline and tab become U+FFFD.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let drives = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(drives) {
        Cow::Owned(text.chars().map(|c| if drives(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// `text` on one line, without what could drive a terminal or forge a line of a log.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(harmless("\x1b[2Jhi\u{9b}1m\ttab\nline"), "\u{fffd}[2Jhi\u{fffd}1m\ttab\nline");
        assert!(matches!(harmless("plain grüß 👋"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\r\nb\x1bc"), "a  b c");
    }

    #[test]
    fn a_closed_pipe_says_nothing() {
        let failure = stdout_failed(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::ClosedPipe, ""));
    }
}
