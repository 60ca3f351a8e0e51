//! The embedded executor: a small language model in this process, so that a device needs nothing else to take part.
//! Models of the llama family with a ChatML template, such as SmolLM2, are read from one GGUF file. The default is a
//! demonstration model that knows few facts: a larger file or a model server takes its place.

mod engine;
mod error;
mod gguf;
mod model;
mod processor;
mod sample;
#[cfg(test)]
mod tests;
mod threads;
mod tokenizer;
mod transformer;

use std::sync::Arc;

use async_trait::async_trait;
use bidmesh_core::input::{Executor as Ability, Generation, RunOutcome, Tokens};
use tokio::sync::mpsc;

use super::output::Output;
use super::{Executor, Generated, Job, Stop, bounded, failed};
use engine::{Order, Request, Said};

pub use error::SlmError;
pub use model::{CONTEXT, Model, ModelSettings};
pub use processor::{ProcessorTooOld, processor};
pub use sample::Sampling;
pub use threads::default_threads;
#[cfg(unix)]
pub use threads::settle_threads;

/// The default of [`SlmOptions::tokens_max`].
pub const TOKENS_MAX: u32 = 256;

/// How one executor has its prompts answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlmOptions {
    /// The most tokens of an answer, 1 at least.
    pub tokens_max: u32,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Plays a device with an NPU. The model itself runs on the processor.
    pub npu: bool,
}

impl Default for SlmOptions {
    fn default() -> Self {
        Self { tokens_max: TOKENS_MAX, sampling: Sampling::default(), npu: false }
    }
}

/// Runs prompts on the embedded model. Several executors may share one; their prompts take turns.
#[derive(Debug)]
pub struct SlmExecutor {
    model: Arc<Model>,
    options: SlmOptions,
}

impl SlmExecutor {
    /// An executor on this model ([`Model::shared`]), which is loaded when it is first needed.
    pub const fn new(model: Arc<Model>, options: SlmOptions) -> Self {
        Self { model, options }
    }

    /// The model, to load it early, say.
    pub const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    async fn answer(&self, job: &Job, text: &Generated) -> Result<Generation, SlmError> {
        // More than fit are never said, and room for them would be memory for nothing.
        let tokens_max = self.options.tokens_max.min(self.model.settings().context).max(1);
        let (said, mut pieces) = mpsc::channel(usize::try_from(tokens_max).unwrap_or(usize::MAX) + 1);
        let request = Request {
            label: job.label.clone(),
            prompt: job.prompt.clone(),
            tokens_max,
            sampling: self.options.sampling,
            said,
        };
        self.model.order(Order::Answer(request))?;
        let mut output = Output::new(job.output_bytes);
        let tokens = loop {
            match pieces.recv().await {
                Some(Said::Piece(bytes)) => output.push_bytes(&bytes, text).await.map_err(too_much)?,
                Some(Said::End(end)) => break end?,
                None => return Err(SlmError::new("the embedded model's thread has ended".to_owned())),
            }
        };
        output.close(text).await.map_err(too_much)?;
        Ok(generation(output, tokens))
    }
}

fn generation(output: Output, tokens: Tokens) -> Generation {
    Generation { text: output.into_text(), tokens: Some(tokens) }
}

fn too_much(error: impl std::fmt::Display) -> SlmError {
    SlmError::new(format!("the embedded model was stopped: {error}"))
}

#[async_trait]
impl Executor for SlmExecutor {
    async fn ability(&self) -> Ability {
        let described = self.model.described();
        let available = described.is_ok();
        let (Ok(why) | Err(why)) = described;
        Ability { available, npu: self.options.npu, slots: Some(1), why }
    }

    async fn warm(&self) -> Result<(), String> {
        self.model.warm().await.map(drop).map_err(|error| error.to_string())
    }

    fn on_battery(&self, on_battery: bool) {
        self.model.on_battery(on_battery);
    }

    /// Ends the answer by letting go of its pieces: the thread sees it between two tokens.
    async fn run(&self, job: Job, text: Generated, stop: Stop) -> RunOutcome {
        let run = async {
            match self.answer(&job, &text).await {
                Ok(generation) => RunOutcome::Completed(generation),
                Err(error) => failed(error.to_string()),
            }
        };
        let late = || format!("the embedded model was stopped: it was not done after {:?}", job.limit);
        bounded(job.limit, stop, run, late).await
    }
}
