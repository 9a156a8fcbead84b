//! The writes that the monitor starts, as futures that say what came of them, and what follows from that.

use super::Monitor;
use super::act::{self, ActError, Circumstances};
use super::analyst::Analyst;
use super::deciding::Occasion;
use super::starting::{self, Waiting};
use super::watched::{Watched, Written};
use crate::crd::{InvariantStatus, Target, Ticket};
use crate::panics;
use crate::watch::ObjectKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// Beyond so many writes under way, those of statuses wait. An API server takes 200 at once by default, from all.
pub(super) const MAX_STATUS_WRITES: usize = 32;
/// Beyond so many, those of tickets wait too.
pub(super) const MAX_WRITES: usize = 96;

/// A write that failed is tried again after this, if no sample comes first.
const RETRY: Duration = Duration::from_secs(5);

/// A write that met somebody else's is decided again after this.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// A write that is done.
pub(super) enum Acted {
    Looked(ObjectKey, Option<Waiting>),
    StatusWritten(ObjectKey, Box<InvariantStatus>),
    TicketWritten(ObjectKey, Box<Ticket>),
    TicketLetGo(Box<Ticket>),
    TicketHeld(ObjectKey, ActError),
    TicketStays(ObjectKey),
    Failed(ObjectKey, ActError),
    RetryDue(ObjectKey),
}

/// Looks whether the target of an invariant is only just starting. What cannot be looked at is not waited for.
pub(super) fn look_at_target(
    client: Client,
    key: ObjectKey,
    watched: &Watched,
    target: Target,
) -> BoxFuture<'static, Acted> {
    let created = watched.invariant.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    async move {
        let progress = starting::look(&client, &key.namespace, &target).await.unwrap_or_else(|error| {
            tracing::warn!(%key, %error, "the target cannot be looked at; a ticket does not wait for its start");
            None
        });
        let found = progress.and_then(|it| starting::waiting(&target, &it, created, Timestamp::now()));
        Acted::Looked(key, found)
    }
    .boxed()
}

/// Opens a ticket with at least this number.
pub(super) fn open(
    client: Client,
    analyst: Analyst,
    key: ObjectKey,
    watched: &Watched,
    number: u32,
    circumstances: Circumstances,
) -> BoxFuture<'static, Acted> {
    let (invariant, record) = (Arc::clone(&watched.invariant), watched.record.clone());
    write(key, async move {
        let ticket = act::open_ticket(&client, &analyst, &invariant, &record, number, circumstances).await?;
        Ok(Done::Ticket(Box::new(ticket)))
    })
}

/// Resolves a ticket.
pub(super) fn resolve(
    client: Client,
    key: ObjectKey,
    watched: &Watched,
    ticket: Arc<Ticket>,
) -> BoxFuture<'static, Acted> {
    let invariant = Arc::clone(&watched.invariant);
    write(key, async move { Ok(Done::Ticket(Box::new(act::resolve_ticket(&client, &ticket, &invariant).await?))) })
}

/// Writes the status of an invariant.
pub(super) fn write_status(
    client: Client,
    key: ObjectKey,
    watched: &Watched,
    status: InvariantStatus,
) -> BoxFuture<'static, Acted> {
    let invariant = Arc::clone(&watched.invariant);
    let status = InvariantStatus { recent_samples: watched.record.recent_samples(), ..status };
    write(key, async move {
        act::write_status(&client, &invariant, &status).await?;
        Ok(Done::Status(Box::new(status)))
    })
}

/// What was written for an invariant.
enum Done {
    Status(Box<InvariantStatus>),
    Ticket(Box<Ticket>),
}

/// A write for one invariant. A defect that it meets is that invariant's alone.
fn write(
    key: ObjectKey,
    write: impl Future<Output = Result<Done, ActError>> + Send + 'static,
) -> BoxFuture<'static, Acted> {
    async move {
        match panics::caught(write).await.unwrap_or_else(|why| Err(ActError::BrokeDown(why))) {
            Ok(Done::Status(status)) => Acted::StatusWritten(key, status),
            Ok(Done::Ticket(ticket)) => Acted::TicketWritten(key, ticket),
            Err(error) => Acted::Failed(key, error),
        }
    }
    .boxed()
}

impl Monitor {
    /// A write is done: the next may begin.
    pub(super) fn acted(&mut self, acted: Acted) {
        match acted {
            Acted::Looked(key, found) => {
                let elapsed = self.origin.elapsed();
                if let Some(watched) = self.watched.get_mut(&key) {
                    watched.start.looked(found, elapsed);
                }
                self.look_again(&key);
            }
            Acted::StatusWritten(key, status) => {
                let now = self.origin.elapsed();
                self.settings.vitals.status_written();
                if let Some(watched) = self.watched.get_mut(&key) {
                    watched.written = Written::new(*status, now);
                    self.refreshes.written(&key, now);
                }
                self.look_again(&key);
            }
            Acted::TicketWritten(key, ticket) => {
                self.umbrellas.remove(&key);
                let ticket_key = ObjectKey::of(&*ticket);
                self.put(*ticket);
                self.settle(&ticket_key);
                self.look_again(&key);
            }
            Acted::TicketLetGo(ticket) => {
                // One that was being deleted is gone now, and the watch says so.
                if ticket.metadata.deletion_timestamp.is_none() {
                    self.settling.remove(&ObjectKey::of(&*ticket));
                    self.put(*ticket);
                }
            }
            Acted::TicketHeld(key, error) => self.pause(&error, Acted::TicketStays(key)),
            Acted::TicketStays(key) => {
                self.settling.remove(&key);
                self.settle(&key);
            }
            Acted::Failed(key, error) => {
                self.umbrellas.remove(&key);
                self.pause(&error, Acted::RetryDue(key));
            }
            Acted::RetryDue(key) => self.look_again(&key),
        }
        while self.acting.len() < MAX_STATUS_WRITES
            && let Some(key) = self.waiting.pop_front()
        {
            self.look_again(&key);
        }
    }

    /// After a conflict the watch brings what we did not know; a lasting refusal must not be asked for again at once.
    fn pause(&mut self, error: &ActError, then: Acted) {
        let pause = if error.is_conflict() { CONFLICT_PAUSE } else { RETRY };
        tracing::warn!(%error, ?pause, "a write is tried again");
        self.pausing.push(
            async move {
                tokio::time::sleep(pause).await;
                then
            }
            .boxed(),
        );
    }

    fn look_again(&mut self, key: &ObjectKey) {
        if let Some(watched) = self.watched.get_mut(key) {
            watched.acting = false;
        }
        self.reconsider(key, Occasion::News);
    }
}
