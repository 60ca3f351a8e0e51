//! What is said outside any task, as the shell mesh's sender says it: to one device or to all of the address book.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use bidmesh_core::id::DeviceId;
use bidmesh_core::snapshot::Snapshot;
use bidmesh_core::wire::{Advertised, Body, WireLimits, decode};
use futures_util::stream::{self, StreamExt};

use super::Api;
use super::convert::device_id;
use super::error::ApiError;
use super::raw;
use super::types::{Say, SayMessage, Sent, SentTo};

/// Messages under way at a time, of one request.
const AT_A_TIME: usize = 32;

/// What is to leave.
#[derive(Clone, Debug)]
enum Leaving {
    Message(Body),
    Bytes(Vec<u8>),
}

pub async fn say(
    State(api): State<Api>,
    body: Result<Json<Say>, JsonRejection>,
) -> Result<Json<Sent>, ApiError> {
    let Json(Say { to, message }) = body?;
    let snapshot = api.handle.snapshot().await?;
    let targets = targets(&snapshot, &to)?;
    let leaving = leaving(message, &snapshot, api.listen)?;
    let sent = stream::iter(targets)
        .map(|(device, address)| one(&api, device, address, leaving.clone()))
        .buffered(AT_A_TIME)
        .collect::<Vec<Result<SentTo, ApiError>>>()
        .await;
    Ok(Json(Sent { sent: sent.into_iter().collect::<Result<_, _>>()? }))
}

fn targets(snapshot: &Snapshot, to: &str) -> Result<Vec<(DeviceId, SocketAddr)>, ApiError> {
    let everybody = snapshot.peers.iter().map(|peer| (peer.device.clone(), peer.address));
    if to == "all" {
        return Ok(everybody.collect());
    }
    let device = device_id(to)?;
    let found: Vec<_> = everybody.filter(|(known, _)| *known == device).collect();
    if found.is_empty() {
        return Err(ApiError::not_found(format!(
            "{device} is not in the address book; add it with `bidmesh peers add {device} ADDR:PORT`"
        )));
    }
    Ok(found)
}

fn leaving(message: SayMessage, snapshot: &Snapshot, listen: SocketAddr) -> Result<Leaving, ApiError> {
    Ok(match message {
        SayMessage::Text { text } => Leaving::Message(Body::Text(text.into())),
        SayMessage::SlmPrompt { text } => Leaving::Message(Body::SlmPrompt(text.into())),
        SayMessage::BidRequest { payload } => {
            Leaving::Message(typed("BID_REQUEST", &snapshot.device, &payload)?)
        }
        SayMessage::Task { payload } => Leaving::Message(typed("TASK", &snapshot.device, &payload)?),
        SayMessage::Discover => {
            Leaving::Message(Body::Discover(Advertised::from(snapshot.address.unwrap_or(listen))))
        }
        SayMessage::Raw { text } => Leaving::Bytes(format!("{text}\n").into_bytes()),
    })
}

/// The message that a device would read from this payload: what nobody could read is an error here.
fn typed(kind: &str, from: &DeviceId, payload: &str) -> Result<Body, ApiError> {
    let head = format!("{kind}|{from}|");
    match decode(format!("{head}{payload}").as_bytes(), &WireLimits::default()) {
        Ok(decoded) => Ok(decoded.message.body),
        Err(error) => Err(ApiError::bad_request(format!(
            "the payload is no {kind}: at byte {}: {}; quote it for your shell as one word",
            error.offset.saturating_sub(head.len()),
            error.why
        ))),
    }
}

async fn one(api: &Api, device: DeviceId, address: SocketAddr, leaving: Leaving) -> Result<SentTo, ApiError> {
    let failure = match leaving {
        Leaving::Message(body) => {
            api.handle.say(device.clone(), body).await?.map(|why| format!("it {}", why.words()))
        }
        Leaving::Bytes(bytes) => {
            raw::send(api.listen, address, &bytes).await.err().map(|why| format!("it {}", why.words()))
        }
    };
    Ok(SentTo { device_id: device.to_string(), delivered: failure.is_none(), why: failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_nobody_could_read_is_refused_with_its_place() {
        let device = DeviceId::new("Device_A").unwrap();
        assert!(matches!(typed("TASK", &device, r#"{"prompt":"Hello"}"#), Ok(Body::Task(_))));
        let error = typed("TASK", &device, r#"{"prompt": Hello}"#).unwrap_err();
        assert_eq!(error.code(), "bad_request");
    }
}
