//! A server that says, byte for byte, what a test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the server does once it has read a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends each byte in a packet of its own.
    SendBytewise(Vec<u8>),
    /// Waits until the test says so.
    AwaitGo,
    /// Waits until the client closes, and notes it.
    AwaitClosed,
}

/// What the server does for requests that begin with a given text.
pub(crate) type Routes = Vec<(&'static str, Vec<Act>)>;

pub(crate) fn send(bytes: impl AsRef<[u8]>) -> Act {
    Act::Send(bytes.as_ref().to_vec())
}

/// A whole response with a length.
pub(crate) fn response(status: &str, content_type: &str, body: &str) -> Vec<Act> {
    vec![send(format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))]
}

/// Answers requests that begin with a given text (`GET /v1/models`); closes after the acts of each.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    go: watch::Sender<bool>,
    closed: watch::Receiver<usize>,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(routes: Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (go, going) = watch::channel(false);
        let (closing, closed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&requests);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (routes, log) = (routes.clone(), Arc::clone(&log));
                connections.spawn(serve(stream, routes, log, going.clone(), closing.clone()));
            }
        });
        Self { address, requests, go, closed, tasks }
    }

    /// All requests so far, heads and bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Closes the port.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) fn go(&self) {
        self.go.send(true).unwrap();
    }

    /// Returns when a client has closed its connection during [`Act::AwaitClosed`].
    pub(crate) async fn closed(&mut self) {
        let closed = self.closed.wait_for(|count| *count > 0);
        tokio::time::timeout(Duration::from_secs(30), closed).await.expect("still connected").unwrap();
    }
}

async fn serve(
    mut stream: TcpStream,
    routes: Routes,
    log: Arc<Mutex<Vec<String>>>,
    mut going: watch::Receiver<bool>,
    closing: watch::Sender<usize>,
) {
    stream.set_nodelay(true).unwrap();
    let Some(request) = read_request(&mut stream).await else { return };
    let acts = routes.into_iter().find(|(route, _)| request.starts_with(route)).map(|(_, acts)| acts);
    log.lock().unwrap().push(request);
    for act in acts.unwrap_or_else(|| response("404 Not Found", "text/plain", "no such path")) {
        match act {
            // The client may have closed: that is for the test to notice.
            Act::Send(bytes) => drop(stream.write_all(&bytes).await),
            Act::SendBytewise(bytes) => {
                for byte in bytes {
                    let _ = stream.write_all(&[byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            Act::AwaitGo => drop(going.wait_for(|go| *go).await),
            Act::AwaitClosed => {
                while !matches!(stream.read(&mut [0; 100]).await, Ok(0) | Err(_)) {}
                closing.send_modify(|count| *count += 1);
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text);
        }
    }
}
