//! `harness control-plane`: the embedded control plane in the foreground.

use super::Failure;
use crate::cluster::control_plane::assets::{Assets, Progress, Sources};
use crate::cluster::control_plane::{ControlPlane, tether};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often a line of progress is printed where lines cannot be rewritten, such as in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The longest line of progress, in characters: a longer one would wrap, and could not be rewritten.
const LINE_CHARACTERS: usize = 79;
const CLEAR_LINE: &str = "\r\x1b[K";

/// Arguments of `harness control-plane`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Arguments of the hidden `harness tethered`.
#[derive(Debug, clap::Args)]
pub struct TetheredArguments {
    /// The process that starts this one.
    #[arg(long)]
    parent: u32,
    /// The program to become, and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Starts the control plane, prints how to reach it, and runs until interrupted.
pub async fn run(_arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let plane = tokio::select! {
        plane = start() => plane?,
        _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
        _ = terminate.recv() => return Ok(ExitCode::FAILURE),
    };
    // Not `println!`, which would panic when nobody reads.
    writeln!(std::io::stdout(), "export KUBECONFIG={}", quoted(&plane.kubeconfig().display().to_string()))?;
    let _ =
        writeln!(std::io::stderr(), "Kubernetes {} is ready; Ctrl-C stops it and removes its data.", plane.version());
    let ended = tokio::select! {
        ended = plane.ended() => Some(ended),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    plane.stop().await;
    match ended {
        Some(ended) => Err(format!("the control plane is gone: {ended}").into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Replaces this process by a program that dies with its parent.
pub fn tethered(arguments: TetheredArguments) -> Result<ExitCode, Failure> {
    let mut command = arguments.command.into_iter();
    let program = command.next().ok_or("tethered: no program")?;
    let rest: Vec<OsString> = command.collect();
    match tether::exec(arguments.parent, program, &rest)? {}
}

/// Finds the binaries, saying so on stderr, and starts a control plane of them.
async fn start() -> Result<ControlPlane, Failure> {
    let assets = Assets::find(&sources()?, &progress_on_stderr()).await?;
    Ok(ControlPlane::start(&assets, &std::env::current_exe()?).await?)
}

/// Where the environment says that the binaries are, or may be put.
pub fn sources() -> Result<Sources, Failure> {
    let directory = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative XDG_CACHE_HOME is to be ignored, says its specification.
    let cache = directory("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .ok_or("found no place for a cache: set HOME or XDG_CACHE_HOME")?;
    Ok(Sources { given: directory("KUBEBUILDER_ASSETS"), cache: cache.join("harness") })
}

/// Prints progress on stderr: one rewritten line on a terminal, else a line every 5 s (none if all is quickly done).
pub fn progress_on_stderr() -> impl Fn(Progress) + Send + Sync {
    let line = Mutex::new(ProgressLine { terminal: std::io::stderr().is_terminal(), last: None });
    move |progress| line.lock().unwrap_or_else(PoisonError::into_inner).show(progress)
}

/// The line of progress; it disappears from the terminal when this is dropped.
struct ProgressLine {
    terminal: bool,
    /// What was printed last.
    last: Option<Progress>,
}

impl ProgressLine {
    fn show(&mut self, progress: Progress) {
        let news = progress.stage.is_news() && self.last.as_ref().is_none_or(|last| last.stage != progress.stage);
        let silence = progress.elapsed.saturating_sub(self.last.as_ref().map_or(Duration::ZERO, |last| last.elapsed));
        // Progress that nobody can read any more is no reason to fail: the results are ignored.
        let mut stderr = std::io::stderr();
        if self.terminal && !news {
            let text: String = progress.to_string().chars().take(LINE_CHARACTERS).collect();
            let _ = write!(stderr, "{CLEAR_LINE}{text}");
        } else if self.terminal {
            let _ = writeln!(stderr, "{CLEAR_LINE}{progress}");
        } else if news || silence >= LINE_INTERVAL {
            let _ = writeln!(stderr, "{progress}");
        } else {
            return;
        }
        self.last = Some(progress);
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.terminal && self.last.is_some() {
            let _ = write!(std::io::stderr(), "{CLEAR_LINE}");
        }
    }
}

/// A word that a shell reads as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
