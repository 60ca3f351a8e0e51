//! Bytes to a peer exactly as a person wrote them (`send raw`): for trying out what devices make of odd messages.
//! Everything else goes through the device, which knows how each peer must be written to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use bidmesh_io_tokio::sockets::{Sockets, TokioSockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

/// How long it is tried: a shell device's port is closed for a while after each message.
const WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Delivered when the peer ends the stream cleanly after our half-close (`docs/protocol.md`).
pub async fn send(listen: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Result<(), SendFailure> {
    let from = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
    let until = Instant::now() + WITHIN;
    let mut refused = false;
    loop {
        let mut stream = match timeout_at(until, TokioSockets.connect(from, to)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if Instant::now() + PAUSE > until {
                    return Err(SendFailure::Refused);
                }
                refused = true;
                sleep(PAUSE).await;
                continue;
            }
            // The time ran out in the middle of a try: the ones before it say more.
            Err(_) if refused => return Err(SendFailure::Refused),
            Ok(Err(_)) | Err(_) => return Err(SendFailure::Unreachable),
        };
        let exchange = async {
            stream.write_all(bytes).await?;
            stream.shutdown().await?;
            // Whatever a peer may answer is read and dropped: unread bytes would reset the connection.
            let mut dropped = [0; 4096];
            while stream.read(&mut dropped).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        return match timeout_at(until, exchange).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SendFailure::Reset),
            Err(_) => Err(SendFailure::Ambiguous),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_bytes_arrive_as_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let reader = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            bytes
        });
        assert_eq!(send("0.0.0.0:9999".parse().unwrap(), to, b"no bars at all\n").await, Ok(()));
        assert_eq!(reader.await.unwrap(), b"no bars at all\n");
    }

    #[tokio::test]
    async fn a_closed_port_is_tried_again_and_then_told() {
        // An address that no other test listens at: a closed port stays closed there.
        let listener = TcpListener::bind("127.0.0.77:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        let begun = Instant::now();
        assert_eq!(send("127.0.0.1:9999".parse().unwrap(), to, b"x").await, Err(SendFailure::Refused));
        assert!(begun.elapsed() >= WITHIN - PAUSE, "given up after {:?}", begun.elapsed());
    }
}
