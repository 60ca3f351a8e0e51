//! What the device notices, as it happens.

use std::convert::Infallible;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use bidmesh_io_tokio::driver::Noticed;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;

use super::Api;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One event on one line: what core noticed, and when, in milliseconds since 1970.
#[derive(Serialize)]
struct Line<'a> {
    at_unix_ms: u64,
    #[serde(flatten)]
    event: &'a bidmesh_core::Event,
}

/// The events `event`, and `missed` with a number where a slow reader missed some.
pub async fn events(State(api): State<Api>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = api.handle.events();
    let lines = stream::unfold(receiver, |mut receiver| async {
        let event = match receiver.recv().await {
            Ok(noticed) => Event::default().event("event").data(json(&noticed)),
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), receiver))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// An event as one line of JSON.
pub fn json(noticed: &Noticed) -> String {
    let since = noticed.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let line =
        Line { at_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), event: &noticed.event };
    // Strings, numbers and ids always have a JSON form.
    serde_json::to_string(&line).unwrap_or_else(|_| "{}".into())
}
