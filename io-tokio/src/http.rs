//! A small HTTP/1.1 client: one request a connection, plain `http://`, every wait and every body with a limit.
//! The openai executor and the commands that talk to the control API use it. Nothing runs in the background:
//! a connection is driven while its response is awaited, and dropping the response closes it.

pub mod events;
mod url;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
pub use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use events::{Event, EventReader, EventTooLong};
pub use url::{BaseUrl, UrlError};

/// The most bytes that a response's head may have.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the connection.
    pub connect: Duration,
    /// From there to the response's head: the request is sent in this time, too.
    pub head: Duration,
    /// For each further piece of the body.
    pub silence: Duration,
}

/// A request that has not been sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// A request without a body. `path` begins with `/`, may have a query, and follows the base URL's own path.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// With this JSON text as its body.
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// With this header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With this secret in `Authorization: Bearer`. Make the value with [`bearer`].
    pub fn authorization(self, value: HeaderValue) -> Self {
        self.header(header::AUTHORIZATION, value)
    }
}

/// The value of an `Authorization` header, left out of debug output; `None` if the secret has characters that no
/// header can carry (line ends, for example).
pub fn bearer(secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Sends a request and waits for the head of the response, whatever its status.
///
/// # Errors
///
/// If the server cannot be reached, does not answer in time, or does not speak HTTP.
pub async fn send(server: &BaseUrl, request: Request, patience: Patience) -> Result<Response, HttpError> {
    let stream = match timeout(patience.connect, connect(server)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(HttpError::NoConnection { server: server.clone(), after: patience.connect }),
    };
    let broken = |error| HttpError::Broken { server: server.clone(), error };
    let request = prepare(server, request)?;
    let exchange = async {
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
        let mut connection: Option<Connection> = Some(Box::pin(connection));
        let response = drive(&mut connection, sender.send_request(request)).await?;
        Ok((response, connection))
    };
    let (response, connection) = match timeout(patience.head, exchange).await {
        Ok(exchanged) => exchanged.map_err(broken)?,
        Err(_) => return Err(HttpError::NoAnswer { server: server.clone(), after: patience.head }),
    };
    let (head, body) = response.into_parts();
    let silence = patience.silence;
    Ok(Response {
        server: server.clone(),
        status: head.status,
        headers: head.headers,
        body,
        connection,
        silence,
    })
}

fn prepare(server: &BaseUrl, request: Request) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let bad = |what: &dyn fmt::Display| HttpError::BadRequest { what: what.to_string() };
    let mut prepared = hyper::Request::builder()
        .method(request.method)
        .uri(format!("{}{}", server.path(), request.path))
        .body(Full::new(request.body))
        .map_err(|error| bad(&error))?;
    *prepared.headers_mut() = request.headers;
    let host = HeaderValue::from_str(server.authority()).map_err(|error| bad(&error))?;
    prepared.headers_mut().insert(header::HOST, host);
    prepared.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(prepared)
}

/// Tries each of the server's addresses.
async fn connect(server: &BaseUrl) -> Result<TcpStream, HttpError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolve(server).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Only costs speed where it is refused.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(HttpError::Unreachable { server: server.clone(), error: last })
}

/// `localhost` is answered here: a static binary has no resolver on Android.
async fn resolve(server: &BaseUrl) -> Result<Vec<SocketAddr>, HttpError> {
    let (host, port) = (server.host(), server.port());
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(HttpError::UnknownHost { host: host.to_owned(), error }),
    }
}

type Connection = Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>;

/// Awaits something that a connection leads to, moving the connection on meanwhile.
async fn drive<T>(connection: &mut Option<Connection>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = pin!(wanted);
    loop {
        let Some(running) = connection else { return wanted.await };
        tokio::select! {
            biased;
            result = &mut wanted => return result,
            // Its error, if any, reaches whoever waits for the response or its body.
            _ = running => *connection = None,
        }
    }
}

/// A response whose body is still coming. Dropping it closes the connection.
#[derive(Debug)]
pub struct Response {
    server: BaseUrl,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    connection: Option<Connection>,
    silence: Duration,
}

impl Response {
    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether the body is of this media type (`text/event-stream`), whatever its parameters.
    pub fn is(&self, media_type: &str) -> bool {
        let value =
            self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
    }

    /// The next piece of the body; `None` at its end. May be cancelled and called again.
    ///
    /// # Errors
    ///
    /// If the connection breaks before the end of the body, or is silent for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = match timeout(self.silence, drive(&mut self.connection, self.body.frame())).await {
                Ok(frame) => frame,
                Err(_) => return Err(HttpError::Silent { server: self.server.clone(), after: self.silence }),
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::Broken { server: self.server.clone(), error }),
                // Trailers say nothing that is asked for here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The body as server-sent events, each of at most `limit` bytes.
    pub const fn events(self, limit: usize) -> Events {
        Events { response: self, reader: EventReader::new(limit), at_end: false }
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// As [`Self::chunk`], and if it has more than `limit` bytes.
    pub async fn whole(mut self, limit: usize) -> Result<Vec<u8>, HttpError> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(HttpError::TooLong { server: self.server.clone(), limit });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// The beginning of the body, as far as it comes in this time and `limit` goes: for error messages.
    pub async fn beginning(mut self, limit: usize, within: Duration) -> Vec<u8> {
        let mut beginning = Vec::new();
        let deadline = Instant::now() + within;
        while beginning.len() < limit
            && let Ok(Ok(Some(chunk))) = timeout_at(deadline, self.chunk()).await
        {
            let room = limit - beginning.len();
            beginning.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        }
        beginning
    }
}

/// Server-sent events as they come. Dropping it closes the connection.
#[derive(Debug)]
pub struct Events {
    response: Response,
    reader: EventReader,
    at_end: bool,
}

impl Events {
    /// The next event; `None` at the end of the body. What stands there without the empty line that ends an event is
    /// an event, too. May be cancelled and called again.
    ///
    /// # Errors
    ///
    /// As [`Response::chunk`], and if an event is too long. Nothing can be read after that.
    pub async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        loop {
            match self.reader.next_event() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) if self.at_end => return Ok(None),
                Ok(None) => {}
                Err(error) => {
                    return Err(HttpError::EventTooLong { server: self.response.server.clone(), error });
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.reader.push(&chunk),
                None => {
                    self.at_end = true;
                    self.reader.end();
                }
            }
        }
    }

    /// Whether the body has ended, so that the last event may be half of one.
    pub const fn is_at_end(&self) -> bool {
        self.at_end
    }
}

/// Why there is no response, or not all of it.
#[derive(Debug)]
pub enum HttpError {
    /// The host's name has no address.
    UnknownHost {
        /// The name.
        host: String,
        /// What the system says.
        error: io::Error,
    },
    /// The connection was refused, or there is no way there.
    Unreachable {
        /// The server.
        server: BaseUrl,
        /// What the system says.
        error: io::Error,
    },
    /// The connection was not made in time.
    NoConnection {
        /// The server.
        server: BaseUrl,
        /// The limit.
        after: Duration,
    },
    /// The head of the response did not come in time.
    NoAnswer {
        /// The server.
        server: BaseUrl,
        /// The limit.
        after: Duration,
    },
    /// The body stopped coming.
    Silent {
        /// The server.
        server: BaseUrl,
        /// The limit.
        after: Duration,
    },
    /// The connection broke, or what came is not HTTP.
    Broken {
        /// The server.
        server: BaseUrl,
        /// What hyper says.
        error: hyper::Error,
    },
    /// The body is too long.
    TooLong {
        /// The server.
        server: BaseUrl,
        /// The limit in bytes.
        limit: usize,
    },
    /// A server-sent event is too long.
    EventTooLong {
        /// The server.
        server: BaseUrl,
        /// The limit.
        error: EventTooLong,
    },
    /// The request cannot be written.
    BadRequest {
        /// What is wrong with it.
        what: String,
    },
}

impl HttpError {
    /// Whether the port is closed: no server is running there.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Unreachable { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost { host, error } => {
                write!(f, "no address is known for {host} ({error}): write its IP address instead")
            }
            Self::Unreachable { server, .. } if self.is_refused() => {
                write!(f, "{server} refused the connection: is the server running?")
            }
            Self::Unreachable { server, error } => write!(f, "cannot connect to {server}: {error}"),
            Self::NoConnection { server, after } => {
                write!(f, "cannot connect to {server}: no answer within {after:?}")
            }
            Self::NoAnswer { server, after } => {
                write!(f, "{server} took the request but did not answer within {after:?}")
            }
            Self::Silent { server, after } => {
                write!(f, "{server} stopped in the middle of its answer for {after:?}")
            }
            Self::Broken { server, error } if error.is_parse() => {
                write!(f, "{server} does not speak HTTP/1.1 as it should ({error})")
            }
            Self::Broken { server, error } => {
                write!(f, "the connection to {server} broke off ({error})")
            }
            Self::TooLong { server, limit } => write!(f, "{server} answered with more than {limit} bytes"),
            Self::EventTooLong { server, error } => write!(f, "{server} cannot be read on: {error}"),
            Self::BadRequest { what } => write!(f, "this cannot be sent by HTTP: {what}"),
        }
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::UnknownHost { error, .. } | Self::Unreachable { error, .. } => Some(error),
            Self::Broken { error, .. } => Some(error),
            Self::EventTooLong { error, .. } => Some(error),
            Self::NoConnection { .. }
            | Self::NoAnswer { .. }
            | Self::Silent { .. }
            | Self::TooLong { .. }
            | Self::BadRequest { .. } => None,
        }
    }
}
