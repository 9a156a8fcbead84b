//! `harness retry`: has an escalated ticket tried anew.

use super::{Failure, Place, retryable};
use crate::crd::RETRY_ANNOTATION;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use std::io::{self, Write};
use std::process::ExitCode;

/// The field manager of the annotation.
const FIELD_MANAGER: &str = "harness-retry";

/// Arguments of `harness retry`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
}

/// Asks for another round.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let found = arguments.place.find().await?;
    retryable(&found.ticket)?;
    let fresh = Timestamp::now().to_string();
    found.patch(FIELD_MANAGER, json!({ "metadata": { "annotations": { RETRY_ANNOTATION: fresh } } })).await?;
    let (ticket, flags) = (found.ticket.name_any(), &found.flags);
    writeln!(io::stdout(), "{ticket} is tried anew; to see what comes of it: kubectl{flags} get ticket {ticket} -w")?;
    Ok(ExitCode::SUCCESS)
}
