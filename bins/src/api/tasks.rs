//! Prompts: hand one in, follow it, cancel it.
//!
//! An attached task lives as long as somebody follows it. What follows is the [`Following`] inside the response's
//! body: when the client closes the connection hyper drops the body, and the driver cancels the task.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bidmesh_core::Input;
use bidmesh_core::id::TaskId;
use bidmesh_io_tokio::driver::{Following, Told};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;

use super::Api;
use super::convert::task_id;
use super::error::ApiError;
use super::types::{Admitted, BrokenOff, EndedView, OutcomeView, Submit, TaskOrOutcome, TaskView, TextPiece};

/// A comment is sent after this long without an event, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub async fn submit(
    State(api): State<Api>,
    body: Result<Json<Submit>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(submit) = body?;
    let attached = submit.attached;
    let following = api.handle.submit(submit.into_submission()?).await??;
    if attached {
        return Ok(told(following).into_response());
    }
    let admitted = admitted(&following);
    Ok((StatusCode::ACCEPTED, Json(admitted)).into_response())
}

pub async fn follow(State(api): State<Api>, Path(task): Path<String>) -> Result<Response, ApiError> {
    let task = task_id(&task)?;
    let following = api.handle.follow(task.clone()).await?.ok_or_else(|| unknown(&task))?;
    Ok(told(following).into_response())
}

pub async fn one(State(api): State<Api>, Path(task): Path<String>) -> Result<Json<TaskOrOutcome>, ApiError> {
    let task = task_id(&task)?;
    let snapshot = api.handle.snapshot().await?;
    if let Some(open) = snapshot.tasks.iter().find(|open| open.task == task) {
        return Ok(Json(TaskOrOutcome { task: Some(TaskView::new(snapshot.now, open)), outcome: None }));
    }
    let outcome = api.handle.outcome(task.clone()).await?.ok_or_else(|| unknown(&task))?;
    Ok(Json(TaskOrOutcome { task: None, outcome: Some(OutcomeView::new(&task, &outcome)) }))
}

pub async fn outcomes(State(api): State<Api>) -> Result<Json<Vec<EndedView>>, ApiError> {
    let outcomes = api.handle.outcomes().await?;
    Ok(Json(outcomes.iter().map(|(task, outcome)| EndedView::new(task, outcome)).collect()))
}

pub async fn cancel(State(api): State<Api>, Path(task): Path<String>) -> Result<StatusCode, ApiError> {
    let task = task_id(&task)?;
    let snapshot = api.handle.snapshot().await?;
    if !snapshot.tasks.iter().any(|open| open.task == task) {
        return Err(match api.handle.outcome(task.clone()).await? {
            Some(_) => ApiError::ended(format!("task {task} has ended already; see `bidmesh result {task}`")),
            None => unknown(&task),
        });
    }
    api.handle.tell(Input::Cancel { task }).await?;
    Ok(StatusCode::ACCEPTED)
}

pub async fn list(State(api): State<Api>) -> Result<Json<Vec<TaskView>>, ApiError> {
    let snapshot = api.handle.snapshot().await?;
    Ok(Json(snapshot.tasks.iter().map(|task| TaskView::new(snapshot.now, task)).collect()))
}

fn unknown(task: &TaskId) -> ApiError {
    ApiError::not_found(format!("no task {task} is known here; `bidmesh tasks` lists those that are"))
}

fn admitted(following: &Following) -> Admitted {
    Admitted {
        task_id: following.task().to_string(),
        position: following.position(),
        joined: following.joined(),
    }
}

/// What is told of a task, as server-sent events: `admitted`, then `text` and `broken_off`, then one `outcome`.
fn told(following: Following) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = named("admitted", &admitted(&following));
    let rest = stream::unfold(following, |mut following| async {
        let told = following.next().await?;
        Some((event(following.task(), told), following))
    });
    Sse::new(stream::iter([first]).chain(rest).map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn event(task: &TaskId, told: Told) -> Event {
    match told {
        Told::Text { device, offset, text } => {
            named("text", &TextPiece { device_id: device.to_string(), offset, text })
        }
        Told::BrokenOff { device, shown, why } => {
            named("broken_off", &BrokenOff { device_id: device.to_string(), shown, why })
        }
        Told::Outcome(outcome) => named("outcome", &OutcomeView::new(task, &outcome)),
    }
}

fn named(name: &str, data: &impl Serialize) -> Event {
    // Strings and numbers always have a JSON form; a comment stands for what cannot happen.
    Event::default().event(name).json_data(data).unwrap_or_else(|_| Event::default().comment("unwritable"))
}
