//! How the device is, and whether it works: status, pause, resume, shutdown.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use bidmesh_core::Input;
use serde::de::DeserializeOwned;

use super::Api;
use super::error::ApiError;
use super::types::{Pause, ShutDown, Status};

/// How long running work may take to finish when the device is told to end and not how fast.
pub const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

pub async fn status(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    let snapshot = api.handle.snapshot().await?;
    let directory = api.directory.as_ref().map(|directory| directory.path().display().to_string());
    Ok(Json(Status::new(&snapshot, directory)))
}

pub async fn pause(State(api): State<Api>, body: Bytes) -> Result<StatusCode, ApiError> {
    let pause: Pause = optional(&body)?;
    api.handle.tell(Input::Pause { during: pause.for_ms.map(Duration::from_millis) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn resume(State(api): State<Api>) -> Result<StatusCode, ApiError> {
    api.handle.tell(Input::Resume).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn shutdown(State(api): State<Api>, body: Bytes) -> Result<StatusCode, ApiError> {
    let shutdown: ShutDown = optional(&body)?;
    let within = shutdown.within_ms.map_or(SHUTDOWN_WITHIN, Duration::from_millis);
    api.handle.tell(Input::Shutdown { within }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A body that may be left out.
fn optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|why| ApiError::bad_request(format!("the body is not what it should be: {why}")))
}
