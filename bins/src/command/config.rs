//! `bidmesh config`: the settings, where each comes from, and how to change one.

use bidmesh_io_tokio::files::Settings;
use clap::Subcommand;
use serde_json::json;

use crate::cli::Shared;
use crate::device::{self, DeviceFlags, of_files};
use crate::exit::{Exit, Failure};
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
    /// Change a setting, in the file that holds it
    Set {
        /// The setting, such as work.slots
        key: String,
        /// Its new value
        value: String,
    },
    /// Take a setting out of its file: the default counts again
    Unset {
        /// The setting
        key: String,
    },
}

pub fn run(shared: &Shared, config: Config) -> Result<Exit, Failure> {
    let output = shared.output();
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
        Config::Set { key, value } => {
            let file = Settings::set(&directory, &key, &value).map_err(of_files)?;
            output.note(&format!("{key} is {value} now, in {}", file.display()));
        }
        Config::Unset { key } => {
            let file = Settings::unset(&directory, &key).map_err(of_files)?;
            output.note(&format!("{key} is not set in {} any more", file.display()));
        }
    }
    Ok(Exit::Ok)
}
