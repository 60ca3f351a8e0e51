//! `bidmesh config`: the settings, where each comes from, and how to change one.

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::{MeshDirectory, Overrides, Settings};
use bidmesh_io_tokio::sensors::HeatSource;
use clap::Subcommand;
use serde_json::json;

use crate::api::control_file;
use crate::cli::Shared;
use crate::device::{self, DeviceFlags, of_files};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::remote::Found;
use crate::phones::{MapFlag, Phones, failed};
use crate::table::Table;

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// All settings with their values and where each came from, or one
    Show {
        /// The setting, such as work.slots; all if absent
        key: Option<String>,
        /// Only those that somebody has set
        #[arg(long, conflicts_with = "key")]
        changed: bool,
    },
    /// Change a setting, in the file that holds it; with DEVICE, on the phone of that device
    #[command(override_usage = "bidmesh config set [OPTIONS] [DEVICE] <KEY> <VALUE>")]
    Set {
        /// The setting, such as work.slots, and its new value; before them a device of the device map, if it is its
        /// setting
        #[arg(value_names = ["DEVICE", "KEY", "VALUE"], num_args = 2..=3, required = true)]
        words: Vec<String>,
        #[command(flatten)]
        map: MapFlag,
    },
    /// Take a setting out of its file: the default counts again
    Unset {
        /// The setting
        key: String,
    },
}

pub async fn run(shared: &Shared, config: Config) -> Result<Exit, Failure> {
    let output = shared.output();
    if let Config::Set { words, map } = &config
        && let [device, key, value] = words.as_slice()
    {
        return set_on_phone(&output, map, device, key, value).await;
    }
    let directory = device::directory(shared)?;
    match config {
        Config::Show { key, changed } => {
            let overrides = DeviceFlags::default().overrides();
            let settings = Settings::load(&directory, &overrides).map_err(of_files)?;
            for notice in settings.notices() {
                output.note(notice);
            }
            let rows: Vec<_> = match &key {
                Some(key) => vec![settings.row(key).map_err(of_files)?],
                None => settings.rows().filter(|row| !changed || row.place.is_some()).collect(),
            };
            if output.json {
                let rows = rows.iter().map(|row| {
                    let place = row.place.as_ref().map(ToString::to_string);
                    json!({ "key": row.key.name, "value": row.value, "default": row.default, "from": place,
                            "help": row.key.help, "form": row.key.form() })
                });
                output.json(&rows.collect::<Vec<_>>())?;
            } else {
                let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
                for row in &rows {
                    let value = match row.value.to_string() {
                        empty if empty.is_empty() => "-".into(),
                        value => value,
                    };
                    let place = row.place.as_ref().map_or_else(|| "default".into(), ToString::to_string);
                    table.row([row.key.name.into(), value, place]);
                }
                output.result(&table.render(0))?;
                if let (Some(_), Some(row)) = (&key, rows.first()) {
                    output.note(&format!("{} It may be {}.", row.key.help, row.key.form()));
                }
            }
        }
        Config::Set { words, .. } => {
            let [key, value] = words.as_slice() else {
                return Err(Failure::usage("write `bidmesh config set KEY VALUE`"));
            };
            let before = in_files(&directory);
            let file = Settings::set(&directory, key, value).map_err(of_files)?;
            let later = later(&directory, before);
            output.note(&format!("{key} is {value} now, in {}{later}", file.display()));
        }
        Config::Unset { key } => {
            let before = in_files(&directory);
            let file = Settings::unset(&directory, &key).map_err(of_files)?;
            let later = later(&directory, before);
            output.note(&format!("{key} is not set in {} any more{later}", file.display()));
        }
    }
    Ok(Exit::Ok)
}

impl Config {
    /// Whether it has to do with a phone.
    pub fn is_of_a_phone(&self) -> bool {
        matches!(self, Self::Set { words, .. } if words.len() > 2)
    }
}

/// The settings as the files say; what the environment of this command says does not count for the device.
fn in_files(directory: &MeshDirectory) -> Option<Settings> {
    Settings::load(directory, &Overrides::default()).ok()
}

/// What is to be added where a device runs that goes on as before: of a change it is told what concerns `core`, and reads
/// everything else when it starts.
fn later(directory: &MeshDirectory, before: Option<Settings>) -> &'static str {
    let (Some(before), Some(after)) = (before, in_files(directory)) else { return "" };
    let is_told = [HeatSource::Battery, HeatSource::Processor]
        .iter()
        .any(|heat| before.core(*heat) != after.core(*heat));
    let runs = matches!(control_file::find(directory.path()), Ok(Some(_)));
    if runs && !is_told && before.values() != after.values() {
        "; it counts from the next start of the device"
    } else {
        ""
    }
}

/// The program on the phone knows its settings and where each is kept.
async fn set_on_phone(
    output: &Output,
    map: &MapFlag,
    device: &str,
    key: &str,
    value: &str,
) -> Result<Exit, Failure> {
    let id =
        DeviceId::new(device).map_err(|why| Failure::usage(format!("`{device}` is no device id: {why}")))?;
    let phones = Phones::open(map)?;
    let remote = phones.remote(&phones.named(&id)?);
    let failed = |error| failed(&id, &error);
    let found = remote.find().await.map_err(failed)?;
    match &found {
        // A shell device has this setting too, and no other.
        _ if key == "has_npu" => {
            let npu = value.parse().map_err(|_| Failure::usage("has_npu is true or false"))?;
            remote.save_npu(npu).await.map_err(failed)?;
        }
        Found::Listener => {
            return Err(Failure::usage(format!(
                "{id} runs the shell listener, which has no setting `{key}`"
            )));
        }
        Found::Missing => return Err(remote.is_not_set_up()),
        Found::Running(_) | Found::Stopped => {
            remote.command("change the setting", &["config", "set", key, value]).await.map_err(failed)?;
        }
    }
    let runs = matches!(found, Found::Running(_));
    let until = if runs && counts_at_start(key) {
        format!("; it counts from the next start: `bidmesh restart {id}`")
    } else {
        String::new()
    };
    output.note(&format!("{key} is {value} now on {id}{until}"));
    Ok(Exit::Ok)
}

/// Whether a device that runs learns of a setting only when it starts. All others are those of core.
fn counts_at_start(key: &str) -> bool {
    let groups = ["control.", "executor.", "network.", "shutdown.", "store."];
    matches!(key, "id" | "has_npu" | "listen" | "sensors.interval")
        || groups.iter().any(|group| key.starts_with(group))
}
