//! `bidmesh status`: this device, and what it knows of the others; with `--all` the devices on phones.

mod all;

use clap::Args;

use crate::api::types::Status;
use crate::cli::Shared;
use crate::client::Client;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::phones::MapFlag;
use crate::words;

/// Flags of `status`.
#[derive(Debug, Default, Args)]
pub struct StatusFlags {
    /// Every phone of the device map
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub map: MapFlag,
}

pub async fn run(shared: &Shared, flags: StatusFlags) -> Result<Exit, Failure> {
    let output = shared.output();
    if flags.all {
        return all::run(&output, &flags.map).await;
    }
    let status: Status = Client::of_directory(device::directory(shared)?.path())?.get("/v1/status").await?;
    if output.json {
        output.json(&status)?;
    } else {
        output.foreign(&words::status(&status))?;
    }
    Ok(Exit::Ok)
}
