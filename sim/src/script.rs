//! Executors and sensors that do what a test says.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::{Executor as Ability, RunOutcome, Sensors as Reading};
use bidmesh_io_tokio::execute::{Executor, Generated, Job, Stop};
use bidmesh_io_tokio::sensors::Sensors;
use tokio::time::{sleep, timeout};

use crate::record::{Record, What};

/// What an executor does with a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Answers with [`answer`] in so many pieces, evenly over this time.
    Answer {
        /// How long it takes.
        during: Duration,
        /// In how many pieces.
        pieces: u32,
    },
    /// Fails after this time.
    Fail {
        /// How long that takes.
        after: Duration,
        /// What it says.
        why: String,
    },
    /// Says nothing until it is stopped or its limit passes.
    Silent,
    /// Says nothing and cannot be stopped.
    Hang,
}

impl Act {
    /// Answers in one piece after `seconds`.
    pub const fn answer(seconds: u64) -> Self {
        Self::Answer { during: Duration::from_secs(seconds), pieces: 1 }
    }
}

/// The answer of a device to a prompt. It names both, so that an outcome can be checked against who produced it.
pub fn answer(device: &DeviceId, prompt: &str) -> String {
    format!("{device} says what there is to say about: {prompt}")
}

/// Does one act after the other, the last one for ever.
pub(crate) struct Scripted {
    pub(crate) device: DeviceId,
    pub(crate) npu: bool,
    pub(crate) slots: u16,
    pub(crate) acts: Vec<Act>,
    pub(crate) runs: Arc<AtomicUsize>,
    pub(crate) record: Record,
}

#[async_trait]
impl Executor for Scripted {
    async fn ability(&self) -> Ability {
        let available = !self.acts.is_empty();
        Ability { available, npu: self.npu && available, slots: Some(self.slots), why: "a script".into() }
    }

    async fn run(&self, job: Job, text: Generated, mut stop: Stop) -> RunOutcome {
        self.record.note(&self.device, What::RunBegan(job.prompt.as_ref().into()));
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let act = self.acts.get(number).or(self.acts.last()).cloned().unwrap_or(Act::Silent);
        if act == Act::Hang {
            return pending().await;
        }
        tokio::select! {
            () = stop.stopped() => RunOutcome::Stopped,
            outcome = timeout(job.limit, perform(act, answer(&self.device, &job.prompt), &text)) => {
                outcome.unwrap_or_else(|_| RunOutcome::Failed("the limit has passed".into()))
            }
        }
    }
}

async fn perform(act: Act, answer: String, text: &Generated) -> RunOutcome {
    match act {
        Act::Answer { during, pieces } => {
            let pieces = pieces.max(1);
            let characters: Vec<char> = answer.chars().collect();
            for piece in characters.chunks(characters.len().div_ceil(pieces as usize)) {
                sleep(during / pieces).await;
                text.push(&piece.iter().collect::<String>()).await;
            }
            RunOutcome::Completed(answer.into())
        }
        Act::Fail { after, why } => {
            sleep(after).await;
            RunOutcome::Failed(why.into())
        }
        Act::Silent | Act::Hang => pending().await,
    }
}

/// Always reads the same.
pub(crate) struct Steady(pub(crate) Reading);

#[async_trait]
impl Sensors for Steady {
    async fn read(&self) -> Reading {
        self.0
    }
}
