//! The netcats of shell devices over turmoil's TCP, each as it was measured (`docs/protocol.md` has what follows from
//! that): how it ends a message, how long it waits for the other side, what it does with a second client.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use bidmesh_io_tokio::sockets::Sockets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

use crate::sockets::TurmoilSockets;

/// How long each of them tries to connect: what `-w 2` says.
const CONNECT: Duration = Duration::from_secs(2);

/// A netcat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Netcat {
    /// Android's.
    Toybox,
    /// That of small boards and routers.
    Busybox,
    /// Debian's default; does not close its sending side when its input ends.
    OpenBsd,
    /// The first one; neither.
    Traditional,
    /// nmap's.
    Ncat,
}

/// The options with which a shell device's script calls its netcat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelling {
    /// `-w`: seconds of silence after which some netcats end.
    wait: Option<u64>,
    /// `-q 1`: end a second after the input has ended.
    quit: bool,
    /// `-N`: close the sending side when the input ends.
    close: bool,
}

/// One is tried after the other until one ends with status 0.
const SPELLINGS: [Spelling; 5] = [
    Spelling { wait: Some(2), quit: false, close: false },
    Spelling { wait: Some(2), quit: true, close: false },
    Spelling { wait: Some(2), quit: false, close: true },
    Spelling { wait: Some(1), quit: false, close: false },
    Spelling { wait: None, quit: false, close: false },
];

impl Netcat {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Toybox, Self::Busybox, Self::OpenBsd, Self::Traditional, Self::Ncat];

    /// Whether the kernel goes on taking connections, which nobody reads, while it talks to its first client. Else they
    /// are refused.
    pub const fn swallows(self) -> bool {
        matches!(self, Self::Toybox | Self::OpenBsd)
    }

    /// Whether it closes its sending side as soon as its input has ended: as a sender after the message, as a listener
    /// without an input at once.
    const fn closes(self) -> bool {
        matches!(self, Self::Toybox | Self::Busybox | Self::Ncat)
    }

    /// The spellings that it does not turn down for an option that it lacks.
    pub(crate) fn spellings(self) -> impl Iterator<Item = Spelling> {
        let quits = matches!(self, Self::Toybox | Self::OpenBsd | Self::Traditional);
        let known = move |spelling: &Spelling| {
            (quits || !spelling.quit) && (self == Self::OpenBsd || !spelling.close)
        };
        SPELLINGS.into_iter().filter(known)
    }

    /// How long it waits for the receiver to end the connection; `None`: for ever.
    fn patience(self, spelling: Spelling) -> Option<Duration> {
        let wait = spelling.wait.map(Duration::from_secs);
        match self {
            _ if spelling.quit => Some(Duration::from_secs(1)),
            Self::OpenBsd => wait,
            Self::Traditional => wait.map(|wait| 2 * wait),
            Self::Toybox | Self::Busybox | Self::Ncat => None,
        }
    }

    /// How long it needs to exit once the connection has ended.
    const fn exit(self) -> Duration {
        match self {
            Self::Ncat => Duration::from_millis(200),
            _ => Duration::from_millis(10),
        }
    }

    /// `printf %s MESSAGE | nc HOST PORT`; whether it exits with 0. It does when its patience ends, read or not.
    pub(crate) async fn send(
        self,
        spelling: Spelling,
        sockets: &TurmoilSockets,
        to: SocketAddr,
        message: &[u8],
    ) -> Result<(), SendFailure> {
        let mut stream = match timeout(CONNECT, sockets.connect(None, to)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err(SendFailure::Refused),
            Err(_) => return Err(SendFailure::Unreachable),
        };
        let talk = async {
            stream.write_all(message).await?;
            if self.closes() || spelling.close {
                stream.shutdown().await?;
            }
            let mut printed = Vec::new();
            let end = stream.read_to_end(&mut printed);
            match self.patience(spelling) {
                Some(patience) => timeout(patience, end).await.map_or(Ok(()), |end| end.map(drop)),
                None => end.await.map(drop),
            }
        };
        let ended: io::Result<()> = talk.await;
        drop(stream);
        sleep(self.exit()).await;
        ended.map_err(|_| SendFailure::Reset)
    }

    /// `nc -l -p PORT`: what its one client sent, up to where the connection ended or broke. `detached`: its own input is
    /// `/dev/null`.
    pub(crate) async fn receive(
        self,
        sockets: &TurmoilSockets,
        at: SocketAddr,
        detached: bool,
    ) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind(at).await?;
        let (stream, _) = listener.accept().await?;
        let mut stream = sockets.stream(stream);
        if detached && self.closes() {
            // A client that has gone already is noticed by the read.
            let _ = stream.shutdown().await;
        }
        let mut bytes = Vec::new();
        let mut read = pin!(stream.read_to_end(&mut bytes));
        // What came before a connection broke was printed, and nobody looks at netcat's status.
        if self.swallows() {
            let mut backlog = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    _ = &mut read => break,
                    Ok((client, _)) = listener.accept() => backlog.push(client),
                }
            }
            for client in backlog {
                tokio::spawn(reset(client));
            }
        } else {
            drop(listener);
            let _ = read.await;
        }
        Ok(bytes)
    }
}

/// The kernel's end of a connection that nobody accepted. turmoil sends a reset only where bytes were not read, so it
/// comes with the first of them.
async fn reset(mut client: TcpStream) {
    // However that ends, the connection is closed now.
    let _ = client.peek(&mut [0]).await;
}
