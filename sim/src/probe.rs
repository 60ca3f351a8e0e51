//! The people of a world: they ask prompts, look at the answers, leave.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bidmesh_core::decision::Decision;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::outbox::Outcome;
use bidmesh_core::wire::Body;
use bidmesh_core::{Event, Input, Submission};
use bidmesh_io_tokio::driver::{Following, Handle, Noticed, Refused, Told};
use tokio::sync::{Notify, broadcast};

use crate::record::{Record, What};

/// One prompt that was asked, by its number in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask(pub(crate) usize);

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ask {}", self.0)
    }
}

/// What has become of a prompt that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Of which device.
    pub device: DeviceId,
    /// The base prompt.
    pub prompt: String,
    /// Its name, once it was taken on.
    pub task: Option<TaskId>,
    /// Everything that was told, in order.
    pub told: Vec<Told>,
    /// It was not taken on.
    pub refused: Option<Refused>,
    /// The device ended, or whoever asked left, before the outcome.
    pub broken_off: bool,
    /// The decision record, as it was at the end.
    pub decision: Option<Decision>,
}

impl Asked {
    /// The outcome, once there is one.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.told.iter().find_map(|told| match told {
            Told::Outcome(outcome) => Some(outcome),
            Told::Text { .. } | Told::BrokenOff { .. } => None,
        })
    }

    /// The answer as somebody who watched has it at the end: what came after the last break.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for told in &self.told {
            match told {
                Told::Text { text: more, .. } => text.push_str(more),
                Told::BrokenOff { .. } => text.clear(),
                Told::Outcome(_) => {}
            }
        }
        text
    }

    /// Whether nothing more is to come.
    pub fn over(&self) -> bool {
        self.outcome().is_some() || self.refused.is_some() || self.broken_off
    }
}

pub(crate) enum Command {
    Ask(Ask, Box<Submission>),
    Leave(Ask),
    Say(DeviceId, Body),
    Tell(Input),
}

/// What the test and the people of one device share.
#[derive(Default)]
pub(crate) struct Desk {
    commands: Mutex<VecDeque<Command>>,
    new: Notify,
    leaving: Mutex<Vec<Ask>>,
    left: Notify,
}

impl Desk {
    pub(crate) fn put(&self, command: Command) {
        locked(&self.commands).push_back(command);
        self.new.notify_one();
    }

    async fn take(&self) -> Command {
        loop {
            let command = locked(&self.commands).pop_front();
            match command {
                Some(command) => return command,
                None => self.new.notified().await,
            }
        }
    }

    async fn left(&self, ask: Ask) {
        loop {
            let notified = self.left.notified();
            if locked(&self.leaving).contains(&ask) {
                return;
            }
            notified.await;
        }
    }
}

pub(crate) fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has become of all prompts of a world.
pub(crate) type Asks = Arc<Mutex<Vec<Asked>>>;

/// The people of one device, while it runs.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) device: DeviceId,
    pub(crate) handle: Handle,
    pub(crate) desk: Arc<Desk>,
    pub(crate) asks: Asks,
    pub(crate) record: Record,
}

impl Probe {
    /// Does what the test says, until the device ends.
    pub(crate) async fn work(self) {
        loop {
            match self.desk.take().await {
                Command::Ask(ask, submission) => {
                    tokio::spawn(self.clone().ask(ask, *submission));
                }
                Command::Leave(ask) => {
                    locked(&self.desk.leaving).push(ask);
                    self.desk.left.notify_waiters();
                }
                Command::Say(to, body) => {
                    let handle = self.handle.clone();
                    // What became of it is in the record.
                    tokio::spawn(async move { handle.say(to, body).await });
                }
                // A device that has ended is told nothing.
                Command::Tell(input) => drop(self.handle.tell(input).await),
            }
        }
    }

    /// Notes the device's events until it ends.
    pub(crate) async fn watch(self, mut events: broadcast::Receiver<Arc<Noticed>>) {
        loop {
            match events.recv().await {
                Ok(noticed) => self.record.note(&self.device, What::Noticed(Event::clone(&noticed.event))),
                Err(error) => {
                    let lagged = matches!(error, broadcast::error::RecvError::Lagged(_));
                    assert!(!lagged, "the record of {} has a gap: {error}", self.device);
                    return;
                }
            }
        }
    }

    async fn ask(self, ask: Ask, submission: Submission) {
        match self.handle.submit(submission).await {
            Ok(Ok(following)) => self.follow(ask, following).await,
            Ok(Err(refused)) => {
                self.record.note(&self.device, What::Turned(ask, refused.why.words().into()));
                self.change(ask, |asked| asked.refused = Some(refused));
            }
            Err(_) => self.break_off(ask, "the device has ended"),
        }
    }

    async fn follow(self, ask: Ask, mut following: Following) {
        let task = following.task().clone();
        self.change(ask, |asked| asked.task = Some(task.clone()));
        loop {
            let told = tokio::select! {
                told = following.next() => told,
                () = self.desk.left(ask) => {
                    drop(following);
                    return self.break_off(ask, "whoever asked has left");
                }
            };
            let Some(told) = told else { return self.break_off(ask, "the device has ended") };
            self.record.note(&self.device, What::Told(ask, told.clone()));
            let last = matches!(told, Told::Outcome(_));
            // The record first: a test that sees the outcome may look at it.
            let recalled = if last { self.handle.decision(task.clone()).await.ok().flatten() } else { None };
            self.change(ask, |asked| {
                asked.told.push(told);
                asked.decision = recalled.map(|recalled| recalled.decision);
            });
            if last {
                assert_eq!(following.next().await, None, "{ask}: nothing follows an outcome");
                return;
            }
        }
    }

    fn break_off(&self, ask: Ask, why: &str) {
        self.record.note(&self.device, What::Turned(ask, why.into()));
        self.change(ask, |asked| asked.broken_off = true);
    }

    fn change(&self, ask: Ask, change: impl FnOnce(&mut Asked)) {
        if let Some(asked) = locked(&self.asks).get_mut(ask.0) {
            change(asked);
        }
    }
}
