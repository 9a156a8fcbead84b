//! The command line: a file per subcommand. Only this room reads the environment.

pub mod control_plane;
pub mod service;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Declare what must hold of a service; an agent repairs it inside limits that it cannot move.
#[derive(Debug, Parser)]
#[command(name = "harness", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the demo service: a rate limiter whose health endpoint reads its config file on each request.
    Service(service::Arguments),
    /// Start the embedded Kubernetes control plane in the foreground, until interrupted.
    ControlPlane(control_plane::Arguments),
    /// Replace this process by PROGRAM, which dies with its parent (for the harness's own use).
    #[command(hide = true)]
    Tethered(control_plane::TetheredArguments),
}

/// A subcommand's failure, for a person to read: where, what was expected, what to do next.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs one subcommand to its end and says how it went.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        // Before any thread exists: it replaces the process.
        Command::Tethered(arguments) => control_plane::tethered(arguments),
        command => in_runtime(command),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("harness: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Service(arguments) => service::run(arguments).await,
            Command::ControlPlane(arguments) => control_plane::run(arguments).await,
            Command::Tethered(arguments) => control_plane::tethered(arguments),
        }
    })
}
