//! The inner side of a tethered child: ties this process to its parent's life, then becomes another program.
//!
//! Touches the world: asks the kernel for a death signal and replaces the process. `unsafe_code` is forbidden here,
//! which rules out `pre_exec`; but the death signal survives `exec`, so a launcher that sets it on itself and then
//! becomes the program does the same.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why a program could not be tethered.
#[derive(Debug, thiserror::Error)]
pub enum TetherError {
    /// The kernel did not accept the death signal.
    #[error("could not tie this process to its parent: {0}")]
    SetDeathSignal(#[source] io::Error),
    /// The parent died before the signal was set, or is another process.
    #[error("process {expected} is not the parent of this one; `tethered` is for the harness's own use")]
    ParentGone {
        /// The process that should be the parent.
        expected: u32,
    },
    /// The program is missing or not executable.
    #[error("could not start {}: {source}", program.display())]
    Exec {
        /// The program.
        program: OsString,
        /// The reason.
        source: io::Error,
    },
}

/// Replaces this process by `program`, which the kernel kills when the thread that started this process dies.
///
/// Returns only on failure. Off Linux there is no death signal: there, a child outlives a parent that was killed
/// with SIGKILL (every other end of the parent still stops it).
pub fn exec(parent: u32, program: OsString, arguments: &[OsString]) -> Result<Infallible, TetherError> {
    set_death_signal().map_err(TetherError::SetDeathSignal)?;
    // After, not before: a parent that died in between would never send the signal.
    if std::os::unix::process::parent_id() != parent {
        return Err(TetherError::ParentGone { expected: parent });
    }
    let source = Command::new(&program).args(arguments).exec();
    Err(TetherError::Exec { program, source })
}

#[cfg(target_os = "linux")]
fn set_death_signal() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn set_death_signal() -> io::Result<()> {
    Ok(())
}
