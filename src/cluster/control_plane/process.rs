//! A child process that cannot outlive its parent, and can always be asked how it ended.
//!
//! Touches the world: starts, signals and reaps processes.

use super::ControlPlaneError;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How many bytes of a log's end an error quotes.
const LOG_TAIL_BYTES: u64 = 4096;
/// How many lines of a log's end an error quotes.
const LOG_TAIL_LINES: usize = 12;
/// How long a killed child may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// What to start, and where it runs and logs.
pub(super) struct Program<'a> {
    /// The executable; its file name is the name in messages.
    pub(super) executable: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// Its working directory, which also takes its log.
    pub(super) directory: &'a Path,
}

/// A running (or ended) child; dropping it kills it.
#[derive(Debug)]
pub(super) struct TetheredChild {
    name: String,
    log: PathBuf,
    /// `None` once the child is reaped: from then on its number may belong to somebody else.
    process: Arc<Mutex<Option<Pid>>>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
}

impl TetheredChild {
    /// Starts `program` through `launcher tethered`.
    ///
    /// The death signal that the launcher sets fires when the *thread* that started the child ends, not the process.
    /// So each child gets a thread of its own, which starts it, waits for its end, and reaps it.
    pub(super) fn start(launcher: &Path, program: &Program<'_>) -> Result<Self, ControlPlaneError> {
        let name = program.executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = program.directory.join(format!("{name}.log"));
        let fail = |source| ControlPlaneError::Launch { launcher: launcher.to_path_buf(), source };
        let command = tethered_command(launcher, program, &log).map_err(fail)?;
        let process = Arc::new(Mutex::new(None));
        let (report_end, ended) = watch::channel(None);
        let (report_start, started) = std::sync::mpsc::sync_channel(1);
        let slot = Arc::clone(&process);
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || match spawn(command, &slot) {
                Ok(child) => {
                    let _ = report_start.send(Ok(()));
                    report_end.send_replace(Some(reap(child, &slot)));
                }
                Err(error) => drop(report_start.send(Err(error))),
            })
            .map_err(fail)?;
        started.recv().map_err(|gone| fail(io::Error::other(gone)))?.map_err(fail)?;
        Ok(Self { name, log, process, ended })
    }

    /// Resolves when the child has ended, with how and with the end of its log.
    pub(super) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        // The sender is dropped only after it has sent how.
        let how = ended.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
        self.describe_end(how.unwrap_or_default())
    }

    /// How the child ended, if it has.
    pub(super) fn end(&self) -> Option<Ended> {
        let how = self.ended.borrow().clone();
        how.map(|how| self.describe_end(how))
    }

    /// Asks the child to stop; kills it if it has not by `deadline`.
    pub(super) async fn stop(&self, deadline: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(deadline, self.ended()).await.is_err() {
            tracing::warn!(child = self.name, "did not stop in time; killed");
            self.signal(Signal::KILL);
            let _ = tokio::time::timeout(KILL_DEADLINE, self.ended()).await;
        }
    }

    fn signal(&self, signal: Signal) {
        // The lock keeps the child from being reaped, and its number from being reused, until the signal is sent.
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *process {
            let _ = kill_process(pid, signal);
        }
    }

    /// The last lines of the child's log so far.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    fn describe_end(&self, how: String) -> Ended {
        Ended { name: self.name.clone(), how, log_tail: self.log_tail() }
    }
}

impl Drop for TetheredChild {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let deadline = Instant::now() + KILL_DEADLINE;
        while self.ended.borrow().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// How a child of the control plane ended.
#[derive(Debug)]
pub struct Ended {
    /// The program's name.
    pub name: String,
    /// Its exit code or the signal that killed it, in words.
    pub how: String,
    /// The last lines of its log.
    pub log_tail: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ended ({}); the end of its log:\n{}", self.name, self.how, self.log_tail)
    }
}

fn tethered_command(launcher: &Path, program: &Program<'_>, log: &Path) -> io::Result<Command> {
    let output = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
    let mut command = Command::new(launcher);
    command
        .args(["tethered", "--parent", &std::process::id().to_string(), "--"])
        .arg(&program.executable)
        .args(&program.arguments)
        .current_dir(program.directory)
        // etcd takes any `ETCD_...` variable for a flag; and the keys in the environment are none of theirs.
        .env_clear()
        // A Ctrl-C at the terminal is for the harness, which then stops its children in order.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    Ok(command)
}

fn spawn(mut command: Command, slot: &Mutex<Option<Pid>>) -> io::Result<Child> {
    let child = command.spawn()?;
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Pid::from_child(&child));
    Ok(child)
}

/// Waits for the child's end and says how it was; reaps it only with the lock held, so that nobody signals a number that is free again.
fn reap(mut child: Child, slot: &Mutex<Option<Pid>>) -> String {
    let pid = Pid::from_child(&child);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
    let mut process = slot.lock().unwrap_or_else(PoisonError::into_inner);
    *process = None;
    child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n"))
}
