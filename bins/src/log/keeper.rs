//! Keeps the log of a running device: each event into the file, those that a person asked to see on stderr, and
//! with `up --json` as JSON on stdout.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bidmesh_io_tokio::driver::{Handle, Noticed};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::screen::Screen;
use super::{Line, LogFile, describe};
use crate::api::event_json;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Who is told, beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A person at stderr, up to this level; with `--json` a program at stdout.
    Watching(u8),
    /// A person who watches something else.
    Elsewhere,
}

/// Keeps a log.
#[derive(Debug)]
pub struct Keeper {
    events: Receiver<Arc<Noticed>>,
    file: Option<LogFile>,
    output: Output,
    audience: Audience,
    /// `None`: nobody watches, or the system has no thread for it.
    screen: Option<Screen>,
}

impl Keeper {
    /// Begins with the next event.
    pub fn new(handle: &Handle, path: PathBuf, output: Output, audience: Audience) -> Self {
        let events = handle.events();
        let screen = match (audience, output.json) {
            (Audience::Elsewhere, _) => None,
            (Audience::Watching(_), true) => Screen::stdout().ok(),
            (Audience::Watching(_), false) => Screen::stderr().ok(),
        };
        let mut keeper = Self { events, file: None, output, audience, screen };
        match LogFile::open(path) {
            Ok(file) => keeper.file = Some(file),
            Err(error) => keeper.give_up(&error),
        }
        keeper
    }

    /// Waits for the next event and keeps it. May be cancelled.
    pub async fn next(&mut self) -> Result<(), Failure> {
        match self.events.recv().await {
            Ok(noticed) => self.keep(&noticed),
            Err(RecvError::Lagged(missed)) => self.missed(missed),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Keeps what has happened already.
    pub fn drain(&mut self) -> Result<(), Failure> {
        loop {
            match self.events.try_recv() {
                Ok(noticed) => self.keep(&noticed)?,
                Err(TryRecvError::Lagged(missed)) => self.missed(missed)?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Keeps a line of the command's own.
    pub fn line(&mut self, line: &Line) {
        let now = SystemTime::now();
        self.write(now, line);
        self.show(now, line);
    }

    fn keep(&mut self, noticed: &Noticed) -> Result<(), Failure> {
        let line = describe(&noticed.event);
        self.write(noticed.at, &line);
        if !self.output.json {
            self.show(noticed.at, &line);
            return Ok(());
        }
        let Some(screen) = &mut self.screen else { return Ok(()) };
        let left_out = screen.take_left_out();
        if left_out > 0 {
            let _ = screen.line(serde_json::json!({ "event": "missed", "count": left_out }).to_string());
        }
        screen.line(event_json(noticed)).map_err(|_| Failure::silent(Exit::ClosedPipe))
    }

    fn missed(&mut self, missed: u64) -> Result<(), Failure> {
        self.line(&Line::new("WARN", 0, format!("{missed} events came faster than they could be written")));
        Ok(())
    }

    fn show(&mut self, at: SystemTime, line: &Line) {
        let Audience::Watching(level) = self.audience else { return };
        if line.level > level || self.output.quiet {
            return;
        }
        match &mut self.screen {
            // With `--json` the screen is stdout, which is for events alone.
            Some(screen) if !self.output.json => {
                // A device whose terminal is gone goes on: its log is in the file.
                let _ = screen.line(line.written(at));
            }
            _ => self.output.note(&line.written(at)),
        }
    }

    fn write(&mut self, at: SystemTime, line: &Line) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write(at, line) {
            self.give_up(&error);
        }
    }

    /// A device without a log goes on working.
    fn give_up(&mut self, error: &std::io::Error) {
        self.file = None;
        self.output.note(&format!(
            "the log cannot be written: {error}; free some space, then start the device again"
        ));
    }
}
