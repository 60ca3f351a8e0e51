//! One incoming connection, from its first byte to its end.
//!
//! The message is read as it comes and is whole when [`Framer`] says so, since two of five netcats do not end the
//! stream after it. Then the sending side is shut down at once, which is what lets every netcat exit, and what
//! still comes (often a line end) is read away before the socket is closed: closing with unread bytes would send
//! a reset, and a shell device that sees one sends its message again, up to five times.
//!
//! Until a message is taken over, the connection is set to end in a reset whatever happens, this process being
//! killed included: an orderly end would tell the sender that its message was read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::wire::{DecodeError, DecodeErrorKind, Framer, Framing, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::Incoming;
use super::admission::{Admission, Memory, Place};
use super::counts::{Counter, Counts};
use super::limits::TcpLimits;
use crate::sockets::Sockets;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// What is read away after a whole message, at most: far more than the line end that netcats add.
const REST_BYTES_MAX: usize = 64 * 1024;

/// A message in the queue, and its claim on memory.
pub(super) struct Arrived {
    pub(super) incoming: Incoming,
    pub(super) memory: Memory,
}

/// What all incoming connections of a network share.
pub(super) struct Intake {
    pub(super) limits: TcpLimits,
    pub(super) admission: Arc<Admission>,
    pub(super) counter: Counter,
    pub(super) queue: mpsc::Sender<Arrived>,
}

/// Why a connection ended without a message.
enum Fate {
    Empty,
    TimedOut,
    Broken,
    CrowdedOut,
    NotTaken,
    Closing,
}

impl Fate {
    fn count(&self, counts: &mut Counts) {
        let counter = match self {
            Self::Empty => &mut counts.empty,
            Self::TimedOut => &mut counts.timed_out,
            Self::Broken => &mut counts.broken,
            Self::CrowdedOut => &mut counts.crowded_out,
            Self::NotTaken => &mut counts.not_taken,
            Self::Closing => &mut counts.closing,
        };
        *counter += 1;
    }
}

/// Takes one message, or what comes instead of one, and closes the connection; gives its place back after that.
pub(super) async fn take<S: Sockets>(
    intake: Arc<Intake>,
    sockets: S,
    _place: Place,
    mut stream: S::Stream,
    source: SocketAddr,
    mut stop: watch::Receiver<bool>,
) {
    let deadline = later(Instant::now(), intake.limits.whole_message);
    // A system that refuses to set it (the peer has gone already) closes the usual way.
    let _ = sockets.reset_on_close(&stream, true);
    let taken = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Err(Fate::Closing),
        taken = take_over(&intake, &sockets, &mut stream, source, deadline) => taken,
    };
    match taken {
        Ok(rest) => tokio::select! {
            biased;
            () = read_away(&mut stream, rest) => {}
            () = stopped_for(&mut stop, intake.limits.closing) => {}
        },
        Err(fate) => {
            intake.counter.count(|counts| fate.count(counts));
            if let Fate::Empty = fate {
                let _ = sockets.reset_on_close(&stream, false);
            }
        }
    }
}

/// Returns when the network has been closing for so long.
async fn stopped_for(stop: &mut watch::Receiver<bool>, time: Duration) {
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(time).await;
}

/// How much may still come on a connection whose message is taken over.
struct Rest {
    bytes: usize,
    until: Instant,
    silence: Duration,
}

async fn take_over<S: Sockets>(
    intake: &Intake,
    sockets: &S,
    stream: &mut S::Stream,
    source: SocketAddr,
    deadline: Instant,
) -> Result<Rest, Fate> {
    let limits = &intake.limits;
    let mut memory = intake.admission.memory(source.ip());
    let framer = read(stream, limits, &mut memory, deadline).await?;
    let Ok(Ok(room)) = timeout_at(deadline, intake.queue.reserve()).await else {
        return Err(Fate::NotTaken);
    };
    // The peer may have gone already: its message counts all the same.
    let _ = stream.shutdown().await;
    let _ = sockets.reset_on_close(stream, false);
    let too_long = matches!(framer.framing(), Framing::TooLong { .. });
    let message = if too_long {
        let limit = limits.wire.message_bytes;
        Err(DecodeError { offset: limit, why: DecodeErrorKind::TooLong { limit } })
    } else {
        decode(framer.bytes(), &limits.wire)
    };
    drop(framer);
    intake.counter.count(|counts| {
        counts.received += 1;
        counts.too_long += u64::from(too_long);
    });
    room.send(Arrived { incoming: Incoming { source, message }, memory });
    let now = Instant::now();
    Ok(if too_long {
        // Reading on lets a netcat that ignores our half-close finish, instead of sending the same again.
        Rest { bytes: limits.wire.message_bytes, until: deadline, silence: limits.closing }
    } else {
        Rest { bytes: REST_BYTES_MAX, until: later(now, limits.closing), silence: limits.closing }
    })
}

/// Reads until the message is whole or too long.
async fn read<R: AsyncReadExt + Unpin>(
    stream: &mut R,
    limits: &TcpLimits,
    memory: &mut Memory,
    deadline: Instant,
) -> Result<Framer, Fate> {
    let mut framer = Framer::new(limits.wire);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut last = Instant::now();
    loop {
        let silence = framer.silence();
        let until = later(last, silence.unwrap_or(limits.first_byte));
        match timeout_at(until.min(deadline), stream.read(&mut chunk)).await {
            Ok(Ok(0)) if framer.framing() == Framing::Empty => return Err(Fate::Empty),
            Ok(Ok(0)) => return Ok(framer),
            Ok(Ok(length)) => {
                let bytes = chunk.get(..length).unwrap_or_default();
                // What is longer than a message may be is not kept, so it needs no memory.
                if !memory.grow_to((framer.bytes().len() + length).min(limits.wire.message_bytes)) {
                    return Err(Fate::CrowdedOut);
                }
                if let Framing::Whole | Framing::TooLong { .. } = framer.push(bytes) {
                    return Ok(framer);
                }
                last = Instant::now();
            }
            Ok(Err(_)) => return Err(Fate::Broken),
            Err(_) if silence.is_some() && until <= deadline => return Ok(framer),
            Err(_) => return Err(Fate::TimedOut),
        }
    }
}

/// Reads and forgets what still comes, within limits.
async fn read_away<R: AsyncReadExt + Unpin>(stream: &mut R, rest: Rest) {
    let Rest { mut bytes, until, silence } = rest;
    let mut chunk = [0; 1024];
    loop {
        let quiet = later(Instant::now(), silence);
        let Ok(Ok(length @ 1..)) = timeout_at(until.min(quiet), stream.read(&mut chunk)).await else {
            return;
        };
        let Some(left) = bytes.checked_sub(length) else { return };
        bytes = left;
    }
}

/// Settings are written by people: what is too far away to be a moment is never.
fn later(from: Instant, by: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    from + by.min(NEVER)
}
