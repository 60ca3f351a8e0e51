//! Prompts that run here: a task each, as many as core has slots. Text and ends come through one bounded channel, so
//! a run's end never overtakes its text, and a device that is slow to take text slows the run down.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::Input;
use bidmesh_core::input::RunOutcome;
use bidmesh_core::outbox::RunId;
use bidmesh_core::wire::Text;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::shield::shield;
use crate::execute::{Executor, Generated, Job, Stop};

/// Pieces of text that a run may be ahead of the device.
const PIECES: usize = 16;

/// How long an executor may take to end after its limit, or after it was told to stop; then it is dropped, and with
/// it whatever it holds. A slot must not stay taken for ever by one that hangs.
pub(super) const OVERDUE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Runs {
    tasks: JoinSet<()>,
    open: BTreeMap<RunId, watch::Sender<bool>>,
    tell: mpsc::Sender<Input>,
    told: mpsc::Receiver<Input>,
}

impl Runs {
    pub(super) fn new() -> Self {
        let (tell, told) = mpsc::channel(PIECES);
        Self { tasks: JoinSet::new(), open: BTreeMap::new(), tell, told }
    }

    pub(super) fn begin(&mut self, run: RunId, job: Job, executor: Arc<dyn Executor>) {
        let (stop, stopped) = Stop::channel();
        self.open.insert(run, stop);
        let tell = self.tell.clone();
        self.tasks.spawn(async move {
            let outcome = attend(run, job, executor, stopped, &tell).await;
            // The reader is gone only when the device ends.
            let _ = tell.send(Input::Ran { run, outcome }).await;
        });
    }

    pub(super) fn stop(&self, run: RunId) {
        if let Some(stop) = self.open.get(&run) {
            stop.send_replace(true);
        }
    }

    pub(super) fn stop_all(&self) {
        for stop in self.open.values() {
            stop.send_replace(true);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The next text or end. May be cancelled.
    pub(super) async fn next(&mut self) -> Input {
        match self.told.recv().await {
            Some(input) => {
                if let Input::Ran { run, .. } = &input {
                    self.open.remove(run);
                    while self.tasks.try_join_next().is_some() {}
                }
                input
            }
            // Cannot happen: this struct holds a sender.
            None => pending().await,
        }
    }
}

/// Runs one prompt to its end and hands its text on meanwhile.
async fn attend(
    run: RunId,
    job: Job,
    executor: Arc<dyn Executor>,
    stop: Stop,
    tell: &mpsc::Sender<Input>,
) -> RunOutcome {
    let limit = job.limit;
    let (generated, pieces) = Generated::channel(PIECES);
    let mut text = Forward { run, offset: 0, pieces, held: None, tell };
    let outcome = tokio::select! {
        biased;
        outcome = shield(executor.run(job, generated, stop.clone())) => {
            outcome.unwrap_or_else(|panic| failed(format!("the executor has a defect and ended: {panic}")))
        }
        outcome = overdue(stop, limit) => outcome,
        never = text.all() => match never {},
    };
    text.rest().await;
    outcome
}

/// The outcome of an executor that does not end when it must.
async fn overdue(mut stop: Stop, limit: Duration) -> RunOutcome {
    tokio::select! {
        () = async { stop.stopped().await; tokio::time::sleep(OVERDUE).await } => RunOutcome::Stopped,
        () = tokio::time::sleep(limit.saturating_add(OVERDUE)) => {
            failed(format!("the executor did not end at its limit of {} s", limit.as_secs()))
        }
    }
}

fn failed(why: String) -> RunOutcome {
    RunOutcome::Failed(why.into())
}

struct Forward<'a> {
    run: RunId,
    offset: u64,
    pieces: mpsc::Receiver<Text>,
    /// Taken from the run, not yet handed on: it must survive being cancelled in between.
    held: Option<Text>,
    tell: &'a mpsc::Sender<Input>,
}

impl Forward<'_> {
    /// Hands on text for as long as it is polled.
    async fn all(&mut self) -> Infallible {
        self.until_closed().await;
        pending().await
    }

    /// Hands on what is left of a run that has ended.
    async fn rest(&mut self) {
        self.pieces.close();
        self.until_closed().await;
    }

    async fn until_closed(&mut self) {
        loop {
            if self.held.is_none() {
                self.held = self.pieces.recv().await;
            }
            // The reader is gone only when the device ends.
            let (Some(_), Ok(room)) = (&self.held, self.tell.reserve().await) else { return };
            if let Some(text) = self.held.take() {
                let offset = self.offset;
                self.offset += text.len() as u64;
                room.send(Input::Generated { run: self.run, offset, text });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use bidmesh_core::input::Executor as Ability;

    /// Does what its prompt says.
    struct Obedient;

    #[async_trait]
    impl Executor for Obedient {
        async fn ability(&self) -> Ability {
            Ability::default()
        }

        async fn run(&self, job: Job, text: Generated, mut stop: Stop) -> RunOutcome {
            match &*job.prompt {
                "count" => {
                    for number in 0..100 {
                        text.push(&format!("{number} ")).await;
                    }
                    RunOutcome::Completed("counted".into())
                }
                "panic" => panic!("as told"),
                "wait" => {
                    stop.stopped().await;
                    RunOutcome::Stopped
                }
                _ => pending().await,
            }
        }
    }

    fn begin(prompt: &str) -> Runs {
        let mut runs = Runs::new();
        let limit = Duration::from_secs(60);
        let job =
            Job { label: "award".into(), prompt: prompt.into(), npu: false, limit, output_bytes: 1 << 20 };
        runs.begin(RunId(7), job, Arc::new(Obedient));
        runs
    }

    async fn all(runs: &mut Runs) -> (Vec<(u64, Text)>, RunOutcome) {
        let mut pieces = Vec::new();
        loop {
            match runs.next().await {
                Input::Generated { run: RunId(7), offset, text } => pieces.push((offset, text)),
                Input::Ran { run: RunId(7), outcome } => {
                    assert!(runs.is_empty());
                    return (pieces, outcome);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn text_comes_whole_and_before_the_end() {
        let (pieces, outcome) = all(&mut begin("count")).await;
        assert_eq!(outcome, RunOutcome::Completed("counted".into()));
        assert_eq!(pieces.len(), 100);
        let mut expected = 0;
        for (offset, text) in pieces {
            assert_eq!(offset, expected);
            expected += text.len() as u64;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_slows_the_run_and_loses_nothing() {
        let mut runs = begin("count");
        // Long enough for the run to fill every place that there is.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(runs.told.len(), PIECES);
        assert_eq!(all(&mut runs).await.0.len(), 100);
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_run() {
        let (_, outcome) = all(&mut begin("panic")).await;
        assert_eq!(outcome, RunOutcome::Failed("the executor has a defect and ended: as told".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn stop_reaches_the_executor() {
        let mut runs = begin("wait");
        assert!(tokio::time::timeout(Duration::from_secs(5), runs.next()).await.is_err());
        runs.stop(RunId(7));
        assert_eq!(all(&mut runs).await.1, RunOutcome::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn an_executor_that_hangs_is_dropped() {
        let (_, outcome) = all(&mut begin("hang")).await;
        assert_eq!(outcome, RunOutcome::Failed("the executor did not end at its limit of 60 s".into()));
        let mut runs = begin("hang");
        runs.stop(RunId(7));
        assert_eq!(all(&mut runs).await.1, RunOutcome::Stopped);
    }
}
