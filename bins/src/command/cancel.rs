//! `bidmesh cancel`: nobody wants this prompt any more.

use std::time::Duration;

use clap::Args;

use super::result::wait;
use crate::cli::Shared;
use crate::client::Client;
use crate::command::why::in_path;
use crate::device;
use crate::exit::{Exit, Failure};

/// How long the outcome is waited for: it is written to disk before it is told.
const CANCELLING: Duration = Duration::from_secs(10);

/// Flags of `cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// The task
    pub task: String,
}

pub async fn run(shared: &Shared, cancel: Cancel) -> Result<Exit, Failure> {
    let output = shared.output();
    let client = Client::of_directory(device::directory(shared)?.path())?;
    let task = in_path(&cancel.task)?;
    client.delete(&format!("/v1/tasks/{task}")).await?;
    let late = || Failure::failed(format!("task {task} was told to end but has not; see `bidmesh tasks`"));
    let outcome = tokio::time::timeout(CANCELLING, wait(&client, task)).await.map_err(|_| late())??;
    if output.json {
        output.json(&outcome)?;
    }
    if outcome.status == "cancelled" {
        output.note(&format!("task {task} is cancelled"));
        return Ok(Exit::Ok);
    }
    let message = format!("task {task} had ended just then: {}", outcome.status);
    Err(Failure::new(Exit::Failed, "ended", message))
}
