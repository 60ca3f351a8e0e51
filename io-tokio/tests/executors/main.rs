//! The executors against real processes and a scripted server, and the HTTP client under them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test that cannot go on has failed.

mod command;
mod http;
mod openai;
mod others;
mod server;

use std::time::Duration;

use bidmesh_core::input::RunOutcome;
use bidmesh_io_tokio::execute::{Executor, Generated, Job, Stop};

/// Far longer than anything here takes: only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(30);

fn job(prompt: &str) -> Job {
    Job {
        label: "task_0123456789abc.1.k7q2m".to_owned(),
        prompt: prompt.into(),
        npu: false,
        limit: PATIENCE,
        output_bytes: 1_000_000,
    }
}

fn completed(text: &str) -> RunOutcome {
    RunOutcome::Completed(text.into())
}

/// Runs a job to its end: the outcome, and all text that was streamed.
async fn run(executor: &dyn Executor, job: Job) -> (RunOutcome, String) {
    let (text, mut reader) = Generated::channel(4);
    let (_go_on, stop) = Stop::channel();
    let read = async {
        let mut streamed = String::new();
        while let Some(piece) = reader.recv().await {
            streamed.push_str(&piece);
        }
        streamed
    };
    let both = async { tokio::join!(executor.run(job, text, stop), read) };
    tokio::time::timeout(PATIENCE * 2, both).await.expect("the run hangs")
}

/// Runs a job that must fail: what the person is told.
async fn failure(executor: &dyn Executor, job: Job) -> String {
    match run(executor, job).await.0 {
        RunOutcome::Failed(why) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Waits for a condition that something outside this program makes true.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never true: {what}"));
}
