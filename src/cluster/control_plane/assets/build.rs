//! Builds the binaries with Go, from the versions that `tools/go.mod` pins.
//!
//! Touches the world: runs `go`, which downloads modules and fills Go's own caches.

use super::progress::{Reporter, Stage};
use super::{ETCD, KUBE_APISERVER, KUBERNETES_VERSION};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Part of the binary, so that an installed harness can build, too.
const GO_MOD: &str = include_str!("../../../../tools/go.mod");
const GO_SUM: &str = include_str!("../../../../tools/go.sum");
/// The programs and the packages that they are made of.
const PROGRAMS: [(&str, &str); 2] =
    [(ETCD, "go.etcd.io/etcd/server/v3"), (KUBE_APISERVER, "k8s.io/kubernetes/cmd/kube-apiserver")];
/// How long one program may take to build.
const BUILD_DEADLINE: Duration = Duration::from_mins(30);
/// How many lines of Go's complaints an error quotes.
const QUOTED_LINES: usize = 12;
/// How many characters of each.
const QUOTED_CHARACTERS: usize = 300;

/// Why there was no build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no `go` on the PATH.
    #[error("Go is not installed (no `go` on the PATH)")]
    FindGo,
    /// The installed Go is older than the sources need, and may not fetch a newer one.
    #[error("the installed Go is too old: {complaint}")]
    UseGo {
        /// Go's own words.
        complaint: String,
    },
    /// `go` could not be started or listened to.
    #[error("could not run go: {0}")]
    RunGo(#[source] io::Error),
    /// The sources could not be unpacked.
    #[error("could not write {}: {source}", path.display())]
    WriteSources {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The build failed.
    #[error("`go build` of {program} failed ({status}); its last words:\n{complaints}")]
    Build {
        /// The program that was built.
        program: &'static str,
        /// How `go` ended.
        status: ExitStatus,
        /// The end of what it printed.
        complaints: String,
    },
    /// The build took too long.
    #[error("`go build` of {program} took longer than {} min", BUILD_DEADLINE.as_secs() / 60)]
    AwaitBuild {
        /// The program that was built.
        program: &'static str,
    },
}

/// The version of Go that the sources need, such as `1.26.0`.
pub(super) fn go_version() -> &'static str {
    GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("(see tools/go.mod)")
}

/// Builds both programs into `directory`.
pub(super) async fn build(directory: &Path, reporter: &Reporter<'_>) -> Result<(), BuildError> {
    let sources = tempfile::tempdir_in(directory)
        .map_err(|source| BuildError::WriteSources { path: directory.to_path_buf(), source })?;
    for (name, content) in [("go.mod", GO_MOD), ("go.sum", GO_SUM)] {
        let path = sources.path().join(name);
        std::fs::write(&path, content).map_err(|source| BuildError::WriteSources { path, source })?;
    }
    let mut counts = Counts::default();
    for (program, package) in PROGRAMS {
        reporter.report(Stage::PreparingBuild { program });
        let command = go_build(sources.path(), &directory.join(program), package);
        timeout(BUILD_DEADLINE, run(program, command, &mut counts, reporter))
            .await
            .map_err(|_| BuildError::AwaitBuild { program })??;
    }
    Ok(())
}

fn go_build(sources: &Path, output: &Path, package: &str) -> Command {
    let version = KUBERNETES_VERSION.trim_start_matches('v');
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // An API server that does not know its version breaks its clients.
    let set = "-X k8s.io/component-base/version";
    let flags = format!(
        "-s -w {set}.gitVersion=v{version} {set}.gitMajor={major} {set}.gitMinor={minor} {set}.gitTreeState=clean"
    );
    let mut command = Command::new("go");
    command
        .args(["build", "-v", "-ldflags", &flags, "-o"])
        .arg(output)
        .arg(package)
        .current_dir(sources)
        // What the user sets for other projects, such as `-mod=vendor`, would be in the way.
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(
    program: &'static str,
    mut command: Command,
    counts: &mut Counts,
    reporter: &Reporter<'_>,
) -> Result<(), BuildError> {
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BuildError::FindGo,
        _ => BuildError::RunGo(error),
    })?;
    let output = child.stderr.take().ok_or_else(|| BuildError::RunGo(io::Error::other("no pipe")))?;
    let complaints = listen(output, counts, reporter).await.map_err(BuildError::RunGo)?;
    let status = child.wait().await.map_err(BuildError::RunGo)?;
    if status.success() {
        return Ok(());
    }
    if let Some(complaint) = complaints.iter().find(|line| line.contains("requires go >=")) {
        return Err(BuildError::UseGo { complaint: complaint.clone() });
    }
    Err(BuildError::Build { program, status, complaints: Vec::from(complaints).join("\n") })
}

/// Turns what `go` prints into progress, and returns the last lines that are none.
async fn listen(
    output: impl AsyncRead + Unpin,
    counts: &mut Counts,
    reporter: &Reporter<'_>,
) -> io::Result<VecDeque<String>> {
    let mut lines = BufReader::new(output).split(b'\n');
    let mut complaints = VecDeque::with_capacity(QUOTED_LINES);
    while let Some(line) = lines.next_segment().await? {
        let line = String::from_utf8_lossy(&line);
        if let Some(stage) = counts.stage_of(line.trim_end()) {
            reporter.report(stage);
            continue;
        }
        if complaints.len() == QUOTED_LINES {
            complaints.pop_front();
        }
        complaints.push_back(line.chars().take(QUOTED_CHARACTERS).collect());
    }
    Ok(complaints)
}

/// How much `go` has done so far.
#[derive(Debug, Default)]
struct Counts {
    modules: usize,
    packages: usize,
}

impl Counts {
    /// What a line of `go build -v` says about progress; `None` if it is a complaint.
    fn stage_of(&mut self, line: &str) -> Option<Stage> {
        if let Some(module) = line.strip_prefix("go: downloading ") {
            self.modules += 1;
            return Some(Stage::FetchingModule { module: module.to_owned(), count: self.modules });
        }
        // `-v` prints an import path alone on its line; everything else that Go says has spaces in it.
        let is_package = !line.is_empty() && !line.starts_with('#') && !line.contains([' ', '\t', ':']);
        is_package.then(|| {
            self.packages += 1;
            Stage::Compiling { package: line.to_owned(), count: self.packages }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn what_go_prints_becomes_progress_and_complaints() {
        let printed =
            b"go: downloading k8s.io/api v0.36.3\ninternal/abi\nk8s.io/api/core/v1\n# k8s.io/api\nx.go:1:2: no\n";
        let stages = Mutex::new(Vec::new());
        let sink = |progress: super::super::Progress| stages.lock().unwrap().push(progress.stage);
        let complaints = listen(&printed[..], &mut Counts::default(), &Reporter::new(&sink)).await.unwrap();
        assert_eq!(complaints, ["# k8s.io/api", "x.go:1:2: no"]);
        assert_eq!(
            *stages.lock().unwrap(),
            [
                Stage::FetchingModule { module: "k8s.io/api v0.36.3".to_owned(), count: 1 },
                Stage::Compiling { package: "internal/abi".to_owned(), count: 1 },
                Stage::Compiling { package: "k8s.io/api/core/v1".to_owned(), count: 2 },
            ]
        );
    }

    #[tokio::test]
    async fn a_go_that_is_too_old_is_told_from_a_failed_build() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'go: go.mod requires go >= 1.26.0 (running go 1.20)' >&2; exit 1"]);
        command.stderr(Stdio::piped());
        let error = run(ETCD, command, &mut Counts::default(), &Reporter::new(&|_| ())).await.unwrap_err();
        assert!(matches!(&error, BuildError::UseGo { complaint } if complaint.contains("1.26.0")), "{error}");
    }

    #[tokio::test]
    async fn no_go_at_all_is_told() {
        let command = Command::new("/nonexistent/go");
        let error = run(ETCD, command, &mut Counts::default(), &Reporter::new(&|_| ())).await.unwrap_err();
        assert!(matches!(error, BuildError::FindGo), "{error}");
    }

    #[test]
    fn the_pinned_sources_say_which_kubernetes_and_which_go() {
        assert!(GO_MOD.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION} ")));
        assert!(go_version().starts_with("1."));
    }
}
