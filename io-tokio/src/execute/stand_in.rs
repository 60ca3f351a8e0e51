//! Takes the place of a model where none is configured, so that a demonstration shows the whole way of a prompt.
//! It says that it is no model, and answers with what can be counted.

use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::input::{Executor as Ability, RunOutcome};
use tokio::time::sleep;

use super::output::{Keep, Output, one_line};
use super::{Executor, Generated, Job, Stop, bounded, failed};

/// How much of the prompt it repeats, in bytes.
const REPEATED: usize = 60;

/// Answers every prompt with facts about the prompt, word by word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandInExecutor {
    delay: Duration,
    npu: bool,
}

impl StandInExecutor {
    /// `delay` passes before each word. `npu` plays a device with an NPU.
    pub const fn new(delay: Duration, npu: bool) -> Self {
        Self { delay, npu }
    }

    async fn speak(&self, job: &Job, text: &Generated) -> RunOutcome {
        let mut output = Output::new(job.output_bytes);
        for word in answer(&job.prompt).split_inclusive(' ') {
            // Even no time at all would be rounded up to a millisecond.
            if !self.delay.is_zero() {
                sleep(self.delay).await;
            }
            if let Err(error) = output.push(word, text).await {
                return failed(format!("the stand-in was stopped: {error}"));
            }
        }
        RunOutcome::Completed(output.into_text().into())
    }
}

fn answer(prompt: &str) -> String {
    let count =
        |count: usize, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let words = count(prompt.split_whitespace().count(), "word");
    let bytes = count(prompt.len(), "byte");
    let begins = one_line(prompt.as_bytes(), REPEATED, Keep::Beginning);
    format!(
        "This is a stand-in, not a language model: none is configured here. Your prompt has {words} and {bytes}; it \
         says: \"{begins}\""
    )
}

#[async_trait]
impl Executor for StandInExecutor {
    async fn ability(&self) -> Ability {
        let why = "a stand-in, not a language model: it answers with facts about the prompt".to_owned();
        Ability { available: true, npu: self.npu, slots: None, why }
    }

    async fn run(&self, job: Job, text: Generated, stop: Stop) -> RunOutcome {
        let late = || format!("the stand-in was stopped: it was not done after {:?}", job.limit);
        bounded(job.limit, stop, self.speak(&job, &text), late).await
    }
}
