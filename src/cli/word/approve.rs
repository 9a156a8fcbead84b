//! `harness approve`: shows a proposed change and says yes to it.

use super::{Failure, Place, awaiting, shown};
use crate::crd::ApprovalDecision;
use jiff::Timestamp;
use kube::ResourceExt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Arguments of `harness approve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The hash of the change that is meant: it is refused if the ticket proposes another one. Needed where nobody can be
    /// asked.
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// Why nothing was approved, for reasons of the person and not of the ticket.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// Nobody can be asked, and the change that is meant is not named.
    #[error(
        "there is no terminal to ask at, so that the change that you mean must be named; if it is the one above: \
         harness approve {ticket}{flags} --hash {hash}"
    )]
    HashNeeded {
        /// The ticket.
        ticket: String,
        /// The flags that lead to it.
        flags: String,
        /// The hash of its proposal.
        hash: String,
    },
    /// The person said no.
    #[error("nothing was written; to say no for good: harness reject {ticket}{flags} --reason TEXT")]
    NotConfirmed {
        /// The ticket.
        ticket: String,
        /// The flags that lead to it.
        flags: String,
    },
}

/// Shows the change, asks, and writes the word.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let found = arguments.place.find().await?;
    let now = Timestamp::now();
    let proposal = awaiting(&found.ticket, arguments.hash.as_deref(), now)?;
    writeln!(io::stdout(), "{}\n", shown::lines(&found.ticket, proposal, now).join("\n"))?;
    let (ticket, flags) = (found.ticket.name_any(), found.flags.clone());
    let is_asked = io::stdin().is_terminal();
    if !is_asked && arguments.hash.is_none() {
        let hash = proposal.hash.clone();
        return Err(ApproveError::HashNeeded { ticket, flags, hash }.into());
    }
    let time_left = proposal.expires_at.as_ref().and_then(|until| Duration::try_from(until.0.duration_since(now)).ok());
    if is_asked && !arguments.yes && !confirmed(time_left.unwrap_or_default()).await? {
        return Err(ApproveError::NotConfirmed { ticket, flags }.into());
    }
    // It may have taken a while to answer.
    let proposal = awaiting(&found.ticket, arguments.hash.as_deref(), Timestamp::now())?;
    let by = found.answer(proposal, ApprovalDecision::Approved, None).await?;
    writeln!(io::stdout(), "approved by {by}; to see what comes of it: kubectl{flags} get ticket {ticket} -w")?;
    Ok(ExitCode::SUCCESS)
}

/// Asks at the terminal. No answer in time is a no.
async fn confirmed(time_left: Duration) -> io::Result<bool> {
    write!(io::stdout(), "Approve this change? [y/N] ")?;
    io::stdout().flush()?;
    let (send, answer) = oneshot::channel();
    // A thread of its own: the runtime would wait for a line at its end, even if nobody does any more.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        // Nobody listens when the time is over.
        let _ = send.send(read.map(|_| line));
    });
    match timeout(time_left, answer).await {
        Ok(Ok(line)) => Ok(is_yes(&line?)),
        Ok(Err(_)) | Err(_) => Ok(false),
    }
}

fn is_yes(answer: &str) -> bool {
    let answer = answer.trim();
    answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes("YES\r\n"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("no\n") && !is_yes("yikes\n"));
    }
}
