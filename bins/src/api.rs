//! The control API: what this machine's own people and programs ask of a running device, as HTTP and JSON over
//! loopback. Every command is a client of it. `docs/control-api.md` describes it for other clients.

pub mod control_file;
mod convert;
mod decisions;
mod error;
mod events;
mod guard;
mod messages;
mod peers;
mod raw;
mod server;
mod status;
mod tasks;
pub mod types;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post, put};
use bidmesh_io_tokio::driver::Handle;
use bidmesh_io_tokio::files::MeshDirectory;
use tokio::sync::Mutex;

use error::ApiError;
pub use events::json as event_json;
pub use guard::Token;
pub use server::{Serving, serve};

/// The longest request body: three prompts of the default limit, each character escaped.
const BODY_BYTES_MAX: usize = 24 << 20;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    /// The device.
    handle: Handle,
    /// Its mesh directory, if it has one.
    directory: Option<MeshDirectory>,
    /// The address that it is bound to.
    listen: SocketAddr,
    /// The address book is edited as a whole; two edits at a time would lose one.
    editing_peers: Arc<Mutex<()>>,
}

impl Api {
    pub fn new(handle: Handle, directory: Option<MeshDirectory>, listen: SocketAddr) -> Self {
        Self { handle, directory, listen, editing_peers: Arc::default() }
    }
}

/// All endpoints, behind the guard.
fn router(api: Api, token: Token) -> Router {
    let endpoints = Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/tasks", get(tasks::list).post(tasks::submit))
        .route("/v1/tasks/{task}", get(tasks::one).delete(tasks::cancel))
        .route("/v1/tasks/{task}/events", get(tasks::follow))
        .route("/v1/outcomes", get(tasks::outcomes))
        .route("/v1/decisions", get(decisions::list))
        .route("/v1/decisions/{task}", get(decisions::one))
        .route("/v1/peers", get(peers::list))
        .route("/v1/peers/{device}", put(peers::add).delete(peers::remove))
        .route("/v1/messages", post(messages::say))
        .route("/v1/pause", post(status::pause))
        .route("/v1/resume", post(status::resume))
        .route("/v1/shutdown", post(status::shutdown))
        .route("/v1/events", get(events::events))
        .with_state(api);
    guarded(endpoints, token)
}

/// `endpoints`, but only for those who may, with bounded bodies and JSON for every error.
fn guarded(endpoints: Router, token: Token) -> Router {
    endpoints
        .fallback(|| async { ApiError::not_found("no such endpoint; docs/control-api.md lists them") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this endpoint has other methods; docs/control-api.md lists them",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(token, guard::guard))
}

#[cfg(test)]
mod tests;
