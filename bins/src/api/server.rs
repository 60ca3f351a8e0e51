//! The loopback socket of the control API: few connections, none of which may dawdle before it has shown its token.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::guard::Token;
use super::{Api, router};

/// What the connections of a server may take up.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time; further ones wait in the kernel's backlog.
    connections: usize,
    /// How long the head of a request may take; a connection that rests between two requests is held to it too.
    header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, header_timeout: Duration::from_secs(10) }
    }
}

/// How long to wait when the system has no room for a connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A control API that is being served. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `api` at `port` of 127.0.0.1; port 0 lets the kernel choose.
pub async fn serve(api: Api, token: Token, port: u16) -> io::Result<Serving> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(accept(listener, router(api, token), Limits::default()));
    Ok(Serving { address, task })
}

async fn accept(listener: TcpListener, router: axum::Router, limits: Limits) {
    let room = Arc::new(Semaphore::new(limits.connections));
    // Connections belong to this task: when it ends, they do.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            // Errors here are clients that went away or spoke no HTTP: nobody to tell.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    const DEADLINE: Duration = Duration::from_secs(30);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

    /// A server with room for three, and its address.
    async fn serving(header_timeout: Duration) -> (JoinSet<()>, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().route("/", axum::routing::get(|| async { "served" }));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, router, Limits { connections: 3, header_timeout }));
        (task, address)
    }

    async fn connected(address: SocketAddr) -> TcpStream {
        timeout(DEADLINE, TcpStream::connect(address)).await.unwrap().unwrap()
    }

    /// Connections that say nothing, each accepted: all have had their place before a further one is tried.
    async fn silent(address: SocketAddr, many: usize) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        for _ in 0..many {
            streams.push(connected(address).await);
        }
        streams
    }

    /// What comes until the end of the stream.
    async fn answer(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn with_room_left_a_silent_connection_keeps_nobody_out() {
        let (_task, address) = serving(Duration::from_secs(3_600)).await;
        let _held = silent(address, 2).await;
        let mut third = connected(address).await;
        third.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut third).await.ends_with("served"));
    }

    #[tokio::test]
    async fn at_the_limit_a_connection_waits_until_another_has_gone() {
        let (_task, address) = serving(Duration::from_secs(3_600)).await;
        let mut held = silent(address, 3).await;
        let mut fourth = connected(address).await;
        fourth.write_all(REQUEST).await.unwrap();
        // The kernel took it, and nobody reads it: that nothing comes takes a while to believe.
        let early = timeout(Duration::from_millis(500), fourth.read_u8()).await;
        assert!(early.is_err(), "the fourth is served although three are held: {early:?}");
        drop(held.pop());
        assert!(answer(&mut fourth).await.ends_with("served"), "there is room again");
    }

    #[tokio::test]
    async fn connections_that_say_nothing_lose_their_places_after_a_while() {
        let (_task, address) = serving(Duration::from_millis(200)).await;
        let mut held = silent(address, 3).await;
        let mut fourth = connected(address).await;
        fourth.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut fourth).await.ends_with("served"), "silence does not keep a place");
        for stream in &mut held {
            assert_eq!(answer(stream).await, "", "closed without a word");
        }
    }
}
