//! What is going on while the binaries are found: a value for each moment, at least one a second.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// The longest silence between two reports.
const TICK: Duration = Duration::from_secs(1);

/// One moment of the search for binaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How long the search has taken so far.
    pub elapsed: Duration,
}

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The cache is looked at.
    ReadingCache,
    /// The cache has something unusable, which is thrown away.
    DiscardingCache {
        /// Where it is and what is wrong with it.
        problem: String,
    },
    /// Another process fills the cache.
    WaitingForAnotherBuild,
    /// The index of release archives is fetched.
    ReadingIndex,
    /// A release archive is fetched.
    DownloadingArchive {
        /// How many bytes have come so far.
        received_bytes: u64,
        /// How many will come, if the server said.
        total_bytes: Option<u64>,
    },
    /// A release archive is unpacked.
    Unpacking,
    /// The release archive could not be had; the next way is tried.
    ArchiveUnavailable {
        /// Why.
        reason: String,
    },
    /// Go looks for what it has to do.
    PreparingBuild {
        /// The program that is built.
        program: &'static str,
    },
    /// Go fetches a module.
    FetchingModule {
        /// The module and its version.
        module: String,
        /// How many modules so far, this one included.
        count: usize,
    },
    /// Go compiles a package (or, after the last one, links the program).
    Compiling {
        /// The package.
        package: String,
        /// How many packages so far, this one included.
        count: usize,
    },
    /// The binaries are run once to see that they work.
    Verifying,
}

impl Stage {
    /// Whether this is worth a line that stays: something went otherwise than it should.
    pub fn is_news(&self) -> bool {
        matches!(self, Self::DiscardingCache { .. } | Self::WaitingForAnotherBuild | Self::ArchiveUnavailable { .. })
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs();
        write!(formatter, "[{}:{:02}] {}", seconds / 60, seconds % 60, self.stage)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MEBIBYTE: u64 = 1024 * 1024;
        match self {
            Self::ReadingCache => write!(formatter, "looking for kube-apiserver and etcd"),
            Self::DiscardingCache { problem } => write!(formatter, "discarding the cached binaries: {problem}"),
            Self::WaitingForAnotherBuild => write!(formatter, "waiting for another harness that builds"),
            Self::ReadingIndex => write!(formatter, "reading the index of release archives"),
            Self::DownloadingArchive { received_bytes, total_bytes: Some(total) } => {
                write!(formatter, "downloading: {} of {} MiB", received_bytes / MEBIBYTE, total / MEBIBYTE)
            }
            Self::DownloadingArchive { received_bytes, total_bytes: None } => {
                write!(formatter, "downloading: {} MiB", received_bytes / MEBIBYTE)
            }
            Self::Unpacking => write!(formatter, "unpacking"),
            Self::ArchiveUnavailable { reason } => write!(formatter, "no release archive ({reason}); building with Go"),
            Self::PreparingBuild { program } => write!(formatter, "building {program} with Go"),
            Self::FetchingModule { module, count } => write!(formatter, "fetching Go module {count}: {module}"),
            Self::Compiling { package, count } => write!(formatter, "compiling package {count}: {package}"),
            Self::Verifying => write!(formatter, "trying the binaries"),
        }
    }
}

/// Where progress goes.
pub type Sink<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Reports each new stage at once, and the current one again every second.
pub(super) struct Reporter<'a> {
    started: Instant,
    stage: Mutex<Stage>,
    sink: Sink<'a>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(sink: Sink<'a>) -> Self {
        Self { started: Instant::now(), stage: Mutex::new(Stage::ReadingCache), sink }
    }

    /// A new stage has begun.
    pub(super) fn report(&self, stage: Stage) {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&stage);
        (self.sink)(Progress { stage, elapsed: self.started.elapsed() });
    }

    /// Drives `work` to its end, reporting every second even when it is silent.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(TICK);
        ticks.tick().await;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => {
                    let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    self.report(stage);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_work_is_reported_every_second() {
        let seen = Mutex::new(Vec::new());
        let sink = |progress: Progress| seen.lock().unwrap().push(progress.elapsed.as_secs());
        let reporter = Reporter::new(&sink);
        reporter.during(tokio::time::sleep(Duration::from_millis(3500))).await;
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn progress_says_when_what_and_how_many() {
        let stage = Stage::Compiling { package: "k8s.io/api/core/v1".to_owned(), count: 812 };
        let progress = Progress { stage, elapsed: Duration::from_secs(83) };
        assert_eq!(progress.to_string(), "[1:23] compiling package 812: k8s.io/api/core/v1");
    }
}
