//! The endpoints: what each request is answered with.

use super::config_file::{ConfigFile, Orders, Unready};
use super::limiter::{Decision, Limiter};
use super::metrics::{self, Endpoint, Metrics, Outcome};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use governor::clock::MonotonicClock;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// The largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// How long a client may take to send a body.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

struct Context {
    config: ConfigFile,
    limiter: Limiter,
    metrics: Metrics,
}

/// The body of `POST /check`. Unknown fields are tolerated.
#[derive(Deserialize)]
struct CheckRequest {
    key: String,
}

/// Why a request cannot be answered as asked.
struct Refusal {
    code: StatusCode,
    reason: String,
}

pub(super) fn router(config: ConfigFile) -> Router {
    let context = Arc::new(Context { config, limiter: Limiter::new(MonotonicClock), metrics: Metrics::new() });
    Router::new()
        .route("/check", post(check))
        .route("/health", get(health))
        .route("/metrics", get(report))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&context), count))
        .with_state(context)
}

async fn count(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let endpoint = match request.uri().path() {
        "/check" => Endpoint::Check,
        "/health" => Endpoint::Health,
        "/metrics" => Endpoint::Metrics,
        _ => Endpoint::Other,
    };
    let response = next.run(request).await;
    context.metrics.count_request(endpoint, response.status().as_u16());
    response
}

async fn health(State(context): State<Arc<Context>>) -> Response {
    let started = Instant::now();
    let response = match context.config.orders().await {
        Ok(Orders { delay, rate }) => {
            sleep(delay).await;
            Json(json!({
                "status": "ok",
                "delay_ms": milliseconds(delay),
                "requests_per_second": rate.requests_per_second,
                "burst": rate.burst,
            }))
            .into_response()
        }
        Err(unready) => {
            // Slow and dead are two faults, and may be there at once.
            if let Unready::Disabled { delay, path: _ } = unready {
                sleep(delay).await;
            }
            unready.into_response()
        }
    };
    context.metrics.observe_health(started.elapsed());
    response
}

async fn check(State(context): State<Arc<Context>>, request: Request) -> Result<Response, Response> {
    let Orders { rate, delay: _ } = context.config.orders().await.map_err(Unready::into_response)?;
    let body = body(request).await.map_err(Refusal::into_response)?;
    let key = key(&body).map_err(Refusal::into_response)?;
    // The names of the fields are those of draft-ietf-httpapi-ratelimit-headers-10. A client that knows nothing but
    // the policy may use the whole burst in each window without being refused.
    let policy = format!("\"default\";q={};w={}", rate.burst, seconds(rate.refill()));
    let response = match context.limiter.check(&key, rate) {
        Decision::Allowed { remaining } => {
            context.metrics.count_check(Outcome::Allowed);
            // At least one token comes back each second.
            let limit = format!("\"default\";r={remaining};t=1");
            let fields = [("ratelimit-policy", policy), ("ratelimit", limit)];
            (StatusCode::OK, fields, Json(json!({"allowed": true, "remaining": remaining}))).into_response()
        }
        Decision::Limited { retry_after } => {
            context.metrics.count_check(Outcome::Limited);
            let wait = seconds(retry_after);
            let limit = format!("\"default\";r=0;t={wait}");
            let fields = [("ratelimit-policy", policy), ("ratelimit", limit), ("retry-after", wait.to_string())];
            let answer = json!({"allowed": false, "remaining": 0, "retry_after_ms": milliseconds(retry_after)});
            (StatusCode::TOO_MANY_REQUESTS, fields, Json(answer)).into_response()
        }
    };
    Ok(response)
}

async fn report(State(context): State<Arc<Context>>) -> Response {
    match context.metrics.encode(context.limiter.keys()) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let reason = format!("could not write the metrics: {error}");
            Refusal { code: StatusCode::INTERNAL_SERVER_ERROR, reason }.into_response()
        }
    }
}

async fn body(request: Request) -> Result<Bytes, Refusal> {
    match timeout(BODY_DEADLINE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let reason = format!("the body has more than {MAX_BODY_BYTES} bytes");
            Err(Refusal { code: StatusCode::PAYLOAD_TOO_LARGE, reason })
        }
        Ok(Err(rejection)) => Err(Refusal { code: rejection.status(), reason: rejection.body_text() }),
        Err(_) => {
            let reason = format!("the body did not arrive within {} s", BODY_DEADLINE.as_secs());
            Err(Refusal { code: StatusCode::REQUEST_TIMEOUT, reason })
        }
    }
}

/// Reads the key; the body is whatever a stranger sent.
fn key(body: &[u8]) -> Result<String, Refusal> {
    let refuse = |reason| Refusal { code: StatusCode::BAD_REQUEST, reason };
    let CheckRequest { key } = serde_json::from_slice(body)
        .map_err(|error| refuse(format!("expected a body like {{\"key\": \"alice\"}}: {error}")))?;
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(refuse(format!("/key: expected 1 to {MAX_KEY_BYTES} bytes, found {}", key.len())));
    }
    Ok(key)
}

/// Whole seconds, rounded up, at least 1: a client that waits this long has waited enough.
fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

/// Whole milliseconds, rounded up.
fn milliseconds(duration: Duration) -> u64 {
    duration.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

impl IntoResponse for Unready {
    fn into_response(self) -> Response {
        let answer = json!({"status": "unhealthy", "reason": self.to_string()});
        (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code, Json(json!({"reason": self.reason}))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        for (duration, whole_seconds, whole_milliseconds) in [
            (Duration::ZERO, 1, 0),
            (Duration::from_micros(1), 1, 1),
            (Duration::from_millis(100), 1, 100),
            (Duration::from_micros(1_000_001), 1, 1001),
            (Duration::from_millis(1_001), 2, 1001),
        ] {
            assert_eq!(
                (seconds(duration), milliseconds(duration)),
                (whole_seconds, whole_milliseconds),
                "{duration:?}"
            );
        }
    }
}
