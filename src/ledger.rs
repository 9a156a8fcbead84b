//! Writes transitions into the status of tickets, for the monitor and the agent alike.
//!
//! Every write carries the resourceVersion that was read, so that of two writers one learns that it was late. That is
//! why this is an update and not a server-side apply: the two share fields, in turns.

use crate::crd::{Ticket, TicketStatus};
use crate::lifecycle::{self, Transition};
use jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

/// Records a transition and whatever `edit` does to the status, in one write.
pub async fn record(
    client: &Client,
    field_manager: &str,
    ticket: &Ticket,
    transition: Transition,
    message: &str,
    edit: impl FnOnce(&mut TicketStatus),
) -> Result<Ticket, kube::Error> {
    let api: Api<Ticket> = Api::namespaced(client.clone(), &ticket.namespace().unwrap_or_default());
    let mut updated = ticket.clone();
    let status = updated.status.get_or_insert_default();
    edit(status);
    let generation = ticket.metadata.generation.unwrap_or_default();
    lifecycle::project(status, generation, transition, message, Timestamp::now());
    let parameters = PostParams { field_manager: Some(field_manager.to_owned()), ..PostParams::default() };
    api.replace_status(&ticket.name_any(), &parameters, &updated).await
}

/// Somebody else wrote first, or the object is gone: nothing is wrong, the next look decides again.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 404)
}
