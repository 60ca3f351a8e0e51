//! `bidmesh why`: the decision record of a prompt.

use clap::Args;

use crate::api::types::DecisionView;
use crate::cli::Shared;
use crate::client::Client;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::words;

/// Flags of `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// The task; the last one if absent
    pub task: Option<String>,
    /// Which records are kept
    #[arg(long, conflicts_with = "task")]
    pub list: bool,
}

pub async fn run(shared: &Shared, why: Why) -> Result<Exit, Failure> {
    let output = shared.output();
    let client = Client::of_directory(device::directory(shared)?.path())?;
    if let Some(task) = &why.task {
        let decision: DecisionView = client.get(&format!("/v1/decisions/{}", in_path(task)?)).await?;
        return show(&output, &decision);
    }
    let decisions: Vec<DecisionView> = client.get("/v1/decisions").await?;
    if why.list {
        match output.json {
            true => output.json(&decisions)?,
            false => output.foreign(&words::why_list(&decisions))?,
        }
        return Ok(Exit::Ok);
    }
    match decisions.last() {
        Some(decision) => show(&output, decision),
        None => Err(Failure::failed("no prompt has been decided here yet; ask one with `bidmesh ask`")),
    }
}

fn show(output: &crate::output::Output, decision: &DecisionView) -> Result<Exit, Failure> {
    match output.json {
        true => output.json(decision)?,
        false => output.foreign(&words::why(decision))?,
    }
    Ok(Exit::Ok)
}

/// A task id as part of a path: ids need no escapes, and what is no id is not asked for.
pub fn in_path(task: &str) -> Result<&str, Failure> {
    match bidmesh_core::id::TaskId::new(task) {
        Ok(_) => Ok(task),
        Err(why) => {
            Err(Failure::usage(format!("`{task}` is no task id: {why}; `bidmesh why --list` shows some")))
        }
    }
}
