//! The driver: one task owns the [`Device`](bidmesh_core::Device), turns its actions into work and work into
//! inputs. Everybody else holds a [`Handle`].
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | `run` | whatever comes first | the next input; actions into calls of the modules below |
//! | `sends` | `Send`, `Abandon` | `Delivered`, `SendFailed` |
//! | `runs` | `Run`, `Stop` | `Generated`, `Ran` |
//! | `writes` | `Persist` | `Persisted` |
//! | `watchers` | `Report` | answers to whoever waits on a [`Handle`] or a [`Following`]; `Cancel` when nobody does |
//! | `recalls` | decision records, held and stored | answers to whoever asks for them |
//! | `sampler` | time | `SensorsRead`, `ExecutorChanged` |

mod recalls;
mod run;
mod runs;
mod sampler;
mod sends;
mod shield;
mod watchers;
mod writes;

pub use recalls::AgedDecision;
pub use run::{Driver, End, Parts};
pub use sampler::Sampling;

use std::sync::Arc;
use std::time::SystemTime;

use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::outbox::{Event, Outcome, Refusal, Unsaid};
use bidmesh_core::snapshot::Snapshot;
use bidmesh_core::wire::Body;
use bidmesh_core::{Input, Submission};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use recalls::Recalled;

/// A running device, for this machine's own people and programs. Clones talk to the same device.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Arc<Noticed>>,
}

/// The device has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// An event and when it was noticed, by the wall clock.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// When.
    pub at: SystemTime,
    /// What.
    pub event: Event,
}

/// Why a prompt was not taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is the matter and what to do about it.
    pub why: Refusal,
    /// When trying again may help, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// A task that is being watched. While an attached task has a watcher it goes on; when the last one is dropped it
/// is cancelled.
#[derive(Debug)]
pub struct Following {
    task: TaskId,
    position: usize,
    joined: bool,
    answer: watch::Receiver<Answer>,
    breaks: usize,
    shown: usize,
    done: bool,
}

/// All that has been told of a task's answer so far. A slow watcher misses nothing and costs no memory of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) breaks: Vec<Broken>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) text: String,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) device: DeviceId,
    pub(crate) shown: u64,
    pub(crate) why: String,
}

/// What a watcher is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// More of the answer.
    Text {
        /// Who generates it.
        device: DeviceId,
        /// Where it begins in the answer, in bytes.
        offset: u64,
        /// The text.
        text: String,
    },
    /// The answer shown so far is void; another begins at offset 0.
    BrokenOff {
        /// Whose answer broke off.
        device: DeviceId,
        /// How much of it had been told in all, in bytes.
        shown: u64,
        /// Why.
        why: String,
    },
    /// The one outcome; nothing follows.
    Outcome(Outcome),
}

impl Following {
    /// The task's name.
    pub fn task(&self) -> &TaskId {
        &self.task
    }

    /// How many tasks were before it in the queue when it was taken on.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether the submission's key named a task that was there before; it may even be over.
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// What is new. `None` after the outcome, and if the device ended without one. May be cancelled and called again.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if self.done {
                return None;
            }
            if let Some(told) = self.look() {
                return Some(told);
            }
            self.answer.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Option<Told> {
        let answer = self.answer.borrow_and_update();
        if let Some(broken) = answer.breaks.get(self.breaks) {
            self.breaks += 1;
            self.shown = 0;
            let Broken { device, shown, why } = broken.clone();
            return Some(Told::BrokenOff { device, shown, why });
        }
        if let (Some(device), Some(text)) = (&answer.device, answer.text.get(self.shown..))
            && !text.is_empty()
        {
            let told = Told::Text { device: device.clone(), offset: self.shown as u64, text: text.into() };
            self.shown = answer.text.len();
            return Some(told);
        }
        let outcome = answer.outcome.clone()?;
        self.done = true;
        Some(Told::Outcome(outcome))
    }
}

/// A prompt that is handed in, and who waits to hear whether it is taken on.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) submission: Box<Submission>,
    pub(crate) submitter: oneshot::Sender<Result<Following, Refused>>,
}

/// What a handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Request {
    /// Something happened that core knows as an input and that has no answer.
    Tell(Input),
    Submit(Prompt),
    Follow(TaskId, oneshot::Sender<Option<Following>>),
    Say(DeviceId, Body, oneshot::Sender<Option<Unsaid>>),
    Snapshot(oneshot::Sender<Snapshot>),
    Outcome(TaskId, oneshot::Sender<Option<Outcome>>),
    Outcomes(oneshot::Sender<Vec<(TaskId, Outcome)>>),
    Decision(TaskId, oneshot::Sender<Recalled<Option<AgedDecision>>>),
    Decisions(oneshot::Sender<Recalled<Vec<AgedDecision>>>),
}

impl Handle {
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Ended> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(request(sender)).await.map_err(|_| Ended)?;
        receiver.await.map_err(|_| Ended)
    }

    /// Tells the device of something that has no answer: [`Input::Cancel`], [`Input::Pause`], [`Input::Resume`],
    /// [`Input::Reconfigured`], [`Input::PeersEdited`], [`Input::AddressChanged`], [`Input::Shutdown`]. Returns before
    /// the device has taken it in; what is asked through handles is taken in order, so whatever comes later finds it done.
    pub async fn tell(&self, input: Input) -> Result<(), Ended> {
        self.requests.send(Request::Tell(input)).await.map_err(|_| Ended)
    }

    /// Hands in a prompt; returns when it is taken on or refused. The submission's `ticket` is set by the driver.
    pub async fn submit(&self, submission: Submission) -> Result<Result<Following, Refused>, Ended> {
        let submission = Box::new(submission);
        self.ask(|submitter| Request::Submit(Prompt { submission, submitter })).await
    }

    /// Watches a task that is open or ended not long ago, from its beginning; `None` if there is none of that name.
    pub async fn follow(&self, task: TaskId) -> Result<Option<Following>, Ended> {
        self.ask(|answer| Request::Follow(task, answer)).await
    }

    /// Says something to a peer; returns when it was delivered (`None`), or with the reason why it was not.
    pub async fn say(&self, to: DeviceId, body: Body) -> Result<Option<Unsaid>, Ended> {
        self.ask(|answer| Request::Say(to, body, answer)).await
    }

    /// How the device is now.
    pub async fn snapshot(&self) -> Result<Snapshot, Ended> {
        self.ask(Request::Snapshot).await
    }

    /// How a task ended, if that is remembered.
    pub async fn outcome(&self, task: TaskId) -> Result<Option<Outcome>, Ended> {
        self.ask(|answer| Request::Outcome(task, answer)).await
    }

    /// Ended tasks that are remembered and how they ended, oldest first.
    pub async fn outcomes(&self) -> Result<Vec<(TaskId, Outcome)>, Ended> {
        self.ask(Request::Outcomes).await
    }

    /// The decision record of a task, of this start of the device or kept by the store. One that the store cannot read is
    /// none.
    pub async fn decision(&self, task: TaskId) -> Result<Option<AgedDecision>, Ended> {
        let recalled = self.ask(|answer| Request::Decision(task.clone(), answer)).await?;
        Ok(recalled.one(&task).await)
    }

    /// All decision records that are kept: those of earlier starts, then those of this one, each oldest first.
    pub async fn decisions(&self) -> Result<Vec<AgedDecision>, Ended> {
        Ok(self.ask(Request::Decisions).await?.all().await)
    }

    /// What the device notices from now on. A slow reader is told how much it missed.
    pub fn events(&self) -> broadcast::Receiver<Arc<Noticed>> {
        self.events.subscribe()
    }
}
