//! The agent's loop: hears of changes, and runs one task for each open ticket. It waits for nothing else.

use super::executor::FIELD_MANAGER;
use super::incidents::{Ended, Incidents};
use super::{Context, board, incident, sleep_until};
use crate::crd::{Invariant, Phase, Ticket};
use crate::history::{ConfigHistory, config_maps_of};
use crate::lifecycle;
use crate::vitals::{PULSE, Part};
use crate::watch::{Change, ObjectKey};
use crate::{ledger, redact};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Incidents may take this long to stop between two writes at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Which watches brought all there is.
#[derive(Debug, Default)]
struct Synced {
    invariants: bool,
    tickets: bool,
}

/// The agent's loop.
pub(super) struct Dispatcher {
    context: Arc<Context>,
    history: ConfigHistory,
    incidents: Incidents,
    synced: Synced,
    shutdown: CancellationToken,
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>, history: ConfigHistory, shutdown: CancellationToken) -> Self {
        Self { context, history, incidents: Incidents::default(), synced: Synced::default(), shutdown }
    }

    /// Works until `shutdown`; then waits for the incidents to stop.
    pub(super) async fn serve(
        &mut self,
        mut invariants: impl Stream<Item = Change<Invariant>> + Unpin,
        mut tickets: impl Stream<Item = Change<Ticket>> + Unpin,
        shutdown: CancellationToken,
    ) {
        let mut pulse = tokio::time::interval(PULSE);
        let mut config_changed = self.history.subscribe();
        loop {
            let restart = self.incidents.next_restart();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = invariants.next() => self.invariant_changed(change),
                Some(change) = tickets.next() => self.ticket_changed(change),
                Ok(()) = config_changed.changed() => self.context.wake_all(),
                Some(ended) = self.incidents.next_ended() => self.incident_ended(ended),
                () = sleep_until(restart) => for key in self.incidents.take_restarts() { self.start(&key) },
                _ = pulse.tick() => self.context.settings.vitals.beat(Part::Agent),
            }
        }
        let finish = async {
            while self.incidents.next_ended().await.is_some() {}
            self.context.spending.settled().await;
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
            tracing::warn!("incidents were cut short at shutdown; a successor goes on by their journals");
        }
    }

    fn invariant_changed(&mut self, change: Change<Invariant>) {
        match change {
            Change::Applied(mut invariant) => {
                let key = ObjectKey::of(&invariant);
                board::shrink(&mut invariant);
                let before = {
                    let mut state = self.context.board.lock();
                    state.runs.note(&key, &invariant, Timestamp::now());
                    state.invariants.insert(key.clone(), Arc::new(invariant.clone()))
                };
                // New samples alone are nothing that an incident waits for, and change nothing that is followed.
                let concerns = before.as_ref().is_none_or(|before| board::concerns_incidents(before, &invariant));
                if concerns {
                    self.wake_concerned(&key);
                    self.context.board.note_change();
                }
                if before.as_ref().is_none_or(|it| it.spec.remediation.allow != invariant.spec.remediation.allow) {
                    let before = before.map(|it| config_maps_of(&it)).unwrap_or_default();
                    self.history.follow_instead(before, config_maps_of(&invariant));
                }
            }
            Change::Deleted(key) => {
                let gone = {
                    let mut state = self.context.board.lock();
                    state.runs.forget(&key);
                    state.invariants.remove(&key)
                };
                if let Some(gone) = gone {
                    self.history.follow_instead(config_maps_of(&gone), Vec::new());
                }
                self.wake_concerned(&key);
                self.context.board.note_change();
            }
            Change::Synced => {
                self.synced.invariants = true;
                self.start_all();
                self.context.board.note_change();
            }
        }
    }

    /// Lets the incidents look again that a change of this invariant may concern: all of its namespace, but for those
    /// that wait for a person and are about another. Of those there may be many.
    fn wake_concerned(&self, invariant: &ObjectKey) {
        let state = self.context.board.lock();
        let rests = |key: &ObjectKey| {
            let ticket = state.tickets.get(key);
            ticket.is_some_and(|it| it.phase() == Phase::Escalated && it.spec.invariant_ref.name != invariant.name)
        };
        let of_namespace = self.incidents.keys().filter(|key| key.namespace == invariant.namespace);
        of_namespace.filter(|key| !rests(key)).for_each(|key| self.incidents.wake(key));
    }

    fn ticket_changed(&mut self, change: Change<Ticket>) {
        match change {
            Change::Applied(ticket) => {
                let key = ObjectKey::of(&ticket);
                self.context.board.lock().tickets.insert(key.clone(), Arc::new(ticket));
                self.start(&key);
                self.incidents.wake(&key);
            }
            Change::Deleted(key) => {
                self.context.board.lock().tickets.remove(&key);
                if self.incidents.is_running(&key) {
                    self.incidents.wake(&key);
                } else {
                    self.let_go(&key);
                }
            }
            Change::Synced => {
                self.synced.tickets = true;
                self.start_all();
            }
        }
    }

    /// Lets go of a ticket whose task does not run any more, and what it had claimed.
    fn let_go(&mut self, key: &ObjectKey) {
        self.incidents.forget(key);
        if self.context.claims.release(key) {
            self.context.wake_all();
        }
    }

    /// Once everything is known: first those in mid-incident, so that they keep what they had claimed.
    fn start_all(&mut self) {
        if self.synced.invariants && self.synced.tickets {
            self.context.settings.vitals.synced(Part::Agent);
        }
        let mut keys: Vec<(bool, ObjectKey)> = {
            let state = self.context.board.lock();
            state.tickets.iter().map(|(key, it)| (!lifecycle::holds_claim(it.phase()), key.clone())).collect()
        };
        keys.sort();
        for (_, key) in keys {
            self.start(&key);
        }
    }

    /// Runs a task for an open ticket, unless there is one.
    fn start(&mut self, key: &ObjectKey) {
        if !self.synced.invariants || !self.synced.tickets {
            return;
        }
        let Some(ticket) = self.context.board.lock().tickets.get(key).cloned() else { return };
        if lifecycle::ended(ticket.phase()) || !self.incidents.may_start(key) {
            return;
        }
        if lifecycle::holds_claim(ticket.phase()) {
            let invariant = ObjectKey::new(&key.namespace, &ticket.spec.invariant_ref.name);
            let invariant = self.context.board.lock().invariants.get(&invariant).cloned();
            if let Err(holder) = self.context.claims.acquire(key, &incident::claimed(&ticket, invariant.as_deref())) {
                tracing::warn!(ticket = %key, %holder, "two tickets in mid-incident share an object");
            }
        }
        let (context, common) = (Arc::clone(&self.context), self.context.changed.subscribe());
        let (shutdown, ticket) = (self.shutdown.clone(), key.clone());
        self.incidents.start(key, move |own| async move {
            incident::run(&context, &ticket, incident::Changes { own, common }, shutdown).await;
        });
    }

    fn incident_ended(&mut self, ended: Ended) {
        match ended {
            // It may have been replaced, or reopened, while its task was ending.
            Ended::Well(key) => self.start(&key),
            Ended::BrokeDown { key, why, in_a_row, pause } => {
                let seconds = pause.as_secs();
                tracing::error!(ticket = %key, why, in_a_row, seconds, "an incident's task broke down, a defect of the harness; it starts again after a pause");
                let ticket = self.context.board.lock().tickets.get(&key).cloned();
                match ticket.filter(|ticket| !lifecycle::ended(ticket.phase())) {
                    Some(ticket) => {
                        let note = format!(
                            "the agent broke down over this ticket ({why}), {in_a_row} times in a row; it tries again in {seconds} s"
                        );
                        ledger::warn(
                            &self.context.client,
                            FIELD_MANAGER,
                            &ticket,
                            "AgentBrokeDown",
                            redact::line(&note, 512),
                        );
                    }
                    None => self.let_go(&key),
                }
            }
        }
    }
}
