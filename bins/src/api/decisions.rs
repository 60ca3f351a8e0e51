//! Decision records: who was asked for each prompt, who won and why.

use axum::Json;
use axum::extract::{Path, State};

use super::Api;
use super::convert::task_id;
use super::error::ApiError;
use super::types::DecisionView;

/// All records that are kept, oldest first.
pub async fn list(State(api): State<Api>) -> Result<Json<Vec<DecisionView>>, ApiError> {
    let decisions = api.handle.decisions().await?;
    Ok(Json(decisions.iter().map(DecisionView::from).collect()))
}

pub async fn one(State(api): State<Api>, Path(task): Path<String>) -> Result<Json<DecisionView>, ApiError> {
    let task = task_id(&task)?;
    match api.handle.decision(task.clone()).await? {
        Some(decision) => Ok(Json(DecisionView::from(&decision))),
        None => Err(ApiError::not_found(format!(
            "no decision record of {task} is kept here; `bidmesh why --list` shows which are"
        ))),
    }
}
