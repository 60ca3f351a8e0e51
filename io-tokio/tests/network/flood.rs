//! A thousand connections at once that lie, stall and vanish; a well-behaved device beside them.

use std::time::Duration;

use bidmesh_io_tokio::network::{Network, TcpLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::*;

const CONNECTIONS: usize = 1000;
const HELLOS: usize = 100;

#[tokio::test]
async fn a_flood_leaves_the_device_serving_and_its_memory_bounded() {
    let limits = TcpLimits {
        held_bytes: 1 << 20,
        held_bytes_per_address: 256 << 10,
        // The held connections give up during the test.
        first_byte: Duration::from_millis(500),
        whole_message: Duration::from_secs(2),
        ..TcpLimits::default()
    };
    let network = listening(limits).await;
    let mut flood = JoinSet::new();
    for number in 0..CONNECTIONS {
        let network = network.clone();
        flood.spawn(async move {
            // Twenty attackers.
            let from = loopback(100 + u8::try_from(number % 20).unwrap());
            if let Ok(stream) = connect_from(from, &network).await {
                // What the kernel's own queue has dropped would wait for ever.
                let _ = timeout(Duration::from_secs(3), misbehave(number / 20, stream)).await;
            }
        });
    }
    let honest = tokio::spawn({
        let network = network.clone();
        async move {
            for _ in 0..HELLOS {
                // While all places are taken it is refused, as everybody is, and tries again.
                while !say_hello(&network).await {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    let mut from_honest = 0;
    while from_honest < HELLOS {
        let incoming = receive(&network).await;
        if incoming.source.ip() == loopback(2) {
            assert!(incoming.message.is_ok());
            from_honest += 1;
        }
        let counts = network.counts();
        assert!(counts.open <= 256, "{counts:?}");
        assert!(counts.held_bytes <= 1 << 20, "{counts:?}");
    }
    honest.await.unwrap();
    while let Some(ended) = flood.join_next().await {
        ended.unwrap();
    }
    let emptying = async {
        loop {
            network.receive().await;
        }
    };
    let counts = tokio::select! {
        counts = counted(&network, "all ended", |counts| counts.open == 0 && counts.held_bytes == 0) => counts,
        () = emptying => unreachable!(),
    };
    let fates = counts.received
        + counts.empty
        + counts.refused
        + counts.timed_out
        + counts.broken
        + counts.crowded_out
        + counts.not_taken;
    let shed = counts.refused + counts.timed_out + counts.crowded_out;
    assert!(shed > 0, "how many of which kind depends on the machine, but not all can be served: {counts:?}");
    assert_eq!(counts.accepted, fates, "every connection is accounted for: {counts:?}");
    assert!(counts.accepted >= (CONNECTIONS + HELLOS) as u64, "{counts:?}");
}

async fn say_hello(network: &Net) -> bool {
    let Ok(mut stream) = connect_from(loopback(2), network).await else { return false };
    let saying = async { stream.write_all(HELLO).await.is_ok() && stream.read(&mut [0]).await.is_ok() };
    timeout(Duration::from_secs(1), saying).await.unwrap_or(false)
}

async fn misbehave(how: usize, mut stream: tokio::net::TcpStream) {
    let garbage: Vec<u8> = (0..100_000usize).map(|n| u8::try_from((n * n + how) % 251).unwrap()).collect();
    let _ = match how % 6 {
        0 | 1 => stream.read(&mut [0]).await,
        2 => stream.write(&garbage).await,
        3 => {
            let _ = stream.write_all(b"TEXT|X|").await;
            let _ = stream.write_all(&garbage).await;
            stream.read(&mut [0]).await
        }
        4 => {
            let _ = stream.write_all(b"TASK|X|{\"prompt\": \"").await;
            let _ = stream.set_zero_linger();
            Ok(0)
        }
        _ => Ok(0),
    };
}
