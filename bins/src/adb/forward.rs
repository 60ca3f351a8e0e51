//! A port of this machine that leads to a port of a phone, for as long as the value lives.

use std::ffi::OsString;
use std::process::{Command, Stdio};

/// Removed when dropped.
#[derive(Debug)]
pub struct Forward {
    program: OsString,
    serial: String,
    local: u16,
}

impl Forward {
    pub(super) fn new(program: OsString, serial: &str, local: u16) -> Self {
        Self { program, serial: serial.to_owned(), local }
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.local
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Asks the server of this machine only: takes milliseconds. A server that has ended has no forwards.
        let mut remove = Command::new(&self.program);
        remove.args(["-s", &self.serial, "forward", "--remove", &format!("tcp:{}", self.local)]);
        let _ = remove.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
