//! `bidmesh start`, `stop DEVICE…` and `restart`: the devices on phones.

use std::time::Duration;

use bidmesh_io_tokio::files::MappedDevice;
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

use crate::cli::Shared;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::remote::Started;
use crate::phones::{self, MapFlag, Phones};

/// Flags of `start`.
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub map: MapFlag,
    /// Devices of the device map, or `all` [default: all]
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<String>,
}

/// Flags of `restart`.
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    pub start: Start,
    /// How long what runs may take to finish before it is handed back
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub within: Duration,
}

#[derive(Clone, Copy)]
enum Doing {
    Start,
    Stop(Duration),
    Restart(Duration),
}

pub async fn start(shared: &Shared, flags: Start) -> Result<Exit, Failure> {
    each(shared, &flags.map, &flags.devices, Doing::Start).await
}

pub async fn restart(shared: &Shared, flags: Restart) -> Result<Exit, Failure> {
    each(shared, &flags.start.map, &flags.start.devices, Doing::Restart(flags.within)).await
}

/// Ends the devices on phones in order.
pub async fn stop(
    shared: &Shared,
    map: &MapFlag,
    devices: &[String],
    within: Duration,
) -> Result<Exit, Failure> {
    each(shared, map, devices, Doing::Stop(within)).await
}

async fn each(shared: &Shared, map: &MapFlag, devices: &[String], doing: Doing) -> Result<Exit, Failure> {
    let phones = Phones::open(map)?;
    let chosen = phones.chosen(devices)?;
    let results = join_all(chosen.iter().map(|device| one(&phones, device, doing))).await;
    let named: Vec<_> = chosen.iter().map(|device| device.id.to_string()).zip(results).collect();
    report(&shared.output(), &named)
}

async fn one(phones: &Phones, device: &MappedDevice, doing: Doing) -> Result<&'static str, Failure> {
    let remote = phones.remote(device);
    match doing {
        Doing::Start => Ok(match remote.start().await? {
            Started::Now(_) => "started",
            Started::Already(_) => "runs already",
            Started::Listener => "runs the shell listener; left alone",
        }),
        Doing::Stop(within) => Ok(if remote.stop(within).await? { "stopped" } else { "did not run" }),
        Doing::Restart(within) => {
            remote.stop(within).await?;
            remote.start().await?;
            Ok("restarted")
        }
    }
}

fn report(output: &Output, results: &[(String, Result<&'static str, Failure>)]) -> Result<Exit, Failure> {
    if output.json {
        let rows = results.iter().map(|(id, result)| match result {
            Ok(state) => json!({ "device_id": id, "ok": true, "state": state }),
            Err(failure) => {
                json!({ "device_id": id, "ok": false, "code": failure.code, "why": failure.message })
            }
        });
        output.json(&json!({ "devices": rows.collect::<Vec<_>>() }))?;
    } else {
        for (id, result) in results.iter() {
            if let Ok(state) = result {
                output.result(&format!("{id}: {state}\n"))?;
            }
        }
    }
    let failures = results.iter().filter_map(|(_, result)| result.as_ref().err().cloned());
    phones::ended(output, results.len(), failures.collect())
}
