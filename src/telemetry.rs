//! Logs: lines on stderr, for people and for collectors alike.

use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

/// Writes logs to stderr, as the directives say (`warn`, `harness=debug,kube=info`, ...). Only the first call counts.
pub fn log_to_stderr(directives: &str) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    if subscriber.try_init().is_err() {
        tracing::debug!("logs are written already");
    }
}
