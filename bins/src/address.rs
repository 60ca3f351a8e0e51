//! Where others reach this device: the address of the interface that leads to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// An address of documentation (RFC 5737) that no network has: the route to it is the default route.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Where a device that listens at `listen` should say that it is, given whom it knows. `None` without a network.
///
/// A peer takes an address only from its own source, so the way to the peers decides; devices that only know
/// loopback peers are a mesh on one machine.
pub fn outward(listen: SocketAddr, peers: &[SocketAddr]) -> Option<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return Some(listen);
    }
    let far = peers.iter().find(|peer| !peer.ip().is_loopback());
    let towards = far.or(peers.first()).copied().unwrap_or(ELSEWHERE);
    let ip = source_towards(towards).or_else(|| source_towards(ELSEWHERE))?;
    Some(SocketAddr::new(ip, listen.port()))
}

/// The address that the kernel would send from. Connecting a UDP socket chooses a route and sends nothing.
fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_bound_to_one_address_is_there() {
        let listen: SocketAddr = "127.0.0.3:9999".parse().unwrap();
        assert_eq!(outward(listen, &["10.0.0.1:9999".parse().unwrap()]), Some(listen));
    }

    #[test]
    fn a_mesh_on_one_machine_meets_on_loopback() {
        let listen = "0.0.0.0:9999".parse().unwrap();
        assert_eq!(
            outward(listen, &["127.0.0.1:9998".parse().unwrap()]),
            Some("127.0.0.1:9999".parse().unwrap())
        );
    }
}
