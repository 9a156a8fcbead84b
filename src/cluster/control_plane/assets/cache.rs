//! The user's cache of binaries: one process fills it at a time, and what is in it is complete.
//!
//! `control-plane/VERSION/` has the two binaries and, written last, the marker `complete` with their version. It
//! appears by a rename, so that a process that was killed in the middle leaves nothing that looks like it.

use super::progress::{Reporter, Stage};
use super::verify::{self, Unusable};
use super::{AssetsError, KUBERNETES_MINOR_VERSION, KUBERNETES_VERSION};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const MARKER: &str = "complete";
const STAGING_PREFIX: &str = "staging-";
/// How long another process may fill the cache: five times what a build from nothing takes on a small machine.
const TURN_DEADLINE: Duration = Duration::from_mins(30);
const TURN_POLL: Duration = Duration::from_millis(200);

/// The cache of one version.
pub(super) struct Cache {
    /// Holds the directories of all versions, the lock, and what is being made.
    root: PathBuf,
    directory: PathBuf,
}

/// Why the cache cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("it is empty")]
    Absent,
    #[error("{} is half-built: it has no file `{MARKER}`", directory.display())]
    HalfBuilt { directory: PathBuf },
    #[error("{} holds {found:?} instead of {KUBERNETES_VERSION}", directory.display())]
    OtherVersion { directory: PathBuf, found: String },
    #[error("{0}")]
    Unusable(Unusable),
}

impl Cache {
    pub(super) fn new(cache: &Path) -> Self {
        let root = cache.join("control-plane");
        Self { directory: root.join(KUBERNETES_VERSION), root }
    }

    /// Where the binaries are once [`Cache::check`] succeeds.
    pub(super) fn binaries(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Sees that both binaries are there, complete, and run.
    pub(super) async fn check(&self) -> Result<(), Problem> {
        if !self.directory.exists() {
            return Err(Problem::Absent);
        }
        let marker = fs::read_to_string(self.directory.join(MARKER))
            .map_err(|_| Problem::HalfBuilt { directory: self.directory.clone() })?;
        let version = marker.trim();
        if !version.starts_with(KUBERNETES_MINOR_VERSION) {
            return Err(Problem::OtherVersion { directory: self.directory.clone(), found: marker });
        }
        verify::expect_version(&self.directory, version).await.map_err(Problem::Unusable)
    }

    /// Waits until no other process fills the cache.
    pub(super) async fn take_turn(&self, reporter: &Reporter<'_>) -> Result<Turn<'_>, AssetsError> {
        let lock = fs::create_dir_all(&self.root)
            .and_then(|()| {
                let path = self.root.join("lock");
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
            })
            .map_err(|source| self.unusable(source))?;
        let deadline = Instant::now() + TURN_DEADLINE;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Turn { cache: self, _lock: lock }),
                Err(TryLockError::Error(source)) => return Err(self.unusable(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(AssetsError::AwaitOtherBuild { waited: TURN_DEADLINE });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                reporter.report(Stage::WaitingForAnotherBuild);
                told = true;
            }
            sleep(TURN_POLL).await;
        }
    }

    fn unusable(&self, source: io::Error) -> AssetsError {
        AssetsError::UseCache { directory: self.root.clone(), source }
    }
}

/// The right to fill the cache, for as long as it lives.
pub(super) struct Turn<'a> {
    cache: &'a Cache,
    /// Held, never read: closing it releases the lock.
    _lock: File,
}

impl Turn<'_> {
    /// Removes what is unusable or was left by killed processes, and makes a directory for the new binaries.
    pub(super) fn clear(&self) -> Result<TempDir, AssetsError> {
        self.try_clear().map_err(|source| self.cache.unusable(source))
    }

    fn try_clear(&self) -> io::Result<TempDir> {
        for entry in fs::read_dir(&self.cache.root)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path == self.cache.directory || name.starts_with(STAGING_PREFIX) {
                fs::remove_dir_all(path)?;
            }
        }
        tempfile::Builder::new().prefix(STAGING_PREFIX).tempdir_in(&self.cache.root)
    }

    /// Marks `staging` as complete and moves it to its place.
    pub(super) fn install(&self, staging: TempDir, version: &str) -> Result<(), AssetsError> {
        fs::write(staging.path().join(MARKER), format!("{version}\n"))
            .and_then(|()| fs::rename(staging.keep(), &self.cache.directory))
            .map_err(|source| self.cache.unusable(source))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ETCD, KUBE_APISERVER};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(path: &Path, says: &str) {
        fs::write(path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn fill(directory: &Path, version: &str) {
        script(&directory.join(ETCD), "etcd Version: 3.6.8");
        script(&directory.join(KUBE_APISERVER), &format!("Kubernetes {version}"));
    }

    #[tokio::test]
    async fn what_was_installed_is_found() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::new(home.path());
        assert!(matches!(cache.check().await, Err(Problem::Absent)));
        let turn = cache.take_turn(&Reporter::new(&|_| ())).await.unwrap();
        let staging = turn.clear().unwrap();
        fill(staging.path(), "v1.36.2");
        turn.install(staging, "v1.36.2").unwrap();
        cache.check().await.unwrap();
    }

    #[tokio::test]
    async fn a_half_built_a_stale_and_a_broken_cache_are_named_and_cleared() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::new(home.path());
        fs::create_dir_all(cache.binaries()).unwrap();
        fill(&cache.binaries(), KUBERNETES_VERSION);
        let named = cache.check().await.unwrap_err().to_string();
        assert!(named.contains("half-built") && named.contains(&cache.binaries().display().to_string()), "{named}");

        fs::write(cache.binaries().join(MARKER), "v1.20.0\n").unwrap();
        assert!(matches!(cache.check().await, Err(Problem::OtherVersion { .. })));

        fs::write(cache.binaries().join(MARKER), "v1.36.3\n").unwrap();
        fill(&cache.binaries(), "v1.36.1");
        let named = cache.check().await.unwrap_err().to_string();
        assert!(named.contains("\"v1.36.3\"") && named.contains("\"v1.36.1\""), "{named}");

        fs::remove_file(cache.binaries().join(ETCD)).unwrap();
        assert!(matches!(cache.check().await, Err(Problem::Unusable(Unusable::Run { .. }))));

        let turn = cache.take_turn(&Reporter::new(&|_| ())).await.unwrap();
        drop(turn.clear().unwrap());
        assert!(matches!(cache.check().await, Err(Problem::Absent)));
    }

    #[tokio::test]
    async fn only_one_process_fills_the_cache_and_the_other_says_that_it_waits() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::new(home.path());
        let reporter = Reporter::new(&|_| ());
        let turn = cache.take_turn(&reporter).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let sink = move |progress| tell.send(progress).unwrap();
        let other = Reporter::new(&sink);
        let mut waiting = std::pin::pin!(cache.take_turn(&other));
        tokio::select! {
            _ = &mut waiting => panic!("two processes had the turn at once"),
            progress = told.recv() => assert_eq!(progress.unwrap().stage, Stage::WaitingForAnotherBuild),
        }
        drop(turn);
        waiting.await.unwrap();
    }
}
