//! What depends on time or on the system's errors, in a world of sockets made of memory: time stands still there
//! until everybody waits, so that limits are met to the millisecond.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bidmesh_core::input::SendFailure;
use bidmesh_core::wire::{Advertised, Body, WireLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::sockets::Sockets;

const MILLISECOND: Duration = Duration::from_millis(1);

/// What the system answers to `accept` and `connect`, in order.
#[derive(Clone)]
struct MemorySockets {
    accepts: Arc<Mutex<mpsc::UnboundedReceiver<io::Result<DuplexStream>>>>,
    accept_calls: Arc<AtomicUsize>,
    connects: Arc<Mutex<mpsc::UnboundedReceiver<io::Result<DuplexStream>>>>,
}

/// The other side of [`MemorySockets`].
struct World {
    accepts: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    accept_calls: Arc<AtomicUsize>,
    connects: mpsc::UnboundedSender<io::Result<DuplexStream>>,
}

impl Sockets for MemorySockets {
    type Listener = SocketAddr;
    type Stream = DuplexStream;

    async fn bind(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        Ok(address)
    }

    fn local_address(&self, listener: &SocketAddr) -> io::Result<SocketAddr> {
        Ok(*listener)
    }

    async fn accept(&self, _: &SocketAddr) -> io::Result<(DuplexStream, SocketAddr)> {
        self.accept_calls.fetch_add(1, Ordering::Relaxed);
        match self.accepts.lock().await.recv().await {
            Some(stream) => Ok((stream?, SocketAddr::from(([127, 0, 0, 9], 9)))),
            None => std::future::pending().await,
        }
    }

    async fn connect(&self, _: Option<IpAddr>, _: SocketAddr) -> io::Result<DuplexStream> {
        match self.connects.lock().await.recv().await {
            Some(stream) => stream,
            None => std::future::pending().await,
        }
    }
}

async fn world(limits: TcpLimits) -> (World, TcpNetwork<MemorySockets>) {
    let (accepts, accepted) = mpsc::unbounded_channel();
    let (connects, connected) = mpsc::unbounded_channel();
    let accept_calls = Arc::new(AtomicUsize::new(0));
    let sockets = MemorySockets {
        accepts: Arc::new(Mutex::new(accepted)),
        accept_calls: Arc::clone(&accept_calls),
        connects: Arc::new(Mutex::new(connected)),
    };
    let network = TcpNetwork::bind(sockets, SocketAddr::from(([127, 0, 0, 1], 1)), limits).await.unwrap();
    (World { accepts, accept_calls, connects }, network)
}

impl World {
    /// A connection to the network.
    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.accepts.send(Ok(theirs)).unwrap();
        ours
    }

    /// The peer's side of the network's next connection; `room` bytes are taken before somebody reads.
    fn peer(&self, room: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(room);
        self.connects.send(Ok(theirs)).unwrap();
        ours
    }
}

/// When the other side ended the stream, counted from now.
async fn end_after(stream: &mut DuplexStream) -> Duration {
    let start = Instant::now();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"", "nothing is ever answered on the same connection");
    start.elapsed()
}

fn text(text: &str) -> Outgoing {
    let from = DeviceId::new("A").unwrap();
    Outgoing {
        device: DeviceId::new("B").unwrap(),
        to: SocketAddr::from(([127, 0, 0, 2], 2)),
        message: Message { from, marker: None, body: Body::Text(text.into()) },
        dialect: Dialect::Bidmesh,
    }
}

/// The next message; fails instead of waiting for ever.
async fn receive(network: &TcpNetwork<MemorySockets>) -> Incoming {
    timeout(Duration::from_secs(60), network.receive()).await.expect("a message arrives")
}

fn body(incoming: Incoming) -> Body {
    incoming.message.unwrap().message.body
}

fn close_to(measured: Duration, expected: Duration) -> bool {
    measured >= expected && measured <= expected + 2 * MILLISECOND
}

#[tokio::test(start_paused = true)]
async fn silence_makes_a_message_whole() {
    let output =
        r#"RESULT|S|{"task_id": "t", "device_id": "S", "status": "completed", "output": "a "quoted" b"}"#;
    for (bytes, silence) in [
        ("HELLO|S|10.0.0.7:9999\n", 0),
        ("HELLO|S|10.0.0.7:9999", 50),
        ("DISCOVER|S|:9999", 50),
        ("BID_REQUEST|S|{\"task_id\": \"t\"}", 0),
        (output, 300),
        ("TEXT|S|some text", 2000),
        ("TEXT|S|some text\n", 2000),
        ("NEW|S|whatever", 2000),
    ] {
        let (world, network) = world(TcpLimits::default()).await;
        let mut stream = world.connect();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let waited = end_after(&mut stream).await;
        assert!(close_to(waited, Duration::from_millis(silence)), "{bytes}: {waited:?}");
        assert!(receive(&network).await.message.is_ok(), "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_may_come_in_any_pieces() {
    for message in [
        "HELLO|S|10.0.0.7:9999\n",
        "BID_RESPONSE|S|{\"device_id\": \"S\", \"cpu_load\": 0.5, \"has_npu\": false}",
        "RESULT|S|{\"task_id\": \"t.1.k7q2m\", \"device_id\": \"S\", \"status\": \"completed\", \"output\": \"}\"}",
    ] {
        let (world, network) = world(TcpLimits::default()).await;
        let mut whole = world.connect();
        whole.write_all(message.as_bytes()).await.unwrap();
        let expected = body(receive(&network).await);
        for split in 1..message.len() {
            let mut stream = world.connect();
            let (first, second) = message.as_bytes().split_at(split);
            stream.write_all(first).await.unwrap();
            sleep(20 * MILLISECOND).await;
            stream.write_all(second).await.unwrap();
            assert_eq!(body(receive(&network).await), expected, "split at {split}");
        }
        let mut stream = world.connect();
        for byte in message.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            sleep(20 * MILLISECOND).await;
        }
        assert_eq!(body(receive(&network).await), expected, "a byte at a time");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_has_its_time() {
    let (world, network) = world(TcpLimits::default()).await;
    let mut silent = world.connect();
    assert!(close_to(end_after(&mut silent).await, Duration::from_secs(5)));
    assert_eq!(network.counts().timed_out, 1);

    let mut late = world.connect();
    sleep(Duration::from_secs(5) - 2 * MILLISECOND).await;
    late.write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    assert!(receive(&network).await.message.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_no_moment_any_more_is_never() {
    let never = TcpLimits { first_byte: Duration::MAX, whole_message: Duration::MAX, ..TcpLimits::default() };
    let (world, network) = world(never).await;
    let mut silent = world.connect();
    let days = Duration::from_secs(300 * 24 * 60 * 60);
    assert!(timeout(days, end_after(&mut silent)).await.is_err());
    silent.write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    assert!(receive(&network).await.message.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_trickle_ends_with_the_time_for_a_message() {
    let (world, network) = world(TcpLimits::default()).await;
    let start = Instant::now();
    let mut stream = world.connect();
    stream.write_all(b"TEXT|S|").await.unwrap();
    while stream.write_all(b"x").await.is_ok() {
        sleep(Duration::from_millis(1900)).await;
    }
    let lasted = start.elapsed();
    assert!(lasted >= Duration::from_secs(30) && lasted < Duration::from_secs(32), "{lasted:?}");
    let counts = network.counts();
    assert_eq!((counts.timed_out, counts.received, counts.open), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_given_a_quarter_second() {
    let (world, network) = world(TcpLimits::default()).await;
    let mut stream = world.connect();
    stream.write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    assert!(end_after(&mut stream).await < 2 * MILLISECOND, "our half-close comes at once");
    receive(&network).await;
    sleep(240 * MILLISECOND).await;
    assert!(stream.write_all(b"\n").await.is_ok(), "still read");
    sleep(20 * MILLISECOND).await;
    assert!(stream.write_all(b"\n").await.is_err(), "closed");
    assert_eq!(network.counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_after_the_message_ends_early() {
    let (world, network) = world(TcpLimits::default()).await;
    let mut stream = world.connect();
    stream.write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    let mut more = 0;
    while stream.write_all(&[b'x'; 1024]).await.is_ok() {
        more += 1024;
    }
    assert!(more < 256 * 1024, "{more} bytes were taken");
    assert!(more > 96 * 1024, "more than what is under way is read, or netcats saw a reset: {more}");
    assert!(receive(&network).await.message.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_queue_is_full() {
    let (world, network) = world(TcpLimits { queue: 1, ..TcpLimits::default() }).await;
    let mut first = world.connect();
    first.write_all(b"HELLO|S|10.0.0.1:1\n").await.unwrap();
    end_after(&mut first).await;
    let mut second = world.connect();
    second.write_all(b"HELLO|S|10.0.0.2:2\n").await.unwrap();
    let mut byte = [0];
    assert!(timeout(Duration::from_secs(29), second.read(&mut byte)).await.is_err(), "not confirmed");
    receive(&network).await;
    end_after(&mut second).await;
    assert!(matches!(body(receive(&network).await), Body::Hello(Advertised { port: 2, .. })));

    // Nobody receives: the sender must not believe that its message was read.
    let mut third = world.connect();
    third.write_all(b"HELLO|S|10.0.0.3:3\n").await.unwrap();
    end_after(&mut third).await;
    let mut fourth = world.connect();
    fourth.write_all(b"HELLO|S|10.0.0.4:4\n").await.unwrap();
    let waited = end_after(&mut fourth).await;
    assert!(close_to(waited, Duration::from_secs(30)), "{waited:?}");
    assert_eq!(network.counts().not_taken, 1);
}

#[tokio::test(start_paused = true)]
async fn accept_errors_are_waited_out_and_never_spin() {
    let (world, network) = world(TcpLimits::default()).await;
    for _ in 0..20 {
        world.accepts.send(Err(rustix::io::Errno::MFILE.into())).unwrap();
    }
    let start = Instant::now();
    world.connect().write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    assert!(receive(&network).await.message.is_ok(), "the loop goes on");
    assert!(start.elapsed() > Duration::from_secs(10), "pauses grow to a second");
    assert_eq!(network.counts().accept_errors, 20);
    assert!(world.accept_calls.load(Ordering::Relaxed) < 30);

    let start = Instant::now();
    for _ in 0..20 {
        world.accepts.send(Err(io::ErrorKind::ConnectionAborted.into())).unwrap();
    }
    world.connect().write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    assert!(receive(&network).await.message.is_ok());
    assert!(start.elapsed() < Duration::from_millis(100), "what ails one connection delays no other");
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_nobody_long() {
    let (world, network) = world(TcpLimits::default()).await;
    let mut draining = world.connect();
    draining.write_all(b"HELLO|S|10.0.0.7:9999\n").await.unwrap();
    let mut reading = world.connect();
    reading.write_all(b"TEXT|S|half").await.unwrap();
    end_after(&mut draining).await;
    let start = Instant::now();
    network.close().await;
    assert!(start.elapsed() <= 300 * MILLISECOND);
    let counts = network.counts();
    assert_eq!((counts.closing, counts.open), (1, 0));
    assert!(receive(&network).await.message.is_ok(), "what was taken over can still be received");
    assert!(timeout(Duration::from_secs(60), network.receive()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn time_that_runs_out_says_how_far_the_message_came() {
    let within = Duration::from_secs(2);
    let (world, network) = world(TcpLimits::default()).await;
    let start = Instant::now();
    assert_eq!(network.send(text("no answer"), within).await, Err(SendFailure::Unreachable));
    assert!(close_to(start.elapsed(), within));

    let _full = world.peer(10);
    assert_eq!(network.send(text("more than it takes"), within).await, Err(SendFailure::Reset));

    let _silent = world.peer(1000);
    assert_eq!(network.send(text("taken, never confirmed"), within).await, Err(SendFailure::Ambiguous));
    // `within` may be anything.
    let mut peer = world.peer(1000);
    let (sent, ()) = tokio::join!(network.send(text("x"), Duration::MAX), async {
        peer.read_to_end(&mut Vec::new()).await.unwrap();
        drop(peer);
    });
    assert_eq!(sent, Ok(()));
    let _never = world.peer(1000);
    assert_eq!(network.send(text("x"), Duration::ZERO).await, Err(SendFailure::Ambiguous));
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_read_up_to_a_limit() {
    for (back, expected) in [(64 * 1024, Ok(())), (64 * 1024 + 1, Err(SendFailure::Ambiguous))] {
        let (world, network) = world(TcpLimits::default()).await;
        let mut peer = world.peer(1000);
        let begun = Instant::now();
        let (sent, ()) = tokio::join!(network.send(text("x"), Duration::from_secs(2)), async {
            peer.read_to_end(&mut Vec::new()).await.unwrap();
            // Whoever sends too much is not listened to any more.
            drop(peer.write_all(&vec![b'x'; back]).await);
            drop(peer);
        });
        assert_eq!(sent, expected, "{back} bytes");
        assert!(begun.elapsed() < 2 * MILLISECOND, "it does not take the whole time to see it");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_system_say_what_they_mean_for_the_message() {
    use rustix::io::Errno;
    for (errno, expected) in [
        (Errno::CONNREFUSED, SendFailure::Refused),
        (Errno::HOSTUNREACH, SendFailure::Unreachable),
        (Errno::NETUNREACH, SendFailure::Unreachable),
        (Errno::NETDOWN, SendFailure::Unreachable),
        (Errno::TIMEDOUT, SendFailure::Unreachable),
        (Errno::ADDRNOTAVAIL, SendFailure::Unreachable),
        (Errno::INVAL, SendFailure::Unreachable),
        (Errno::ACCESS, SendFailure::Unreachable),
        (Errno::CONNRESET, SendFailure::Reset),
        (Errno::CONNABORTED, SendFailure::Reset),
        (Errno::MFILE, SendFailure::Overloaded),
        (Errno::NFILE, SendFailure::Overloaded),
        (Errno::NOBUFS, SendFailure::Overloaded),
        (Errno::NOMEM, SendFailure::Overloaded),
        (Errno::ADDRINUSE, SendFailure::Overloaded),
    ] {
        let (world, network) = world(TcpLimits::default()).await;
        world.connects.send(Err(errno.into())).unwrap();
        assert_eq!(network.send(text("x"), Duration::from_secs(2)).await, Err(expected), "{errno:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_not_tried() {
    let (world, network) =
        world(TcpLimits { wire: WireLimits { message_bytes: 20 }, ..TcpLimits::default() }).await;
    let outgoing = Outgoing {
        dialect: Dialect::Shell,
        message: Message { body: Body::Bye, ..text("").message },
        ..text("")
    };
    assert_eq!(network.send(outgoing, Duration::from_secs(2)).await, Err(SendFailure::NotSpoken));
    assert_eq!(
        network.send(text("fourteen bytes"), Duration::from_secs(2)).await,
        Err(SendFailure::TooLong),
        "TEXT|A| and a line end make it 22"
    );
    let mut peer = world.peer(1000);
    let (sent, ()) = tokio::join!(network.send(text("just twelve."), Duration::from_secs(2)), async {
        peer.read_to_end(&mut Vec::new()).await.unwrap();
        drop(peer);
    });
    assert_eq!(sent, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_slow_sender_of_too_much_may_finish() {
    let limits = TcpLimits { wire: WireLimits { message_bytes: 1000 }, ..TcpLimits::default() };
    let (world, network) = world(limits).await;
    let mut stream = world.connect();
    stream.write_all(b"TEXT|S|").await.unwrap();
    for _ in 0..15 {
        stream.write_all(&[b'x'; 100]).await.unwrap();
        sleep(200 * MILLISECOND).await;
    }
    assert!(receive(&network).await.message.is_err());
    stream.shutdown().await.unwrap();
    end_after(&mut stream).await;

    // Silence ends it as it ends any other.
    let mut silent = world.connect();
    silent.write_all(&[b'x'; 1001]).await.unwrap();
    end_after(&mut silent).await;
    sleep(260 * MILLISECOND).await;
    assert_eq!(network.counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_byte_waits_for_a_reset_when_the_peer_ended_early() {
    let within = Duration::from_secs(2);
    for (reads, expected) in [(true, Ok(())), (false, Err(SendFailure::Reset))] {
        let (world, network) = world(TcpLimits::default()).await;
        let mut peer = world.peer(1000);
        peer.shutdown().await.unwrap();
        let (sent, ()) = tokio::join!(network.send(text("x"), within), async {
            // As long as the end of a connection takes in a local network.
            sleep(20 * MILLISECOND).await;
            if reads {
                peer.read_to_end(&mut Vec::new()).await.unwrap();
            }
            drop(peer);
        });
        assert_eq!(sent, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn too_long_is_told_even_where_memory_ends_at_the_limit() {
    let wire = WireLimits { message_bytes: 100_000 };
    let held_bytes = 100_000 - admission::FREE_BYTES;
    let (world, network) = world(TcpLimits { wire, held_bytes, ..TcpLimits::default() }).await;
    let mut stream = world.connect();
    stream.write_all(&[b'x'; 100_001]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(receive(&network).await.message.is_err());
    assert_eq!(network.counts().crowded_out, 0);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_sender_of_too_much() {
    let limits = TcpLimits { wire: WireLimits { message_bytes: 1000 }, ..TcpLimits::default() };
    let (world, network) = world(limits).await;
    let mut stream = world.connect();
    stream.write_all(&[b'x'; 1001]).await.unwrap();
    receive(&network).await;
    let trickle = async {
        while stream.write_all(b"x").await.is_ok() {
            sleep(100 * MILLISECOND).await;
        }
    };
    let start = Instant::now();
    tokio::join!(network.close(), trickle);
    assert!(start.elapsed() <= 400 * MILLISECOND, "{:?}", start.elapsed());
}
