//! `bidmesh up`: run a device until it is told to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bidmesh_core::Input;
use bidmesh_io_tokio::driver::{End, Handle};
use bidmesh_io_tokio::execute::Executor;
use serde_json::json;
use tokio::pin;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::Shared;
use crate::device::{self, Change, Device, DeviceFlags, Keeping, Settled};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::log::{Audience, Keeper, Line};
use crate::output::Output;
use crate::signals::Signals;

/// How often the device looks whether its own address changed.
const LOOK_AT_ADDRESS: Duration = Duration::from_secs(30);

pub async fn run(shared: &Shared, flags: DeviceFlags) -> Result<Exit, Failure> {
    let output = shared.output();
    let mut signals = Signals::listen()?;
    let directory = device::directory(shared)?;
    let lock = directory.lock().map_err(device::of_files)?;
    let without_a_model = if device::is_built_in()
        && flags.executor.is_none()
        && device::configured_executor(&directory)?.is_none()
    {
        device::offer_a_model(&directory, &output, flags.yes, &mut signals).await?
    } else {
        false
    };
    let settling = Settled::of(directory, lock, &flags, Keeping::Always, &output);
    let settled = signals.or_cancelled(settling).await?;
    let within = settled.shutdown_within;
    let executor = settled.runs_prompts.then(|| settled.executor());
    // Before anybody can ask: the first prompt must not wait for it.
    let warmed = if flags.warm { Some(warm(settled.executor(), &mut signals).await?) } else { None };
    let mut device = Device::start(settled).await?;
    let mut keeper = device.log(output, Audience::Watching(output.verbose));
    if let Some(line) = warmed {
        keeper.line(&line);
    }
    device.publish()?;
    ready(&output, &device, &mut keeper)?;
    if without_a_model {
        output.note(
            "No model is here, so this device only asks others: `bidmesh model pull` fetches one, `bidmesh config set \
             executor.run none` leaves it so.",
        );
    }
    let result = attend(&mut device, &mut keeper, &mut signals, executor, within).await;
    let ended = match result {
        Ok(ended) => ended,
        // Nobody reads our output any more: an end as orderly as any other.
        Err(failure) => {
            device.shut_down().await;
            return Err(failure);
        }
    };
    keeper.drain()?;
    match ended {
        Ended::Itself(End::Unreadable(error)) => Err(Failure::failed(format!(
            "the store in {} cannot be read: {error}; repair it or move it away",
            device.directory().display()
        ))),
        Ended::Itself(End::OutOfTime) => {
            keeper.line(&Line::new("WARN", 0, "ended before everything was finished"));
            Ok(Exit::Ok)
        }
        Ended::Itself(End::Drained) => {
            keeper.line(&Line::new("INFO", 0, "ended in order"));
            Ok(Exit::Ok)
        }
        Ended::Panicked => {
            Err(Failure::failed("the device broke; this is a bug, please report its log (`bidmesh log`)"))
        }
        Ended::AtOnce => Err(Failure::silent(Exit::Cancelled)),
    }
}

/// Loads what takes long to load, and says how that went.
async fn warm(executor: Arc<dyn Executor>, signals: &mut Signals) -> Result<Line, Failure> {
    let begun = Instant::now();
    tokio::select! {
        warmed = executor.warm() => Ok(match warmed {
            Ok(()) => {
                let took = duration::words(duration::millis(begun.elapsed()));
                Line::new("INFO", 0, format!("what runs prompts is ready, after {took}"))
            }
            Err(why) => Line::new("WARN", 0, format!("what runs prompts is not ready: {why}")),
        }),
        () = signals.next() => Err(Failure::silent(Exit::Cancelled)),
    }
}

/// How a device that was up came down.
enum Ended {
    Itself(End),
    Panicked,
    /// A person asked twice.
    AtOnce,
}

async fn attend(
    device: &mut Device,
    keeper: &mut Keeper,
    signals: &mut Signals,
    executor: Option<Arc<dyn Executor>>,
    within: Duration,
) -> Result<Ended, Failure> {
    let mut ending = false;
    let doubt = doubt(executor);
    pin!(doubt);
    let mut told = false;
    let kept = kept(device.handle().clone());
    pin!(kept);
    let mut looked = false;
    let mut look = interval(LOOK_AT_ADDRESS);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = device.changed() => match change {
                Change::Ended(end) => return Ok(end.map_or(Ended::Panicked, Ended::Itself)),
                Change::Told(line) => keeper.line(&line),
                Change::Edited(line) => if let Some(line) = line {
                    keeper.line(&line);
                },
            },
            kept = keeper.next() => kept?,
            why = &mut doubt, if !told => {
                told = true;
                if let Some(why) = why {
                    keeper.line(&Line::new("WARN", 0, format!("no prompt can be run here for now: {why}")));
                }
            }
            line = &mut kept, if !looked => {
                looked = true;
                if let Some(line) = line {
                    keeper.line(&line);
                }
            }
            () = signals.next() => {
                if ending {
                    return Ok(Ended::AtOnce);
                }
                ending = true;
                keeper.line(&Line::new("INFO", 0, "ending in order; once more ends at once"));
                // A device that cannot be told has ended.
                let _ = device.handle().tell(Input::Shutdown { within }).await;
            }
            _ = look.tick() => {
                if let Some(change) = device.look_at_address().await {
                    let line = match change {
                        Some(address) => Line::new("INFO", 0, format!("the address of this device is {address} now")),
                        None => Line::new("WARN", 0, "this device has no network now"),
                    };
                    keeper.line(&line);
                }
            }
        }
    }
}

/// What an earlier start left, if it left anything. It is there with the first answer that a device gives.
async fn kept(handle: Handle) -> Option<Line> {
    let snapshot = handle.snapshot().await.ok()?;
    let counted = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {more}")),
    };
    let prompts = counted(snapshot.tasks.len(), "prompt", "prompts");
    let results = counted(snapshot.kept_results, "result to be taken", "results to be taken");
    let both: Vec<String> = prompts.into_iter().chain(results).collect();
    (!both.is_empty())
        .then(|| Line::new("INFO", 0, format!("goes on with {} of an earlier start", both.join(" and "))))
}

/// Why what is to run prompts cannot do so now, if that is so: better told at start than at the first prompt.
async fn doubt(executor: Option<Arc<dyn Executor>>) -> Option<String> {
    let ability = executor?.ability().await;
    (!ability.available).then_some(ability.why)
}

/// Says that the device is there, and where.
fn ready(output: &Output, device: &Device, keeper: &mut Keeper) -> Result<(), Failure> {
    let address =
        device.address().map_or_else(|| "an address not known yet".into(), |address| address.to_string());
    let control = device.control_address();
    keeper.line(&Line::new(
        "INFO",
        0,
        format!(
            "{} listens at {}, tells others {address}; control API at http://{control}",
            device.id(),
            device.listen()
        ),
    ));
    if output.json {
        output.json(&json!({
            "event": "ready",
            "device_id": device.id().as_str(),
            "listen": device.listen().to_string(),
            "address": device.address().map(|address| address.to_string()),
            "control": control.to_string(),
            "directory": device.directory().display().to_string(),
            "pid": std::process::id(),
        }))?;
    }
    Ok(())
}
