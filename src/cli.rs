//! The command line: a file per subcommand. Only this room reads the environment.

pub mod chaos;
pub mod completions;
pub mod connection;
pub mod control_plane;
pub mod crds;
pub mod demo;
pub mod environment;
pub mod init;
pub mod install;
pub mod interruption;
pub mod part;
pub mod planning;
pub mod policies;
pub mod run;
pub mod service;
pub mod watch;
pub mod word;

use crate::redact;
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
    /// Break, detect, repair, verify: the whole loop on this machine, in a screen of three panes.
    ///
    /// It starts a Kubernetes control plane of its own, unless --kubeconfig or --context names a cluster.
    Demo(demo::Arguments),
    /// Install the definitions and the sample invariants into a cluster.
    Init(init::Arguments),
    /// Run the operator, monitor and agent in one process, until interrupted.
    Run(run::RunArguments),
    /// Run the monitor alone: it checks invariants, opens tickets and resolves them.
    Monitor(run::Arguments),
    /// Run the agent alone: it works on tickets.
    Agent(run::Arguments),
    /// Show the screen for any cluster that runs the harness.
    Watch(watch::Arguments),
    /// Show the change that a ticket proposes, and say yes to it.
    Approve(word::approve::Arguments),
    /// Say no to the change that a ticket proposes: it is never proposed again.
    Reject(word::reject::Arguments),
    /// Have an Escalated ticket tried anew.
    Retry(word::retry::Arguments),
    /// Inject a fault into the demo service's ConfigMap, or heal it.
    Chaos(chaos::Arguments),
    /// Run the demo service: a rate limiter whose health endpoint reads its config file on each request.
    Service(service::Arguments),
    /// Start the embedded Kubernetes control plane in the foreground, until interrupted.
    ControlPlane(control_plane::Arguments),
    /// Print the custom resource definitions as YAML, for `kubectl apply -f -`.
    Crds(crds::Arguments),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
    /// Replace this process by PROGRAM, which dies with its parent (for the harness's own use).
    #[command(hide = true)]
    Tethered(control_plane::TetheredArguments),
}

/// A subcommand's failure, for a person to read: where, what was expected, what to do next.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs one subcommand to its end and says how it went.
pub fn run(cli: Cli) -> ExitCode {
    remember_secrets();
    let result = match cli.command {
        // Before any thread exists: it replaces the process.
        Command::Tethered(arguments) => control_plane::tethered(arguments),
        Command::Crds(arguments) => crds::run(arguments),
        Command::Completions(arguments) => completions::run(&arguments),
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

/// What the environment gives under the name of a secret is shown nowhere.
fn remember_secrets() {
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && redact::names_a_secret(name)
        {
            redact::remember(value);
        }
    }
}

fn in_runtime(command: Command) -> Result<ExitCode, Failure> {
    let mut builder = match command {
        // One loop, and thousands of short connections: a second thread would only hand them to and fro.
        Command::Monitor(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Init(arguments) => init::run(arguments).await,
            Command::Run(arguments) => run::run(arguments).await,
            Command::Monitor(arguments) => run::monitor(arguments).await,
            Command::Agent(arguments) => run::agent(arguments).await,
            Command::Watch(arguments) => watch::run(arguments).await,
            Command::Approve(arguments) => word::approve::run(arguments).await,
            Command::Reject(arguments) => word::reject::run(arguments).await,
            Command::Retry(arguments) => word::retry::run(arguments).await,
            Command::Chaos(arguments) => chaos::run(arguments).await,
            Command::Service(arguments) => service::run(arguments).await,
            Command::ControlPlane(arguments) => control_plane::run(arguments).await,
            Command::Crds(arguments) => crds::run(arguments),
            Command::Completions(arguments) => completions::run(&arguments),
            Command::Tethered(arguments) => control_plane::tethered(arguments),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
