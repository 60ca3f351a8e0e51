//! `bidmesh status`: this device, and what it knows of the others.

use crate::api::types::Status;
use crate::cli::Shared;
use crate::client::Client;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::words;

pub async fn run(shared: &Shared) -> Result<Exit, Failure> {
    let output = shared.output();
    let status: Status = Client::of_directory(device::directory(shared)?.path())?.get("/v1/status").await?;
    if output.json {
        output.json(&status)?;
    } else {
        output.foreign(&words::status(&status))?;
    }
    Ok(Exit::Ok)
}
