//! A process that is measured: it ends with its handle, and `/proc` says what it used.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ticks of the clock by which `/proc` counts CPU time, a second; fixed on Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process.
pub(crate) struct Process(Child);

/// What processes used in some time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Of CPU time, user and system.
    pub(crate) cpu_seconds: f64,
    /// Of time.
    pub(crate) seconds: f64,
}

impl Usage {
    /// Cores in use on average.
    pub(crate) fn cores(self) -> f64 {
        self.cpu_seconds / self.seconds
    }
}

impl Process {
    /// Starts a command, whose output goes nowhere unless it is wanted.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }

    /// What it has used since it was started.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The name in brackets may hold spaces; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
        (ticks(14) + ticks(15)) / TICKS_PER_SECOND
    }

    /// Resident memory now, in MiB.
    pub(crate) fn resident_mebibytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What these processes use together from now on.
pub(crate) struct Meter<'a> {
    processes: Vec<(&'a Process, f64)>,
    began: Instant,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(processes: impl IntoIterator<Item = &'a Process>) -> Self {
        let processes = processes.into_iter().map(|process| (process, process.cpu_seconds())).collect();
        Self { processes, began: Instant::now() }
    }

    pub(crate) fn read(&self) -> Usage {
        Usage {
            cpu_seconds: self.processes.iter().map(|(process, before)| process.cpu_seconds() - before).sum(),
            seconds: self.began.elapsed().as_secs_f64(),
        }
    }

    /// Measures for so long.
    pub(crate) async fn run(processes: impl IntoIterator<Item = &'a Process>, time: Duration) -> Usage {
        let meter = Self::start(processes);
        tokio::time::sleep(time).await;
        meter.read()
    }
}
