//! Messages that arrive: from each kind of netcat, in pieces, cut off, too long, too many.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use bidmesh_core::wire::{Body, DecodeErrorKind, WireLimits};
use bidmesh_io_tokio::network::{TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sockets::TokioSockets;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

const RAW_RESULT: &str =
    r#"RESULT|S|{"task_id": "t.1.k7q2m", "device_id": "S", "status": "completed", "output": "say "hi" {"}"#;
const BID: &str =
    r#"BID_RESPONSE|S|{"device_id": "S", "cpu_load": 1, "ram_load": 0.07, "battery": -1, "has_npu": false}"#;

#[tokio::test]
async fn each_netcat_is_released_at_once_and_its_message_arrives() {
    let network = listening(TcpLimits::default()).await;
    for (message, kind) in [
        ("HELLO|S|10.0.0.7:9999\n", "HELLO"),
        ("HELLO|S|10.0.0.7:9999", "HELLO"),
        (BID, "BID_RESPONSE"),
        (RAW_RESULT, "RESULT"),
        ("TEXT|S|two\nlines\n", "TEXT"),
    ] {
        // toybox, busybox, ncat: the sending side closes after the message.
        let mut closing = connect(&network).await;
        closing.write_all(message.as_bytes()).await.unwrap();
        closing.shutdown().await.unwrap();
        assert_eq!(ending(&mut closing).await, Ok(()), "{message}");
        assert_eq!(receive_body(&network).await.kind(), kind);
        // openbsd, traditional: it stays open until the other side closes.
        let mut open = connect(&network).await;
        open.write_all(message.as_bytes()).await.unwrap();
        assert_eq!(ending(&mut open).await, Ok(()), "{message}");
        assert_eq!(receive_body(&network).await.kind(), kind);
    }
    let counts = counted(&network, "all closed", |counts| counts.open == 0).await;
    assert_eq!((counts.accepted, counts.received), (10, 10));
}

#[tokio::test]
async fn a_line_end_that_comes_late_is_read_and_causes_no_reset() {
    let network = listening(TcpLimits::default()).await;
    let mut stream = connect(&network).await;
    stream.write_all(BID.as_bytes()).await.unwrap();
    assert_eq!(ending(&mut stream).await, Ok(()));
    stream.write_all(b"\n").await.unwrap();
    counted(&network, "closed", |counts| counts.open == 0).await;
    assert!(stream.take_error().unwrap().is_none(), "a reset would make a shell device send again");
    assert_eq!(receive_body(&network).await.kind(), "BID_RESPONSE");
}

#[tokio::test]
async fn a_message_that_is_cut_off_is_none() {
    let network = listening(TcpLimits::default()).await;
    for part in [
        "TEXT|S|half a sent",
        "TASK|S|{\"task_id\": \"t\", \"prompt\": \"wh",
        "SLM_PROMPT|S|delete everything bu",
    ] {
        let before = network.counts().broken;
        let mut stream = connect(&network).await;
        stream.write_all(part.as_bytes()).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        counted(&network, part, |counts| counts.broken == before + 1).await;
    }
    // Only an orderly end makes half a JSON text a message that could not be read.
    let mut stream = connect(&network).await;
    stream.write_all(b"TASK|S|{\"task_id\": \"t\", \"prompt\": \"wh").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(ending(&mut stream).await, Ok(()));
    assert!(matches!(receive(&network).await.message.unwrap_err().why, DecodeErrorKind::Json(_)));
    assert_eq!(network.counts().received, 1);
}

#[tokio::test]
async fn a_look_at_the_port_is_counted_and_nothing_else() {
    let network = listening(TcpLimits::default()).await;
    let mut probe = connect(&network).await;
    probe.shutdown().await.unwrap();
    assert_eq!(ending(&mut probe).await, Ok(()));
    let counts = counted(&network, "empty", |counts| counts.empty == 1).await;
    assert_eq!((counts.accepted, counts.received, counts.broken), (1, 0, 0));
}

#[tokio::test]
async fn silence_without_a_byte_is_reset() {
    let network =
        listening(TcpLimits { first_byte: Duration::from_millis(50), ..TcpLimits::default() }).await;
    let mut silent = connect(&network).await;
    // An orderly end would tell a slow sender that its message was read.
    assert_eq!(ending(&mut silent).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(network.counts().timed_out, 1);
}

async fn write_text_of(stream: &mut TcpStream, length: usize) {
    let mut message = b"TEXT|S|".to_vec();
    message.resize(length, b'x');
    stream.write_all(&message).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_longest_message_passes_and_one_byte_more_does_not() {
    let network = listening(TcpLimits::default()).await;
    let limit = WireLimits::default().message_bytes;
    let mut longest = connect(&network).await;
    soon("writing", write_text_of(&mut longest, limit)).await;
    assert_eq!(ending(&mut longest).await, Ok(()));
    let Body::Text(text) = receive_body(&network).await else { panic!("not a text") };
    assert_eq!(text.len(), limit - "TEXT|S|".len());
    for length in [limit + 1, limit * 3 / 2] {
        let mut longer = connect(&network).await;
        soon("writing", write_text_of(&mut longer, length)).await;
        // Told in order, or a shell device would send it four times more.
        assert_eq!(ending(&mut longer).await, Ok(()), "{length}");
        let error = receive(&network).await.message.unwrap_err();
        assert_eq!(error.why, DecodeErrorKind::TooLong { limit });
    }
    let counts = counted(&network, "all closed", |counts| counts.open == 0).await;
    assert_eq!((counts.received, counts.too_long, counts.held_bytes), (3, 2, 0));
}

#[tokio::test]
async fn an_endless_message_is_not_read_for_ever() {
    let limits = TcpLimits { wire: WireLimits { message_bytes: 1 << 20 }, ..TcpLimits::default() };
    let network = listening(limits).await;
    let mut endless = connect(&network).await;
    let piece = vec![b'x'; 64 * 1024];
    let mut written = 0;
    endless.write_all(b"TEXT|S|").await.unwrap();
    while soon("writing", endless.write_all(&piece)).await.is_ok() {
        written += piece.len();
        assert!(written < 32 << 20, "32 MiB of a message that may have one");
    }
    assert!(receive(&network).await.message.is_err());
    counted(&network, "closed", |counts| counts.open == 0).await;
}

#[tokio::test]
async fn an_address_at_its_limit_leaves_the_others_served() {
    let network = listening(TcpLimits::default()).await;
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(connect(&network).await);
    }
    counted(&network, "all taken", |counts| counts.open == 32).await;
    assert_eq!(ending_from(loopback(1), &network).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(network.counts().refused, 1);

    let mut other = connect_from(loopback(2), &network).await.unwrap();
    other.write_all(HELLO).await.unwrap();
    assert_eq!(ending(&mut other).await, Ok(()));
    let incoming = receive(&network).await;
    assert_eq!(incoming.source, other.local_addr().unwrap());

    drop(held);
    counted(&network, "places given back", |counts| counts.open == 0).await;
    let mut again = connect(&network).await;
    again.write_all(HELLO).await.unwrap();
    assert_eq!(ending(&mut again).await, Ok(()));
}

#[tokio::test]
async fn all_connections_together_have_a_limit() {
    let network = listening(TcpLimits { connections: 3, ..TcpLimits::default() }).await;
    let mut held = Vec::new();
    for last in 1..=3 {
        held.push(connect_from(loopback(last), &network).await.unwrap());
    }
    assert_eq!(ending_from(loopback(4), &network).await, Err(ErrorKind::ConnectionReset));
    held.pop();
    counted(&network, "one less", |counts| counts.open == 2).await;
    let mut taken = connect_from(loopback(4), &network).await.unwrap();
    taken.write_all(HELLO).await.unwrap();
    assert_eq!(ending(&mut taken).await, Ok(()));
}

#[tokio::test]
async fn unfinished_messages_share_a_bounded_memory() {
    let limits = TcpLimits { held_bytes: 1 << 20, held_bytes_per_address: 512 << 10, ..TcpLimits::default() };
    let network = listening(limits).await;
    let piece = vec![b'x'; 256 << 10];
    let mut first = connect(&network).await;
    first.write_all(b"TEXT|S|").await.unwrap();
    first.write_all(&piece).await.unwrap();
    counted(&network, "the first is held", |counts| counts.held_bytes > 200 << 10).await;
    // The same address cannot have that much again, whatever it opens.
    let mut second = connect(&network).await;
    second.write_all(b"TEXT|S|").await.unwrap();
    while soon("writing", second.write_all(&piece)).await.is_ok() {
        assert!(network.counts().held_bytes <= 512 << 10);
    }
    counted(&network, "the second is cut", |counts| counts.crowded_out == 1).await;
    // Small messages pass, from that address too, and large ones from another.
    let mut small = connect(&network).await;
    small.write_all(HELLO).await.unwrap();
    assert_eq!(receive_body(&network).await.kind(), "HELLO");
    let mut other = connect_from(loopback(2), &network).await.unwrap();
    write_text_of(&mut other, 400 << 10).await;
    assert_eq!(receive_body(&network).await.kind(), "TEXT");
    first.shutdown().await.unwrap();
    assert_eq!(receive_body(&network).await.kind(), "TEXT");
    assert_eq!(counted(&network, "all closed", |counts| counts.open == 0).await.held_bytes, 0);
}

#[tokio::test]
async fn messages_that_wait_to_be_received_count_as_memory() {
    let limits = TcpLimits { held_bytes: 1 << 20, held_bytes_per_address: 512 << 10, ..TcpLimits::default() };
    let network = listening(limits).await;
    let mut waiting = connect(&network).await;
    write_text_of(&mut waiting, 400 << 10).await;
    assert_eq!(ending(&mut waiting).await, Ok(()));
    assert!(network.counts().held_bytes > 300 << 10);
    let mut second = connect(&network).await;
    let mut message = b"TEXT|S|".to_vec();
    message.resize(400 << 10, b'x');
    // It is reset somewhere in the middle.
    let _ = second.write_all(&message).await;
    counted(&network, "no room", |counts| counts.crowded_out == 1).await;
    assert_eq!(receive_body(&network).await.kind(), "TEXT");
    assert_eq!(network.counts().held_bytes, 0);
}

#[tokio::test]
async fn closing_frees_the_port_and_resets_what_is_not_whole() {
    let network = listening(TcpLimits::default()).await;
    let address = network.local_address();
    let mut unfinished = connect(&network).await;
    unfinished.write_all(b"TEXT|S|half").await.unwrap();
    counted(&network, "accepted", |counts| counts.open == 1).await;
    network.close().await;
    assert_eq!(ending(&mut unfinished).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let again = listening_at(address, TcpLimits::default()).await;
    assert_eq!(again.local_address(), address);
    network.close().await;

    let taken = TcpNetwork::bind(TokioSockets, address, TcpLimits::default()).await.unwrap_err();
    assert_eq!((taken.kind(), taken.address()), (ErrorKind::AddrInUse, address));
    assert!(taken.to_string().contains("another program listens there"), "{taken}");
}

#[tokio::test]
async fn dropping_the_last_clone_frees_the_port() {
    let network = listening(TcpLimits::default()).await;
    let address = network.local_address();
    let clone = network.clone();
    drop(network);
    let mut stream = connect(&clone).await;
    stream.write_all(HELLO).await.unwrap();
    assert_eq!(receive_body(&clone).await.kind(), "HELLO");
    drop((clone, stream));
    soon("the port", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn ipv6_and_both_at_once() {
    let v6 = listening_at(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), TcpLimits::default()).await;
    let mut stream = TcpStream::connect(v6.local_address()).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert_eq!(receive(&v6).await.source, stream.local_addr().unwrap());

    let both = listening_at(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), TcpLimits::default()).await;
    let mut stream =
        TcpStream::connect(SocketAddr::new(loopback(1), both.local_address().port())).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let source = receive(&both).await.source;
    assert_eq!(source, stream.local_addr().unwrap(), "an IPv4 peer is known by its IPv4 address");
}
