//! Parts of this process that are started, watched and stopped together, and the demo's service as one of them.

use super::Failure;
use crate::cluster::projector::Projector;
use crate::samples::CONFIG_NAME;
use crate::service::Service;
use kube::Client;
use std::path::Path;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the service's configuration may take to reach its directory for the first time.
const PROJECTION_DEADLINE: Duration = Duration::from_secs(10);
/// How long a part may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Tasks that are stopped together.
/// Dropping it ends them at once.
#[derive(Default)]
pub struct Part {
    tasks: JoinSet<Result<(), Failure>>,
    shutdown: CancellationToken,
}

impl Part {
    /// Adds a task, which is to end when the token that it gets is cancelled.
    pub fn spawn<F>(&mut self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.tasks.spawn(task(self.shutdown.clone()));
    }

    /// Resolves when one of its tasks has ended by itself: why.
    pub async fn failed(&mut self, name: &str) -> Failure {
        match self.tasks.join_next().await {
            None | Some(Ok(Ok(()))) => format!("{name} stopped although nobody asked it to").into(),
            Some(Ok(Err(failure))) => format!("{name} failed: {failure}").into(),
            Some(Err(error)) => panicked(name, &error),
        }
    }

    /// Stops all its tasks.
    pub async fn stop(mut self, name: &str) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_DEADLINE, all).await.is_err() {
            tracing::warn!("the {name} did not stop within {} s and is cut short", STOP_DEADLINE.as_secs());
        }
    }
}

fn panicked(name: &str, error: &JoinError) -> Failure {
    format!("{name} broke down ({error}); this is a bug").into()
}

/// Serves with the configuration that the ConfigMap of the namespace holds: what a kubelet would do for it is done here.
pub async fn serve(client: &Client, namespace: &str, service: Service, directory: &Path) -> Result<Part, Failure> {
    let mut part = Part::default();
    let projector = Projector::new(client.clone(), namespace, CONFIG_NAME, directory);
    let projected = projector.settled();
    part.spawn(|shutdown| async move {
        projector.run(shutdown).await;
        Ok(())
    });
    part.spawn(|shutdown| async move { Ok(service.serve(async move { shutdown.cancelled().await }).await?) });
    match timeout(PROJECTION_DEADLINE, projected).await {
        Ok(true) => Ok(part),
        Ok(false) | Err(_) => Err(format!(
            "ConfigMap {namespace}/{CONFIG_NAME} did not reach {} within {} s",
            directory.display(),
            PROJECTION_DEADLINE.as_secs(),
        )
        .into()),
    }
}
