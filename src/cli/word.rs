//! A person's word on a ticket: `harness approve`, `reject` and `retry`.
//!
//! Touches the world: reads a ticket, asks the API server who is speaking, and writes the word into the ticket with the
//! version of it that was shown. What may be said, and how a proposal is shown, is pure.

pub mod approve;
pub mod reject;
pub mod retry;
mod shown;
mod standing;

pub use standing::{Refusal, awaiting, retryable};

use super::Failure;
use super::connection::Connection;
use crate::crd::{Approval, ApprovalDecision, Proposal, Ticket};
use crate::redact;
use crate::tui::text::plain;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Which ticket is meant.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The ticket, as `kubectl get tickets` names it.
    #[arg(value_name = "TICKET")]
    ticket: String,
    /// The namespace of the ticket; the context's own if absent.
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Why a word was not written.
#[derive(Debug, thiserror::Error)]
pub enum WordError {
    /// There is no such ticket.
    #[error("there is no ticket {name} in namespace {namespace}; `kubectl get tickets -A` shows all")]
    NotFound {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The ticket cannot be read.
    #[error("ticket {name} cannot be read: {reason}")]
    Read {
        /// The ticket.
        name: String,
        /// What the API server answered.
        reason: String,
    },
    /// It is unknown who is speaking.
    #[error("the API server does not say who you are: {0}; `kubectl auth whoami` asks the same")]
    Identify(String),
    /// The ticket is another than the one that was shown.
    #[error(
        "ticket {name} changed since it was shown, and nothing was written; run the command again to see it as it is"
    )]
    Changed {
        /// The ticket.
        name: String,
    },
    /// The API server refused the word.
    #[error(
        "ticket {name} was not changed: {reason}; your account must be allowed to patch tickets of group harness.dev"
    )]
    Write {
        /// The ticket.
        name: String,
        /// What the API server answered.
        reason: String,
    },
}

/// A ticket as it was read, and where it is.
struct Found {
    client: Client,
    api: Api<Ticket>,
    ticket: Ticket,
    /// The flags that lead to the same place, each behind a space.
    flags: String,
}

impl Place {
    async fn find(self) -> Result<Found, Failure> {
        let client = self.connection.connect().await?;
        let namespace = self.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let api: Api<Ticket> = Api::namespaced(client.clone(), &namespace);
        let name = plain(&self.ticket, 253);
        let ticket = match api.get_opt(&self.ticket).await {
            Ok(Some(ticket)) => ticket,
            Ok(None) => return Err(WordError::NotFound { name, namespace }.into()),
            Err(error) => return Err(WordError::Read { name, reason: harmless(&error) }.into()),
        };
        let flags = format!("{} -n {namespace}", self.connection.flags());
        Ok(Found { client, api, ticket, flags })
    }
}

impl Found {
    /// Writes a word on the proposal of the ticket as it was read. Gives the name that the API server knows the person by.
    async fn answer(
        &self,
        proposal: &Proposal,
        decision: ApprovalDecision,
        reason: Option<&str>,
    ) -> Result<String, WordError> {
        let by = whoami(&self.client).await?;
        let word = Approval {
            decision,
            by: by.clone(),
            nonce: proposal.nonce.clone(),
            proposal_hash: proposal.hash.clone(),
            reason: reason.map(|reason| redact::line(reason, 1024)),
        };
        let mut word = json!(word);
        if reason.is_none() {
            // That of an earlier word would stay.
            word["reason"] = Value::Null;
        }
        let manager = match decision {
            ApprovalDecision::Approved => "harness-approve",
            ApprovalDecision::Rejected => "harness-reject",
        };
        self.patch(manager, json!({ "spec": { "approval": word } })).await?;
        Ok(by)
    }

    /// Changes the ticket, provided that it is still as it was read.
    async fn patch(&self, field_manager: &str, mut patch: Value) -> Result<(), WordError> {
        let name = self.ticket.name_any();
        patch["metadata"]["resourceVersion"] = json!(self.ticket.resource_version());
        let parameters = PatchParams { field_manager: Some(field_manager.to_owned()), ..PatchParams::default() };
        match self.api.patch(&name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(WordError::Changed { name }),
            Err(error) => Err(WordError::Write { name, reason: harmless(&error) }),
        }
    }
}

/// The user that the API server takes this client for.
async fn whoami(client: &Client) -> Result<String, WordError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.map_err(|error| WordError::Identify(harmless(&error)))?;
    let user = review.status.and_then(|status| status.user_info?.username).filter(|name| !name.is_empty());
    user.ok_or_else(|| WordError::Identify("it answered without a user name".to_owned()))
}

/// What a server answered, for a terminal.
fn harmless(error: &kube::Error) -> String {
    plain(&error.to_string(), 1024)
}
