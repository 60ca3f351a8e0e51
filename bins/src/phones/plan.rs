//! What `setup` will do to each phone: decided before anything is done, from how the phones are and what this machine
//! has. Pure; a person reads it first.

mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::{DeviceMap, MappedDevice};

use super::MESH;
use super::names::{Named, names};
use super::probe::{Probe, RUNS_NONE, Runner, Running};
use super::program::LocalFile;
use super::transfer::PIECE_BYTES;
use crate::adb::Attached;
use crate::device::DEFAULT_PORT;
use crate::duration;
pub use words::words;

/// A script in the mesh directory that is called with the file of a prompt, for what is called in another way.
pub const RUNNER_SCRIPT: &str = "run_prompt.sh";

/// A phone and what could be found out about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub attached: Attached,
    /// Whether it is to be set up; others are looked at for their addresses.
    pub chosen: bool,
    /// Or why nothing could be.
    pub probe: Result<Probe, String>,
}

impl Seen {
    pub fn named(&self) -> Named<'_> {
        (&self.attached.serial, self.probe.as_ref().ok())
    }
}

/// What a phone is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub id: DeviceId,
    pub serial: String,
    pub model: Option<String>,
    /// Where peers reach it; what the map says for one that cannot be asked.
    pub address: Option<SocketAddr>,
    pub what: What,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Nothing: it is a device of the map that was not chosen, or is not attached. The others are told of it.
    Elsewhere,
    /// It could not be asked how it is, for this reason.
    Unread(String),
    /// Nothing can be, for this reason.
    Blocked(String),
    /// It runs the shell listener; nothing is changed there.
    LeaveShell,
    /// The files of a shell device are brought up to date.
    ShellFiles(Npu),
    Bidmesh(Box<Bidmesh>),
}

/// How a phone becomes a device of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Bidmesh {
    pub program: Program,
    pub backend: Backend,
    pub npu: Npu,
    /// The device id that it has now, if it is another.
    pub renamed_from: Option<DeviceId>,
    pub runs: bool,
    /// What runs is not the program that is there.
    pub outdated: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    Keep,
    Push { file: LocalFile, replaces: bool },
}

/// What will run prompts.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// It is configured already.
    Kept(String),
    /// Found on the phone: how it is named.
    Found(String),
    /// A shell script found on the phone that is run by `sh`, through [`RUNNER_SCRIPT`].
    Script(String),
    /// Qualcomm's program and its configuration, found on the phone, through [`RUNNER_SCRIPT`].
    Genie { program: String, config: String },
    /// The embedded model, whose file is there already.
    ModelThere(String),
    /// The embedded model, whose file goes there. `spec`: what to set for one that is not the default.
    PushModel { file: LocalFile, name: String, spec: Option<String> },
    /// Nothing, for this reason.
    None(String),
}

/// Whether the device has an NPU, and how we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Npu {
    /// Somebody has said so before.
    Said(bool),
    Found(String),
    NotFound,
    /// There are files that may belong to one: a person is asked.
    Unsure,
}

/// What this machine brings.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// The program for each phone, by serial number, or why there is none.
    pub programs: BTreeMap<String, Result<LocalFile, String>>,
    /// The model file, its name on the phone, and whether it is the one that is used by default.
    pub model: Option<(LocalFile, String, bool)>,
    /// Ports of phones at which a model server answered.
    pub servers: BTreeMap<String, u16>,
    pub shell_only: bool,
}

/// Names phones and decides what each gets.
pub fn plan(seen: &[Seen], map: &DeviceMap, offered: &Offered) -> Vec<Plan> {
    let names = names(seen, map);
    let mapped = |id: &DeviceId| map.devices().into_iter().find(|device| device.id == *id);
    let mut plans: Vec<Plan> = seen
        .iter()
        // Every phone that was seen has been named.
        .filter(|phone| phone.chosen || mapped(&names[&phone.attached.serial]).is_some())
        .map(|phone| {
            let serial = phone.attached.serial.clone();
            let id = names[&serial].clone();
            let known = mapped(&id).and_then(|device| device.ip);
            let (address, what) = match &phone.probe {
                Err(why) => (known.map(|ip| (ip, DEFAULT_PORT).into()), What::Unread(why.clone())),
                Ok(probe) => (probe.address_or(known), what(&id, &serial, probe, offered)),
            };
            let what = if phone.chosen { what } else { What::Elsewhere };
            Plan { id, serial, model: phone.attached.model.clone(), address, what }
        })
        .collect();
    let absent = map.devices().into_iter().filter(|device| names.values().all(|id| *id != device.id));
    plans.extend(absent.map(|device| Plan {
        id: device.id.clone(),
        serial: device.serial.clone(),
        model: None,
        address: device.ip.map(|ip| (ip, DEFAULT_PORT).into()),
        what: What::Elsewhere,
    }));
    plans
}

fn what(id: &DeviceId, serial: &str, probe: &Probe, offered: &Offered) -> What {
    if offered.shell_only {
        return What::ShellFiles(npu(probe));
    }
    if probe.running == Running::Listener {
        return What::LeaveShell;
    }
    if !probe.writable {
        return What::Blocked(format!(
            "{MESH} cannot be written by adb's user: see who made it (`adb shell ls -ld {MESH}`)"
        ));
    }
    let program = match offered.programs.get(serial) {
        Some(Ok(file)) if probe.program_version.is_some() && probe.has_program(file) => Program::Keep,
        Some(Ok(file)) => Program::Push { file: file.clone(), replaces: probe.program_sum.is_some() },
        Some(Err(why)) => return What::Blocked(why.clone()),
        None => return What::Blocked("nothing is known of the program for it".into()),
    };
    let backend = backend(serial, probe, offered);
    let needed = needed(&program, &backend, probe);
    if let Some(free) = probe.free_bytes.filter(|free| *free < needed) {
        return What::Blocked(format!(
            "its disk is full: {} are needed and {} are free; free some space on it",
            duration::bytes(needed),
            duration::bytes(free)
        ));
    }
    What::Bidmesh(Box::new(Bidmesh {
        program,
        backend,
        npu: npu(probe),
        renamed_from: probe.id().filter(|own| own != id),
        runs: matches!(probe.running, Running::Bidmesh(_)),
        outdated: probe.outdated,
    }))
}

/// Room for what is left to be copied, and for the piece of it that is on its way.
fn needed(program: &Program, backend: &Backend, probe: &Probe) -> u64 {
    let left = |name: &str, file: &LocalFile| {
        let begun = probe.begun.get(name).copied().unwrap_or(0);
        file.bytes.saturating_sub(begun)
    };
    let program = match program {
        Program::Keep => 0,
        Program::Push { file, .. } => left("bidmesh", file),
    };
    let model = match backend {
        Backend::PushModel { file, name, .. } => left(name, file),
        _ => 0,
    };
    program + model + program.max(model).min(PIECE_BYTES)
}

fn backend(serial: &str, probe: &Probe, offered: &Offered) -> Backend {
    if let Some(configured) = probe.setting("executor.run").filter(|run| !run.is_empty()) {
        return Backend::Kept(configured);
    }
    for runner in &probe.runners {
        match runner {
            Runner::Script { path, by_sh: true } => return Backend::Script(path.clone()),
            Runner::Script { path, by_sh: false } => return Backend::Found(format!("command:{path}")),
            Runner::Genie { program, config } => {
                return Backend::Genie { program: program.clone(), config: config.clone() };
            }
            Runner::Port(port) if offered.servers.get(serial) == Some(port) => {
                return Backend::Found(format!("openai:http://127.0.0.1:{port}"));
            }
            Runner::Port(_) => {}
        }
    }
    match &offered.model {
        Some((file, name, default)) => {
            let spec = (!default).then(|| format!("slm:{MESH}/models/{name}"));
            match probe.models.get(name) {
                Some(bytes) if *bytes == file.bytes && *default => Backend::ModelThere(name.clone()),
                _ => Backend::PushModel { file: file.clone(), name: name.clone(), spec },
            }
        }
        None => match probe.models.keys().next() {
            Some(name) => Backend::Found(format!("slm:{MESH}/models/{name}")),
            None => Backend::None(
                "no model runner is on it, and no model here to give it: `bidmesh model pull`, then setup again"
                    .into(),
            ),
        },
    }
}

fn npu(probe: &Probe) -> Npu {
    match (probe.config().has_npu, probe.npus.first()) {
        (Some(said), _) => Npu::Said(said),
        (None, Some(found)) => Npu::Found(found.clone()),
        (None, None) if probe.npu_hints => Npu::Unsure,
        (None, None) => Npu::NotFound,
    }
}

impl Backend {
    /// What is to be set for it; `None`: nothing is.
    pub fn spec(&self) -> Option<String> {
        match self {
            Self::Found(spec) => Some(spec.clone()),
            Self::Script(_) | Self::Genie { .. } => Some(format!("command:{MESH}/{RUNNER_SCRIPT}")),
            Self::PushModel { spec, .. } => spec.clone(),
            Self::Kept(_) | Self::ModelThere(_) | Self::None(_) => None,
        }
    }
}

impl Npu {
    /// Whether it has one; `None`: nobody knows.
    pub const fn known(&self) -> Option<bool> {
        match self {
            Self::Said(yes) => Some(*yes),
            Self::Found(_) => Some(true),
            Self::NotFound => Some(false),
            Self::Unsure => None,
        }
    }
}

impl Plan {
    /// The device map's line of it.
    pub fn mapped(&self) -> MappedDevice {
        MappedDevice { id: self.id.clone(), serial: self.serial.clone(), ip: self.address.map(|a| a.ip()) }
    }

    /// Whether the device map is to hold what is known of it now. A name that was made up for a phone that could not be
    /// asked is none: it may say another one the next time.
    pub fn is_known(&self) -> bool {
        !matches!(self.what, What::Elsewhere | What::Unread(_))
    }

    /// Whether anything is to be done with it, or to be said of it.
    pub fn is_chosen(&self) -> bool {
        self.what != What::Elsewhere
    }
}

impl Bidmesh {
    /// Whether it is to run no prompts, since somebody said so.
    pub fn only_asks_others(&self) -> bool {
        matches!(&self.backend, Backend::Kept(spec) if spec == RUNS_NONE)
    }

    /// Whether anything of it is learnt only by a device that starts.
    fn counts_at_start(&self) -> bool {
        self.outdated
            || matches!(self.program, Program::Push { .. })
            || self.renamed_from.is_some()
            || !matches!(self.backend, Backend::Kept(_) | Backend::ModelThere(_) | Backend::None(_))
            || matches!(self.npu, Npu::Found(_) | Npu::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adb::State;
    use std::path::Path;

    fn seen(serial: &str, probe: Result<Probe, String>) -> Seen {
        let attached = Attached { serial: serial.into(), state: State::Ready, model: Some("Pixel 7".into()) };
        Seen { attached, chosen: true, probe }
    }

    fn ready() -> Probe {
        Probe {
            abi: "arm64-v8a".into(),
            addresses: vec![("wlan0".into(), "192.168.1.101".parse().unwrap())],
            free_bytes: Some(1 << 33),
            writable: true,
            ..Probe::default()
        }
    }

    fn file(name: &str, bytes: u64) -> LocalFile {
        LocalFile::for_tests(name, bytes, &format!("sum of {name}"))
    }

    fn offered(serials: &[&str]) -> Offered {
        let program = |serial: &&str| ((*serial).to_owned(), Ok(file("bidmesh-aarch64", 5 << 20)));
        Offered {
            programs: serials.iter().map(program).collect(),
            model: Some((file("m.gguf", 98 << 20), "m.gguf".into(), true)),
            ..Offered::default()
        }
    }

    fn map(text: &str) -> DeviceMap {
        DeviceMap::parse(text.as_bytes(), Path::new("map")).unwrap()
    }

    #[test]
    fn a_plan_reads_well() {
        let running = Probe {
            running: Running::Bidmesh(7),
            program_sum: Some("sum of bidmesh-aarch64".into()),
            program_version: Some("0.1.0".into()),
            runners: vec![Runner::Script { path: "/data/local/tmp/mesh/run_slm.sh".into(), by_sh: false }],
            npus: vec!["Google edge TPU (/dev/rio)".into()],
            ..ready()
        };
        let files =
            "\n@@ config.toml\n[executor]\nrun = \"none\"\n\n@@ device_config.json\n{\"has_npu\": true}\n";
        let in_order = Probe {
            running: Running::Bidmesh(7),
            program_sum: Some("sum of bidmesh-aarch64".into()),
            program_version: Some("0.1.0".into()),
            addresses: vec![("wlan0".into(), "192.168.1.106".parse().unwrap())],
            writable: true,
            ..Probe::read_for_tests(files, "@@")
        };
        let shell = Probe { running: Running::Listener, ..ready() };
        let full = Probe { free_bytes: Some(1 << 20), ..ready() };
        let phones = [
            seen("a", Ok(ready())),
            seen("b", Ok(running)),
            seen("c", Ok(shell)),
            seen("d", Ok(full)),
            seen("e", Err("it is offline".into())),
            seen("f", Ok(in_order)),
        ];
        let plans = plan(&phones, &map("Device_E:e:10.0.0.5\n"), &offered(&["a", "b", "c", "d", "f"]));
        insta::assert_snapshot!(words(&plans));
    }

    #[test]
    fn a_phone_that_is_not_chosen_is_left_alone_and_known_to_the_others() {
        let mut phones = [seen("a", Ok(ready())), seen("b", Ok(ready())), seen("stranger", Ok(ready()))];
        (phones[1].chosen, phones[2].chosen) = (false, false);
        let plans = plan(&phones, &map("Device_B:b:\nDevice_C:away:10.0.0.3\n"), &offered(&["a", "b"]));
        let told: Vec<(&str, bool, String)> = plans
            .iter()
            .map(|plan| (plan.id.as_str(), plan.is_chosen(), plan.address.unwrap().to_string()))
            .collect();
        assert_eq!(
            told,
            [
                ("Device_A", true, "192.168.1.101:9999".to_owned()),
                ("Device_B", false, "192.168.1.101:9999".to_owned()),
                ("Device_C", false, "10.0.0.3:9999".to_owned()),
            ]
        );
    }

    #[test]
    fn a_copy_that_broke_off_needs_room_only_for_the_rest_of_it() {
        let blocked = |free: u64, begun: &[(&str, u64)]| {
            let begun = begun.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
            let probe = Probe { free_bytes: Some(free), begun, ..ready() };
            let plans = plan(&[seen("a", Ok(probe))], &map(""), &offered(&["a"]));
            matches!(plans[0].what, What::Blocked(_))
        };
        // The program has 5 MiB, the model 98, and a piece of them 8.
        let (all, rest, program) = (111 << 20, 46 << 20, 10 << 20);
        assert!(blocked(all - 1, &[]) && !blocked(all, &[]));
        let begun = [("bidmesh", 5 << 20), ("m.gguf", 60 << 20)];
        assert!(blocked(rest - 1, &begun) && !blocked(rest, &begun));
        // What is longer than the file is no part of it, and goes.
        assert!(!blocked(program, &[("m.gguf", 200 << 20)]));
    }

    #[test]
    fn what_is_configured_beats_what_is_found_and_that_beats_the_model() {
        let found = Probe {
            runners: vec![
                Runner::Port(8080),
                Runner::Genie { program: "/g/genie-t2t-run".into(), config: "/g/c.json".into() },
            ],
            ..ready()
        };
        let genie = backend("a", &found, &offered(&["a"]));
        assert!(matches!(genie, Backend::Genie { .. }), "a port alone is no server");
        let mut offers = offered(&["a"]);
        offers.servers.insert("a".into(), 8080);
        let server = backend("a", &found, &offers);
        assert_eq!(server, Backend::Found("openai:http://127.0.0.1:8080".into()));
        assert!(matches!(backend("a", &ready(), &offers), Backend::PushModel { spec: None, .. }));
        let mut there = ready();
        there.models.insert("m.gguf".into(), 98 << 20);
        assert_eq!(backend("a", &there, &offers), Backend::ModelThere("m.gguf".into()));
        let printed = "\n@@ config.toml\n[executor]\nrun = \"none\"\n";
        let configured = Probe::read_for_tests(printed, "@@");
        assert_eq!(backend("a", &configured, &offers), Backend::Kept("none".into()));
        assert!(matches!(backend("a", &ready(), &Offered::default()), Backend::None(_)));
    }
}
