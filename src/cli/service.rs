//! `harness service`: the demo's rate limiter.

use super::Failure;
use std::process::ExitCode;

/// Arguments of `harness service`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Serves until interrupted.
pub async fn run(_arguments: Arguments) -> Result<ExitCode, Failure> {
    Err("placeholder".into())
}
