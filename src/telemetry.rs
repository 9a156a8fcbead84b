//! Logs: lines on stderr, for people and for collectors alike, with secrets masked.

use crate::redact;
use std::io::{self, IsTerminal, Write, stderr};
use tracing_subscriber::EnvFilter;

/// Writes logs to stderr, as the directives say (`warn`, `harness=debug,kube=info`, ...). Only the first call counts.
pub fn log_to_stderr(directives: &str) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(|| Masked)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    if subscriber.try_init().is_err() {
        tracing::debug!("logs are written already");
    }
}

/// Stderr, for whole events: a secret in two halves would not be seen.
struct Masked;

impl Write for Masked {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        stderr().write_all(redact::text(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
