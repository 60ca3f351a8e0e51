//! The sockets that everything else is written against: tokio's here, turmoil's in a simulation. Nothing else
//! names a socket type, so nothing else has to know which world it is in.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

/// A world of TCP sockets.
pub trait Sockets: Clone + Send + Sync + 'static {
    /// A socket that listens.
    type Listener: Send + Sync + 'static;
    /// One connection. Dropping it closes it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Listens at `address`; port 0 lets the kernel choose.
    fn bind(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Where `listener` listens.
    fn local_address(&self, listener: &Self::Listener) -> io::Result<SocketAddr>;

    /// The next connection, and where it comes from.
    fn accept(
        &self,
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Connects to `to`. `from` is the address that this device listens at, where it is bound to one: a listener
    /// bound to one address sends from it too, since towards 127.0.0.2 the kernel would choose 127.0.0.1.
    fn connect(
        &self,
        from: Option<IpAddr>,
        to: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The real ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSockets;

impl Sockets for TokioSockets {
    type Listener = tokio::net::TcpListener;
    type Stream = tokio::net::TcpStream;

    async fn bind(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        tokio::net::TcpListener::bind(address).await
    }

    fn local_address(&self, listener: &Self::Listener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        listener.accept().await
    }

    async fn connect(&self, from: Option<IpAddr>, to: SocketAddr) -> io::Result<Self::Stream> {
        let socket = match to {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        if let Some(from) = from.filter(|from| from.is_ipv4() == to.is_ipv4()) {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(to).await
    }
}
