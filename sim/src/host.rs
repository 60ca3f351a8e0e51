//! A device with a driver: as it is planned, and the host that it runs on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bidmesh_core::config::Detection;
use bidmesh_core::draw::Seed;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::Sensors as Reading;
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::{Config, Identity, Input};
use bidmesh_io_tokio::clock::TokioClock;
use bidmesh_io_tokio::driver::{Driver, Parts, Sampling};
use bidmesh_io_tokio::network::{TcpLimits, TcpNetwork};
use bidmesh_io_tokio::store::NoStore;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::disk::Disk;
use crate::mesh::device;
use crate::probe::{Asks, Desk, Probe};
use crate::puppet::Puppet;
use crate::record::{Record, Recorded, What};
use crate::script::{Act, Scripted, Steady};
use crate::sockets::{Roughness, TurmoilSockets};

/// Where every device listens.
pub(crate) const PORT: u16 = 9999;

/// A device as it is planned.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) device: DeviceId,
    npu: bool,
    slots: u16,
    acts: Vec<Act>,
    reading: Reading,
    config: Config,
    disk: bool,
    rough: Option<Roughness>,
}

impl Plan {
    /// An ordinary device: no NPU, one slot, 20 % load, a full battery; answers each prompt within a second.
    ///
    /// # Panics
    /// If `id` is no device id.
    pub fn new(id: &str) -> Self {
        Self {
            device: device(id),
            npu: false,
            slots: 1,
            acts: vec![Act::answer(1)],
            reading: Reading {
                cpu: Load::from_ppm(200_000),
                ram: Load::from_ppm(500_000),
                battery: Percent::new(100),
                charging: Some(false),
                temperature: None,
                minute_of_day: None,
            },
            // Tests that are about heartbeats switch them on: the others count messages and wait for quiet.
            config: Config { detection: Detection::OFF, ..Config::default() },
            disk: false,
            rough: None,
        }
    }

    /// Its connections are split, delayed and cut off.
    #[must_use]
    pub fn rough(mut self, roughness: Roughness) -> Self {
        self.rough = Some(roughness);
        self
    }

    /// What it must not lose is on a disk, and found again when it starts anew.
    #[must_use]
    pub fn disk(mut self) -> Self {
        self.disk = true;
        self
    }

    /// It runs prompts on an NPU.
    #[must_use]
    pub fn npu(mut self) -> Self {
        self.npu = true;
        self
    }

    /// It runs so many prompts at once.
    #[must_use]
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots;
        self.config.work.slots = slots;
        self
    }

    /// What it does with prompts, one act after the other, the last for ever. None at all: it cannot run any.
    #[must_use]
    pub fn acts(mut self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.acts = acts.into_iter().collect();
        self
    }

    /// Its load, in percent.
    #[must_use]
    pub fn cpu(mut self, percent: u32) -> Self {
        self.reading.cpu = Load::from_ppm(percent.saturating_mul(10_000));
        self
    }

    /// Its settings.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }
}

/// A host with a driver, over all its starts.
pub(crate) struct Host {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) peers: Vec<(DeviceId, SocketAddr)>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) asks: Asks,
    pub(crate) record: Record,
    pub(crate) starts: AtomicU32,
    /// Prompts run so far, over all starts.
    pub(crate) runs: Arc<AtomicUsize>,
    pub(crate) disk: Disk,
}

impl Host {
    /// One start of it: a device until it ends.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let id = &self.plan.device;
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        self.record.note(id, What::Started(start));
        let address = SocketAddr::new(turmoil::lookup(id.as_str()), PORT);
        let sockets = self.plan.rough.map_or_else(TurmoilSockets::default, |roughness| {
            let (high, low) = (self.draw(start) >> 64, u64::MAX);
            TurmoilSockets::rough(roughness, u64::try_from(high).unwrap_or(low))
        });
        let network = TcpNetwork::bind(sockets, any(), TcpLimits::default()).await?;
        let network = Recorded { network, device: id.clone(), record: self.record.clone() };
        let (driver, handle) = Driver::new(Parts {
            identity: Identity { device: id.clone(), address: Some(address) },
            config: self.plan.config.clone(),
            seed: self.draw(start),
            network,
            clock: TokioClock::new(),
            executor: Arc::new(self.executor()),
            sensors: Arc::new(Steady(self.plan.reading)),
            store: if self.plan.disk { Arc::new(self.disk.clone()) } else { Arc::new(NoStore) },
            sampling: Sampling::default(),
            peers: watch::Sender::new(Vec::new()),
        });
        let probe = Probe {
            device: id.clone(),
            handle: handle.clone(),
            desk: Arc::clone(&self.desk),
            asks: Arc::clone(&self.asks),
            record: self.record.clone(),
        };
        let mut people = JoinSet::new();
        people.spawn(probe.clone().watch(handle.events()));
        let peers = self.peers.clone();
        people.spawn(async move {
            // Nobody asks a device that knows no peers yet. One that ends at once needs none.
            let _ = handle.tell(Input::PeersEdited(peers)).await;
            probe.work().await;
        });
        let end = driver.run().await;
        self.record.note(id, What::Ended(format!("{end:?}")));
        Ok(())
    }

    fn executor(&self) -> Scripted {
        Scripted {
            device: self.plan.device.clone(),
            npu: self.plan.npu,
            slots: self.plan.slots,
            acts: self.plan.acts.clone(),
            runs: Arc::clone(&self.runs),
            record: self.record.clone(),
        }
    }

    /// The seed of this start.
    fn draw(&self, start: u32) -> u128 {
        let half = |purpose| {
            let parts = [self.plan.device.as_str().as_bytes(), &start.to_be_bytes()];
            u128::from(Seed::from(self.seed).draw(purpose, &parts))
        };
        half("high") << 64 | half("low")
    }
}

pub(crate) async fn play(
    puppet: Puppet,
    peers: Vec<(DeviceId, SocketAddr)>,
    record: Record,
    seed: u64,
) -> turmoil::Result {
    let device = puppet.device.clone();
    let address = SocketAddr::new(turmoil::lookup(device.as_str()), PORT);
    let network = TcpNetwork::bind(TurmoilSockets::default(), any(), TcpLimits::default()).await?;
    puppet.play(Recorded { network, device, record }, address, peers, seed).await;
    Ok(())
}

/// Every address of the host.
pub(crate) fn any() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], PORT))
}
