//! turmoil's TCP behind the trait that the real sockets implement.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bidmesh_io_tokio::sockets::Sockets;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use turmoil::net::{TcpListener, TcpStream};

use crate::world::choices::Choices;

/// How rough a host's connections are, beyond what turmoil itself does to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roughness {
    /// Of a hundred connections so many break after some bytes: most of them early, in the middle of a message.
    pub cuts: u64,
    /// The longest pause before a piece is written.
    pub pause: Duration,
}

/// The sockets of the simulated host that uses them. A host has one address: it always connects from that.
#[derive(Clone, Debug, Default)]
pub struct TurmoilSockets {
    rough: Option<(Roughness, Arc<Mutex<Choices>>)>,
}

impl TurmoilSockets {
    /// Sockets whose connections are so rough; what happens to which is drawn from the seed.
    pub fn rough(roughness: Roughness, seed: u64) -> Self {
        let choices = Arc::new(Mutex::new(Choices::split(seed, "sockets")));
        Self { rough: Some((roughness, choices)) }
    }

    /// A connection as rough as this host's are.
    pub(crate) fn stream(&self, stream: TcpStream) -> Piecemeal {
        let mut piecemeal = Piecemeal { stream, reads: 0, written: 0, cut: None, pause: None, rough: None };
        if let Some((roughness, choices)) = &self.rough {
            let mut choices = choices.lock().unwrap_or_else(PoisonError::into_inner);
            if choices.percent(roughness.cuts) {
                let most = choices.pick([4, 40, 200, 2_000]);
                piecemeal.cut = Some(choices.index(most));
            }
            piecemeal.rough = Some((*roughness, Choices::split(choices.draw(), "stream")));
        }
        piecemeal
    }
}

impl Sockets for TurmoilSockets {
    type Listener = TcpListener;
    type Stream = Piecemeal;

    async fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    fn local_address(&self, listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(Piecemeal, SocketAddr)> {
        let (stream, source) = listener.accept().await?;
        Ok((self.stream(stream), source))
    }

    async fn connect(&self, _from: Option<IpAddr>, to: SocketAddr) -> io::Result<Piecemeal> {
        Ok(self.stream(TcpStream::connect(to).await?))
    }
}

/// How many bytes a read returns at most, one after the other: a real network cuts where it likes.
const READS: [usize; 6] = [1460, 3, 64, 1, 512, 4096];

/// A stream whose reads return less than they could; on a rough host its writes take less than they could, late, and
/// at some byte it breaks.
#[derive(Debug)]
pub struct Piecemeal {
    stream: TcpStream,
    reads: usize,
    written: usize,
    /// It breaks after so many bytes.
    cut: Option<usize>,
    /// Until the next piece may be written.
    pause: Option<Pin<Box<Sleep>>>,
    rough: Option<(Roughness, Choices)>,
}

impl Piecemeal {
    /// How many of so many bytes are written now; waits for its pause.
    fn piece(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.cut.is_some_and(|cut| self.written >= cut) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let Some((roughness, choices)) = &mut self.rough else { return Poll::Ready(Ok(wanted)) };
        let most = choices.pick([1, 7, 64, 1_460, 65_536]);
        let until_cut = self.cut.map_or(usize::MAX, |cut| cut - self.written);
        if choices.percent(30) {
            let longest = u64::try_from(roughness.pause.as_millis()).unwrap_or(u64::MAX);
            self.pause = Some(Box::pin(sleep(choices.millis(0, longest))));
        }
        Poll::Ready(Ok(wanted.min(most).min(until_cut)))
    }
}

impl AsyncRead for Piecemeal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = READS.get(self.reads % READS.len()).copied().unwrap_or(1).min(buffer.remaining());
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        buffer.advance(read);
        self.reads += 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Piecemeal {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = ready!(self.piece(cx, bytes.len()))?;
        let Some(piece) = bytes.get(..length) else { return Poll::Ready(Ok(0)) };
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, piece))?;
        self.written += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
