//! The demo's service: a rate limiter over HTTP, deterministic, with no idea that anybody watches it.
//!
//! - `POST /check` with `{"key": "..."}` takes one token of that key's bucket: 200, or 429 with `Retry-After`.
//! - `GET /health` reads the configuration file and says whether the service is fit to serve.
//! - `GET /metrics` in the Prometheus text format.
//!
//! The configuration file is read anew on each request, by path, so that a swapped symbolic link counts at once.

pub mod check;
pub mod config;
pub mod limiter;
pub mod metrics;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use config::{Config, Trouble};
use limiter::Limiter;
use metrics::Metrics;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Requests under way at shutdown may take this long.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The largest accepted request body. Bytes.
const MAX_BODY: usize = 4 * 1024;

/// What the service is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration file.
    pub config: PathBuf,
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
}

/// Why the service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another port with --port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The listener failed.
    #[error("the service stopped: {0}")]
    Serve(#[source] std::io::Error),
}

/// A service that has its socket.
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<Shared>,
}

/// What all requests share.
pub(crate) struct Shared {
    config: PathBuf,
    limiter: Limiter,
    metrics: Metrics,
}

impl Shared {
    /// The configuration as it is now.
    async fn config(&self) -> Result<Config, Trouble> {
        config::read(&self.config).await
    }
}

impl Service {
    /// Takes the socket.
    pub async fn bind(settings: Settings) -> Result<Self, ServiceError> {
        let failed = |source| ServiceError::Bind { address: settings.address, source };
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Shared { config: settings.config, limiter: Limiter::default(), metrics: Metrics::default() };
        Ok(Self { listener, address, state: Arc::new(state) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, and then until the requests under way are answered, for 3 s at most.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServiceError> {
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let signal = async move {
            shutdown.await;
            // Nobody listens any more once serving has ended by itself.
            let _ = stopping.send(());
        };
        let serving = axum::serve(self.listener, router(self.state)).with_graceful_shutdown(signal);
        let deadline = async {
            if stopped.await.is_ok() {
                tokio::time::sleep(SHUTDOWN_GRACE).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = serving.into_future() => result.map_err(ServiceError::Serve),
            () = deadline => Ok(()),
        }
    }
}

fn router(state: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/check", post(check::check))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

async fn health(State(state): State<Arc<Shared>>) -> Response {
    let began = Instant::now();
    let response = match state.config().await {
        Ok(config) => {
            tokio::time::sleep(config.delay).await;
            if config.enabled { healthy() } else { unhealthy(&disabled(&state.config)) }
        }
        Err(trouble) => unhealthy(&trouble.to_string()),
    };
    state.metrics.health(response.status(), began.elapsed());
    response
}

async fn metrics(State(state): State<Arc<Shared>>) -> Response {
    let text = state.metrics.encode(state.limiter.keys());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

fn healthy() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

fn unhealthy(reason: &str) -> Response {
    let body = axum::Json(json!({ "status": "unhealthy", "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

fn disabled(config: &Path) -> String {
    format!("`enabled` is false in {}", config::file_name(config))
}
