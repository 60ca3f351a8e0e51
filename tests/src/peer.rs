//! A peer that uses bidmesh's own TCP network, for tests that are not asynchronous: it keeps what arrives, and it
//! sends as a device does.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bidmesh_core::id::{BootId, DeviceId};
use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::{Body, Dialect, Marker, Message};
use bidmesh_io_tokio::network::{Incoming, Network, Outgoing, TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sockets::TokioSockets;
use tokio::runtime::Runtime;

use crate::wait::wait_until;

/// How long a device may take to read a message, and a message to arrive.
const DEADLINE: Duration = Duration::from_secs(60);

/// A device of which there is only the network.
#[derive(Debug)]
pub struct MeshPeer {
    id: DeviceId,
    runtime: Runtime,
    network: TcpNetwork<TokioSockets>,
    heard: Arc<Mutex<Vec<Incoming>>>,
}

impl MeshPeer {
    /// Listens at a port of 127.0.0.1 as the device `id`.
    ///
    /// # Panics
    /// If it cannot, or if `id` is no device id.
    pub fn listen(id: &str) -> Self {
        // A thread beside the test's: messages are taken while the test does something else.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let network = runtime.block_on(TcpNetwork::bind(TokioSockets, address, TcpLimits::default()));
        let network = network.expect("a free port");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (receiving, hears) = (network.clone(), Arc::clone(&heard));
        runtime.spawn(async move {
            loop {
                let incoming = receiving.receive().await;
                hears.lock().unwrap_or_else(PoisonError::into_inner).push(incoming);
            }
        });
        Self { id: DeviceId::new(id).expect("a device id"), runtime, network, heard }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.network.local_address()
    }

    /// Sends one message until the peer has read it: what was refused or reset was not read and is offered again.
    ///
    /// # Panics
    /// If the peer has not read it within a minute, or if it is not clear whether it has.
    pub fn send(&self, to: SocketAddr, body: Body, dialect: Dialect) {
        let marker =
            Some(Marker { version: Marker::VERSION, boot: BootId::new("0123abcd").expect("a boot id") });
        let kind = body.kind().to_owned();
        let message = Message { from: self.id.clone(), marker, body };
        // Nobody looks at the device's name but logs.
        let outgoing = Outgoing { device: self.id.clone(), to, message, dialect };
        wait_until(DEADLINE, &format!("{to} to read {kind}"), || {
            match self.runtime.block_on(self.network.send(outgoing.clone(), DEADLINE)) {
                Ok(()) => Some(()),
                Err(SendFailure::Refused | SendFailure::Reset) => None,
                Err(failure) => panic!("{kind}: the peer {}", failure.words()),
            }
        });
    }

    /// What has arrived so far, in order.
    pub fn heard(&self) -> Vec<Incoming> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The messages that have arrived so far, in order.
    ///
    /// # Panics
    /// If something arrived that is no message.
    pub fn messages(&self) -> Vec<Message> {
        self.heard()
            .into_iter()
            .map(|incoming| incoming.message.expect("what arrives can be decoded").message)
            .collect()
    }

    /// Waits for the message with this number, counted from 0.
    ///
    /// # Panics
    /// If it does not come within a minute, or if something arrived that is no message.
    pub fn message(&self, number: usize) -> Message {
        wait_until(DEADLINE, &format!("message {number}"), || self.messages().into_iter().nth(number))
    }

    /// Waits until no connection is open: whatever had been sent when this was called has arrived.
    ///
    /// # Panics
    /// If connections are still open after a minute.
    pub fn settle(&self) {
        // A netcat may have ended before its connection was accepted. Connections are accepted in order, so one more
        // that brings nothing tells when those before it have been.
        let looked = self.network.counts().empty;
        drop(TcpStream::connect(self.address()).expect("a port that listens"));
        wait_until(DEADLINE, "connections to be accepted", || {
            (self.network.counts().empty > looked).then_some(())
        });
        wait_until(DEADLINE, "all connections to close", || {
            let counts = self.network.counts();
            (counts.open == 0 && counts.received == self.heard().len() as u64).then_some(())
        });
    }
}
