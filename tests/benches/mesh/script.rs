//! What a mesh really said, recorded beneath the drivers, so that a bare program can say it again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::{Message, encode};
use bidmesh_io_tokio::network::{Incoming, Network, Outgoing};

/// The messages of a mesh, in the order in which they were sent.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// How many devices took part. The first one is the one that was asked.
    pub(crate) devices: usize,
    pub(crate) steps: Vec<Step>,
    /// The steps that each device received, in order.
    pub(crate) received: Vec<Vec<usize>>,
    /// How many of those the first device had received when it was done.
    pub(crate) done_after: usize,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: Vec<u8>,
    /// How many messages `from` had received when it sent this one: those it may depend on.
    pub(crate) after: usize,
}

impl Script {
    /// The types of all messages, such as `4 BID_REQUEST, 4 BID_RESPONSE, 1 TASK`.
    pub(crate) fn kinds(&self) -> String {
        let mut kinds: Vec<(String, usize)> = Vec::new();
        for step in &self.steps {
            let kind =
                String::from_utf8_lossy(step.bytes.split(|byte| *byte == b'|').next().unwrap_or_default());
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind.into_owned(), 1)),
            }
        }
        kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }
}

/// Writes down what passes while it is told to.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Recording>>);

#[derive(Default)]
struct Recording {
    on: bool,
    addresses: Vec<SocketAddr>,
    steps: Vec<(Step, Message)>,
    received: Vec<Vec<usize>>,
    done_after: usize,
}

impl Recorder {
    /// The network of the next device.
    pub(crate) fn wrap<N>(&self, network: N, address: SocketAddr) -> Recorded<N> {
        self.with(|recording| {
            recording.addresses.push(address);
            Recorded { network, device: recording.addresses.len() - 1, recorder: self.clone() }
        })
    }

    pub(crate) fn start(&self) {
        self.with(|recording| {
            recording.on = true;
            recording.steps.clear();
            recording.received = vec![Vec::new(); recording.addresses.len()];
        });
    }

    /// The first device is done; what still follows is recorded too.
    pub(crate) fn done(&self) {
        self.with(|recording| recording.done_after = recording.received[0].len());
    }

    pub(crate) fn stop(&self) -> Script {
        self.with(|recording| {
            recording.on = false;
            Script {
                devices: recording.addresses.len(),
                steps: recording.steps.iter().map(|(step, _)| step.clone()).collect(),
                received: recording.received.clone(),
                done_after: recording.done_after,
            }
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Recording) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recording {
    fn sent(&mut self, from: usize, outgoing: &Outgoing) {
        let to =
            self.addresses.iter().position(|address| *address == outgoing.to).expect("a device of the mesh");
        let bytes = encode(&outgoing.message, outgoing.dialect).expect("what a device sends can be written");
        let after = self.received[from].len();
        self.steps.push((Step { from, to, bytes, after }, outgoing.message.clone()));
    }

    fn took(&mut self, device: usize, incoming: &Incoming) {
        let message = &incoming.message.as_ref().expect("what a device sends can be read").message;
        let received = &self.received[device];
        let step = self.steps.iter().enumerate().position(|(number, (step, sent))| {
            step.to == device && sent == message && !received.contains(&number)
        });
        self.received[device].push(step.expect("what arrives was sent"));
    }
}

/// A network that is recorded.
#[derive(Clone)]
pub(crate) struct Recorded<N> {
    network: N,
    device: usize,
    recorder: Recorder,
}

impl<N: Network> Network for Recorded<N> {
    async fn send(&self, outgoing: Outgoing, within: Duration) -> Result<(), SendFailure> {
        let on = self.recorder.with(|recording| {
            if recording.on {
                recording.sent(self.device, &outgoing);
            }
            recording.on
        });
        let sent = self.network.send(outgoing, within).await;
        assert!(!on || sent.is_ok(), "a healthy mesh on one machine delivers everything: {sent:?}");
        sent
    }

    async fn receive(&self) -> Incoming {
        let incoming = self.network.receive().await;
        self.recorder.with(|recording| {
            if recording.on {
                recording.took(self.device, &incoming);
            }
        });
        incoming
    }
}
