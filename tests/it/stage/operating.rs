//! A running operator.

use harness::operator::{Halves, OperatorError, OperatorSettings, run_halves};
use kube::Client;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running operator. Dropping it asks it to stop.
pub(crate) struct Operating {
    shutdown: DropGuard,
    task: JoinHandle<Result<(), OperatorError>>,
}

impl Operating {
    /// Starts it.
    pub(crate) fn start(client: Client, settings: OperatorSettings, halves: Halves) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run_halves(client, settings, halves, shutdown.clone()));
        Self { shutdown: shutdown.drop_guard(), task }
    }

    /// Stops it, and sees that it ended well and in time.
    pub(crate) async fn stop(self) {
        drop(self.shutdown);
        timeout(super::PATIENCE, self.task).await.expect("the operator ends").unwrap().unwrap();
    }
}
