//! The address book, as a person edits it.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bidmesh_core::Input;
use bidmesh_core::id::DeviceId;
use bidmesh_core::snapshot::Snapshot;
use bidmesh_io_tokio::files::PeersFile;

use super::Api;
use super::convert::device_id;
use super::error::ApiError;
use super::types::{Peer, PeerAddress};

pub async fn list(State(api): State<Api>) -> Result<Json<Vec<Peer>>, ApiError> {
    let snapshot = api.handle.snapshot().await?;
    Ok(Json(snapshot.peers.iter().map(|peer| Peer::new(snapshot.now, peer)).collect()))
}

pub async fn add(
    State(api): State<Api>,
    Path(device): Path<String>,
    body: Result<Json<PeerAddress>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let device = device_id(&device)?;
    let Json(PeerAddress { address }) = body?;
    let address: SocketAddr = address.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "`{address}` is no address; write ADDR:PORT, such as 192.168.1.102:9999"
        ))
    })?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(ApiError::bad_request(format!("{address} is an address that nobody can be reached at")));
    }
    let _alone = api.editing_peers.lock().await;
    let snapshot = api.handle.snapshot().await?;
    if device == snapshot.device {
        return Err(ApiError::bad_request(format!("{device} is this device itself")));
    }
    let mut peers = book(&snapshot);
    match peers.iter_mut().find(|(known, _)| *known == device) {
        Some(known) => known.1 = address,
        None => peers.push((device.clone(), address)),
    }
    edit_file(&api, move |file| file.set(&device, address)).await?;
    api.handle.tell(Input::PeersEdited(peers)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn remove(State(api): State<Api>, Path(device): Path<String>) -> Result<StatusCode, ApiError> {
    let device = device_id(&device)?;
    let _alone = api.editing_peers.lock().await;
    let mut peers = book(&api.handle.snapshot().await?);
    let before = peers.len();
    peers.retain(|(known, _)| *known != device);
    if peers.len() == before {
        return Err(ApiError::not_found(format!(
            "{device} is not in the address book; see `bidmesh peers list`"
        )));
    }
    edit_file(&api, move |file| {
        file.remove(&device);
    })
    .await?;
    api.handle.tell(Input::PeersEdited(peers)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The file first: a damaged one is an error that must not leave the device with another book than the file.
async fn edit_file(api: &Api, edit: impl FnOnce(&mut PeersFile) + Send + 'static) -> Result<(), ApiError> {
    let Some(directory) = api.directory.clone() else { return Ok(()) };
    let edited = tokio::task::spawn_blocking(move || directory.edit_peers(edit)).await;
    let failed = |why: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "not_written", why);
    edited.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

fn book(snapshot: &Snapshot) -> Vec<(DeviceId, SocketAddr)> {
    snapshot.peers.iter().map(|peer| (peer.device.clone(), peer.address)).collect()
}
