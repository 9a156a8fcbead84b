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
        .route("/healthz", get(async |State(vitals): State<Vitals>| status(vitals.is_alive(), "a loop hangs")))
        .route(
            "/readyz",
            get(async |State(vitals): State<Vitals>| status(vitals.is_ready(), "not everything is seen yet")),
        )
        .route("/metrics", get(metrics))
        .with_state(vitals);
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

fn status(well: bool, otherwise: &'static str) -> (StatusCode, &'static str) {
    if well { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) }
}

async fn metrics(State(vitals): State<Vitals>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], vitals.metrics())
}
