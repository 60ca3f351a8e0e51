//! A port of this machine that leads to a port of a phone, for as long as the value lives.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A server that does not answer at once does not answer at all, and everything else waits meanwhile.
const REMOVING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

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
        // The Ctrl-C that makes us remove it is not for this call.
        remove.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let Ok(mut child) = remove.spawn() else { return };
        let begun = Instant::now();
        while let Ok(None) = child.try_wait() {
            if begun.elapsed() > REMOVING {
                let _ = child.kill().and_then(|()| child.wait());
                return;
            }
            sleep(LOOK_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adb::scripted;

    #[tokio::test]
    async fn a_server_that_hangs_does_not_keep_whoever_drops_a_forward() {
        let (_folder, adb) = scripted("case $4 in --remove) exec sleep 60 ;; *) echo 4000 ;; esac");
        let forward = adb.forward("S", 1).await.unwrap();
        let begun = Instant::now();
        drop(forward);
        assert!((REMOVING..REMOVING * 10).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}
