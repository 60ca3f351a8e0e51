//! `bidmesh launch DEVICE`: the prompt of a device on a phone, here in this terminal. What the shell mesh's
//! `run_orchestrator.sh` did: finds the phone, asks once about its NPU, starts the device if it does not run.

use std::time::Instant;

use bidmesh_core::id::DeviceId;
use clap::Args;

use super::ask::{self, Ask};
use crate::cli::Shared;
use crate::device;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::remote::{Connected, Found, RESTARTING, Remote, Started};
use crate::phones::{MapFlag, Phones, failed};
use crate::question::yes_or_no;
use crate::signals::Signals;

/// Flags of `launch`.
#[derive(Debug, Args)]
pub struct Launch {
    #[command(flatten)]
    pub map: MapFlag,
    /// A device of the device map
    #[arg(value_name = "DEVICE")]
    pub device: DeviceId,
    /// Whether it has an NPU [default: as saved on it; asked once on a terminal]
    #[arg(long, value_name = "true|false")]
    pub has_npu: Option<bool>,
}

pub async fn run(shared: &Shared, launch: Launch) -> Result<Exit, Failure> {
    let output = shared.output();
    let phones = Phones::open(&launch.map)?;
    let remote = phones.remote(&phones.named(&launch.device)?);
    let mut signals = Signals::listen()?;
    let connecting = async {
        settle_npu(&remote, &output, launch.has_npu).await?;
        running(&remote, &output).await
    };
    let connected = signals.or_cancelled(connecting).await?;
    let directory = device::directory(shared)?;
    output.note(&format!("This is {}. It asks the mesh for you.", launch.device));
    ask::interactive(&connected.client, directory.path(), &output, &Ask::default(), &mut signals).await
}

/// The device of a phone, started if it does not run.
pub async fn running(remote: &Remote, output: &Output) -> Result<Connected, Failure> {
    let begun = Instant::now();
    match remote.start().await? {
        Started::Already(connected) => Ok(connected),
        Started::Now(connected) => {
            let took = duration::words(duration::millis(begun.elapsed()));
            output.note(&format!("{} was started ({took})", remote.id));
            Ok(connected)
        }
        Started::Listener => Err(remote.is_a_shell_device()),
    }
}

/// Sees to it that the device knows whether it has an NPU: a person says so, once.
async fn settle_npu(remote: &Remote, output: &Output, said: Option<bool>) -> Result<(), Failure> {
    let failed = |error| failed(&remote.id, &error);
    let runs = match remote.find().await.map_err(failed)? {
        Found::Running(_) => true,
        Found::Stopped => false,
        Found::Listener => return Err(remote.is_a_shell_device()),
        Found::Missing => return Err(remote.is_not_set_up()),
    };
    let saved = remote.saved_npu().await.map_err(failed)?;
    let answer = match said {
        Some(said) => Some(said).filter(|_| saved != Some(said)),
        None if saved.is_none() && output.person_is_there() => {
            yes_or_no("Does this device have NPU? (y/n): ").await?
        }
        None => None,
    };
    let Some(npu) = answer else { return Ok(()) };
    remote.save_npu(npu).await.map_err(failed)?;
    output.note("Configuration saved.");
    if runs {
        // What runs prompts is told when the device starts.
        remote.stop(RESTARTING).await?;
    }
    Ok(())
}
