//! The writes that the monitor starts, as futures that say what came of them.

use super::act::{self, ActError};
use super::watched::Watched;
use crate::crd::{InvariantStatus, Ticket};
use crate::history::ConfigHistory;
use crate::outage::Outage;
use crate::watch::ObjectKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use std::sync::Arc;

/// A write that is done.
pub(super) enum Acted {
    StatusWritten(ObjectKey, Box<InvariantStatus>),
    TicketWritten(ObjectKey, Box<Ticket>),
    TicketLetGo(Box<Ticket>),
    TicketStays(ObjectKey),
    Failed(ObjectKey, ActError),
    RetryDue(ObjectKey),
}

/// Opens a ticket with at least this number.
pub(super) fn open(
    client: Client,
    history: ConfigHistory,
    key: ObjectKey,
    watched: &Watched,
    number: u32,
    outage: Option<Outage>,
) -> BoxFuture<'static, Acted> {
    let (invariant, record) = (Arc::clone(&watched.invariant), watched.record.clone());
    async move {
        match act::open_ticket(&client, &history, &invariant, &record, number, outage).await {
            Ok(ticket) => Acted::TicketWritten(key, Box::new(ticket)),
            Err(error) => Acted::Failed(key, error),
        }
    }
    .boxed()
}

/// Resolves a ticket.
pub(super) fn resolve(
    client: Client,
    key: ObjectKey,
    watched: &Watched,
    ticket: Arc<Ticket>,
) -> BoxFuture<'static, Acted> {
    let invariant = Arc::clone(&watched.invariant);
    async move {
        match act::resolve_ticket(&client, &ticket, &invariant).await {
            Ok(ticket) => Acted::TicketWritten(key, Box::new(ticket)),
            Err(error) => Acted::Failed(key, error),
        }
    }
    .boxed()
}

/// Writes the status of an invariant.
pub(super) fn write_status(
    client: Client,
    key: ObjectKey,
    watched: &Watched,
    status: InvariantStatus,
) -> BoxFuture<'static, Acted> {
    let invariant = Arc::clone(&watched.invariant);
    async move {
        match act::write_status(&client, &invariant, &status).await {
            Ok(()) => Acted::StatusWritten(key, Box::new(status)),
            Err(error) => Acted::Failed(key, error),
        }
    }
    .boxed()
}
