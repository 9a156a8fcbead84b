//! The agent's loop: hears of changes, runs one task for each open ticket, and learns beside that what is good.

use super::baseline::{self, Runs};
use super::{Context, board, incident};
use crate::crd::{Invariant, Phase, Ticket};
use crate::history::{ConfigHistory, Revision, config_maps_of};
use crate::lifecycle;
use crate::vitals::{PULSE, Part};
use crate::watch::{Change, ObjectKey};
use futures::{Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Changes are gathered for so long before the baseline is looked at again.
const LEARN_PAUSE: Duration = Duration::from_millis(250);

/// What was not found to be good is looked at again after this.
const LEARN_RETRY: SignedDuration = SignedDuration::from_secs(2);

/// Incidents may take this long to stop between two writes at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A ticket's task, from outside.
struct Running {
    /// Counts what concerns this incident alone: its ticket, or an invariant of its namespace, changed.
    changed: signal::Sender<u64>,
}

impl Running {
    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

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
    runs: Runs,
    /// The resourceVersion of each ConfigMap that was found to be good last.
    learned: HashMap<ObjectKey, String>,
    incidents: JoinSet<ObjectKey>,
    running: HashMap<ObjectKey, Running>,
    synced: Synced,
    shutdown: CancellationToken,
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>, history: ConfigHistory, shutdown: CancellationToken) -> Self {
        Self {
            context,
            history,
            runs: Runs::default(),
            learned: HashMap::new(),
            incidents: JoinSet::new(),
            running: HashMap::new(),
            synced: Synced::default(),
            shutdown,
        }
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
        let mut look_at = Some(tokio::time::Instant::now());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = invariants.next() => if !self.invariant_changed(change) { continue },
                Some(change) = tickets.next() => self.ticket_changed(change),
                Ok(()) = config_changed.changed() => self.context.wake_all(),
                Some(ended) = self.incidents.join_next() => { self.incident_ended(ended); continue }
                _ = pulse.tick() => { self.context.settings.vitals.beat(Part::Agent); continue }
                () = sleep_until(look_at) => { look_at = self.learn().await; continue }
            }
            let soon = tokio::time::Instant::now() + LEARN_PAUSE;
            look_at = Some(look_at.map_or(soon, |at| at.min(soon)));
        }
        let finish = async {
            while self.incidents.join_next().await.is_some() {}
            self.context.spending.settled().await;
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
            tracing::warn!("incidents were cut short at shutdown; a successor goes on by their journals");
        }
    }

    /// Takes a change; says whether anything may follow from it.
    fn invariant_changed(&mut self, change: Change<Invariant>) -> bool {
        match change {
            Change::Applied(mut invariant) => {
                let key = ObjectKey::of(&invariant);
                board::shrink(&mut invariant);
                self.runs.note(&key, &invariant, Timestamp::now());
                let before = self.context.board.lock().invariants.insert(key.clone(), Arc::new(invariant.clone()));
                // New samples alone are nothing that an incident waits for, and change nothing that is followed.
                let concerns = before.as_ref().is_none_or(|before| board::concerns_incidents(before, &invariant));
                if concerns {
                    self.wake_concerned(&key);
                }
                if before.as_ref().is_none_or(|it| it.spec.remediation.allow != invariant.spec.remediation.allow) {
                    let before = before.map(|it| config_maps_of(&it)).unwrap_or_default();
                    self.history.follow_instead(before, config_maps_of(&invariant));
                }
                concerns
            }
            Change::Deleted(key) => {
                self.runs.forget(&key);
                if let Some(gone) = self.context.board.lock().invariants.remove(&key) {
                    self.history.follow_instead(config_maps_of(&gone), Vec::new());
                }
                self.wake_concerned(&key);
                true
            }
            Change::Synced => {
                self.synced.invariants = true;
                self.start_all();
                true
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
        let of_namespace = self.running.iter().filter(|(key, _)| key.namespace == invariant.namespace);
        of_namespace.filter(|(key, _)| !rests(key)).for_each(|(_, running)| running.wake());
    }

    fn ticket_changed(&mut self, change: Change<Ticket>) {
        match change {
            Change::Applied(ticket) => {
                let key = ObjectKey::of(&ticket);
                self.context.board.lock().tickets.insert(key.clone(), Arc::new(ticket));
                self.start(&key);
                self.wake(&key);
            }
            Change::Deleted(key) => {
                self.context.board.lock().tickets.remove(&key);
                self.wake(&key);
            }
            Change::Synced => {
                self.synced.tickets = true;
                self.start_all();
            }
        }
    }

    fn wake(&self, key: &ObjectKey) {
        if let Some(running) = self.running.get(key) {
            running.wake();
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
        if lifecycle::ended(ticket.phase()) || self.running.contains_key(key) {
            return;
        }
        if lifecycle::holds_claim(ticket.phase()) {
            let invariant = ObjectKey::new(&key.namespace, &ticket.spec.invariant_ref.name);
            if let Some(invariant) = self.context.board.lock().invariants.get(&invariant)
                && let Err(holder) = self.context.claims.acquire(key, &incident::objects(invariant))
            {
                tracing::warn!(ticket = %key, %holder, "two tickets in mid-incident share an object");
            }
        }
        let (own, common) = (signal::Sender::new(0), self.context.changed.subscribe());
        let changes = incident::Changes { own: own.subscribe(), common };
        self.running.insert(key.clone(), Running { changed: own });
        let (context, key) = (Arc::clone(&self.context), key.clone());
        let shutdown = self.shutdown.clone();
        self.incidents.spawn(async move {
            incident::run(&context, &key, changes, shutdown).await;
            key
        });
    }

    fn incident_ended(&mut self, ended: Result<ObjectKey, tokio::task::JoinError>) {
        match ended {
            Ok(key) => {
                self.running.remove(&key);
                // It may have been replaced, or reopened, while its task was ending.
                self.start(&key);
            }
            Err(error) => {
                tracing::error!(%error, "an incident's task failed; its ticket is taken up again");
                self.running.clear();
                self.start_all();
            }
        }
    }

    /// Keeps the revisions that have become good; says when to look again.
    async fn learn(&mut self) -> Option<tokio::time::Instant> {
        let now = Timestamp::now();
        let mut next: Option<Timestamp> = None;
        for config in self.context.board.config_maps() {
            let Some(revision) = self.history.latest(&config) else { continue };
            if self.learned.get(&config) == Some(&revision.resource_version) || self.context.claims.is_claimed(&config)
            {
                continue;
            }
            let (ripe, group) = {
                let state = self.context.board.lock();
                let group = baseline::group(&config, &state.invariants);
                let ripe = baseline::ripe(&revision, &group, &self.runs, self.context.settings.good_after);
                (ripe, group.into_iter().cloned().collect::<Vec<_>>())
            };
            let again = match ripe {
                Some(at) if at <= now && self.keep(&config, &revision, &group, now).await => None,
                Some(at) if at <= now => now.checked_add(LEARN_RETRY).ok(),
                other => other,
            };
            next = [next, again].into_iter().flatten().min();
        }
        let wait = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        wait.map(|wait| tokio::time::Instant::now() + wait)
    }

    /// Keeps a revision as good, if everything holds at this very moment and it is still in force then.
    async fn keep(
        &mut self,
        config: &ObjectKey,
        revision: &Arc<Revision>,
        group: &[Arc<Invariant>],
        now: Timestamp,
    ) -> bool {
        let holds = baseline::holds_now(&self.context.prober, group).await;
        if !holds || self.history.latest(config).as_ref() != Some(revision) {
            return false;
        }
        // Else a fault would be learned that pods do not read yet.
        let in_pods = self.context.executor.in_pods_by(&config.namespace, &config.name, revision).await;
        let good_after = SignedDuration::try_from(self.context.settings.good_after).unwrap_or(SignedDuration::MAX);
        match in_pods.map(|by| by.checked_add(good_after)) {
            Ok(Ok(good_at)) if good_at <= now => {}
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!(%config, %error, "the pods cannot be listed; the revision is not kept yet");
                return false;
            }
        }
        match baseline::keep(&self.context.client, config, revision, now).await {
            Ok(()) => {
                self.learned.insert(config.clone(), revision.resource_version.clone());
                true
            }
            Err(error) => {
                tracing::warn!(%config, %error, "a good revision is not kept yet; it is tried again");
                false
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
