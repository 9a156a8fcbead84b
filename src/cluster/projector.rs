//! Plays the kubelet's part for one ConfigMap: keeps a directory equal to it, where there is no kubelet.
//!
//! Touches the world: watches the ConfigMap and writes the directory (see [`volume`]).

pub mod volume;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a watch lasts before it is renewed, in seconds: short of what load balancers on the way allow.
const WATCH_SECONDS: u32 = 200;

/// Writes one ConfigMap into one directory, for as long as it runs.
#[derive(Debug)]
pub struct Projector {
    config_maps: Api<ConfigMap>,
    name: String,
    directory: PathBuf,
    projected: watch::Sender<bool>,
}

impl Projector {
    /// A projector of the ConfigMap `name` in `namespace` into `directory`, which is made if need be.
    pub fn new(client: Client, namespace: &str, name: &str, directory: &Path) -> Self {
        Self {
            config_maps: Api::namespaced(client, namespace),
            name: name.to_owned(),
            directory: directory.to_path_buf(),
            projected: watch::Sender::new(false),
        }
    }

    /// Resolves to true after the first projection, or to false once the projector has ended without one.
    ///
    /// There is no deadline: a ConfigMap that does not exist yet may come at any time.
    pub fn settled(&self) -> impl Future<Output = bool> + Send + use<> {
        let mut projected = self.projected.subscribe();
        async move { projected.wait_for(|done| *done).await.is_ok() }
    }

    /// Projects until cancelled. Errors of the watch are retried with a back-off, and those of the disk with the next
    /// change; both are logged. A deleted ConfigMap leaves its last content, as with a kubelet.
    pub async fn run(self, cancellation: CancellationToken) {
        let only_this =
            watcher::Config::default().fields(&format!("metadata.name={}", self.name)).timeout(WATCH_SECONDS);
        let mut events = pin!(watcher(self.config_maps.clone(), only_this).default_backoff());
        while let Some(Some(event)) = cancellation.run_until_cancelled(events.next()).await {
            match event {
                Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) => self.project(map).await,
                Ok(watcher::Event::Delete(_)) => {
                    tracing::info!(config_map = self.name, "deleted; its last content stays");
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => tracing::warn!(config_map = self.name, %error, "could not watch; trying again"),
            }
        }
    }

    async fn project(&self, map: ConfigMap) {
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || volume::write(&directory, &content(map))).await;
        match written {
            Ok(Ok(())) => {
                self.projected.send_replace(true);
            }
            Ok(Err(error)) => tracing::error!(config_map = self.name, %error, "could not project"),
            Err(error) => tracing::error!(config_map = self.name, %error, "projection was interrupted"),
        }
    }
}

/// The files that a ConfigMap stands for.
fn content(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
    text.chain(binary).collect()
}
