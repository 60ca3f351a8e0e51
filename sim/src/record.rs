//! What happened in a world, in order: every message that left and arrived, every event of every device, everything
//! that was told to people. Tests look for entries; a person reads them as lines.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::SendFailure;
use bidmesh_io_tokio::driver::Told;
use bidmesh_io_tokio::network::{Incoming, Network, Outgoing};

use crate::caller::Hung;
use crate::probe::Ask;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, since the world's beginning.
    pub at: Duration,
    /// Where.
    pub device: DeviceId,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The device started, for this time (from 1).
    Started(u32),
    /// The device ended by itself: how.
    Ended(String),
    /// A message is on its way.
    Sending {
        /// For whom.
        to: DeviceId,
        /// Its type.
        kind: String,
    },
    /// What became of a message.
    Sent {
        /// For whom.
        to: DeviceId,
        /// Its type.
        kind: String,
        /// `None`: delivered.
        failure: Option<SendFailure>,
    },
    /// A message arrived.
    Received {
        /// From whom; `None`: it could not be read.
        from: Option<DeviceId>,
        /// Its type, or why it could not be read.
        kind: String,
    },
    /// A prompt began to run.
    RunBegan(String),
    /// A shell device took a TASK: what it was awarded.
    Took(String),
    /// The device noticed something.
    Noticed(Event),
    /// How a [`Caller`](crate::Caller)'s connection ended, by its number.
    Call(usize, Hung),
    /// Somebody who had asked was told something.
    Told(Ask, Told),
    /// Somebody who had asked was refused, or the device ended first: in words.
    Turned(Ask, String),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, device, what } = self;
        write!(f, "{:>4}.{:03}s {device:<4} ", at.as_secs(), at.subsec_millis())?;
        match what {
            What::Started(start) => write!(f, "starts ({start})"),
            What::Ended(how) => write!(f, "ends: {how}"),
            What::Sending { to, kind } => write!(f, "-> {to} {kind}"),
            What::Sent { to, kind, failure: None } => write!(f, "-> {to} {kind}: delivered"),
            What::Sent { to, kind, failure: Some(why) } => write!(f, "-> {to} {kind}: {why:?}"),
            What::Received { from: Some(from), kind } => write!(f, "<- {from} {kind}"),
            What::Received { from: None, kind } => write!(f, "<- ? {kind}"),
            What::RunBegan(prompt) => write!(f, "runs {prompt:?}"),
            What::Took(award) => write!(f, "takes {award}"),
            What::Noticed(event) => write!(f, "{event:?}"),
            What::Call(number, how) => write!(f, "call {number}: {how:?}"),
            What::Told(ask, told) => write!(f, "{ask} told {told:?}"),
            What::Turned(ask, why) => write!(f, "{ask} turned away: {why}"),
        }
    }
}

/// Where all hosts of a world write what happens. All of them run on one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Entry>>>);

impl Record {
    pub(crate) fn note(&self, device: &DeviceId, what: What) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.entries().push(Entry { at, device: device.clone(), what });
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A network whose messages are noted.
#[derive(Clone, Debug)]
pub(crate) struct Recorded<N> {
    pub(crate) network: N,
    pub(crate) device: DeviceId,
    pub(crate) record: Record,
}

impl<N: Network> Network for Recorded<N> {
    async fn send(&self, outgoing: Outgoing, within: Duration) -> Result<(), SendFailure> {
        let (to, kind) = (outgoing.device.clone(), outgoing.message.body.kind().to_owned());
        self.record.note(&self.device, What::Sending { to: to.clone(), kind: kind.clone() });
        let result = self.network.send(outgoing, within).await;
        self.record.note(&self.device, What::Sent { to, kind, failure: result.err() });
        result
    }

    async fn receive(&self) -> Incoming {
        let incoming = self.network.receive().await;
        let what = match &incoming.message {
            Ok(decoded) => What::Received {
                from: Some(decoded.message.from.clone()),
                kind: decoded.message.body.kind().to_owned(),
            },
            Err(error) => What::Received { from: None, kind: format!("{error:?}") },
        };
        self.record.note(&self.device, what);
        incoming
    }
}
