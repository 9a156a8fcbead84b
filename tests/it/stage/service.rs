//! The demo's service with what a kubelet would do for it.

use harness::cluster::projector::Projector;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use harness::service::{Service, Settings};
use kube::Client;
use std::net::{Ipv4Addr, SocketAddr};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The service, fed by its ConfigMap.
pub(super) struct Serving {
    address: SocketAddr,
    _shutdown: DropGuard,
    _directory: TempDir,
}

impl Serving {
    /// Starts it; its configuration is there.
    pub(super) async fn start(client: &Client, namespace: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings =
            Settings { config: directory.path().join(CONFIG_KEY), address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let service = Service::bind(settings).await.unwrap();
        let address = service.address();
        let shutdown = CancellationToken::new();
        let projector = Projector::new(client.clone(), namespace, CONFIG_NAME, directory.path());
        let settled = projector.settled();
        tokio::spawn(projector.run(shutdown.clone()));
        tokio::spawn(service.serve(shutdown.clone().cancelled_owned()));
        assert!(timeout(super::PATIENCE, settled).await.unwrap(), "the configuration is projected");
        Self { address, _shutdown: shutdown.drop_guard(), _directory: directory }
    }

    /// Where its health is asked.
    pub(super) fn url(&self) -> String {
        format!("http://{}/health", self.address)
    }
}
