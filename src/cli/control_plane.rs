//! `harness control-plane`: the embedded control plane in the foreground.

use super::Failure;
use std::process::ExitCode;

/// Arguments of `harness control-plane`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Arguments of the hidden `harness tethered`.
#[derive(Debug, clap::Args)]
pub struct TetheredArguments {}

/// Runs until interrupted.
pub async fn run(_arguments: Arguments) -> Result<ExitCode, Failure> {
    Err("placeholder".into())
}

/// Replaces this process by a program that dies with its parent.
pub fn tethered(_arguments: TetheredArguments) -> Result<ExitCode, Failure> {
    Err("placeholder".into())
}
