//! `bidmesh status --all`: every phone of the device map, whatever state it is in.

use std::collections::BTreeMap;

use bidmesh_io_tokio::files::MappedDevice;
use futures_util::future::join_all;
use serde::Serialize;

use crate::adb::State;
use crate::api::types::{DecisionView, Status};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::probe::{Probe, Running};
use crate::phones::{MapFlag, Phones, adb_failed};
use crate::table::Table;

/// A phone and the device on it.
#[derive(Debug, Default, Serialize)]
struct Row {
    device_id: String,
    serial: String,
    /// `ready`, `unauthorised`, `offline`, `not attached` or adb's own word.
    adb: String,
    /// `bidmesh`, `shell listener` or `none`; null where the phone cannot be asked.
    process: Option<&'static str>,
    version: Option<String>,
    address: Option<String>,
    /// Percent.
    battery: Option<u8>,
    /// Degrees Celsius.
    temperature: Option<f64>,
    npu: Option<bool>,
    /// What runs prompts there, or why nothing does.
    executor: Option<String>,
    /// Those that it has heard.
    peers: Vec<String>,
    /// Those that it knows by name only.
    unheard: Vec<String>,
    /// Its last decision: the task, and who won.
    last_auction: Option<String>,
    /// What went wrong while it was asked.
    trouble: Option<String>,
}

pub async fn run(output: &Output, map: &MapFlag) -> Result<Exit, Failure> {
    let phones = Phones::open(map)?;
    let devices = phones.all()?;
    let attached = phones.adb.devices().await.map_err(|error| adb_failed(&error))?;
    let states: BTreeMap<String, State> =
        attached.into_iter().map(|phone| (phone.serial, phone.state)).collect();
    let rows = join_all(devices.iter().map(|device| row(&phones, device, states.get(&device.serial)))).await;
    if output.json {
        output.json(&serde_json::json!({ "devices": rows }))?;
    } else {
        output.foreign(&words(&rows))?;
    }
    Ok(Exit::Ok)
}

async fn row(phones: &Phones, device: &MappedDevice, state: Option<&State>) -> Row {
    let mut row = Row {
        device_id: device.id.to_string(),
        serial: device.serial.clone(),
        adb: state.map_or_else(|| "not attached".into(), ToString::to_string),
        address: device.ip.map(|ip| ip.to_string()),
        ..Row::default()
    };
    if state != Some(&State::Ready) {
        row.trouble = state.and_then(State::obstacle);
        return row;
    }
    let probe = match Probe::of(&phones.adb, &device.serial).await {
        Ok(probe) => probe,
        Err(error) => {
            row.trouble = Some(error.to_string());
            return row;
        }
    };
    row.address = probe.address().map(|address| address.to_string()).or(row.address);
    row.version.clone_from(&probe.program_version);
    (row.battery, row.temperature, row.npu) = (probe.battery, probe.temperature, probe.config().has_npu);
    row.process = Some(match probe.running {
        Running::Nothing => "none",
        Running::Listener => "shell listener",
        Running::Bidmesh(_) => "bidmesh",
    });
    if matches!(probe.running, Running::Bidmesh(_))
        && let Err(failure) = ask(phones, device, &mut row).await
    {
        row.trouble = Some(failure.message);
    }
    row
}

/// What only the running device knows.
async fn ask(phones: &Phones, device: &MappedDevice, row: &mut Row) -> Result<(), Failure> {
    let connected = phones.remote(device).connect().await?;
    let status: Status = connected.client.get("/v1/status").await?;
    let decisions: Vec<DecisionView> = connected.client.get("/v1/decisions").await?;
    row.version = Some(status.version);
    row.address = status.address.or(row.address.take());
    row.battery = status.sensors.battery.or(row.battery);
    row.temperature = status.sensors.temperature.or(row.temperature);
    row.npu = Some(status.executor.npu);
    row.executor = Some(status.executor.why);
    let (heard, unheard): (Vec<_>, Vec<_>) =
        status.peers.into_iter().partition(|peer| peer.heard_ms_ago.is_some());
    row.peers = heard.into_iter().map(|peer| peer.device_id).collect();
    row.unheard = unheard.into_iter().map(|peer| peer.device_id).collect();
    row.last_auction = decisions.last().map(last_auction);
    Ok(())
}

fn last_auction(decision: &DecisionView) -> String {
    let winner = decision.auctions.last().and_then(|auction| auction.winner.as_deref());
    let status = decision.outcome.as_ref().map_or("open", |outcome| outcome.status.as_str());
    format!(
        "{}: {} ({status})",
        decision.task_id,
        winner.map_or_else(|| "nobody won".into(), |w| format!("{w} won"))
    )
}

fn words(rows: &[Row]) -> String {
    let mut table = Table::new([
        "DEVICE",
        "ADB",
        "PROCESS",
        "VERSION",
        "ADDRESS",
        "BATTERY",
        "HEAT",
        "NPU",
        "HEARS",
        "LAST AUCTION",
    ]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    for row in rows {
        let hears = match (row.peers.len(), row.unheard.len()) {
            (0, 0) => "-".into(),
            (heard, 0) => heard.to_string(),
            (heard, unheard) => format!("{heard} of {}", heard + unheard),
        };
        table.row([
            row.device_id.clone(),
            row.adb.clone(),
            or_dash(row.process.map(Into::into)),
            or_dash(row.version.clone()),
            or_dash(row.address.clone()),
            or_dash(row.battery.map(|charge| format!("{charge}%"))),
            or_dash(row.temperature.map(|degrees| format!("{degrees:.1} °C"))),
            or_dash(row.npu.map(|npu| if npu { "yes" } else { "no" }.into())),
            hears,
            or_dash(row.last_auction.clone()),
        ]);
    }
    let mut text = table.render(0);
    for row in rows {
        if let Some(trouble) = &row.trouble {
            text.push_str(&format!("{}: {trouble}\n", row.device_id));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_well() {
        let rows = [
            Row {
                device_id: "Device_A".into(),
                adb: "ready".into(),
                process: Some("bidmesh"),
                version: Some("0.1.0".into()),
                address: Some("192.168.1.101:9999".into()),
                battery: Some(81),
                temperature: Some(31.2),
                npu: Some(true),
                peers: vec!["Device_B".into()],
                unheard: vec!["Device_C".into()],
                last_auction: Some("task_0123456789abc: Device_B won (completed)".into()),
                ..Row::default()
            },
            Row {
                device_id: "Device_B".into(),
                adb: "unauthorised".into(),
                trouble: State::Unauthorized.obstacle(),
                ..Row::default()
            },
            Row { device_id: "Device_C".into(), adb: "not attached".into(), ..Row::default() },
        ];
        insta::assert_snapshot!(words(&rows));
    }
}
