//! A host that opens connections and writes bytes on them as a test says, piece by piece: what no driver does, and what
//! any program on the network may.

use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;
use turmoil::net::TcpStream;

use crate::record::{Record, What};

/// One connection.
#[derive(Clone, Debug)]
pub struct Call {
    /// To whom.
    pub to: DeviceId,
    /// When, since the host's beginning.
    pub at: Duration,
    /// What is written, each piece after a pause.
    pub pieces: Vec<(Duration, Vec<u8>)>,
    /// Whether its side is closed after the last piece; else it stays open until the device closes.
    pub closes: bool,
}

impl Call {
    /// All bytes at once, then the end.
    ///
    /// # Panics
    /// If `to` is no device id.
    pub fn whole(to: &str, at: Duration, bytes: impl Into<Vec<u8>>) -> Self {
        Self { to: crate::mesh::device(to), at, pieces: vec![(Duration::ZERO, bytes.into())], closes: true }
    }

    /// The same, and it stays open.
    #[must_use]
    pub fn and_stays(self) -> Self {
        Self { closes: false, ..self }
    }

    /// The same, so many bytes at a time with that pause between them.
    #[must_use]
    pub fn dribbled(self, bytes: usize, pause: Duration) -> Self {
        let all: Vec<u8> = self.pieces.into_iter().flat_map(|(_, piece)| piece).collect();
        let pieces = all.chunks(bytes.max(1)).map(|piece| (pause, piece.to_vec())).collect();
        Self { pieces, ..self }
    }
}

/// How a connection ended, as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hung {
    /// It could not be opened.
    Refused,
    /// The device closed it in order.
    Closed,
    /// It broke.
    Reset,
}

/// A host that makes such calls, all at their own time.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its name.
    pub device: DeviceId,
    /// What it does, by number.
    pub calls: Vec<Call>,
}

impl Caller {
    pub(crate) async fn play(self, peers: Vec<(DeviceId, SocketAddr)>, record: Record) -> turmoil::Result {
        for (number, call) in self.calls.into_iter().enumerate() {
            let Some((_, to)) = peers.iter().find(|(device, _)| *device == call.to) else { continue };
            let (to, record, device) = (*to, record.clone(), self.device.clone());
            tokio::spawn(async move {
                sleep(call.at).await;
                let end = make(to, call).await;
                record.note(&device, What::Call(number, end));
            });
        }
        std::future::pending().await
    }
}

async fn make(to: SocketAddr, call: Call) -> Hung {
    let Ok(mut stream) = TcpStream::connect(to).await else { return Hung::Refused };
    for (pause, piece) in call.pieces {
        sleep(pause).await;
        if stream.write_all(&piece).await.is_err() {
            return Hung::Reset;
        }
    }
    if call.closes && stream.shutdown().await.is_err() {
        return Hung::Reset;
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => Hung::Closed,
        Err(_) => Hung::Reset,
    }
}
