//! `bidmesh result`: the answer of a prompt that goes on by itself.

use clap::Args;

use crate::api::types::{OutcomeView, TaskOrOutcome};
use crate::cli::Shared;
use crate::client::{Client, Heard};
use crate::command::ask::exit_of;
use crate::command::why::in_path;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::words;

/// Flags of `result`.
#[derive(Debug, Args)]
pub struct ResultOf {
    /// The task
    pub task: String,
    /// Wait until it has ended
    #[arg(long)]
    pub wait: bool,
}

pub async fn run(shared: &Shared, result: ResultOf) -> Result<Exit, Failure> {
    let output = shared.output();
    let client = Client::of_directory(device::directory(shared)?.path())?;
    let task = in_path(&result.task)?;
    let path = format!("/v1/tasks/{task}");
    let known: TaskOrOutcome = client.get(&path).await?;
    let outcome = match known {
        TaskOrOutcome { outcome: Some(outcome), .. } => outcome,
        _ if result.wait => wait(&client, task).await?,
        TaskOrOutcome { task: Some(open), .. } => {
            if output.json {
                output.json(&open)?;
            }
            let message = format!("task {task} has not ended yet ({}); --wait waits for it", open.phase);
            return Err(Failure::new(Exit::Open, "open", message));
        }
        TaskOrOutcome { .. } => return Err(Failure::failed("the device said nothing about the task")),
    };
    show(&output, &outcome)
}

/// Waits for the outcome, also while the device is started again.
pub async fn wait(client: &Client, task: &str) -> Result<OutcomeView, Failure> {
    let mut seen = std::time::Instant::now();
    loop {
        let failure = match until_outcome(client, task, &mut seen).await {
            Ok(outcome) => return Ok(outcome),
            Err(failure) => failure,
        };
        if !client.may_come_back(&failure, seen) {
            return Err(failure);
        }
        client.look_again().await;
    }
}

async fn until_outcome(
    client: &Client,
    task: &str,
    seen: &mut std::time::Instant,
) -> Result<OutcomeView, Failure> {
    let mut answering = client.follow(task).await?;
    loop {
        let heard = answering.next().await;
        // It was there until now, however this ends.
        *seen = std::time::Instant::now();
        if let Heard::Outcome(outcome) = heard? {
            return Ok(outcome);
        }
    }
}

fn show(output: &Output, outcome: &OutcomeView) -> Result<Exit, Failure> {
    let exit = exit_of(&outcome.status);
    if output.json {
        output.json(outcome)?;
        return Ok(exit);
    }
    if exit == Exit::Ok {
        let end = if outcome.output.ends_with('\n') || outcome.output.is_empty() { "" } else { "\n" };
        output.foreign(&format!("{}{end}", outcome.output))?;
        return Ok(exit);
    }
    Err(Failure::new(exit, &outcome.status, words::ended_without_answer(outcome)))
}
