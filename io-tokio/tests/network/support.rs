//! What the tests have in common.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::wire::{Body, Dialect, Message};
use bidmesh_io_tokio::network::{Counts, Incoming, Network, Outgoing, TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sockets::TokioSockets;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

/// Far more than anything here takes; only a failure meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const HELLO: &[u8] = b"HELLO|S|10.0.0.7:9999\n";

pub(crate) type Net = TcpNetwork<TokioSockets>;

pub(crate) fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

pub(crate) async fn listening(limits: TcpLimits) -> Net {
    listening_at(SocketAddr::new(loopback(1), 0), limits).await
}

pub(crate) async fn listening_at(address: SocketAddr, limits: TcpLimits) -> Net {
    TcpNetwork::bind(TokioSockets, address, limits).await.unwrap()
}

pub(crate) async fn connect(network: &Net) -> TcpStream {
    connect_from(loopback(1), network).await.unwrap()
}

pub(crate) async fn connect_from(from: IpAddr, network: &Net) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    soon("connecting", socket.connect(network.local_address())).await
}

/// How a connection from there ends to which nothing is written.
pub(crate) async fn ending_from(from: IpAddr, network: &Net) -> Result<(), io::ErrorKind> {
    match connect_from(from, network).await {
        Ok(mut stream) => ending(&mut stream).await,
        Err(error) => Err(error.kind()),
    }
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

pub(crate) async fn receive(network: &Net) -> Incoming {
    soon("receiving", network.receive()).await
}

pub(crate) async fn receive_body(network: &Net) -> Body {
    receive(network).await.message.unwrap().message.body
}

/// How the other side ended the connection.
pub(crate) async fn ending(stream: &mut TcpStream) -> Result<(), io::ErrorKind> {
    let mut bytes = Vec::new();
    let ended = soon("the end of a connection", stream.read_to_end(&mut bytes)).await;
    assert_eq!(bytes, b"", "nothing is ever answered on the same connection");
    ended.map(|_| ()).map_err(|error| error.kind())
}

/// Waits until the counts are as they should be.
pub(crate) async fn counted(network: &Net, what: &str, are: impl Fn(&Counts) -> bool) -> Counts {
    let waiting = async {
        while !are(&network.counts()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("not counted in time: {what}; {:?}", network.counts());
    }
    network.counts()
}

pub(crate) fn outgoing(to: SocketAddr, text: &str) -> Outgoing {
    let message =
        Message { from: DeviceId::new("Device_A").unwrap(), marker: None, body: Body::Text(text.into()) };
    Outgoing { device: DeviceId::new("Device_B").unwrap(), to, message, dialect: Dialect::Bidmesh }
}
