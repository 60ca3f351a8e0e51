//! Lines for whoever watches a running device. They are written by a thread of their own: a terminal that was
//! stopped with Ctrl-S, or a pipe that nobody reads for a while, must not make the device deaf.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that wait for a slow reader; further ones are left out.
const WAITING_MAX: usize = 1_000;
/// How long the last lines may take to be read at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines go. Dropping it waits a moment for those that are under way.
#[derive(Debug)]
pub struct Screen {
    /// `None` only while it is dropped.
    lines: Option<SyncSender<String>>,
    ended: Receiver<()>,
    left_out: u64,
}

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Screen {
    /// Writes to stdout.
    pub fn stdout() -> io::Result<Self> {
        Self::new(io::stdout())
    }

    /// Writes to stderr.
    pub fn stderr() -> io::Result<Self> {
        Self::new(io::stderr())
    }

    fn new(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(WAITING_MAX);
        let (alive, ended) = channel();
        thread::Builder::new().name("screen".into()).spawn(move || {
            let _alive = alive;
            for line in waiting {
                if writeln!(to, "{line}").and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { lines: Some(lines), ended, left_out: 0 })
    }

    /// Hands over a line, or counts it as left out if too many wait.
    pub fn line(&mut self, line: String) -> Result<(), Gone> {
        let Some(lines) = &self.lines else { return Err(Gone) };
        match lines.try_send(line) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.left_out += 1;
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Gone),
        }
    }

    /// How many lines were left out since this was asked last.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.lines.take());
        // It ends by being disconnected; nothing is ever sent.
        let _ = self.ended.recv_timeout(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

    /// Takes what is written once it may.
    struct Slow(Receiver<()>, Sender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_stops_nobody() {
        let (go, wait) = channel();
        let (write, written) = channel();
        let mut screen = Screen::new(Slow(wait, write)).unwrap();
        for number in 0..3 * WAITING_MAX {
            assert_eq!(screen.line(number.to_string()), Ok(()));
        }
        assert!(screen.take_left_out() > 0);
        assert_eq!(screen.take_left_out(), 0);
        for _ in 0..10 {
            go.send(()).unwrap();
        }
        assert_eq!(written.recv().unwrap(), "0");
        // A reader that goes away is noticed.
        drop(go);
        while screen.line("more".into()).is_ok() {
            thread::yield_now();
        }
    }
}
