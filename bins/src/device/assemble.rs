//! Puts the parts of a device together and sets it going. Knows no files: the demo's devices have none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::{Config, Identity, Input};
use bidmesh_io_tokio::clock::BootClock;
use bidmesh_io_tokio::driver::{Driver, End, Handle, Parts, Sampling};
use bidmesh_io_tokio::execute::Executor;
use bidmesh_io_tokio::network::{TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sensors::Sensors;
use bidmesh_io_tokio::sockets::TokioSockets;
use bidmesh_io_tokio::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::address;
use crate::exit::Failure;

/// Devices and where they are.
pub type Book = Vec<(DeviceId, SocketAddr)>;

/// What a device is to be.
pub struct Blueprint {
    pub id: DeviceId,
    /// Where it listens; with port 0 the kernel chooses.
    pub listen: SocketAddr,
    pub config: Config,
    pub limits: TcpLimits,
    pub executor: Arc<dyn Executor>,
    pub sensors: Arc<dyn Sensors>,
    /// What survives it.
    pub store: Arc<dyn Store>,
    /// Whom it knows from the beginning.
    pub peers: Book,
    /// Between two readings of the sensors while something is going on.
    pub sensors_interval: Duration,
}

/// A device that runs. Dropping it ends it at once, like a crash.
pub struct Assembled {
    pub handle: Handle,
    /// Where it listens, with the port that it got.
    pub listen: SocketAddr,
    /// Where it tells others that it is.
    pub address: Option<SocketAddr>,
    /// Its address book, each time that it changes.
    pub book: watch::Receiver<Book>,
    driver: JoinHandle<End>,
}

impl Assembled {
    /// Returns when it has ended; `None` if it panicked. May be cancelled, but not called again after it returned.
    pub async fn ended(&mut self) -> Option<End> {
        (&mut self.driver).await.ok()
    }
}

impl Drop for Assembled {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Blueprint {
    /// Listens and sets the device going.
    pub async fn assemble(self) -> Result<Assembled, Failure> {
        let network = TcpNetwork::bind(TokioSockets, self.listen, self.limits)
            .await
            .map_err(|error| Failure::failed(error.to_string()))?;
        let listen = network.local_address();
        let known: Vec<SocketAddr> = self.peers.iter().map(|(_, address)| *address).collect();
        let address = address::outward(listen, &known);
        let (peers, book) = watch::channel(self.peers.clone());
        let (driver, handle) = Driver::new(Parts {
            identity: Identity { device: self.id, address },
            config: self.config,
            seed: seed()?,
            network,
            clock: BootClock::new(),
            executor: self.executor,
            sensors: self.sensors,
            store: self.store,
            sampling: Sampling { sensors: self.sensors_interval, ..Sampling::default() },
            peers,
        });
        if !self.peers.is_empty() {
            // The queue of a driver that does not run yet has room for one request.
            let _ = handle.tell(Input::PeersEdited(self.peers)).await;
        }
        Ok(Assembled { handle, listen, address, book, driver: tokio::spawn(driver.run()) })
    }
}

fn seed() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))?;
    Ok(u128::from_le_bytes(bytes))
}
