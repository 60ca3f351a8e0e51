//! `ID:IP:PORT`, the form of peers.txt and my_info.txt. IPv6 addresses stand in brackets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bidmesh_core::id::DeviceId;

use super::error::quote;

/// One such line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: DeviceId,
    /// `None`: none, or `0.0.0.0`, which scripts write when they find no address.
    pub(super) ip: Option<IpAddr>,
    /// May be 0.
    pub(super) port: u16,
}

/// What is wrong, and what to do about it.
pub(super) type Complaint = (String, &'static str);

const FORM: &str = "write ID:IP:PORT, for example Device_B:192.168.1.7:9999";

/// The text of a file: without a byte order mark, which editors of Windows write.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A line without the white space around it; `None` where nothing stands on it but a comment.
pub(super) fn meaning(line: &str) -> Option<&str> {
    let line = line.trim();
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

impl Entry {
    /// Reads a line that is neither empty nor a comment. What follows the port is ignored, as shell devices do.
    pub(super) fn read(line: &str) -> Result<Self, Complaint> {
        let (id, rest) =
            line.split_once(':').ok_or_else(|| (format!("{} has no address", quote(line)), FORM))?;
        let id = DeviceId::new(id.trim()).map_err(|error| {
            let what = format!("{} is no device id: {error}", quote(id.trim()));
            (what, "an id has 1 to 64 letters, digits, `_` and `-`")
        })?;
        let (ip, rest) = address(rest.trim_start())?;
        let port = rest.split(':').next().unwrap_or("").trim();
        // `parse` alone would take a leading plus sign.
        let number = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
        let port = number
            .ok_or_else(|| (format!("{} is no port", quote(port)), "a port is a number up to 65535"))?;
        Ok(Self { id, ip: ip.filter(|ip| !ip.is_unspecified()), port })
    }

    /// Where the device is, if the line says so.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.ip.filter(|_| self.port != 0).map(|ip| SocketAddr::new(ip, self.port))
    }
}

fn address(rest: &str) -> Result<(Option<IpAddr>, &str), Complaint> {
    if let Some(v6) = rest.strip_prefix('[') {
        let (ip, rest) = v6.split_once("]:").ok_or_else(|| (format!("{} has no port", quote(rest)), FORM))?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| (format!("{} is no IPv6 address", quote(ip)), FORM))?;
        return Ok((Some(ip.into()), rest));
    }
    let (ip, port) = rest.split_once(':').ok_or_else(|| (format!("{} has no port", quote(rest)), FORM))?;
    let ip = ip.trim();
    if ip.is_empty() {
        return Ok((None, port));
    }
    let ip: Ipv4Addr = ip.parse().map_err(|_| {
        let remedy = "write an IPv4 address, or an IPv6 address in brackets; names are not looked up";
        (format!("{} is no address", quote(ip)), remedy)
    })?;
    Ok((Some(ip.into()), port))
}

/// As it is written in a file.
pub(super) fn write(id: &DeviceId, address: SocketAddr) -> String {
    // A socket address prints an IPv6 address in brackets; a scope has no place in the form.
    format!("{id}:{}", SocketAddr::new(address.ip(), address.port()))
}
