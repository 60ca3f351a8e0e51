//! Messages that leave: what the sender is told about each kind of listener.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::Body;
use bidmesh_io_tokio::network::{Network, TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sockets::{Sockets, TokioSockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::*;

/// For attempts that are expected to run out of it.
const SHORT: Duration = Duration::from_millis(200);
const LINE: &[u8] = b"TEXT|Device_A|some text\n";

/// Sends `text` to a listener that does `peer` with the connection; tells what the sender was told and what the
/// listener made of it.
async fn told<T>(
    text: &str,
    within: Duration,
    peer: impl AsyncFnOnce(TcpStream) -> T,
) -> (Result<(), SendFailure>, T) {
    let network = listening(TcpLimits::default()).await;
    let listener = TcpListener::bind((loopback(1), 0)).await.unwrap();
    let message = outgoing(listener.local_addr().unwrap(), text);
    soon("sending", async {
        tokio::join!(network.send(message, within), async {
            let (stream, _) = listener.accept().await.unwrap();
            peer(stream).await
        })
    })
    .await
}

async fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.map(|_| bytes)
}

#[tokio::test]
async fn a_listener_that_reads_to_the_end_confirms() {
    let (sent, read) = told("some text", PATIENCE, async |mut stream| read_all(&mut stream).await).await;
    assert_eq!((sent, read.unwrap()), (Ok(()), LINE.to_vec()));
}

#[tokio::test]
async fn a_listener_that_closes_its_side_before_it_reads_confirms() {
    // toybox, busybox and ncat, started with nohup: their standard input has ended before it begins.
    let (sent, read) = told("some text", PATIENCE, async |mut stream| {
        stream.shutdown().await.unwrap();
        read_all(&mut stream).await
    })
    .await;
    assert_eq!((sent, read.unwrap()), (Ok(()), LINE.to_vec()));
}

#[tokio::test]
async fn what_comes_back_is_ignored() {
    let (sent, read) = told("some text", PATIENCE, async |mut stream| {
        stream.write_all(&[b'x'; 10_000]).await.unwrap();
        read_all(&mut stream).await
    })
    .await;
    assert_eq!((sent, read.unwrap()), (Ok(()), LINE.to_vec()));
}

#[tokio::test]
async fn an_echo_of_a_long_message_does_not_block_and_is_not_read_for_ever() {
    let long = "x".repeat(4 << 20);
    let (sent, ()) = told(&long, PATIENCE, async |mut stream| {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            if stream.write_all(&chunk[..length]).await.is_err() {
                break;
            }
        }
    })
    .await;
    assert_eq!(sent, Err(SendFailure::Reset));
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let network = listening(TcpLimits::default()).await;
    let closed = TcpListener::bind((loopback(1), 0)).await.unwrap().local_addr().unwrap();
    assert_eq!(network.send(outgoing(closed, "x"), PATIENCE).await, Err(SendFailure::Refused));
}

#[tokio::test]
async fn no_answer_to_the_connection_is_unreachable() {
    let network = listening(TcpLimits::default()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(loopback(1), 0)).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // The kernel answers no further connection while its queue is full.
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    assert_eq!(network.send(outgoing(address, "x"), SHORT).await, Err(SendFailure::Unreachable));
}

#[tokio::test]
async fn no_route_is_unreachable() {
    // Bound to the loopback, nothing outside of it can be reached, and nothing leaves this machine.
    let network = listening(TcpLimits::default()).await;
    let outside = SocketAddr::from(([192, 0, 2, 200], 9));
    assert_eq!(network.send(outgoing(outside, "x"), SHORT).await, Err(SendFailure::Unreachable));
}

#[tokio::test]
async fn a_listener_that_closes_without_reading_resets() {
    let (sent, ()) = told("some text", PATIENCE, async |stream| {
        stream.peek(&mut [0]).await.unwrap();
        drop(stream);
    })
    .await;
    assert_eq!(sent, Err(SendFailure::Reset), "bytes were there that nobody read");
    let (sent, ()) = told("some text", PATIENCE, async |stream| drop(stream)).await;
    assert_eq!(sent, Err(SendFailure::Reset), "it closed before the bytes came");
    let (sent, ()) = told("some text", PATIENCE, async |mut stream| {
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(sent, Err(SendFailure::Reset));
}

/// Connections are handed out when the peer's end of the stream has arrived already.
#[derive(Clone)]
struct Late;

impl Sockets for Late {
    type Listener = TcpListener;
    type Stream = TcpStream;

    async fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TokioSockets.bind(address).await
    }

    fn local_address(&self, listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept().await
    }

    async fn connect(&self, from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = TokioSockets.connect(from, to).await?;
        stream.readable().await?;
        Ok(stream)
    }

    fn reset_on_close(&self, stream: &TcpStream, reset: bool) -> io::Result<()> {
        TokioSockets.reset_on_close(stream, reset)
    }

    fn take_error(&self, stream: &TcpStream) -> io::Result<Option<io::Error>> {
        TokioSockets.take_error(stream)
    }
}

#[tokio::test]
async fn an_end_before_the_message_is_looked_at_twice() {
    let address = SocketAddr::new(loopback(1), 0);
    let network = TcpNetwork::bind(Late, address, TcpLimits::default()).await.unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let message = outgoing(listener.local_addr().unwrap(), "some text");
    // It has closed both sides: nobody reads.
    let (sent, ()) = tokio::join!(network.send(message.clone(), PATIENCE), async {
        drop(listener.accept().await.unwrap());
    });
    assert_eq!(sent, Err(SendFailure::Reset));
    // It has closed its sending side only, and reads.
    let (sent, read) = tokio::join!(network.send(message, PATIENCE), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.shutdown().await.unwrap();
        read_all(&mut stream).await.unwrap()
    });
    assert_eq!((sent, read), (Ok(()), LINE.to_vec()));
}

#[tokio::test]
async fn written_and_never_confirmed_is_ambiguous() {
    let (sent, _held) = told("some text", SHORT, async |mut stream| {
        assert_eq!(read_all(&mut stream).await.unwrap(), LINE);
        stream
    })
    .await;
    assert_eq!(sent, Err(SendFailure::Ambiguous));
    let (sent, _held) = told("some text", SHORT, async |stream| stream).await;
    assert_eq!(sent, Err(SendFailure::Ambiguous), "nobody knows what a peer that sleeps will read");
}

#[tokio::test]
async fn half_a_text_never_ends_in_order() {
    let long = "x".repeat(8 << 19);
    // The time is over in the middle.
    let (sent, stream) = told(&long, SHORT, async |stream| stream).await;
    assert_eq!(sent, Err(SendFailure::Reset), "no whole message can have arrived");
    cut_off(stream).await;
    // Nobody wants it any more.
    let network = listening(TcpLimits::default()).await;
    let listener = TcpListener::bind((loopback(1), 0)).await.unwrap();
    let message = outgoing(listener.local_addr().unwrap(), &long);
    let sending = tokio::spawn(async move { network.send(message, PATIENCE).await });
    let (stream, _) = listener.accept().await.unwrap();
    stream.peek(&mut [0]).await.unwrap();
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    cut_off(stream).await;
}

async fn cut_off(mut stream: TcpStream) {
    let error = soon("the reset", read_all(&mut stream)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_device_sends_from_the_address_that_it_listens_at() {
    let sender = listening_at(SocketAddr::new(loopback(5), 0), TcpLimits::default()).await;
    let receiver = listening_at(SocketAddr::new(loopback(6), 0), TcpLimits::default()).await;
    sender.send(outgoing(receiver.local_address(), "x"), PATIENCE).await.unwrap();
    assert_eq!(receive(&receiver).await.source.ip(), loopback(5));
    let anywhere = listening_at(SocketAddr::from(([0, 0, 0, 0], 0)), TcpLimits::default()).await;
    anywhere.send(outgoing(receiver.local_address(), "x"), PATIENCE).await.unwrap();
    receive(&receiver).await;
}

#[tokio::test]
async fn two_devices_talk() {
    let sender = listening(TcpLimits::default()).await;
    let receiver = listening(TcpLimits::default()).await;
    for length in [0, 1, 100, 65_536, 4 << 20] {
        let text = "é\n".repeat(length / 3);
        let message = outgoing(receiver.local_address(), &text);
        let (sent, received) = tokio::join!(sender.send(message, PATIENCE), receive_body(&receiver));
        assert_eq!(sent, Ok(()), "{length}");
        assert_eq!(received, Body::Text(text.as_str().into()));
    }
    // A device over its limit is heard to say so.
    let full = listening(TcpLimits { connections: 0, ..TcpLimits::default() }).await;
    let sent = sender.send(outgoing(full.local_address(), "x"), PATIENCE).await;
    assert_eq!(sent, Err(SendFailure::Reset));
}
