//! Whether a device that was just set up can answer.

use std::time::Duration;

use bidmesh_core::id::DeviceId;
use tokio::time::{Instant, sleep};

use crate::api::types::{OutcomeView, Status, Submit};
use crate::client::{Client, Heard};
use crate::duration;
use crate::exit::Failure;

/// How long what runs prompts may take until it is ready: its file is looked at when the device starts.
const READY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Asks the device a prompt that it must answer itself; its answer.
pub async fn ask(client: &Client, id: &DeviceId, prompt: &str, within: Duration) -> Result<String, Failure> {
    let until = Instant::now() + READY;
    while let Some(why) = inability(client).await? {
        if Instant::now() >= until {
            return Err(Failure::failed(why));
        }
        sleep(LOOK_AGAIN).await;
    }
    let submit = Submit {
        prompt: prompt.to_owned(),
        attached: true,
        to: Some(vec![id.to_string()]),
        deadline_ms: Some(duration::millis(within)),
        ..Submit::default()
    };
    let outcome = outcome(client, &submit).await?;
    match outcome.status.as_str() {
        "completed" if outcome.output.trim().is_empty() => Err(Failure::failed("its answer is empty")),
        "completed" => Ok(outcome.output),
        // That a program cannot be started shows with the first prompt.
        _ => Err(Failure::failed(inability(client).await?.unwrap_or(outcome.why))),
    }
}

/// Why the device cannot run prompts, if that is so.
async fn inability(client: &Client) -> Result<Option<String>, Failure> {
    let status: Status = client.get("/v1/status").await?;
    Ok((!status.executor.available).then_some(status.executor.why))
}

async fn outcome(client: &Client, submit: &Submit) -> Result<OutcomeView, Failure> {
    let mut answering = client.submit(submit).await?;
    loop {
        if let Heard::Outcome(outcome) = answering.next().await? {
            return Ok(outcome);
        }
    }
}
