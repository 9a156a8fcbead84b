//! What the service counts.

use axum::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: Endpoint,
    code: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Endpoint {
    Check,
    Health,
}

/// The service's counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    health_duration: Histogram,
    keys: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rate_limiter");
        let requests = Family::default();
        let health_duration = Histogram::new([0.001, 0.005, 0.025, 0.1, 0.2, 0.5, 1.0, 5.0]);
        let keys = Gauge::default();
        registry.register("requests", "Requests by endpoint and status code", requests.clone());
        registry.register_with_unit(
            "health_duration",
            "Time until a health check was answered",
            Unit::Seconds,
            health_duration.clone(),
        );
        registry.register("tracked_keys", "Keys that have a bucket", keys.clone());
        Self { registry, requests, health_duration, keys }
    }
}

impl Metrics {
    /// Counts a health check.
    pub(super) fn health(&self, status: StatusCode, took: Duration) {
        self.count(Endpoint::Health, status);
        self.health_duration.observe(took.as_secs_f64());
    }

    /// Counts a check of a key.
    pub(super) fn check(&self, status: StatusCode) {
        self.count(Endpoint::Check, status);
    }

    fn count(&self, endpoint: Endpoint, status: StatusCode) {
        self.requests.get_or_create(&RequestLabels { endpoint, code: status.as_u16() }).inc();
    }

    /// All counters in the text format of OpenMetrics, which Prometheus reads.
    pub(super) fn encode(&self, keys: usize) -> String {
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
}
