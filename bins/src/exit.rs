//! How a command ends: one exit status for each kind of end, and one line for a person.

use std::fmt;

/// The exit statuses of every command. Scripts depend on them: numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for happened.
    Ok = 0,
    /// It failed; the line on stderr says why.
    Failed = 1,
    /// The command line, a setting or a file is not valid.
    Usage = 2,
    /// No device could take the prompt.
    Nobody = 3,
    /// The task's own deadline passed.
    Expired = 4,
    /// The device did not take it on: its queue is full, the prompt is too long, it shuts down.
    Refused = 5,
    /// No device runs in this mesh directory.
    NotRunning = 6,
    /// The task has not ended yet.
    Open = 7,
    /// The task was cancelled, by Ctrl-C or from elsewhere (128 + SIGINT).
    Cancelled = 130,
    /// Nobody reads our output any more (128 + SIGPIPE).
    ClosedPipe = 141,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// The end of `--help` and of the manual page.
pub const EXIT_STATUS_HELP: &str = "\
Exit status:
  0    done
  1    failed; one line on stderr says what, to what, and what to do
  2    the command line, a setting or a file is not valid
  3    no device could take the prompt
  4    the task's own deadline passed
  5    the device did not take it on (queue full, prompt too long, shutting down)
  6    no device runs in this mesh directory
  7    the task has not ended yet
  130  cancelled (Ctrl-C, or no to a question that goes before)
  141  the reader of our output went away";

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// One word for programs, in lower case with underscores.
    pub code: String,
    /// One line for a person: what happened, to what, what to do about it. Empty: nothing to say.
    pub message: String,
    /// When trying again may help, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), retry_after_ms: None }
    }

    /// Something that should have worked did not.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    /// What the person wrote cannot be used.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Ends the process with `exit`, without a word: everything has been said.
    pub fn silent(exit: Exit) -> Self {
        Self::new(exit, "", "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_exit_status() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::Nobody,
            Exit::Expired,
            Exit::Refused,
            Exit::NotRunning,
            Exit::Open,
            Exit::Cancelled,
            Exit::ClosedPipe,
        ] {
            let start = format!("  {:<5}", exit.code());
            assert!(EXIT_STATUS_HELP.lines().any(|line| line.starts_with(&start)), "{exit:?}");
        }
    }
}
