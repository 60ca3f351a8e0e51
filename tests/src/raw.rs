//! Both ends of a connection on plain blocking sockets, with none of the code under test in them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wait::wait_until;

/// Offers `bytes` as one message until the peer has read them: a shell device is deaf now and then, and a clean end
/// of the stream tells that it was not.
///
/// # Panics
/// If it has not read them by `deadline`.
pub fn deliver(to: SocketAddr, bytes: &[u8], deadline: Duration) {
    wait_until(deadline, &format!("{to} to read a message"), || {
        let mut stream = TcpStream::connect(to).ok()?;
        stream.set_read_timeout(Some(deadline)).ok()?;
        stream.write_all(bytes).ok()?;
        stream.shutdown(Shutdown::Write).ok()?;
        stream.read_to_end(&mut Vec::new()).ok().map(drop)
    });
}

/// Takes whatever is sent to it, one message a connection, and keeps it.
#[derive(Debug)]
pub struct Inbox {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Inbox {
    /// Listens at a port of 127.0.0.1 until the test program ends.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let inbox = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let message = take(stream);
                inbox.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            }
        });
        Self { address, received }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// All messages so far, in order.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the message with this number, counted from 0.
    ///
    /// # Panics
    /// If it has not come by `deadline`.
    pub fn message(&self, number: usize, deadline: Duration) -> Vec<u8> {
        wait_until(deadline, &format!("message {number} at {}", self.address), || {
            self.messages().into_iter().nth(number)
        })
    }
}

/// Reads one message, to the end of the stream or to a silence after it.
fn take(mut stream: TcpStream) -> Vec<u8> {
    let mut message = Vec::new();
    let mut part = [0; 64 * 1024];
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    loop {
        match stream.read(&mut part) {
            Ok(0) => return message,
            Ok(length) => message.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                let _ = stream.shutdown(Shutdown::Write);
                return message;
            }
        }
        let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
    }
}
