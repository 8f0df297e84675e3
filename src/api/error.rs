//! How a refusal is said over HTTP: one shape, one place that chooses the status.

use crate::domain::Refusal;
use crate::engine::{CommandError, SubmitError};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// How long a sender should wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

/// The body: `{"error": {"code", "message", "hint"}}`.
#[derive(Serialize)]
struct Body<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401: nobody knows who asks.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: whoever asks may not.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405: the path is known, the method is not.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 413: the body is too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 415: the body is not JSON.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 503: the store could not be read.
    pub fn store(error: &impl std::fmt::Display) -> Self {
        Self::unavailable(format!("cannot read the store: {error}"))
    }

    /// 500: a stored object cannot be read by this program.
    pub fn unreadable(id: &str, error: &serde_json::Error) -> Self {
        tracing::error!("cannot read the stored object {id}: {error}");
        let message = format!("cannot read the stored object `{id}`");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", message)
            .hint("the daemon's log tells more")
    }

    /// Adds what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The status that it is sent with.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        Self::unavailable(error.to_string()).hint("try again in a second; `/-/ready` tells more")
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotTaken(error) => error.into(),
            CommandError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(message) => Self::not_found(message),
            Refusal::WrongState(message) => Self::new(StatusCode::CONFLICT, "wrong_state", message),
            Refusal::NotAllowed(message) => Self::forbidden("not_allowed", message),
            Refusal::Invalid(message) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
            }
        }
    }
}

impl ApiError {
    /// The answer at a path. Alerta's senders look at nothing but `status` in the body, and would
    /// take any other refusal for success.
    pub(super) fn answer_for(self, path: &str) -> Response {
        let path = path.strip_prefix("/api").unwrap_or(path);
        if path == "/alert" || path.starts_with("/alert/") {
            let body = serde_json::json!({"status": "error", "message": self.message});
            return (self.status, Json(body)).into_response();
        }
        self.into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let detail = Detail { code: self.code, message: &self.message, hint: self.hint.as_deref() };
        let mut response = (self.status, Json(Body { error: detail })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"watchkeeper\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_status() {
        let refused = |it| CommandError::Refused(it);
        let cases = [
            (refused(Refusal::NotFound("a".into())), 404),
            (refused(Refusal::WrongState("a".into())), 409),
            (refused(Refusal::NotAllowed("a".into())), 403),
            (refused(Refusal::Invalid("a".into())), 422),
            (CommandError::NotTaken(SubmitError::Overloaded), 503),
            (CommandError::NotTaken(SubmitError::Unavailable("full".into())), 503),
            (CommandError::NotTaken(SubmitError::Stopping), 503),
        ];
        for (error, status) in cases {
            let response = ApiError::from(error.clone()).into_response();
            assert_eq!(response.status().as_u16(), status, "{error}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        }
        let response = ApiError::unauthorized("who").into_response();
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
