//! Which word may be said on a ticket now. Pure.

use crate::agent::decide::word_on;
use crate::crd::{Outcome, Phase, Proposal, RETRY_ANNOTATION, Ticket};
use crate::tui::text::plain;
use jiff::Timestamp;
use kube::ResourceExt;

/// Why a word would be in vain, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No change awaits an answer.
    #[error(
        "ticket {ticket} is {phase:?}: no change of it awaits an answer; `kubectl describe ticket {ticket}` tells why"
    )]
    NotAwaiting {
        /// The ticket.
        ticket: String,
        /// Where it is in its life.
        phase: Phase,
    },
    /// The time to answer is over.
    #[error(
        "the change of ticket {ticket} could be answered until {until}; it will not be proposed again: make it by hand, \
         or have the ticket tried anew: harness retry {ticket}"
    )]
    Expired {
        /// The ticket.
        ticket: String,
        /// When the time was over, or `its time ran out`.
        until: String,
    },
    /// Somebody has answered.
    #[error(
        "{by} answered already ({decision}), and the agent has not acted on it yet; wait: kubectl get ticket {ticket} -w"
    )]
    Answered {
        /// The ticket.
        ticket: String,
        /// Who.
        by: String,
        /// What.
        decision: String,
    },
    /// The change was refused by a person.
    #[error(
        "the change of ticket {ticket} was rejected, and is never proposed again; for another one: harness retry {ticket}"
    )]
    Rejected {
        /// The ticket.
        ticket: String,
    },
    /// Another change is proposed.
    #[error(
        "ticket {ticket} proposes another change now, {proposed}; nothing was written; look at it: harness approve {ticket}"
    )]
    OtherProposal {
        /// The ticket.
        ticket: String,
        /// The hash of what it proposes.
        proposed: String,
    },
    /// Only escalated tickets are tried anew.
    #[error("ticket {ticket} is {phase:?}, and only an Escalated one can be tried anew; {advice}")]
    NotEscalated {
        /// The ticket.
        ticket: String,
        /// Where it is in its life.
        phase: Phase,
        /// What to do instead.
        advice: String,
    },
    /// It was asked for already.
    #[error(
        "ticket {ticket} is to be tried anew already, and the agent has not acted on it yet; is the agent running?"
    )]
    RetryPending {
        /// The ticket.
        ticket: String,
    },
}

/// The proposal that awaits a word; with `hash`, only if it is that one.
pub fn awaiting<'a>(ticket: &'a Ticket, hash: Option<&str>, now: Timestamp) -> Result<&'a Proposal, Refusal> {
    let name = ticket.name_any();
    let outcome = ticket.status.as_ref().and_then(|status| status.outcome);
    match (ticket.phase(), outcome) {
        (Phase::AwaitingApproval, _) => {}
        (Phase::Escalated, Some(Outcome::ApprovalExpired)) => {
            let until = expiry(ticket).map_or_else(|| "an earlier time".to_owned(), |at| format!("{at:.0}"));
            return Err(Refusal::Expired { ticket: name, until });
        }
        (Phase::Escalated, Some(Outcome::Rejected)) => return Err(Refusal::Rejected { ticket: name }),
        (phase, _) => return Err(Refusal::NotAwaiting { ticket: name, phase }),
    }
    let status = ticket.status.as_ref();
    let Some(proposal) = status.and_then(|status| status.proposal.as_ref()) else {
        return Err(Refusal::NotAwaiting { ticket: name, phase: Phase::AwaitingApproval });
    };
    if hash.is_some_and(|hash| hash != proposal.hash) {
        return Err(Refusal::OtherProposal { ticket: name, proposed: plain(&proposal.hash, 64) });
    }
    match expiry(ticket) {
        Some(until) if until > now => {}
        Some(until) => return Err(Refusal::Expired { ticket: name, until: format!("{until:.0}") }),
        None => return Err(Refusal::NotAwaiting { ticket: name, phase: Phase::AwaitingApproval }),
    }
    match word_on(ticket, proposal) {
        Some(word) => {
            let (by, decision) = (plain(&word.by, 256), format!("{:?}", word.decision));
            Err(Refusal::Answered { ticket: name, by, decision })
        }
        None => Ok(proposal),
    }
}

/// Whether the ticket can be tried anew.
pub fn retryable(ticket: &Ticket) -> Result<(), Refusal> {
    let name = ticket.name_any();
    let phase = ticket.phase();
    let advice = match phase {
        Phase::Escalated => {
            let asked = ticket.annotations().get(RETRY_ANNOTATION);
            let observed = ticket.status.as_ref().and_then(|status| status.observed_retry.as_ref());
            let pending = asked.is_some() && asked != observed;
            return if pending { Err(Refusal::RetryPending { ticket: name }) } else { Ok(()) };
        }
        Phase::Resolved | Phase::Cancelled => "it has ended: a new breach opens a new ticket".to_owned(),
        Phase::AwaitingApproval => format!("it awaits your word: harness approve {name}, or harness reject {name}"),
        Phase::Open | Phase::Diagnosing | Phase::Repairing | Phase::Verifying | Phase::RollingBack => {
            format!("it is being worked on: kubectl get ticket {name} -w")
        }
    };
    Err(Refusal::NotEscalated { ticket: name, phase, advice })
}

fn expiry(ticket: &Ticket) -> Option<Timestamp> {
    ticket.status.as_ref()?.proposal.as_ref()?.expires_at.as_ref().map(|at| at.0)
}

#[cfg(test)]
mod tests;
