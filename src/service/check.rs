//! `POST /check`: may this key make one more request?

use super::limiter::Taken;
use super::{Shared, config::Config, disabled, unhealthy};
use axum::extract::State;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Longer keys are refused. Bytes.
const MAX_KEY: usize = 256;

#[derive(Deserialize)]
struct Request {
    key: String,
}

/// Takes one token for the key in the body.
pub(super) async fn check(
    State(state): State<Arc<Shared>>,
    body: Result<axum::body::Bytes, BytesRejection>,
) -> Response {
    let response = match (state.config().await, parse(body)) {
        (Err(trouble), _) => unhealthy(&trouble.to_string()),
        (Ok(config), _) if !config.enabled => unhealthy(&disabled(&state.config)),
        (Ok(_), Err((code, message))) => (code, axum::Json(json!({ "error": message }))).into_response(),
        (Ok(config), Ok(request)) => answer(state.limiter.take(&request.key, &config), &config),
    };
    state.metrics.check(response.status());
    response
}

fn parse(body: Result<axum::body::Bytes, BytesRejection>) -> Result<Request, (StatusCode, String)> {
    let body = body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4096 bytes".to_owned())
        }
        other => (StatusCode::BAD_REQUEST, other.body_text()),
    })?;
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("expected {{\"key\": \"...\"}}: {error}")))?;
    if request.key.is_empty() || request.key.len() > MAX_KEY {
        return Err((StatusCode::BAD_REQUEST, format!("`key` must have from 1 to {MAX_KEY} bytes")));
    }
    Ok(request)
}

fn answer(taken: Taken, config: &Config) -> Response {
    let window = (f64::from(config.burst) / config.requests_per_second).ceil();
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    // draft-ietf-httpapi-ratelimit-headers: the policy's quota and window, then what is left and when more comes.
    set(HeaderName::from_static("ratelimit-policy"), format!("\"key\";q={};w={window}", config.burst));
    let (status, body) = match taken {
        Taken::Yes { remaining } => {
            set(HeaderName::from_static("ratelimit"), format!("\"key\";r={remaining}"));
            (StatusCode::OK, json!({ "allowed": true, "remaining": remaining }))
        }
        Taken::No { wait } => {
            let seconds = wait.as_secs_f64().ceil();
            set(HeaderName::from_static("ratelimit"), format!("\"key\";r=0;t={seconds}"));
            set(header::RETRY_AFTER, seconds.to_string());
            let body = json!({ "allowed": false, "remaining": 0, "retry_after_ms": wait.as_micros().div_ceil(1000) });
            (StatusCode::TOO_MANY_REQUESTS, body)
        }
    };
    (status, headers, axum::Json(body)).into_response()
}
