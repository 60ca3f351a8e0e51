//! The payload of HELLO and DISCOVER: `IP:PORT`, and from bidmesh devices `IP:PORT:bidmesh/1:BOOT`.

use core::net::{IpAddr, Ipv6Addr};

use super::message::{Advertised, Marker};
use crate::id::BootId;

/// Reads the address and the marker, if both are there; `None` without an address. What follows the port and is
/// no marker is ignored, as shell devices do.
pub(super) fn read(payload: &str) -> Option<(Advertised, Option<Marker>)> {
    let line = payload.lines().next()?.trim();
    let (ip, rest) = match line.strip_prefix('[') {
        Some(v6) => {
            let (ip, rest) = v6.split_once("]:")?;
            (Some(IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?)), rest)
        }
        None => {
            let (ip, rest) = line.split_once(':')?;
            (if ip.is_empty() { None } else { Some(IpAddr::V4(ip.parse().ok()?)) }, rest)
        }
    };
    let (port, more) = rest.split_once(':').unwrap_or((rest, ""));
    let port = number(port).filter(|port| *port != 0)?;
    let ip = ip.filter(|ip| !ip.is_unspecified());
    Some((Advertised { ip, port }, marker(more)))
}

fn marker(text: &str) -> Option<Marker> {
    let (version, rest) = text.strip_prefix("bidmesh/")?.split_once(':')?;
    let boot = rest.split(':').next()?;
    Some(Marker { version: number(version)?, boot: BootId::new(boot).ok()? })
}

/// Digits alone; `parse` would also take a leading plus sign.
fn number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
}
