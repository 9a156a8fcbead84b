//! `harness reject`: says no to a proposed change, for good.

use super::{Failure, Place, awaiting};
use crate::crd::ApprovalDecision;
use jiff::Timestamp;
use kube::ResourceExt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Arguments of `harness reject`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Why; the ticket keeps it, at most 1024 characters of it.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The hash of the change that is meant: it is refused if the ticket proposes another one.
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
}

/// Writes the word, and says what follows.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let found = arguments.place.find().await?;
    let proposal = awaiting(&found.ticket, arguments.hash.as_deref(), Timestamp::now())?;
    let by = found.answer(proposal, ApprovalDecision::Rejected, Some(&arguments.reason)).await?;
    let (ticket, flags) = (found.ticket.name_any(), &found.flags);
    writeln!(
        io::stdout(),
        "rejected by {by}: this change is never proposed again; for another one: harness retry {ticket}{flags}"
    )?;
    Ok(ExitCode::SUCCESS)
}
