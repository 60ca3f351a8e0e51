//! One outgoing message: connect, write, shut down the sending side, wait for the peer's end of the stream.
//!
//! Measured on five netcats and true of bidmesh's own listener: the end of the stream comes if the message was
//! read, a reset if it was not. One thing blurs this. A netcat that listens with its standard input closed or
//! at `/dev/null` (a listener started with nohup) ends its sending side as soon as it is connected and reads all
//! the same (toybox, busybox, ncat). So an end that comes before everything is written proves nothing yet: the
//! last byte is held back for as long as a reset would need to arrive.
//!
//! Until the end of the stream the connection is set to end in a reset, also when the attempt is dropped or this
//! process is killed: with an orderly end half of a text would be taken for a whole one.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::sockets::Sockets;

/// The time in which a reset comes back, if the peer has closed and not only shut down its sending side.
const RESET_TIME: Duration = Duration::from_millis(50);
/// What a peer may send back, where nothing is expected; it is read and ignored.
const BACK_BYTES_MAX: usize = 64 * 1024;

/// How far an attempt has come; says what it means when its time is over.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting,
    /// The peer cannot have a whole message.
    Writing,
    /// The peer may have read it.
    Written,
}

/// Offers `bytes` once. Dropping the future resets the connection.
pub(super) async fn offer<S: Sockets>(
    sockets: &S,
    from: Option<IpAddr>,
    to: SocketAddr,
    bytes: &[u8],
    within: Duration,
) -> Result<(), SendFailure> {
    let mut stage = Stage::Connecting;
    match tokio::time::timeout(within, attempt(sockets, from, to, bytes, &mut stage)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failure(stage, &error)),
        Err(_) => Err(out_of_time(stage)),
    }
}

async fn attempt<S: Sockets>(
    sockets: &S,
    from: Option<IpAddr>,
    to: SocketAddr,
    bytes: &[u8],
    stage: &mut Stage,
) -> io::Result<()> {
    let mut stream = sockets.connect(from, to).await?;
    *stage = Stage::Writing;
    // A system that refuses to set it (the peer has gone already) closes the usual way.
    let _ = sockets.reset_on_close(&stream, true);
    let mut peer = Peer { stream: &mut stream, back: 0, ended: false };
    peer.write(bytes).await?;
    *stage = Stage::Written;
    peer.stream.shutdown().await?;
    peer.read_to_end().await?;
    // A peer that closed both sides before it read ends the stream first and resets it when our bytes arrive.
    if let Some(error) = sockets.take_error(&stream)? {
        return Err(error);
    }
    let _ = sockets.reset_on_close(&stream, false);
    Ok(())
}

fn out_of_time(stage: Stage) -> SendFailure {
    match stage {
        Stage::Connecting => SendFailure::Unreachable,
        Stage::Writing => SendFailure::Reset,
        Stage::Written => SendFailure::Ambiguous,
    }
}

fn failure(stage: Stage, error: &io::Error) -> SendFailure {
    match (stage, error.kind()) {
        (Stage::Connecting, io::ErrorKind::ConnectionRefused) => SendFailure::Refused,
        (_, kind) if is_cut(kind) => SendFailure::Reset,
        (Stage::Connecting, _) if is_shortage(error) => SendFailure::Overloaded,
        // What else can happen to a connection that is not one yet (no route, a network that is down, an address
        // of ours that is gone) or to one that was (the network gave up) tells as much as running out of time.
        _ => out_of_time(stage),
    }
}

fn is_cut(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

/// Whether this device has run out of something: files, ports, memory.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRINUSE | Errno::AGAIN)
    )
}

/// The peer's side of a connection that we write to.
struct Peer<'a, T> {
    stream: &'a mut T,
    /// Bytes that it sent back.
    back: usize,
    /// It has ended its sending side.
    ended: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Peer<'_, T> {
    /// Writes all; reads meanwhile, or two that only write would wait for each other.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while let Some((last, before)) = rest.split_last() {
            let piece = match (self.ended, before) {
                (false, _) => rest,
                (true, []) => {
                    tokio::time::sleep(RESET_TIME).await;
                    std::slice::from_ref(last)
                }
                (true, before) => before,
            };
            if let Some(written) = self.read_or_write(piece).await? {
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        Ok(())
    }

    async fn read_to_end(&mut self) -> io::Result<()> {
        while !self.ended {
            self.read_or_write(&[]).await?;
        }
        Ok(())
    }

    /// Reads what the peer sent, or writes some of `bytes`: how many is returned then.
    async fn read_or_write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut space = [0; 1024];
        let (read, written) = poll_fn(|context| {
            let mut space = ReadBuf::new(&mut space);
            if !self.ended && Pin::new(&mut *self.stream).poll_read(context, &mut space)?.is_ready() {
                return Poll::Ready(io::Result::Ok((Some(space.filled().len()), None)));
            }
            if bytes.is_empty() {
                return Poll::Pending;
            }
            Pin::new(&mut *self.stream).poll_write(context, bytes).map_ok(|written| (None, Some(written)))
        })
        .await?;
        match (read, written) {
            (_, Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
            (Some(0), _) => self.ended = true,
            (Some(length), _) => self.back += length,
            (None, _) => {}
        }
        if self.back > BACK_BYTES_MAX {
            return Err(io::Error::other("the peer sends where nothing is expected"));
        }
        Ok(written)
    }
}
