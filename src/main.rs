//! The binary: installs the TLS provider, reads `.env`, parses the command line, dispatches.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // kube and reqwest would each choose a provider of their own and then panic on the disagreement.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("harness: a TLS provider was installed before main");
        return ExitCode::FAILURE;
    }
    // Before the command line, whose defaults come from the environment, and before any thread.
    if let Err(error) = harness::cli::environment::load() {
        eprintln!("harness: {error}");
        return ExitCode::FAILURE;
    }
    harness::cli::run(harness::cli::Cli::parse())
}
