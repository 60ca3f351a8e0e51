//! A command that goes on while the test does something else, and what it has written so far.

use std::fs::{self, File};
use std::iter;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Finished, Process};
use crate::wait::{try_until, wait_until};

/// A running command. Dropping it kills it.
#[derive(Debug)]
pub struct Background {
    started: Instant,
    process: Process,
    dir: TempDir,
}

impl Background {
    /// Starts `command`; its standard input is empty.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_in(TempDir::new().expect("a temporary folder"), command)
    }

    /// Starts `command` on a terminal of its own, whose whole text is its standard output here. What is written into the
    /// file is typed there.
    ///
    /// # Panics
    /// If it cannot be started, or if the machine has no `script` or `mkfifo`.
    pub fn at_terminal(command: &Command) -> (Self, File) {
        let dir = TempDir::new().expect("a temporary folder");
        let typed = dir.path().join("typed");
        let made = Command::new("mkfifo").arg(&typed).status().expect("mkfifo can be started");
        assert!(made.success(), "a pipe cannot be made: {made}");
        let words = iter::once(command.get_program()).chain(command.get_args());
        let line: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().expect("plain words"))).collect();
        let mut terminal = Command::new("sh");
        terminal.arg("-c").arg("exec script -qec \"$0\" /dev/null < \"$1\"").arg(line.join(" ")).arg(&typed);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let terminal = Self::spawn_in(dir, &mut terminal);
        let person = File::options().write(true).open(&typed).expect("the terminal reads what is typed");
        (terminal, person)
    }

    fn spawn_in(dir: TempDir, command: &mut Command) -> Self {
        let file = |name| File::create(dir.path().join(name)).expect("a writable folder");
        command.stdout(file("stdout")).stderr(file("stderr"));
        Self { started: Instant::now(), process: Process::spawn(command, Stdio::null()), dir }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes("stdout")).into_owned()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.bytes("stderr")).into_owned()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.status().is_none()
    }

    /// Waits until its standard output holds `text`.
    ///
    /// # Panics
    /// If it does not by `deadline`.
    pub fn wait_for_stdout(&self, text: &str, deadline: Duration) {
        wait_until(deadline, &format!("{text:?} on stdout"), || self.stdout().contains(text).then_some(()));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end by `deadline`; shows what it said.
    pub fn finish(mut self, deadline: Duration) -> Finished {
        let status = try_until(deadline, || self.process.status()).unwrap_or_else(|| {
            panic!("not ended after {deadline:?}:\nstdout: {}\nstderr: {}", self.stdout(), self.stderr())
        });
        let took = self.started.elapsed();
        Finished { status, took, stdout: self.bytes("stdout"), stderr: self.bytes("stderr") }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap_or_default()
    }
}
