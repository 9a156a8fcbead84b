//! The monitor keeps the tickets that it knows, and lets go of those that ended.

use super::Monitor;
use super::act::{self, ActError};
use super::flapping;
use super::writing::Acted;
use crate::crd::{Phase, Ticket, UNSETTLED_FINALIZER};
use crate::lifecycle;
use crate::panics;
use crate::watch::ObjectKey;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::sync::Arc;

/// Tickets deleted at one look: what is left is deleted at the next.
const DELETED_AT_ONCE: usize = 50;

impl Monitor {
    pub(super) fn put(&mut self, ticket: Ticket) {
        let key = ObjectKey::of(&ticket);
        let before = self.phase(&key);
        self.repaired.note(&ticket);
        if before.is_some_and(|phase| !lifecycle::ended(phase)) && flapping::healed_without_repair(&ticket) {
            self.note_healed(&ticket);
        }
        self.tickets.put(ticket);
        self.settings.vitals.moved(before, self.phase(&key));
    }

    /// Remembers that an invariant healed without a repair. One that was healed by the repair for another did not.
    fn note_healed(&mut self, ticket: &Ticket) {
        let key = ObjectKey::new(ticket.namespace().unwrap_or_default(), &ticket.spec.invariant_ref.name);
        let Some(watched) = self.watched.get_mut(&key).filter(|it| it.uid() == ticket.spec.invariant_ref.uid) else {
            return;
        };
        if !self.repaired.since(&watched.invariant, ticket.spec.opening.first_breach_at.0) {
            flapping::note(&mut watched.healed, Timestamp::now());
        }
    }

    fn phase(&self, key: &ObjectKey) -> Option<Phase> {
        self.tickets.get(key).map(|known| known.phase())
    }

    /// Lets go of a ticket that ended, or that is being deleted while no attempt is unsettled.
    pub(super) fn settle(&mut self, key: &ObjectKey) {
        let Some(ticket) = self.tickets.get(key) else { return };
        let held = ticket.finalizers().iter().any(|it| it == UNSETTLED_FINALIZER);
        let deleting = ticket.metadata.deletion_timestamp.is_some();
        let free = lifecycle::ended(ticket.phase()) || (deleting && !lifecycle::unsettled(ticket.phase()));
        if !held || !free || !self.settling.insert(key.clone()) {
            return;
        }
        let (client, ticket, key) = (self.client.clone(), Arc::clone(ticket), key.clone());
        self.acting.push(
            async move {
                let let_go = panics::caught(act::remove_finalizer(&client, &ticket)).await;
                match let_go.unwrap_or_else(|why| Err(ActError::BrokeDown(why))) {
                    Ok(ticket) => Acted::TicketLetGo(Box::new(ticket)),
                    Err(error) => Acted::TicketHeld(key, error),
                }
            }
            .boxed(),
        );
    }

    /// Deletes tickets that ended long ago, or too many tickets ago.
    pub(super) fn drop_old_tickets(&mut self) {
        let ttl = SignedDuration::try_from(self.settings.ticket_ttl).unwrap_or(SignedDuration::MAX);
        let limit = Timestamp::now().checked_sub(ttl).unwrap_or(Timestamp::MIN);
        let beyond = self.tickets.beyond(limit, self.settings.tickets_per_invariant);
        for ticket in beyond.into_iter().take(DELETED_AT_ONCE) {
            let client = self.client.clone();
            self.acting.push(
                async move {
                    let deleted = panics::caught(act::delete_ticket(&client, &ticket)).await;
                    if let Err(error) = deleted.unwrap_or_else(|why| Err(ActError::BrokeDown(why))) {
                        tracing::debug!(%error, "an old ticket stays for now");
                    }
                    Acted::TicketStays(ObjectKey::of(&*ticket))
                }
                .boxed(),
            );
        }
    }
}
