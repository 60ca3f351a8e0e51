//! `bidmesh pause` and `bidmesh resume`: whether this device works for others.

use std::time::Duration;

use bidmesh_io_tokio::http::Method;
use clap::Args;

use crate::api::types;
use crate::cli::Shared;
use crate::client::Client;
use crate::device;
use crate::duration;
use crate::exit::{Exit, Failure};

/// Flags of `pause`.
#[derive(Debug, Args)]
pub struct PauseFor {
    /// For how long, such as 30m; until `bidmesh resume` if absent
    #[arg(value_parser = duration::parse)]
    pub during: Option<Duration>,
}

pub async fn pause(shared: &Shared, pause: PauseFor) -> Result<Exit, Failure> {
    let client = Client::of_directory(device::directory(shared)?.path())?;
    let for_ms = pause.during.map(duration::millis);
    client.tell(Method::POST, "/v1/pause", &types::Pause { for_ms }).await?;
    let until =
        for_ms.map_or_else(|| "until `bidmesh resume`".into(), |ms| format!("for {}", duration::words(ms)));
    shared.output().note(&format!("this device refuses work {until}; what it runs goes on"));
    Ok(Exit::Ok)
}

pub async fn resume(shared: &Shared) -> Result<Exit, Failure> {
    let client = Client::of_directory(device::directory(shared)?.path())?;
    client.tell(Method::POST, "/v1/resume", &serde_json::json!({})).await?;
    shared.output().note("this device works again");
    Ok(Exit::Ok)
}
