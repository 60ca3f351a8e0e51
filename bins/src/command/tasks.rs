//! `bidmesh tasks`: what this device was asked.

use clap::Args;
use serde::Serialize;

use crate::api::types::{EndedView, TaskView};
use crate::cli::Shared;
use crate::client::Client;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::words;

/// Ended tasks that are shown unless all are asked for.
const ENDED_SHOWN: usize = 20;

/// Flags of `tasks`.
#[derive(Debug, Args)]
pub struct Tasks {
    /// Every ended prompt that is remembered, not only the last twenty
    #[arg(long)]
    pub all: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Known {
    open: Vec<TaskView>,
    ended: Vec<EndedView>,
}

pub async fn run(shared: &Shared, tasks: Tasks) -> Result<Exit, Failure> {
    let output = shared.output();
    let client = Client::of_directory(device::directory(shared)?.path())?;
    // In this order: what ends meanwhile is in both, not in none.
    let open: Vec<TaskView> = client.get("/v1/tasks").await?;
    let ended: Vec<EndedView> = client.get("/v1/outcomes").await?;
    let older = if tasks.all { 0 } else { ended.len().saturating_sub(ENDED_SHOWN) };
    let known = Known { open, ended: ended.into_iter().skip(older).collect() };
    if output.json {
        output.json(&known)?;
        return Ok(Exit::Ok);
    }
    if known.open.is_empty() && known.ended.is_empty() {
        output.note("no prompts yet; `bidmesh ask` asks one");
        return Ok(Exit::Ok);
    }
    if !known.ended.is_empty() {
        output.foreign(&words::ended(&known.ended))?;
    }
    if !known.open.is_empty() {
        let between = if known.ended.is_empty() { "" } else { "\n" };
        output.foreign(&format!("{between}{}", words::tasks(&known.open)))?;
    }
    if older > 0 {
        output.note(&format!("{older} older ones are remembered; --all shows them"));
    }
    Ok(Exit::Ok)
}
