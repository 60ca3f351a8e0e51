//! [`Network`] over TCP, one message a connection, as the shell mesh has it.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::encode;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use super::admission::Admission;
use super::counts::{Counter, Counts};
use super::limits::TcpLimits;
use super::listen::listen;
use super::offer::offer;
use super::take::{Arrived, Intake};
use super::{Incoming, Network, Outgoing};
use crate::sockets::Sockets;

/// A port that listens, and the connections from and to it. Clones share the same network; when the last one is
/// dropped, or with [`TcpNetwork::close`], the port is free again.
#[derive(Clone)]
pub struct TcpNetwork<S: Sockets>(Arc<Shared<S>>);

struct Shared<S: Sockets> {
    sockets: S,
    local_address: SocketAddr,
    intake: Arc<Intake>,
    queue: Mutex<mpsc::Receiver<Arrived>>,
    /// Dropping it ends the accept loop too.
    stop: watch::Sender<bool>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Sockets> TcpNetwork<S> {
    /// Listens at `address`; with port 0 the system chooses one. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the port is taken, or the address is not one of this machine's.
    pub async fn bind(sockets: S, address: SocketAddr, limits: TcpLimits) -> Result<Self, BindError> {
        let error = |error| BindError { address, error };
        let listener = sockets.bind(address).await.map_err(error)?;
        let local_address = sockets.local_address(&listener).map_err(error)?;
        let (sender, queue) = mpsc::channel(limits.queue.max(1));
        let intake = Arc::new(Intake {
            limits,
            admission: Admission::new(limits),
            counter: Counter::default(),
            queue: sender,
        });
        let (stop, stopped) = watch::channel(false);
        let listening = tokio::spawn(listen(sockets.clone(), listener, Arc::clone(&intake), stopped));
        Ok(Self(Arc::new(Shared {
            sockets,
            local_address,
            intake,
            queue: Mutex::new(queue),
            stop,
            listening: Mutex::new(Some(listening)),
        })))
    }

    /// Where this device listens.
    pub fn local_address(&self) -> SocketAddr {
        self.0.local_address
    }

    /// What happened to incoming connections so far.
    pub fn counts(&self) -> Counts {
        let (open, held_bytes) = self.0.intake.admission.usage();
        Counts { open: open as u64, held_bytes: held_bytes as u64, ..self.0.intake.counter.read() }
    }

    /// Closes the port and returns when it is free. Connections whose message is not whole are reset; messages
    /// that have been taken over can still be received, and [`Network::send`] goes on working.
    pub async fn close(&self) {
        self.0.stop.send_replace(true);
        if let Some(listening) = self.0.listening.lock().await.take() {
            // An accept loop that panicked has no port either.
            let _ = listening.await;
        }
    }

    /// A listener bound to one address sends from it too; any other lets the system choose.
    fn source(&self) -> Option<IpAddr> {
        Some(self.0.local_address.ip()).filter(|ip| !ip.is_unspecified())
    }
}

impl<S: Sockets> Network for TcpNetwork<S> {
    async fn send(&self, outgoing: Outgoing, within: Duration) -> Result<(), SendFailure> {
        let bytes = encode(&outgoing.message, outgoing.dialect).map_err(|_| SendFailure::NotSpoken)?;
        // The peer would read the limit's worth of it and give up; trying again would change nothing.
        if bytes.len() > self.0.intake.limits.wire.message_bytes {
            return Err(SendFailure::TooLong);
        }
        offer(&self.0.sockets, self.source(), outgoing.to, &bytes, within).await
    }

    /// Never returns after [`TcpNetwork::close`], once what waited is received. May be cancelled.
    async fn receive(&self) -> Incoming {
        match self.0.queue.lock().await.recv().await {
            Some(arrived) => {
                // Who receives it answers for its memory from here on.
                drop(arrived.memory);
                arrived.incoming
            }
            None => pending().await,
        }
    }
}

impl<S: Sockets> fmt::Debug for TcpNetwork<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpNetwork")
            .field("local_address", &self.local_address())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// Why a device cannot listen where it should.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl BindError {
    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What kind of error the system reported.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port",
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address; choose one that it has"
            }
            io::ErrorKind::PermissionDenied => "this user may not use that port; choose one from 1024 up",
            _ => "choose another address or port",
        };
        write!(f, "cannot listen at {address}: {error}; {advice}")
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_bind_says_what_to_do() {
        for (kind, advice) in [
            (io::ErrorKind::AddrInUse, "stop it or choose another port"),
            (io::ErrorKind::AddrNotAvailable, "choose one that it has"),
            (io::ErrorKind::PermissionDenied, "choose one from 1024 up"),
            (io::ErrorKind::Other, "choose another address or port"),
        ] {
            let error = BindError { address: SocketAddr::from(([10, 0, 0, 7], 9)), error: kind.into() };
            let said = error.to_string();
            assert!(said.starts_with("cannot listen at 10.0.0.7:9: ") && said.ends_with(advice), "{said}");
        }
    }
}
