//! Errors of the control API: `{ "error": { "code", "message", "retry_after_ms" } }` and a fitting HTTP status.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use bidmesh_core::outbox::Refusal;
use bidmesh_io_tokio::driver::{Ended, Refused};

use super::types::{ErrorBody, ErrorView};

/// An answer that is no success.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let error = ErrorView { code: code.into(), message: message.into(), retry_after_ms: None };
        Self { status, body: ErrorBody { error } }
    }

    /// The client asked for something that means nothing.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// There is no such thing here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// It is too late for that.
    pub fn ended(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "ended", message)
    }

    /// The client may not ask.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    #[cfg(test)]
    pub fn code(&self) -> &str {
        &self.body.error.code
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.body.error.retry_after_ms;
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(millis) = retry_after {
            // Whole seconds, rounded up: sooner is too soon.
            response.headers_mut().insert(RETRY_AFTER, millis.div_ceil(1_000).into());
        }
        response
    }
}

impl From<Ended> for ApiError {
    fn from(_: Ended) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "leaving",
            "this device has ended; start it again with `bidmesh up`",
        )
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (status, code) = match refused.why {
            Refusal::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Refusal::ClientFull => (StatusCode::TOO_MANY_REQUESTS, "client_full"),
            Refusal::EmptyPrompt => (StatusCode::BAD_REQUEST, "empty_prompt"),
            Refusal::PromptTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "prompt_too_long"),
            Refusal::Leaving => (StatusCode::SERVICE_UNAVAILABLE, "leaving"),
            Refusal::NotDurable => (StatusCode::INSUFFICIENT_STORAGE, "not_durable"),
            Refusal::NobodyEligible => (StatusCode::NOT_FOUND, "nobody_eligible"),
        };
        let mut error = Self::new(status, code, refused.why.words());
        error.body.error.retry_after_ms = refused.retry_after_ms;
        error
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(_)) => {
                Self::new(rejection.status(), "too_large", "the request is longer than the control API takes")
            }
            _ => Self::new(rejection.status(), "bad_request", rejection.body_text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_when_to_come_again_in_both_ways() {
        let refused = Refused { why: Refusal::QueueFull, retry_after_ms: Some(2_001) };
        let response = ApiError::from(refused).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "3");
        let refused = Refused { why: Refusal::EmptyPrompt, retry_after_ms: None };
        assert_eq!(ApiError::from(refused).into_response().headers().get(RETRY_AFTER), None);
    }
}
