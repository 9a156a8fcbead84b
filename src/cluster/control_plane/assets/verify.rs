//! Whether a directory has two binaries that run, and of which version.

use super::{ETCD, KUBE_APISERVER};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a binary may take to say its version: generous, because the machine may be compiling.
const VERSION_DEADLINE: Duration = Duration::from_secs(20);
/// How many characters of an unexpected answer a message quotes.
const QUOTED_CHARACTERS: usize = 200;

/// Why binaries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A binary is missing, not executable, or for another machine.
    #[error("could not run {}: {source}", path.display())]
    Run {
        /// The binary.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A binary did not say its version in time.
    #[error("{} did not say its version within {} s", path.display(), VERSION_DEADLINE.as_secs())]
    AwaitVersion {
        /// The binary.
        path: PathBuf,
    },
    /// A binary is not what it should be.
    #[error("{} --version should say {expected:?}, but said {said:?}", path.display())]
    Version {
        /// The binary.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What it said.
        said: String,
    },
}

/// The version of the API server in `directory`, such as `v1.36.3`, once both binaries have been seen to run.
pub(super) async fn version(directory: &Path) -> Result<String, Unusable> {
    answer(&directory.join(ETCD), "etcd Version: ").await?;
    answer(&directory.join(KUBE_APISERVER), "Kubernetes ").await
}

/// Succeeds if both binaries run and the API server is of that version.
pub(super) async fn expect_version(directory: &Path, expected: &str) -> Result<(), Unusable> {
    let said = version(directory).await?;
    if said == expected {
        return Ok(());
    }
    Err(Unusable::Version { path: directory.join(KUBE_APISERVER), expected: expected.to_owned(), said })
}

/// What follows `prefix` on the first line that `path --version` prints.
async fn answer(path: &Path, prefix: &str) -> Result<String, Unusable> {
    let run = |source| Unusable::Run { path: path.to_path_buf(), source };
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(VERSION_DEADLINE, command.output())
        .await
        .map_err(|_| Unusable::AwaitVersion { path: path.to_path_buf() })?
        .map_err(run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    match line.strip_prefix(prefix) {
        Some(version) if output.status.success() => Ok(version.trim().to_owned()),
        _ => Err(Unusable::Version {
            path: path.to_path_buf(),
            expected: format!("{prefix}..."),
            said: line.chars().take(QUOTED_CHARACTERS).collect(),
        }),
    }
}
