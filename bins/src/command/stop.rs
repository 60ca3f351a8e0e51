//! `bidmesh stop`: end the device of this directory in order, or devices on phones.

use std::time::Duration;

use bidmesh_io_tokio::http::Method;
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::api::control_file;
use crate::api::types::ShutDown;
use crate::cli::Shared;
use crate::client::Client;
use crate::device;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::phones::MapFlag;

/// How long the device may take beyond its limit: to end its processes and write what waits.
const ENDING: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Flags of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub map: MapFlag,
    /// Devices on phones, by the device map, or `all` [default: the device of this machine]
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// How long what runs may take to finish before it is handed back
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub within: Duration,
}

pub async fn run(shared: &Shared, stop: Stop) -> Result<Exit, Failure> {
    if !stop.devices.is_empty() {
        return super::start::stop(shared, &stop.map, &stop.devices, stop.within).await;
    }
    let directory = device::directory(shared)?;
    let client = Client::of_directory(directory.path())?;
    let shutdown = ShutDown { within_ms: Some(duration::millis(stop.within)) };
    client.tell(Method::POST, "/v1/shutdown", &shutdown).await?;
    let until = Instant::now() + stop.within + ENDING;
    while Instant::now() < until {
        // Unreadable for a moment, while the device removes it, means the same as gone.
        if !matches!(control_file::find(directory.path()), Ok(Some(_))) {
            shared.output().note("the device has ended");
            return Ok(Exit::Ok);
        }
        sleep(LOOK_AGAIN).await;
    }
    Err(Failure::failed("the device was told to end but has not; look at `bidmesh log`, or end its process"))
}
