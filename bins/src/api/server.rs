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

/// Connections at a time; further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take; a connection that rests between two requests is held to it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
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
    let task = tokio::spawn(accept(listener, router(api, token)));
    Ok(Serving { address, task })
}

async fn accept(listener: TcpListener, router: axum::Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}
