//! What runs prompts. An executor is chosen at run time: a command, a model server, the embedded model, or nothing.

pub mod command;
mod none;
pub mod openai;
mod output;
mod preset;
mod process;
#[cfg(feature = "slm")]
pub mod slm;
mod spec;
mod stand_in;

use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::input::{Executor as Ability, RunOutcome};
use bidmesh_core::wire::Text;
use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

pub use none::NoExecutor;
pub use preset::{Preset, UnknownPreset};
pub use spec::{BuildError, ExecutorSettings, ExecutorSpec, SpecError};
pub use stand_in::StandInExecutor;

/// Runs prompts.
#[async_trait]
pub trait Executor: Send + Sync {
    /// What it is, and whether it could run a prompt now. Asked at start and now and then; must not take long.
    async fn ability(&self) -> Ability;

    /// Gets ready for the first prompt, which may take a while: a model is loaded. Executors that keep nothing ready
    /// return at once.
    ///
    /// # Errors
    ///
    /// One line that says why the first prompt will fail too.
    async fn warm(&self) -> Result<(), String> {
        Ok(())
    }

    /// Told whether the device runs on its battery, so that an idle executor can give back what it keeps ready.
    fn on_battery(&self, _: bool) {}

    /// Runs one prompt to its end. Text is handed out as it is generated, in order; the outcome holds the whole of
    /// it. Never panics, never outlives `job.limit` by more than it takes to end a process; returns
    /// [`RunOutcome::Stopped`] soon after `stop` says so, with nothing left running.
    async fn run(&self, job: Job, text: Generated, stop: Stop) -> RunOutcome;
}

/// One prompt to be run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The award, for logs, file names and the environment of a command.
    pub label: String,
    /// The prompt.
    pub prompt: Text,
    /// Whether to use the NPU.
    pub npu: bool,
    /// How long it may run.
    pub limit: Duration,
    /// How many bytes its output may have; more is a failed run.
    pub output_bytes: usize,
}

/// Where generated text goes. A slow reader slows the run down instead of filling memory.
#[derive(Clone, Debug)]
pub struct Generated(mpsc::Sender<Text>);

impl Generated {
    /// Text arrives at `receiver`, `room` pieces ahead at most.
    pub fn channel(room: usize) -> (Self, mpsc::Receiver<Text>) {
        let (sender, receiver) = mpsc::channel(room.max(1));
        (Self(sender), receiver)
    }

    /// Hands out the next piece. What nobody reads any more is dropped.
    pub async fn push(&self, piece: &str) {
        if !piece.is_empty() {
            // The reader is gone only when the device ends; the run is stopped by then.
            let _ = self.0.send(piece.into()).await;
        }
    }
}

/// Says when a run is to be stopped.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// The sender stops the run by sending `true`, or by being dropped.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Returns when the run is to be stopped.
    pub async fn stopped(&mut self) {
        // A dropped sender means that nobody is there any more who could want the answer.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// A failed run, told in one line.
fn failed(why: String) -> RunOutcome {
    RunOutcome::Failed(why.into())
}

/// Whether a run is to be stopped already.
fn is_stopped(stop: &mut Stop) -> bool {
    stop.stopped().now_or_never().is_some()
}

/// A run that ends by being dropped: at its limit, which fails it with the words of `late`, and when it is stopped.
async fn bounded(
    limit: Duration,
    mut stop: Stop,
    run: impl Future<Output = RunOutcome>,
    late: impl FnOnce() -> String,
) -> RunOutcome {
    tokio::select! {
        biased;
        () = stop.stopped() => RunOutcome::Stopped,
        () = sleep(limit) => failed(late()),
        outcome = run => outcome,
    }
}
