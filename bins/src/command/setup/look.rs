//! What there is: the phones, and what this machine has for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bidmesh_io_tokio::files::DeviceMap;
use bidmesh_io_tokio::http::{self, BaseUrl, Method, Patience, Request};
use futures_util::future::join_all;

use super::Setup;
use crate::adb::{Adb, State};
use crate::cli::Shared;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::plan::{Offered, Seen};
use crate::phones::probe::{Probe, Runner};
use crate::phones::program::{self, LocalFile, Processor};
use crate::phones::{adb_failed, names};

/// Whether what listens on a phone is a model server shows at once.
const SERVER: Patience = Patience {
    connect: Duration::from_secs(2),
    head: Duration::from_secs(5),
    silence: Duration::from_secs(5),
};
const SERVER_ANSWER_MAX: usize = 1 << 20;

/// The attached phones, each once and asked how it is; at least one of them is to be set up.
pub async fn phones(adb: &Adb, flags: &Setup, map: &DeviceMap) -> Result<Vec<Seen>, Failure> {
    let attached = adb.devices().await.map_err(|error| adb_failed(&error))?;
    if attached.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            "no_phones",
            "adb sees no phone: plug one in, switch USB debugging on (Settings, Developer options) and confirm this \
             machine on its screen",
        ));
    }
    let seen = attached.into_iter().map(|attached| async {
        let probe = match attached.state.obstacle() {
            Some(obstacle) => Err(obstacle),
            None => Probe::of(adb, &attached.serial).await.map_err(|error| error.to_string()),
        };
        let chosen = flags.phones.is_empty() || flags.phones.contains(&attached.serial);
        Seen { attached, chosen, probe }
    });
    choose(join_all(seen).await, &flags.phones, map)
}

/// Chooses also those that a person named as the device map does.
fn choose(seen: Vec<Seen>, wanted: &[String], map: &DeviceMap) -> Result<Vec<Seen>, Failure> {
    let serials: Vec<String> = seen.iter().map(|phone| phone.attached.serial.clone()).collect();
    let mut phones = names::each_once(seen, map);
    let mut names = names::names(&phones, map);
    names.retain(|_, id| map.devices().iter().any(|device| device.id == *id));
    for phone in &mut phones {
        let name = names.get(&phone.attached.serial);
        phone.chosen |= name.is_some_and(|id| wanted.iter().any(|wanted| wanted == id.as_str()));
    }
    let is_missing =
        |name: &&String| !serials.contains(name) && names.values().all(|id| id.as_str() != *name);
    if let Some(missing) = wanted.iter().find(is_missing) {
        let mapped = map.devices().into_iter().find(|device| device.id.as_str() == missing);
        let serial = mapped.map_or(missing, |device| &device.serial);
        return Err(Failure::usage(format!("adb sees no phone {serial}; it sees {}", serials.join(", "))));
    }
    Ok(phones)
}

/// What this machine has for them.
pub async fn offered(
    shared: &Shared,
    adb: &Adb,
    flags: &Setup,
    seen: &[Seen],
    output: &Output,
) -> Result<Offered, Failure> {
    if flags.shell_only {
        return Ok(Offered { shell_only: true, ..Offered::default() });
    }
    let ready: Vec<(&str, &Probe)> = seen
        .iter()
        .filter(|phone| phone.chosen && phone.attached.state == State::Ready)
        .filter_map(|phone| Some((phone.attached.serial.as_str(), phone.probe.as_ref().ok()?)))
        .collect();
    let mut by_processor: BTreeMap<Processor, Result<LocalFile, String>> = BTreeMap::new();
    let mut programs = BTreeMap::new();
    for (serial, probe) in &ready {
        let program = match probe.processor() {
            None => Err(format!("bidmesh is not built for its processor ({})", probe.abi)),
            Some(processor) => match by_processor.get(&processor) {
                Some(program) => program.clone(),
                None => {
                    let program = local_program(flags.binary.clone(), processor).await;
                    if program.is_err() && flags.binary.is_none() {
                        output.note(&program::how_to_build(processor));
                    }
                    by_processor.insert(processor, program.clone());
                    program
                }
            },
        };
        programs.insert((*serial).to_owned(), program);
    }
    // A file that a person named and that is for none of the phones is their mistake, not the phones'.
    if let (Some(_), Some(Err(why))) = (&flags.binary, by_processor.values().next())
        && by_processor.values().all(Result::is_err)
    {
        return Err(Failure::usage(why.clone()));
    }
    let model = model(shared, flags).await?;
    let servers = join_all(ready.iter().map(|(serial, probe)| server(adb, serial, probe))).await;
    Ok(Offered { programs, model, servers: servers.into_iter().flatten().collect(), shell_only: false })
}

async fn local_program(named: Option<PathBuf>, processor: Processor) -> Result<LocalFile, String> {
    let found = move || LocalFile::of(&program::find(named.as_deref(), processor)?);
    let file = blocking(found).await.map_err(|failure| failure.message)?;
    // The plan compares it with what is on the phones.
    match file.sha256().await {
        Ok(_) => Ok(file),
        Err(error) => Err(format!("{} cannot be read: {error}", file.path.display())),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::failed(format!("a file could not be read: {error}"))))
}

/// The model that goes onto phones which have none: file, name, and whether it is the one used by default.
async fn model(shared: &Shared, flags: &Setup) -> Result<Option<(LocalFile, String, bool)>, Failure> {
    let Some(path) = flags.model.clone().map_or_else(|| fetched_model(shared), |path| Ok(Some(path)))? else {
        return Ok(None);
    };
    let name = model_name(&path)?;
    let default = is_default_model(&name);
    let file = blocking(move || LocalFile::of(&path)).await?;
    Ok(Some((file, name, default)))
}

/// A name that needs no care on the phone.
fn model_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.ends_with(".gguf") && name.chars().all(plain) {
        return Ok(name.to_owned());
    }
    Err(Failure::usage(format!(
        "{} is no model for a phone: its name must end in .gguf and hold only letters, digits, `.`, `_` and `-`",
        path.display()
    )))
}

#[cfg(feature = "slm")]
fn fetched_model(shared: &Shared) -> Result<Option<PathBuf>, Failure> {
    Ok(crate::command::model::Shelf::of(&crate::device::directory(shared)?)?.default_model())
}

#[cfg(not(feature = "slm"))]
fn fetched_model(_: &Shared) -> Result<Option<PathBuf>, Failure> {
    Ok(None)
}

#[cfg(feature = "slm")]
fn is_default_model(name: &str) -> bool {
    name == crate::command::model::DEFAULT.file
}

#[cfg(not(feature = "slm"))]
fn is_default_model(_: &str) -> bool {
    false
}

/// The port of a phone at which a model server answers.
async fn server(adb: &Adb, serial: &str, probe: &Probe) -> Option<(String, u16)> {
    for runner in &probe.runners {
        let Runner::Port(port) = runner else { return None };
        if lists_models(adb, serial, *port).await {
            return Some((serial.to_owned(), *port));
        }
    }
    None
}

async fn lists_models(adb: &Adb, serial: &str, port: u16) -> bool {
    let Ok(forward) = adb.forward(serial, port).await else { return false };
    let Ok(server) = format!("127.0.0.1:{}", forward.port()).parse::<BaseUrl>() else { return false };
    let Ok(response) = http::send(&server, Request::new(Method::GET, "/v1/models"), SERVER).await else {
        return false;
    };
    let is_success = response.status().is_success();
    let Ok(body) = response.whole(SERVER_ANSWER_MAX).await else { return false };
    let json: Result<serde_json::Value, _> = serde_json::from_slice(&body);
    is_success && json.is_ok_and(|json| json["data"].is_array())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_is_plain() {
        assert_eq!(model_name(Path::new("/a/Smol-2.Q4_1.gguf")).as_deref(), Ok("Smol-2.Q4_1.gguf"));
        for wrong in ["/a/model.bin", "/a/it's.gguf", "/", "/a/gr\u{fc}n.gguf"] {
            assert!(model_name(Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
