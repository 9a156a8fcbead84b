//! The two binaries of the control plane: found, fetched or built.
//!
//! In this order: a directory that the user names; the user's cache; the release archive of envtest, checked against
//! its published checksum; a build with Go of the versions that `tools/go.mod` pins. What was fetched or built goes
//! into the cache, complete or not at all.

mod archive;
mod build;
mod cache;
mod progress;
mod verify;

pub use archive::ArchiveError;
pub use build::BuildError;
pub use progress::{Progress, Sink, Stage};
pub use verify::Unusable;

use progress::Reporter;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of Kubernetes that is built, and that is looked for in releases.
pub const KUBERNETES_VERSION: &str = "v1.36.3";
/// The version of Kubernetes up to the patch: an archive of any patch of it will do.
const KUBERNETES_MINOR_VERSION: &str = "v1.36.";
/// The index of release archives that kubernetes-sigs/controller-tools publishes for envtest.
const ARCHIVE_INDEX: &str =
    "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml";

const KUBE_APISERVER: &str = "kube-apiserver";
const ETCD: &str = "etcd";

/// Where to look for the binaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// A directory that has them (the value of `KUBEBUILDER_ASSETS`). If it is given, nothing else is tried.
    pub given: Option<PathBuf>,
    /// The harness's own cache directory, such as `~/.cache/harness`.
    pub cache: PathBuf,
}

/// Binaries that were seen to run, and the place for the data of the control planes made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    binaries: PathBuf,
    run: PathBuf,
}

/// Why there are no binaries.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// The directory that the user named does not have them.
    #[error("KUBEBUILDER_ASSETS={} cannot be used: {problem}; correct it or unset it", directory.display())]
    UseGiven {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        problem: Unusable,
    },
    /// The cache could not be read, locked or written.
    #[error("could not use the cache {}: {source}; is it writable, with 1 GiB of space left?", directory.display())]
    UseCache {
        /// The cache directory.
        directory: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process has been filling the cache for too long.
    #[error("another harness has been building for {} min; look for a stuck `go build`, then try again", waited.as_secs() / 60)]
    AwaitOtherBuild {
        /// How long was waited.
        waited: Duration,
    },
    /// Neither the archive nor Go provided binaries.
    #[error(
        "no kube-apiserver and etcd {KUBERNETES_VERSION}: {archive}; {build}\n\
         Three ways out:\n\
         - install Go {} or later, and try again;\n\
         - set KUBEBUILDER_ASSETS to a directory that has both binaries;\n\
         - use an existing cluster: --context NAME or --kubeconfig FILE.",
        build::go_version()
    )]
    Obtain {
        /// Why there is no archive.
        archive: Box<ArchiveError>,
        /// Why there is no build.
        build: Box<BuildError>,
    },
    /// What was fetched or built does not run.
    #[error("the new binaries cannot be used: {0}")]
    UseNew(#[source] Unusable),
}

impl Assets {
    /// Finds the binaries, fetching or building them if need be, and sees that they run.
    ///
    /// A build from nothing takes minutes: `sink` hears of it at least once a second.
    pub async fn find(sources: &Sources, sink: Sink<'_>) -> Result<Self, AssetsError> {
        let reporter = Reporter::new(sink);
        reporter.during(find(sources, &reporter)).await
    }

    /// The API server's binary.
    pub fn kube_apiserver(&self) -> PathBuf {
        self.binaries.join(KUBE_APISERVER)
    }

    /// The store's binary.
    pub fn etcd(&self) -> PathBuf {
        self.binaries.join(ETCD)
    }

    /// Where control planes keep their data while they run.
    pub(super) fn run_directory(&self) -> &Path {
        &self.run
    }
}

async fn find(sources: &Sources, reporter: &Reporter<'_>) -> Result<Assets, AssetsError> {
    let run = sources.cache.join("run");
    if let Some(given) = &sources.given {
        // The children run in another directory.
        let directory = std::path::absolute(given).unwrap_or_else(|_| given.clone());
        return match verify::version(&directory).await {
            Ok(_) => Ok(Assets { binaries: directory, run }),
            Err(problem) => Err(AssetsError::UseGiven { directory, problem }),
        };
    }
    let cache = cache::Cache::new(&sources.cache);
    if cache.check().await.is_ok() {
        return Ok(Assets { binaries: cache.binaries(), run });
    }
    let turn = cache.take_turn(reporter).await?;
    // Whoever had the turn before may have filled it.
    match cache.check().await {
        Ok(()) => {}
        Err(problem) => {
            if !matches!(problem, cache::Problem::Absent) {
                reporter.report(Stage::DiscardingCache { problem: problem.to_string() });
            }
            let staging = turn.clear()?;
            let version = obtain(staging.path(), reporter).await?;
            turn.install(staging, &version)?;
        }
    }
    Ok(Assets { binaries: cache.binaries(), run })
}

/// Puts both binaries into `directory`, sees that they run, and returns their version.
async fn obtain(directory: &Path, reporter: &Reporter<'_>) -> Result<String, AssetsError> {
    let expected = match archive::fetch(ARCHIVE_INDEX, directory, reporter).await {
        Ok(version) => version,
        Err(archive) => {
            reporter.report(Stage::ArchiveUnavailable { reason: archive.to_string() });
            build::build(directory, reporter)
                .await
                .map_err(|build| AssetsError::Obtain { archive: Box::new(archive), build: Box::new(build) })?;
            KUBERNETES_VERSION.to_owned()
        }
    };
    reporter.report(Stage::Verifying);
    verify::expect_version(directory, &expected).await.map_err(AssetsError::UseNew)?;
    Ok(expected)
}
