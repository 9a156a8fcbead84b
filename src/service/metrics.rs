//! What the service counts.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::time::Duration;

/// The content type of the text that [`Metrics::encode`] writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The upper bounds of the latencies, in seconds: up to the longest delay that a config can ask for.
const LATENCY_BOUNDS_SECONDS: [f64; 13] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// The counters of one service.
#[derive(Debug)]
pub(super) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    checks: Family<CheckLabels, Counter>,
    keys: Gauge,
    health_latency: Histogram,
    registry: Registry,
}

/// What was asked for; a closed list, so that made-up paths cannot grow the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Endpoint {
    Check,
    Health,
    Metrics,
    Other,
}

/// The limiter's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
    Allowed,
    Limited,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: Endpoint,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    outcome: Outcome,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let checks = Family::<CheckLabels, Counter>::default();
        let keys = Gauge::default();
        let health_latency = Histogram::new(LATENCY_BOUNDS_SECONDS);
        let mut registry = Registry::with_prefix("rate_limiter");
        registry.register("requests", "Requests answered, by endpoint and status code", requests.clone());
        registry.register("checks", "Keys checked, by what the limiter said", checks.clone());
        registry.register("keys", "Keys that have a bucket of their own", keys.clone());
        registry.register_with_unit(
            "health_latency",
            "How late /health answered",
            Unit::Seconds,
            health_latency.clone(),
        );
        Self { requests, checks, keys, health_latency, registry }
    }

    pub(super) fn count_request(&self, endpoint: Endpoint, code: u16) {
        self.requests.get_or_create(&RequestLabels { endpoint, code }).inc();
    }

    pub(super) fn count_check(&self, outcome: Outcome) {
        self.checks.get_or_create(&CheckLabels { outcome }).inc();
    }

    pub(super) fn observe_health(&self, latency: Duration) {
        self.health_latency.observe(latency.as_secs_f64());
    }

    /// All of it as text, given how many keys are tracked now.
    pub(super) fn encode(&self, keys: usize) -> Result<String, fmt::Error> {
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
