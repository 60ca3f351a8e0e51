//! The five devices of the demo: what each is, and how they are set going.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::{Executor as Ability, RunOutcome, Sensors as Reading};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::snapshot::Snapshot;
use bidmesh_core::{Config, Input, Submission};
use bidmesh_io_tokio::driver::Following;
use bidmesh_io_tokio::execute::{Executor, ExecutorSettings, ExecutorSpec, Generated, Job, Stop};
use bidmesh_io_tokio::network::TcpLimits;
use bidmesh_io_tokio::sensors::FixedSensors;
use bidmesh_io_tokio::store::NoStore;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::shell_peer::ShellPeer;
use crate::device::{Assembled, Blueprint, Book};
use crate::exit::Failure;
use crate::table::Table;

/// The device that asks.
pub const ASKING: &str = "Laptop";
const BUSY: &str = "Board_Busy";
/// The one of the shell mesh.
pub const SHELL: &str = "Old_Phone";

/// What passes before each word of the stand-in: about the speed of a small model on a phone.
const WORD_DELAY: Duration = Duration::from_millis(40);
/// How long the devices may take to meet.
const MEETING: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const SENSING: Duration = Duration::from_secs(5);
const ENDING: Duration = Duration::from_secs(1);

/// What runs prompts on a device of the demo. Executors of one embedded model share it.
fn executor(spec: &ExecutorSpec, npu: bool, prompts: &Path) -> Result<Arc<dyn Executor>, Failure> {
    let settings = ExecutorSettings {
        npu,
        prompts: prompts.to_owned(),
        word_delay: WORD_DELAY,
        ..ExecutorSettings::default()
    };
    spec.build(settings).map_err(|error| Failure::usage(error.to_string()))
}

/// How long the devices wait for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tempo {
    /// As they do everywhere.
    Usual,
    /// As short as a person likes who waits for a killed device to be missed.
    Short,
}

impl Tempo {
    fn config(self) -> Config {
        let mut config = Config::default();
        if self == Self::Short {
            config.timing.heartbeat = Duration::from_millis(500);
            config.timing.progress_deadline = Duration::from_secs(2);
            config.timing.query = Duration::from_secs(1);
        }
        config
    }
}

/// One of the bidmesh devices.
struct Character {
    name: &'static str,
    what: &'static str,
    npu: bool,
    cpu_percent: u32,
    battery: Option<(u8, bool)>,
}

const CHARACTERS: [Character; 4] = [
    Character { name: ASKING, what: "plain; it asks", npu: false, cpu_percent: 35, battery: None },
    Character {
        name: "Phone_NPU",
        what: "has an NPU",
        npu: true,
        cpu_percent: 20,
        battery: Some((80, true)),
    },
    Character {
        name: "Phone_Low",
        what: "9% battery: refuses",
        npu: true,
        cpu_percent: 2,
        battery: Some((9, false)),
    },
    Character { name: BUSY, what: "runs another prompt", npu: true, cpu_percent: 90, battery: None },
];

/// The devices of the demo, running.
pub struct Mesh {
    /// In the order of [`CHARACTERS`]; `None`: killed.
    devices: Vec<Option<Assembled>>,
    shell: ShellPeer,
    /// What keeps the busy device busy.
    _running: Following,
    /// Where a command finds its prompts.
    _prompts: TempDir,
}

impl Mesh {
    pub async fn start(spec: &ExecutorSpec, tempo: Tempo) -> Result<Self, Failure> {
        let prompts = tempfile::tempdir().map_err(|error| {
            Failure::failed(format!("no temporary directory can be made: {error}; set TMPDIR"))
        })?;
        let of_shell = match spec {
            ExecutorSpec::StandIn => None,
            spec => Some(executor(spec, false, prompts.path())?),
        };
        let shell = ShellPeer::start(id(SHELL)?, place(CHARACTERS.len()), of_shell).await?;
        let mut devices: Vec<Assembled> = Vec::new();
        // The device that asks comes last: it knows all the others.
        for (number, character) in CHARACTERS.iter().enumerate().rev() {
            let peers = if number == 0 { book(&devices, &shell)? } else { Book::new() };
            let blueprint = character.blueprint(spec, tempo, prompts.path(), place(number), peers)?;
            devices.insert(0, blueprint.assemble().await?);
        }
        let running = keep_busy(&devices).await?;
        let devices = devices.into_iter().map(Some).collect();
        let mesh = Self { devices, shell, _running: running, _prompts: prompts };
        mesh.meet().await?;
        Ok(mesh)
    }

    /// The device that asks; it is never killed.
    pub fn asking(&self) -> Result<&Assembled, Failure> {
        let first = self.devices.first().and_then(Option::as_ref);
        first.ok_or_else(|| Failure::failed(format!("{ASKING} of the demo is not there")))
    }

    /// Ends a device at once, like a power cut; whether there was such a device.
    pub fn kill(&mut self, name: &str) -> bool {
        let place = CHARACTERS.iter().position(|character| character.name == name && name != ASKING);
        let device = place.and_then(|place| self.devices.get_mut(place)?.take());
        device.is_some()
    }

    /// Waits until everything that a decision depends on is known.
    async fn meet(&self) -> Result<(), Failure> {
        for (character, device) in self.living() {
            let ready = |now: &Snapshot| {
                // The shell device says nothing before it is asked.
                let mut others = now.peers.iter().filter(|peer| peer.device.as_str() != SHELL);
                let met = character.name != ASKING || others.all(|peer| peer.heard.is_some());
                met && (character.name != BUSY || !now.runs.is_empty()) && now.sensors.cpu.is_some()
            };
            wait(character.name, device, ready).await?;
        }
        Ok(())
    }

    fn living(&self) -> impl Iterator<Item = (&'static Character, &Assembled)> {
        CHARACTERS
            .iter()
            .zip(&self.devices)
            .filter_map(|(character, device)| Some((character, device.as_ref()?)))
    }

    /// Who is there, for a person.
    pub fn table(&self) -> String {
        let mut table = Table::bare();
        for (character, device) in self.living() {
            let cpu = format!("cpu {}%", character.cpu_percent);
            table.row([character.name.into(), device.listen.to_string(), cpu, character.what.into()]);
        }
        let what = "speaks like the shell mesh, one message a connection".into();
        table.row([SHELL.into(), self.shell.address().to_string(), "cpu 45%".into(), what]);
        table.render(2)
    }

    /// Ends all of them.
    pub async fn end(mut self) {
        for device in self.devices.iter().flatten() {
            let _ = device.handle.tell(Input::Shutdown { within: ENDING }).await;
        }
        for device in self.devices.iter_mut().flatten() {
            device.ended().await;
        }
    }
}

impl Character {
    fn blueprint(
        &self,
        spec: &ExecutorSpec,
        tempo: Tempo,
        prompts: &Path,
        listen: SocketAddr,
        peers: Book,
    ) -> Result<Blueprint, Failure> {
        let reading = Reading {
            cpu: Load::from_ppm(self.cpu_percent * 10_000),
            ram: Load::from_ppm(400_000),
            battery: self.battery.and_then(|(charge, _)| Percent::new(charge)),
            charging: self.battery.map(|(_, charging)| charging),
            temperature: None,
            minute_of_day: None,
        };
        let executor: Arc<dyn Executor> =
            if self.name == BUSY { Arc::new(Endless) } else { executor(spec, self.npu, prompts)? };
        Ok(Blueprint {
            id: id(self.name)?,
            listen,
            config: tempo.config(),
            limits: TcpLimits::default(),
            executor,
            sensors: Arc::new(FixedSensors::new(reading)),
            // A show leaves nothing behind.
            store: Arc::new(NoStore),
            peers,
            sensors_interval: SENSING,
        })
    }
}

fn id(name: &str) -> Result<DeviceId, Failure> {
    DeviceId::new(name).map_err(|why| Failure::failed(format!("`{name}` is no device id: {why}")))
}

/// 127.0.0.2 and on, as if they were machines of their own; where only 127.0.0.1 exists (macOS), ports tell them
/// apart.
fn place(number: usize) -> SocketAddr {
    let last = u8::try_from(number + 2).unwrap_or(u8::MAX);
    let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let usable = std::net::UdpSocket::bind((own, 0)).is_ok();
    SocketAddr::new(if usable { own } else { Ipv4Addr::LOCALHOST.into() }, 0)
}

fn book(devices: &[Assembled], shell: &ShellPeer) -> Result<Book, Failure> {
    let mut book = vec![(id(SHELL)?, shell.address())];
    // `devices` does not hold the first character yet.
    for (character, device) in CHARACTERS.iter().skip(1).zip(devices) {
        book.push((id(character.name)?, device.listen));
    }
    Ok(book)
}

/// Gives the busy device something to do, by its own hand.
async fn keep_busy(devices: &[Assembled]) -> Result<Following, Failure> {
    let broken = |why: &str| Failure::failed(format!("{BUSY} of the demo cannot be kept busy: {why}"));
    let busy = CHARACTERS.iter().position(|character| character.name == BUSY);
    let device = busy.and_then(|busy| devices.get(busy)).ok_or_else(|| broken("it is not there"))?;
    wait(BUSY, device, |_| true).await?;
    let mut submission = Submission::new(0, "something long");
    submission.eligible = Some(BTreeSet::from([id(BUSY)?]));
    match device.handle.submit(submission).await {
        Ok(Ok(following)) => Ok(following),
        Ok(Err(refused)) => Err(broken(refused.why.words())),
        Err(_) => Err(broken("it has ended")),
    }
}

/// Waits until a device can run prompts and is as wanted.
async fn wait(name: &str, device: &Assembled, wanted: impl Fn(&Snapshot) -> bool) -> Result<(), Failure> {
    let until = Instant::now() + MEETING;
    while Instant::now() < until {
        let now = device
            .handle
            .snapshot()
            .await
            .map_err(|_| Failure::failed(format!("{name} of the demo has ended by itself")))?;
        // Before anything is known of it, there is nothing to say about it.
        if !now.executor.available && !now.executor.why.is_empty() {
            return Err(Failure::failed(format!(
                "{name} of the demo cannot run prompts: {}",
                now.executor.why
            )));
        }
        if now.executor.available && wanted(&now) {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
    Err(Failure::failed(format!("{name} of the demo is not ready after {} s; try again", MEETING.as_secs())))
}

/// Runs every prompt until it is stopped.
struct Endless;

#[async_trait]
impl Executor for Endless {
    async fn ability(&self) -> Ability {
        Ability { available: true, npu: true, slots: None, why: "busy for as long as the demo lasts".into() }
    }

    async fn run(&self, job: Job, _text: Generated, mut stop: Stop) -> RunOutcome {
        tokio::select! {
            () = stop.stopped() => RunOutcome::Stopped,
            () = sleep(job.limit) => RunOutcome::Failed("it ran for as long as it may".into()),
        }
    }
}
