//! Ports that stay one test's own although nobody listens at them all the time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// The port of a shell device is closed between two messages. A port of the kernel's choice (bind to 0) would be of
/// the range from which the kernel serves outgoing connections: another program could take it meanwhile, and a sender
/// on the same machine could even connect to itself. So these are below that range, and a UDP socket on the same
/// number tells other tests that it is taken.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// A TCP port of a loopback address that no other test uses as long as this value lives.
#[derive(Debug)]
pub struct Port {
    ip: IpAddr,
    number: u16,
    _reservation: UdpSocket,
}

impl Port {
    /// A port of 127.0.0.1 that is free now.
    ///
    /// # Panics
    /// If none is.
    pub fn free() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Test programs that start at the same time begin at different places.
        let start =
            u16::try_from(std::process::id() % u32::from(RANGE.end - RANGE.start)).unwrap_or_default();
        (0..RANGE.end - RANGE.start)
            .find_map(|_| {
                let step = start.wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
                Self::take(RANGE.start + step % (RANGE.end - RANGE.start))
            })
            .expect("no free port in the whole range")
    }

    /// A port of an address that no other device of this test program has, as if it were another machine: 127.0.0.2
    /// and on. Where only 127.0.0.1 exists (macOS), of that one.
    ///
    /// # Panics
    /// If none is free.
    pub fn on_its_own_address() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let last = u8::try_from(2 + NEXT.fetch_add(1, Ordering::Relaxed) % 250).unwrap_or(2);
        let own = Ipv4Addr::new(127, 0, 0, last);
        let usable = UdpSocket::bind((own, 0)).is_ok();
        Self { ip: if usable { own } else { Ipv4Addr::LOCALHOST }.into(), ..Self::free() }
    }

    fn take(number: u16) -> Option<Self> {
        let reservation = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        // A netcat listens at all addresses, so it must be free there too.
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
        Some(Self { ip: Ipv4Addr::LOCALHOST.into(), number, _reservation: reservation })
    }

    /// Its number.
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Its address with this port.
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once() {
        let ports: Vec<_> = (0..50).map(|_| Port::free()).collect();
        let numbers: std::collections::BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        assert!(Port::take(ports[0].number()).is_none());
    }
}
