//! The settings of a device: each value with where it came from.
//!
//! Flags beat the environment (`BIDMESH_…`), which beats `config.toml`, which beats the default. One table
//! ([`keys`]) drives names, explanations, reading, printing and editing. What is misspelt, out of range or in
//! contradiction to another setting is an error that names the key, the range and the place; nothing is guessed.

mod document;
mod table;
mod value;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use bidmesh_core::Config;

use super::error::quote;
use super::{Error, MeshDirectory, Place};
use crate::sensors::HeatSource;
use value::Raw;

pub use table::{Key, keys};
pub use value::{Executor, Secret, Written};
pub use values::{DeviceValues, ExecutorValues, NetworkValues, SensorValues, StoreValues, Values};

/// How all variables begin.
const PREFIX: &str = "BIDMESH_";
/// Variables with that beginning that are no settings.
const OTHER_VARIABLES: [&str; 4] = ["BIDMESH_ADB", "BIDMESH_DEVICE_MAP", "BIDMESH_DIR", "BIDMESH_LOG"];

/// All settings of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    values: Values,
    places: BTreeMap<&'static str, Place>,
    notices: Vec<String>,
}

/// What beats the files: the environment and the flags of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Overrides {
    environment: BTreeMap<String, String>,
    flags: Vec<(String, String, String)>,
}

impl Overrides {
    /// The environment of this process.
    pub fn from_environment() -> Self {
        // A variable that is not UTF-8 cannot be a value; its replacement is refused by name.
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::default().environment(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// These variables as the environment; those that do not begin with `BIDMESH_` are passed over.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        self.environment.extend(ours);
        self
    }

    /// Adds a flag, as it was written (`--slots`), with the key that it sets. Of two flags for a key the later wins.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: &str) -> Self {
        self.flags.push((flag.into(), key.into(), value.into()));
        self
    }
}

/// One setting, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, range and explanation.
    pub key: &'static Key,
    /// Its value.
    pub value: Written,
    /// What it would be if nobody had said anything.
    pub default: Written,
    /// Where it came from; `None`: it is the default.
    pub place: Option<Place>,
}

impl Settings {
    /// Reads the settings of a directory and puts environment and flags on top.
    pub fn load(directory: &MeshDirectory, overrides: &Overrides) -> Result<Self, Error> {
        let mut settings = Self::defaults();
        settings.apply_device_config(directory)?;
        let path = directory.settings();
        if let Some(bytes) = directory.read_settings()? {
            settings.apply_file(&bytes, &path)?;
        }
        settings.apply_environment(overrides)?;
        for (flag, key, value) in &overrides.flags {
            settings.apply(key, &Raw::One(value.clone()), Place::Flag(flag.clone()))?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// The settings of a device about which nobody has said anything.
    pub fn defaults() -> Self {
        Self { values: Values::default(), places: BTreeMap::new(), notices: Vec::new() }
    }

    /// The values.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The settings of core. The limit of heat is the one that fits what the sensors measure: a processor at work is
    /// hotter than a battery may be.
    pub fn core(&self, heat: HeatSource) -> Config {
        let mut config = self.values.core.clone();
        if heat == HeatSource::Processor {
            config.work.heat_max = self.values.sensors.processor_heat_max;
        }
        config
    }

    /// All settings, in the order of the table.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let defaults = Values::default();
        keys().iter().map(move |key| Row {
            key,
            value: key.get(&self.values),
            default: key.get(&defaults),
            place: self.places.get(key.name).cloned(),
        })
    }

    /// One setting; an error if there is none of that name.
    pub fn row(&self, name: &str) -> Result<Row, Error> {
        let key = find(name).map_err(at_command_line)?;
        let place = self.places.get(key.name).cloned();
        Ok(Row { key, value: key.get(&self.values), default: key.get(&Values::default()), place })
    }

    /// What a person should know though it is no error: variables that look like settings and are none.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Changes one setting in the file that holds it, keeping comments and all else; says which file that is.
    /// Nothing is written if the value, or what the file says otherwise, is wrong.
    pub fn set(directory: &MeshDirectory, name: &str, value: &str) -> Result<std::path::PathBuf, Error> {
        let key = find(name).map_err(at_command_line)?;
        let mut scratch = Values::default();
        let raw = Raw::One(value.to_owned());
        let refused = |what| at_command_line((format!("`{name}` {what}"), key.remedy()));
        key.set(&mut scratch, &raw).map_err(refused)?;
        Self::edit(directory, key, Some(&scratch))
    }

    /// Removes one setting from the file that holds it, so that it is the default again.
    pub fn unset(directory: &MeshDirectory, name: &str) -> Result<std::path::PathBuf, Error> {
        let key = find(name).map_err(at_command_line)?;
        Self::edit(directory, key, None)
    }

    fn edit(
        directory: &MeshDirectory,
        key: &Key,
        from: Option<&Values>,
    ) -> Result<std::path::PathBuf, Error> {
        if key.is_in_device_config() {
            let values = from.cloned().unwrap_or_default();
            directory.edit_device_config(|config| match key.name {
                table::ID => config.device_id = values.device.id,
                _ => config.has_npu = values.device.has_npu,
            })?;
            return Ok(directory.device_config());
        }
        let path = directory.settings();
        directory.edit_settings(|old| {
            let old = old.unwrap_or_default();
            let text = document::edit(&old, &path, key.name, from.map(|values| key.get(values)))?;
            // The new file must be one that can be loaded; what the environment says does not count for that.
            let mut settings = Self::defaults();
            settings.apply_file(text.as_bytes(), &path)?;
            settings.check()?;
            Ok((text, ()))
        })?;
        Ok(path)
    }

    fn apply_device_config(&mut self, directory: &MeshDirectory) -> Result<(), Error> {
        let config = directory.read_device_config()?;
        let place = Place::File { path: directory.device_config(), line: None };
        if config.device_id.is_some() {
            self.values.device.id = config.device_id;
            self.places.insert(table::ID, place.clone());
        }
        if config.has_npu.is_some() {
            self.values.device.has_npu = config.has_npu;
            self.places.insert(table::HAS_NPU, place);
        }
        Ok(())
    }

    fn apply_file(&mut self, bytes: &[u8], path: &Path) -> Result<(), Error> {
        for leaf in document::leaves(bytes, path)? {
            let place = Place::File { path: path.into(), line: Some(leaf.line) };
            if let Ok(key) = find(&leaf.name)
                && key.is_in_device_config()
            {
                let what = format!("`{}` does not belong here", key.name);
                return Err(Error::new(
                    place,
                    what,
                    "it is kept in device_config.json: use `bidmesh config set`",
                ));
            }
            self.apply(&leaf.name, &leaf.value, place)?;
        }
        Ok(())
    }

    fn apply_environment(&mut self, overrides: &Overrides) -> Result<(), Error> {
        let mut rest = overrides.environment.clone();
        for key in keys() {
            let Some(value) = rest.remove(&key.variable()) else { continue };
            self.apply(key.name, &Raw::One(value), Place::Variable(key.variable()))?;
        }
        // No error: a runner that bidmesh starts may start bidmesh, with variables of its own.
        for name in rest.keys().filter(|name| !OTHER_VARIABLES.contains(&name.as_str())) {
            // What all have in common says nothing about which one was meant.
            let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
            let near = nearest(&bare(name), keys().iter().map(|key| bare(&key.variable())));
            let near = near.map(|near| format!("; did you mean {PREFIX}{near}?")).unwrap_or_default();
            self.notices.push(format!("the variable {} is no setting{near}", quote(name)));
        }
        Ok(())
    }

    fn apply(&mut self, name: &str, raw: &Raw, place: Place) -> Result<(), Error> {
        let key = find(name).map_err(|(what, remedy)| Error::new(place.clone(), what, remedy))?;
        key.set(&mut self.values, raw)
            .map_err(|what| Error::new(place.clone(), format!("`{}` {what}", key.name), key.remedy()))?;
        self.places.insert(key.name, place);
        Ok(())
    }

    /// Settings that only make sense together.
    fn check(&self) -> Result<(), Error> {
        for (low, high, fits) in table::ORDERED {
            if fits(&self.values) {
                continue;
            }
            // The one that somebody set; a default is never in contradiction to a default.
            let named = if self.places.contains_key(low) { low } else { high };
            let fallback = Place::Flag(format!("`{named}`"));
            let place = self.places.get(named).cloned().unwrap_or(fallback);
            let value =
                |name: &str| find(name).map(|key| key.get(&self.values).to_string()).unwrap_or_default();
            let what = format!("`{low}` ({}) is more than `{high}` ({})", value(low), value(high));
            return Err(Error::new(place, what, "make the first smaller or the second greater"));
        }
        Ok(())
    }
}

type Complaint = (String, String);

fn at_command_line((what, remedy): Complaint) -> Error {
    Error::new(Place::Flag("config".to_owned()), what, remedy)
}

/// The key of this name, or what is wrong with it and what was probably meant.
fn find(name: &str) -> Result<&'static Key, Complaint> {
    if let Some(key) = keys().iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let group = format!("{name}.");
    if let Some(member) = keys().iter().find(|key| key.name.starts_with(&group)) {
        let remedy = format!("name one of them, for example `{}`", member.name);
        return Err((format!("{} is a group of settings", quote(name)), remedy));
    }
    let remedy = match nearest(name, keys().iter().map(|key| key.name.to_owned())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`bidmesh config show` lists all".to_owned(),
    };
    Err((format!("there is no setting {}", quote(name)), remedy))
}

/// The most similar of `names`, if it is similar enough to have been meant.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    // The last part alone may be what somebody remembers.
    let likeness = |other: &str| {
        let last = other.rsplit('.').next().unwrap_or(other);
        strsim::jaro_winkler(name, other).max(strsim::jaro_winkler(name, last))
    };
    let scored = names.map(|other| (likeness(&other), other));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.85).map(|(_, other)| other)
}

#[cfg(test)]
mod tests;
