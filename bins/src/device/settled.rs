//! Everything about a device that is decided before it starts: flags beat environment beat files beat defaults;
//! what nobody has said is asked on a terminal, once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::wire::WireLimits;
use bidmesh_io_tokio::execute::{Executor, ExecutorSettings, ExecutorSpec};
use bidmesh_io_tokio::files::settings::Values;
use bidmesh_io_tokio::files::{DirectoryLock, MeshDirectory, Settings, Watcher};
use bidmesh_io_tokio::network::TcpLimits;
use bidmesh_io_tokio::sensors::{HeatSource, SystemSensors, SystemSensorsOptions, npu};
use bidmesh_io_tokio::store::{NoStore, Notices, RedbStore, Store, StoreLimits, StoreOptions};

use super::{Blueprint, DeviceFlags, embedded, of_files};
use crate::exit::Failure;
use crate::hexadecimal::hexadecimal;
use crate::output::Output;
use crate::question;

/// After how long without a prompt a device on its battery gives the embedded model's memory back: loading it again
/// takes about a second.
const UNLOAD_AFTER: Duration = Duration::from_secs(300);

/// What a device is to be, and the directory that is its own as long as this or the device lives.
pub struct Settled {
    pub(super) id: DeviceId,
    pub(super) directory: MeshDirectory,
    pub(super) lock: DirectoryLock,
    pub(super) files: Watcher,
    pub(super) heat: HeatSource,
    pub(super) control_port: u16,
    pub(super) blueprint: Blueprint,
    /// What its store has to say.
    pub(super) notices: Option<Notices>,
    /// How long running work may take at an orderly end.
    pub shutdown_within: Duration,
    /// Whether this device is to run prompts at all.
    pub runs_prompts: bool,
}

impl Settled {
    /// Decides for a directory that has been taken.
    pub async fn of(
        directory: MeshDirectory,
        lock: DirectoryLock,
        flags: &DeviceFlags,
        keeping: Keeping,
        output: &Output,
    ) -> Result<Self, Failure> {
        if !flags.peers.is_empty() {
            let add = |file: &mut bidmesh_io_tokio::files::PeersFile| {
                for (device, address) in &flags.peers {
                    file.set(device, *address);
                }
            };
            directory.edit_peers(add).map_err(of_files)?;
        }
        let mut overrides = flags.overrides();
        let mut settings = Settings::load(&directory, &overrides).map_err(of_files)?;
        for notice in settings.notices() {
            output.note(notice);
        }
        let id = match &settings.values().device.id {
            Some(id) => id.clone(),
            None => name_of_this_machine()?,
        };
        // The first id stays, whatever the machine is called later: peers know the device by it.
        if directory.read_device_config().map_err(of_files)?.device_id.is_none() {
            directory.edit_device_config(|config| config.device_id = Some(id.clone())).map_err(of_files)?;
        }
        let said = match &flags.executor {
            Some(spec) => Some(spec.clone()),
            None => spec_of(settings.values())?,
        };
        let spec = embedded::settle_executor(said, &directory)?;
        // The embedded model runs on the processor, whatever else the device has.
        let embedded = embedded::is_embedded(&spec);
        if settings.values().device.has_npu.is_none()
            && spec != ExecutorSpec::None
            && !embedded
            && let Some(npu) = ask_for_npu(output).await?
        {
            directory.edit_device_config(|config| config.has_npu = Some(npu)).map_err(of_files)?;
            output.note("Saved in device_config.json; `bidmesh config set has_npu true|false` changes it.");
            overrides = flags.overrides();
            settings = Settings::load(&directory, &overrides).map_err(of_files)?;
        }
        // From here on edits are told; what is read below is what the files say now.
        let files = Watcher::start(&directory, overrides);
        let sensors = SystemSensors::new(SystemSensorsOptions::default());
        let heat = sensors.heat_source();
        let values = settings.values();
        let executor = ExecutorSettings {
            npu: !embedded && uses_npu(&settings),
            prompts: directory.outputs(),
            preset: values.executor.preset,
            model: values.executor.model.clone(),
            tokens_max: values.executor.tokens,
            key: values.executor.key.as_ref().map(|key| key.reveal().to_owned()),
            unload_after: Some(UNLOAD_AFTER),
            ..ExecutorSettings::default()
        };
        let (store, notices) = open_store(&directory, values, keeping)?;
        let blueprint = Blueprint {
            id: id.clone(),
            listen: values.listen,
            config: settings.core(heat),
            limits: limits(values),
            executor: spec.build(executor).map_err(|error| Failure::usage(error.to_string()))?,
            sensors: Arc::new(sensors),
            store,
            peers: directory.read_peers().map_err(of_files)?.peers(),
            sensors_interval: values.sensors.interval,
        };
        let runs_prompts = spec != ExecutorSpec::None;
        let (control_port, shutdown_within) = (values.control_port, values.shutdown_within);
        Ok(Self {
            id,
            directory,
            lock,
            files,
            heat,
            control_port,
            blueprint,
            notices,
            shutdown_within,
            runs_prompts,
        })
    }

    /// What will run prompts.
    pub fn executor(&self) -> Arc<dyn Executor> {
        Arc::clone(&self.blueprint.executor)
    }
}

/// Whether a device keeps what it takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In the store, unless a person has switched it off.
    Always,
    /// In the store if there is one already: a device for one command goes on with what is there, but a prompt that
    /// ends with the command needs no file.
    IfThere,
}

fn open_store(
    directory: &MeshDirectory,
    values: &Values,
    keeping: Keeping,
) -> Result<(Arc<dyn Store>, Option<Notices>), Failure> {
    let path = directory.store();
    if !values.store.enabled || keeping == Keeping::IfThere && !path.exists() {
        return Ok((Arc::new(NoStore), None));
    }
    let limits = StoreLimits::from(&values.core.limits);
    let options = StoreOptions { sync: values.store.sync, age: values.store.age, limits };
    let (store, notices) = RedbStore::open(path, options).map_err(of_files)?;
    Ok((Arc::new(store), Some(notices)))
}

/// What was said that should run prompts, by the settings of a directory; `None`: nobody has said.
pub fn configured_executor(directory: &MeshDirectory) -> Result<Option<ExecutorSpec>, Failure> {
    let settings = Settings::load(directory, &DeviceFlags::default().overrides()).map_err(of_files)?;
    spec_of(settings.values())
}

fn spec_of(values: &Values) -> Result<Option<ExecutorSpec>, Failure> {
    let Some(run) = &values.executor.run else { return Ok(None) };
    let spec = run.to_string().parse();
    spec.map(Some).map_err(|error| Failure::usage(format!("the setting `executor.run`: {error}")))
}

/// Whether what runs prompts uses the NPU. A person's word about the device stands for the executor too, unless
/// they said something else about that; a chip that was merely found does not: a model on the processor in front of
/// it would win every auction.
fn uses_npu(settings: &Settings) -> bool {
    let values = settings.values();
    let said = settings.row("executor.npu").is_ok_and(|row| row.place.is_some());
    match (values.device.has_npu, said) {
        (Some(false), _) => false,
        (Some(true), false) => true,
        (Some(true), true) => values.executor.npu,
        (None, _) => values.executor.npu && !npu::detect(Path::new("/")).is_empty(),
    }
}

fn limits(values: &Values) -> TcpLimits {
    let network = &values.network;
    TcpLimits {
        wire: WireLimits { message_bytes: network.message_bytes },
        connections: network.connections,
        connections_per_address: network.connections_per_address,
        first_byte: network.first_byte,
        whole_message: network.whole_message,
        ..TcpLimits::default()
    }
}

/// The seed's question, on a terminal only; `None`: nobody answered.
async fn ask_for_npu(output: &Output) -> Result<Option<bool>, Failure> {
    if !output.person_is_there() {
        return Ok(None);
    }
    if let Some(found) = npu::detect(Path::new("/")).first() {
        output.note(&format!("This device seems to have one: {found}"));
    }
    question::yes_or_no("Does this device have NPU? (y/n): ").await
}

/// The machine's name with what an id may not have left out, or a random one for a machine without a usable name.
/// Phones are all called `localhost`.
fn name_of_this_machine() -> Result<DeviceId, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let usable = id_from(&name).map(Ok);
    usable.unwrap_or_else(|| {
        let mut bytes = [0; 3];
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::failed(format!("the system gives no random numbers: {error}; use --id"))
        })?;
        DeviceId::new(&format!("Device_{}", hexadecimal(&bytes)))
            .map_err(|error| Failure::failed(error.to_string()))
    })
}

fn id_from(name: &str) -> Option<DeviceId> {
    let first = name.split('.').next().unwrap_or_default();
    let kept: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).take(64).collect();
    if kept.eq_ignore_ascii_case("localhost") { None } else { DeviceId::new(&kept).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bidmesh_io_tokio::files::Overrides;

    #[test]
    fn a_machines_name_becomes_an_id_unless_all_machines_have_it() {
        let id = |name| id_from(name).map(|id| id.to_string());
        assert_eq!(id("pi4.fritz.box").as_deref(), Some("pi4"));
        assert_eq!(id("Anna's MacBook").as_deref(), Some("AnnasMacBook"));
        assert_eq!((id("localhost"), id("..."), id("")), (None, None, None));
    }

    #[test]
    fn an_npu_is_bid_only_if_the_executor_would_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = MeshDirectory::open(folder.path()).unwrap();
        let npu = |flags: &[(&str, &str)]| {
            let said =
                flags.iter().fold(Overrides::default(), |o, (key, value)| o.flag("--flag", key, value));
            uses_npu(&Settings::load(&directory, &said).unwrap())
        };
        assert!(!npu(&[]));
        assert!(npu(&[("has_npu", "true")]));
        assert!(!npu(&[("has_npu", "true"), ("executor.npu", "false")]));
        assert!(!npu(&[("has_npu", "false"), ("executor.npu", "true")]));
    }
}
