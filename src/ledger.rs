//! Writes transitions into the status of tickets, for the monitor and the agent alike.
//!
//! Every write carries the resourceVersion that was read, so that of two writers one learns that it was late. That is
//! why this is an update and not a server-side apply: the two share fields, in turns.

use crate::crd::{Phase, Ticket, TicketStatus};
use crate::lifecycle::explanation::{self, Known};
use crate::lifecycle::{self, Transition};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use std::num::NonZeroU32;
use std::sync::LazyLock;

/// The API server refuses a longer note. Bytes.
const MAX_NOTE: usize = 1024;

/// What is told of a transition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told<'a> {
    /// What happened, in a sentence without its full stop. An outcome makes more of it.
    pub happened: &'a str,
    /// What others wrote to the objects of the last attempt.
    pub others: &'a [String],
    /// What to do next, where somebody knows better than the outcome alone.
    pub next: Option<&'a str>,
}

/// Records a transition and whatever `edit` does to the status, in one write. A new phase is announced as an event, and an
/// outcome is explained.
pub async fn record(
    client: &Client,
    field_manager: &str,
    ticket: &Ticket,
    transition: Transition,
    told: Told<'_>,
    edit: impl FnOnce(&mut TicketStatus),
) -> Result<Ticket, kube::Error> {
    let api: Api<Ticket> = Api::namespaced(client.clone(), &ticket.namespace().unwrap_or_default());
    let mut updated = ticket.clone();
    let status = updated.status.get_or_insert_default();
    edit(status);
    let message = match transition.outcome {
        Some(outcome) => {
            if status.diagnosis.is_none() {
                status.diagnosis = explanation::diagnosis(ticket, told.happened);
            }
            let Told { happened, others, next } = told;
            explanation::explain(outcome, &Known { ticket, status, happened, others, next })
        }
        None => told.happened.to_owned(),
    };
    let generation = ticket.metadata.generation.unwrap_or_default();
    lifecycle::project(status, generation, transition, &message, Timestamp::now());
    let parameters = PostParams { field_manager: Some(field_manager.to_owned()), ..PostParams::default() };
    let recorded = api.replace_status(&ticket.name_any(), &parameters, &updated).await?;
    if ticket.status.as_ref().map(|status| status.phase) != Some(transition.phase) {
        announce(client.clone(), field_manager, &recorded, transition.phase);
    }
    Ok(recorded)
}

/// Events of one object by this process: so many at once, and then one a minute.
const EVENTS_AT_ONCE: NonZeroU32 = NonZeroU32::new(25).unwrap();

/// Objects whose events are counted, before those that had none of late are forgotten.
const COUNTED_OBJECTS: usize = 1024;

/// Keeps a ticket that goes to and fro from filling the event store, which all of the cluster shares.
static EVENTS: LazyLock<DefaultKeyedRateLimiter<String>> =
    LazyLock::new(|| RateLimiter::keyed(Quota::per_minute(NonZeroU32::MIN).allow_burst(EVENTS_AT_ONCE)));

/// Whether one more event of this object may be published now.
fn may_announce(events: &DefaultKeyedRateLimiter<String>, uid: &str) -> bool {
    if events.len() > COUNTED_OBJECTS {
        events.retain_recent();
    }
    events.check_key(&uid.to_owned()).is_ok()
}

/// Publishes the ticket's new phase as a Kubernetes event, in the background: an event that is lost is lost.
fn announce(client: Client, field_manager: &str, ticket: &Ticket, phase: Phase) {
    if !may_announce(&EVENTS, ticket.metadata.uid.as_deref().unwrap_or_default()) {
        tracing::debug!(ticket = ticket.name_any(), ?phase, "too many events of this ticket; this one is left out");
        return;
    }
    let status = ticket.status.clone().unwrap_or_default();
    let mut note = status.message.unwrap_or_default();
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    let event = Event {
        type_: match phase {
            Phase::Escalated | Phase::RollingBack | Phase::AwaitingApproval => EventType::Warning,
            Phase::Open
            | Phase::Diagnosing
            | Phase::Repairing
            | Phase::Verifying
            | Phase::Resolved
            | Phase::Cancelled => EventType::Normal,
        },
        reason: status.reason.unwrap_or_else(|| format!("{phase:?}")),
        note: Some(note),
        action: format!("{phase:?}"),
        secondary: None,
    };
    publish(client, field_manager, ticket, event);
}

/// Warns of something about a ticket that is no phase, as a Kubernetes event, in the background.
pub fn warn(client: &Client, field_manager: &str, ticket: &Ticket, reason: &str, mut note: String) {
    if !may_announce(&EVENTS, ticket.metadata.uid.as_deref().unwrap_or_default()) {
        return;
    }
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    let event = Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(note),
        action: reason.to_owned(),
        secondary: None,
    };
    publish(client.clone(), field_manager, ticket, event);
}

fn publish(client: Client, field_manager: &str, ticket: &Ticket, event: Event) {
    let reference = ticket.object_ref(&());
    let recorder = Recorder::new(client, Reporter { controller: field_manager.to_owned(), instance: None });
    tokio::spawn(async move {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::debug!(%error, "an event was not published");
        }
    });
}

/// Somebody else wrote first, or the object is gone: nothing is wrong, the next look decides again.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_that_goes_to_and_fro_has_a_limited_number_of_events_and_others_have_theirs() {
        let events = RateLimiter::keyed(Quota::per_minute(NonZeroU32::MIN).allow_burst(EVENTS_AT_ONCE));
        let published = |uid: &str| (0..100).filter(|_| may_announce(&events, uid)).count();
        assert_eq!((published("one"), published("other")), (25, 25));
    }
}
