//! turmoil's TCP behind the trait that the real sockets implement.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bidmesh_io_tokio::sockets::Sockets;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// The sockets of the simulated host that uses them. A host has one address: it always connects from that.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurmoilSockets;

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
        Ok((Piecemeal::new(stream), source))
    }

    async fn connect(&self, _from: Option<IpAddr>, to: SocketAddr) -> io::Result<Piecemeal> {
        Ok(Piecemeal::new(TcpStream::connect(to).await?))
    }
}

/// How many bytes a read returns at most, one after the other: a real network cuts where it likes.
const READS: [usize; 6] = [1460, 3, 64, 1, 512, 4096];

/// A stream whose reads return less than they could.
#[derive(Debug)]
pub struct Piecemeal {
    stream: TcpStream,
    reads: usize,
}

impl Piecemeal {
    fn new(stream: TcpStream) -> Self {
        Self { stream, reads: 0 }
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
