//! The accept loop: one for a network, never blocked by what it accepted, ended only by whoever closes the network.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::take::{Intake, take};
use crate::sockets::Sockets;

/// The first pause after the system refused to hand out a connection; doubles.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Accepts until `stop` says so or its sender is gone. Then the port is closed, connections whose message is
/// not whole are reset, and the others get the time that they need to close.
pub(super) async fn listen<S: Sockets>(
    sockets: S,
    listener: S::Listener,
    intake: Arc<Intake>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut pause = PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = sockets.accept(&listener) => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                pause = PAUSE;
                // One listener for both families sees IPv4 peers as `::ffff:a.b.c.d`; the mesh knows them as IPv4.
                let source = SocketAddr::new(source.ip().to_canonical(), source.port());
                let place = intake.admission.place(source.ip());
                intake.counter.count(|counts| {
                    counts.accepted += 1;
                    counts.refused += u64::from(place.is_none());
                });
                if let Some(place) = place {
                    let intake = Arc::clone(&intake);
                    connections.spawn(take(intake, sockets.clone(), place, stream, source, stop.clone()));
                } else {
                    // Not an orderly end, which would say that the message was read.
                    let _ = sockets.reset_on_close(&stream, true);
                }
            }
            Err(error) => {
                intake.counter.count(|counts| counts.accept_errors += 1);
                if is_of_one_connection(&error) {
                    continue;
                }
                // Too many open files, no memory: it lasts until something is closed, and the connection stays
                // in the kernel's queue. Trying again at once would spin.
                let _ = tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whether only the connection that was to be accepted is the matter: each such error uses one up.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
