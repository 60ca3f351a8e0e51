//! `bidmesh peers`: the address book. Works on the running device if there is one, else on peers.txt.

use std::net::{IpAddr, SocketAddr};

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::MeshDirectory;
use bidmesh_io_tokio::http::Method;
use clap::Subcommand;

use crate::api::types::{Peer, PeerAddress};
use crate::cli::Shared;
use crate::client::Client;
use crate::device::{self, DEFAULT_PORT};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::words;

/// What to do with the address book.
#[derive(Debug, Subcommand)]
pub enum Peers {
    /// Who is in it, and what is known of them
    List,
    /// Add a device, or change its address
    Add {
        /// Its id, or id and address as in `up --peer`
        #[arg(value_name = "DEVICE[=ADDR:PORT]")]
        peer: String,
        /// Where it listens; port 9999 if absent
        #[arg(value_name = "ADDR[:PORT]", value_parser = address)]
        address: Option<SocketAddr>,
    },
    /// Remove a device; it stays out until it is added again
    Remove {
        /// Its id
        device: DeviceId,
    },
}

/// Reads `ID=ADDR:PORT`.
pub fn id_and_address(text: &str) -> Result<(DeviceId, SocketAddr), String> {
    let (id, at) = text.split_once('=').ok_or_else(|| {
        format!("`{text}` has no address; write ID=ADDR:PORT, such as Device_B=192.168.1.102:9999")
    })?;
    let id = DeviceId::new(id).map_err(|why| format!("`{id}` is no device id: {why}"))?;
    Ok((id, address(at)?))
}

/// What `peers add` was given, in either of its forms.
fn added(peer: &str, at: Option<SocketAddr>) -> Result<(DeviceId, SocketAddr), Failure> {
    match at {
        None => id_and_address(peer).map_err(Failure::usage),
        Some(at) => match DeviceId::new(peer) {
            Ok(id) => Ok((id, at)),
            Err(why) => Err(Failure::usage(format!("`{peer}` is no device id: {why}"))),
        },
    }
}

/// Reads `ADDR:PORT`, or `ADDR` with the mesh's port.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let address =
        text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DEFAULT_PORT)));
    match address {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(address),
        _ => Err(format!("`{text}` is no address of a device; write ADDR:PORT, such as 192.168.1.102:9999")),
    }
}

pub async fn run(shared: &Shared, peers: Peers) -> Result<Exit, Failure> {
    let output = shared.output();
    let directory = device::directory(shared)?;
    let of_device = match Client::of_directory(directory.path()) {
        Ok(client) => of_device(&client, &output, &peers).await,
        Err(failure) => Err(failure),
    };
    match of_device {
        Err(failure) if failure.exit == Exit::NotRunning => of_file(&directory, &output, &peers),
        result => result,
    }
}

async fn of_device(client: &Client, output: &Output, peers: &Peers) -> Result<Exit, Failure> {
    match peers {
        Peers::List => {
            let peers: Vec<Peer> = client.get("/v1/peers").await?;
            if output.json { output.json(&peers)? } else { output.foreign(&words::peers(&peers))? }
        }
        Peers::Add { peer, address } => {
            let (device, address) = added(peer, *address)?;
            let body = PeerAddress { address: address.to_string() };
            client.tell(Method::PUT, &format!("/v1/peers/{device}"), &body).await?;
            output.note(&format!("{device} is in the address book, at {address}"));
        }
        Peers::Remove { device } => {
            client.delete(&format!("/v1/peers/{device}")).await?;
            output.note(&format!("{device} is out of the address book until it is added again"));
        }
    }
    Ok(Exit::Ok)
}

fn of_file(directory: &MeshDirectory, output: &Output, peers: &Peers) -> Result<Exit, Failure> {
    match peers {
        Peers::List => {
            let book = directory.read_peers().map_err(device::of_files)?.peers();
            let peers: Vec<Peer> =
                book.iter().map(|(device, address)| Peer::listed(device, *address)).collect();
            if output.json { output.json(&peers)? } else { output.result(&words::peers_of_file(&peers))? }
        }
        Peers::Add { peer, address } => {
            let (device, address) = added(peer, *address)?;
            directory.edit_peers(|file| file.set(&device, address)).map_err(device::of_files)?;
            output.note(&format!("{device} is in the address book, at {address}"));
        }
        Peers::Remove { device } => {
            if !directory.edit_peers(|file| file.remove(device)).map_err(device::of_files)? {
                return Err(Failure::failed(format!(
                    "{device} is not in the address book; see `bidmesh peers list`"
                )));
            }
            output.note(&format!("{device} is out of the address book"));
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_added_in_either_form() {
        let device = || (DeviceId::new("B").unwrap(), "10.0.0.7:9".parse().unwrap());
        assert_eq!(added("B=10.0.0.7:9", None), Ok(device()));
        assert_eq!(added("B", Some(device().1)), Ok(device()));
        assert!(added("B", None).is_err() && added("a|b", Some(device().1)).is_err());
    }

    #[test]
    fn addresses_have_the_meshs_port_unless_they_say_another() {
        assert_eq!(address("10.0.0.7"), Ok("10.0.0.7:9999".parse().unwrap()));
        assert_eq!(address("10.0.0.7:9"), Ok("10.0.0.7:9".parse().unwrap()));
        assert_eq!(address("[fe80::1]:9"), Ok("[fe80::1]:9".parse().unwrap()));
        for wrong in ["", "phone.local:9999", "10.0.0.7:0", "0.0.0.0:9999", "10.0.0.7:99999"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
