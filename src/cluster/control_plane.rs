//! A real Kubernetes control plane without containers: `etcd` and `kube-apiserver` as child processes on loopback,
//! with a private data directory, certificates of their own, and no way to outlive this process.
//!
//! There is no controller manager, scheduler or kubelet in it: objects are stored, validated, authorised and watched
//! exactly as in any cluster, but nothing acts on them. A namespace stays Terminating for ever, owners do not take
//! their dependants with them, Deployments make no pods.
//!
//! Touches the world: writes files below the cache, starts and stops processes.

mod access;
pub mod assets;
mod certificates;
mod directory;
mod process;
mod start;
pub mod tether;

use access::Access;
use assets::Assets;
use directory::DataDirectory;
use process::TetheredChild;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use process::Ended;

/// How long a child may take to stop by itself before it is killed. An idle API server takes one second, one with open
/// watches would wait for them for a minute; the data is thrown away, so that nothing is lost.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// A running control plane. Dropping it kills its processes and removes its directory.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: the API server before its store, the directory last.
    api_server: TetheredChild,
    etcd: TetheredChild,
    access: Access,
    kubeconfig: PathBuf,
    version: String,
    directory: DataDirectory,
}

/// Why a control plane could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The directory for the data could not be made, locked or swept.
    #[error("could not prepare a data directory in {}: {source}; is it writable, with space left?", directory.display())]
    PrepareDirectory {
        /// Where data directories are made.
        directory: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file of the control plane could not be written.
    #[error("could not write {}: {source}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate: {0}")]
    MakeCertificate(#[source] rcgen::Error),
    /// No free port on loopback.
    #[error("could not find a free port on 127.0.0.1: {0}")]
    FindPort(#[source] io::Error),
    /// A child process could not be started.
    #[error("could not start a child process through {}: {source}", launcher.display())]
    Launch {
        /// The harness's own binary.
        launcher: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A child process ended although nobody asked it to.
    #[error("{0}")]
    ChildEnded(Ended),
    /// The control plane did not become ready in time.
    #[error("the control plane was not ready after {} s ({last_answer}); the end of the API server's log:\n{log_tail}", waited.as_secs())]
    NotReady {
        /// How long it was given.
        waited: Duration,
        /// What it answered last.
        last_answer: String,
        /// The last lines of the API server's log.
        log_tail: String,
    },
    /// No client could be made of the credentials, or the API server did not tell its version.
    #[error("the control plane's API server could not be used: {0}")]
    UseApi(#[source] Box<kube::Error>),
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready.
    ///
    /// That takes two to three seconds, one of which the API server waits before it makes the default RBAC roles; at
    /// most 60 s.
    ///
    /// `launcher` is the harness's own binary: it starts the children through its `tethered` subcommand, so that
    /// they die with this process however it dies.
    pub async fn start(assets: &Assets, launcher: &Path) -> Result<Self, ControlPlaneError> {
        start::start(assets, launcher).await
    }

    /// The administrator's kubeconfig (mode 0600, certificates embedded): works with `kubectl --kubeconfig`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What the API server calls its version, such as `v1.36.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A new client with the administrator's rights. Must be called in the tokio runtime that will use it.
    pub fn client(&self) -> Result<kube::Client, ControlPlaneError> {
        self.access.administrator_client()
    }

    /// The text of a kubeconfig for a user of that name, who has no rights but those that RBAC grants.
    ///
    /// A client certificate carries at most one group; `system:authenticated` comes with every user.
    pub fn user_kubeconfig(&self, name: &str, group: Option<&str>) -> Result<String, ControlPlaneError> {
        self.access.user_kubeconfig(name, group)
    }

    /// A new client that acts as the user of that name. Must be called in the tokio runtime that will use it.
    pub fn user_client(&self, name: &str, group: Option<&str>) -> Result<kube::Client, ControlPlaneError> {
        self.access.user_client(name, group)
    }

    /// Resolves when one of the two processes has ended by itself: how, and the end of its log.
    pub async fn ended(&self) -> Ended {
        tokio::select! {
            ended = self.etcd.ended() => ended,
            ended = self.api_server.ended() => ended,
        }
    }

    /// Stops both processes (asked first, killed after 2 s) and removes the data directory.
    pub async fn stop(self) {
        self.api_server.stop(STOP_DEADLINE).await;
        self.etcd.stop(STOP_DEADLINE).await;
        tracing::debug!(directory = %self.directory.path().display(), "control plane stopped");
    }
}
