//! The device runs no prompts itself: it only asks others.

use async_trait::async_trait;
use bidmesh_core::input::{Executor as Ability, RunOutcome};

use super::{Executor, Generated, Job, Stop, failed};

/// Runs nothing, and says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoExecutor {
    why: String,
}

impl NoExecutor {
    /// `why` there is none and what to do about it, for people.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

impl Default for NoExecutor {
    fn default() -> Self {
        Self::new(
            "nothing runs prompts on this device: set `executor.run` to command:PATH (a program) or openai:URL (a model \
             server)",
        )
    }
}

#[async_trait]
impl Executor for NoExecutor {
    async fn ability(&self) -> Ability {
        Ability { available: false, npu: false, slots: None, why: self.why.clone() }
    }

    async fn run(&self, _job: Job, _text: Generated, _stop: Stop) -> RunOutcome {
        failed(self.why.clone())
    }
}
