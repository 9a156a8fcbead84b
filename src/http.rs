//! The operator's own endpoint: `/healthz`, `/readyz` and `/metrics`. Touches the world by listening.

use crate::vitals::Vitals;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`.
pub async fn serve(address: SocketAddr, vitals: Vitals, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(vitals);
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

async fn healthz(State(vitals): State<Vitals>) -> (StatusCode, &'static str) {
    let is_alive = vitals.is_alive();
    (status(is_alive), if is_alive { "ok" } else { "a loop hangs" })
}

async fn readyz(State(vitals): State<Vitals>) -> (StatusCode, String) {
    let (is_ready, words) = vitals.readiness();
    (status(is_ready), words)
}

fn status(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(vitals): State<Vitals>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], vitals.metrics())
}
