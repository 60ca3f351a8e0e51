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

    /// Chooses what the peer sees when `stream` is closed, by us or because this process dies: with `reset` a
    /// reset, without (the state of a new stream) the end of the stream. Only a reset tells a peer that its
    /// message was not read, or that ours is not whole. A world that knows no such choice does nothing.
    ///
    /// # Errors
    /// If the system refuses; the stream closes as it would have before.
    fn reset_on_close(&self, stream: &Self::Stream, reset: bool) -> io::Result<()> {
        let _ = (stream, reset);
        Ok(())
    }

    /// The error that `stream` met and has not told yet. After the end of the stream a reset is told by nothing
    /// else: reading goes on saying that it has ended. A world that tells errors in no other way has none.
    ///
    /// # Errors
    /// If the system does not say.
    fn take_error(&self, stream: &Self::Stream) -> io::Result<Option<io::Error>> {
        let _ = stream;
        Ok(None)
    }
}

/// Connections that the kernel takes before they are accepted. What comes on top of them it drops without a word,
/// and the sender believes for a second or more that it is connected; the usual 128 are gone in a burst.
const BACKLOG: u32 = 1024;

/// The real ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSockets;

impl Sockets for TokioSockets {
    type Listener = tokio::net::TcpListener;
    type Stream = tokio::net::TcpStream;

    async fn bind(&self, address: SocketAddr) -> io::Result<Self::Listener> {
        let socket = socket_for(address)?;
        // A device that starts again gets its port back at once, whatever connections of before still linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    fn local_address(&self, listener: &Self::Listener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        listener.accept().await
    }

    async fn connect(&self, from: Option<IpAddr>, to: SocketAddr) -> io::Result<Self::Stream> {
        let socket = socket_for(to)?;
        if let Some(from) = from.filter(|from| from.is_ipv4() == to.is_ipv4()) {
            leave_port_to_connect(&socket);
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(to).await
    }

    fn reset_on_close(&self, stream: &Self::Stream, reset: bool) -> io::Result<()> {
        // A linger time of zero makes the kernel send a reset; no other value is ever set, since closing would block.
        if reset {
            stream.set_zero_linger()
        } else {
            Ok(rustix::net::sockopt::set_socket_linger(stream, None)?)
        }
    }

    fn take_error(&self, stream: &Self::Stream) -> io::Result<Option<io::Error>> {
        stream.take_error()
    }
}

fn socket_for(address: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
    match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }
}

/// Else `bind` looks for a port that no connection of this machine has, those of the last minute included, whomever they
/// are with: one message a connection uses those up (28,000), and long before that the search takes milliseconds.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn leave_port_to_connect(socket: &tokio::net::TcpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
    // A kernel before 4.2 does not know it: then the port is chosen in `bind`.
    let _ = setsockopt(socket, IpBindAddressNoPort, &true);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn leave_port_to_connect(_socket: &tokio::net::TcpSocket) {}
