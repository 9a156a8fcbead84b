//! Placeholder.

use kube::Client;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Placeholder.
#[derive(Debug, Clone)]
pub struct OperatorSettings {
    /// All namespaces if `None`.
    pub namespace: Option<String>,
    /// Probes may ask loopback addresses.
    pub allow_loopback: bool,
    /// How often statuses are refreshed.
    pub status_refresh: Option<Duration>,
    /// How long everything must hold before a revision counts as good.
    pub good_after: Duration,
    /// How long tickets are kept after their end.
    pub ticket_ttl: Duration,
    /// No writes to targets.
    pub suspended: bool,
}

/// Placeholder.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {}

/// Placeholder.
pub async fn run(
    _client: Client,
    _settings: OperatorSettings,
    shutdown: CancellationToken,
) -> Result<(), OperatorError> {
    shutdown.cancelled().await;
    Ok(())
}
