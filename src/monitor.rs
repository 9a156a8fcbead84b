//! Invariants in, tickets out.
//!
//! One task owns all state: it hears of changes of invariants and tickets, starts checks when they are due, judges
//! their samples, decides ([`decide`], pure) and starts the writes ([`act`]). At most one write for an invariant is
//! under way at a time; when it is done, the invariant is looked at again.

pub mod act;
pub mod analyst;
pub mod decide;
pub mod record;
pub mod schedule;
pub mod tickets;
pub mod watched;
mod writing;

pub use act::FIELD_MANAGER;

use crate::crd::{Invariant, Ticket, UNSETTLED_FINALIZER};
use crate::history::ConfigHistory;
use crate::lifecycle;
use crate::outage::Outage;
use crate::probe::{EgressPolicy, Prober, Sample};
use crate::vitals::{PULSE, Part, Vitals};
use crate::watch::{Change, ObjectKey, changes_in};
use decide::TicketAction;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt};
use schedule::Schedule;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tickets::Tickets;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watched::Watched;
use writing::{Acted, open, resolve, write_status};

/// Checks in flight at most; a due check beyond that waits.
const MAX_IN_FLIGHT: usize = 512;

/// A write that failed is tried again after this, if no sample comes first.
const RETRY: Duration = Duration::from_secs(5);

/// A write that met somebody else's is decided again after this.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// How often ended tickets are looked over, after a first time when all are known.
const RETENTION_INTERVAL: Duration = Duration::from_mins(1);

/// Writes under way at shutdown may take this long.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What the monitor is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces to watch; none: all.
    pub namespaces: Vec<String>,
    /// What checks may reach.
    pub egress: EgressPolicy,
    /// How often a status may be written when nothing but values and samples changed; `None`: never.
    pub status_refresh: Option<Duration>,
    /// How long an ended ticket is kept.
    pub ticket_ttl: Duration,
    /// What the monitor reports to.
    pub vitals: Vitals,
}

/// Why the monitor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The prober cannot be set up.
    #[error("checks cannot be set up: {0}")]
    SetUpProber(String),
}

/// Watches until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), MonitorError> {
    let prober = Prober::new(settings.egress).map_err(|error| MonitorError::SetUpProber(error.to_string()))?;
    let invariants = changes_in::<Invariant>(&client, &settings.namespaces);
    let tickets = changes_in::<Ticket>(&client, &settings.namespaces);
    let mut monitor = Monitor::new(client, settings, prober);
    monitor.serve(pin!(invariants), pin!(tickets), shutdown).await;
    Ok(())
}

/// A check that is done.
struct Asked {
    key: ObjectKey,
    uid: String,
    generation: i64,
    sample: Sample,
}

struct Monitor {
    client: Client,
    settings: Settings,
    prober: Arc<Prober>,
    history: ConfigHistory,
    origin: Instant,
    schedule: Schedule,
    watched: HashMap<ObjectKey, Watched>,
    tickets: Tickets,
    tickets_synced: bool,
    settling: HashSet<ObjectKey>,
    /// Invariants whose ticket, which is being opened, stands for their whole namespace.
    umbrellas: HashSet<ObjectKey>,
    asking: FuturesUnordered<BoxFuture<'static, Asked>>,
    acting: FuturesUnordered<BoxFuture<'static, Acted>>,
}

impl Monitor {
    fn new(client: Client, settings: Settings, prober: Prober) -> Self {
        Self {
            history: ConfigHistory::new(client.clone()),
            client,
            settings,
            prober: Arc::new(prober),
            origin: Instant::now(),
            schedule: Schedule::default(),
            watched: HashMap::new(),
            tickets: Tickets::default(),
            tickets_synced: false,
            settling: HashSet::new(),
            umbrellas: HashSet::new(),
            asking: FuturesUnordered::new(),
            acting: FuturesUnordered::new(),
        }
    }

    async fn serve(
        &mut self,
        mut invariants: impl Stream<Item = Change<Invariant>> + Unpin,
        mut tickets: impl Stream<Item = Change<Ticket>> + Unpin,
        shutdown: CancellationToken,
    ) {
        let mut pulse = tokio::time::interval(PULSE);
        let mut retention = tokio::time::interval_at(Instant::now() + RETENTION_INTERVAL, RETENTION_INTERVAL);
        loop {
            let room = self.asking.len() < MAX_IN_FLIGHT;
            let due = self.schedule.next_due().map(|due| self.origin + due).filter(|_| room);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = invariants.next() => self.invariant_changed(change),
                Some(change) = tickets.next() => self.ticket_changed(change),
                Some(asked) = self.asking.next() => self.answered(&asked),
                Some(acted) = self.acting.next() => self.acted(acted),
                _ = pulse.tick() => self.settings.vitals.beat(Part::Monitor),
                _ = retention.tick() => self.drop_old_tickets(),
                () = wait_until(due) => self.ask_due(),
            }
        }
        let finish = async { while self.acting.next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
            tracing::warn!("writes were still under way at shutdown; a successor decides them again");
        }
    }

    fn invariant_changed(&mut self, change: Change<Invariant>) {
        match change {
            Change::Applied(invariant) => {
                let key = ObjectKey::of(&invariant);
                let now = self.origin.elapsed();
                let allowed = self.watched.get(&key).map(|known| &known.invariant.spec.remediation.allow);
                // Most changes are our own statuses, which change nothing that is followed.
                let follow_anew = allowed != Some(&invariant.spec.remediation.allow);
                let watched = match self.watched.remove(&key) {
                    Some(known) => known.updated(invariant, Timestamp::now()),
                    None => Watched::new(invariant, Timestamp::now()),
                };
                if watched.is_asked() {
                    self.schedule.set(&key, &watched.invariant.uid().unwrap_or_default(), watched.interval(), now);
                } else {
                    self.schedule.remove(&key);
                }
                self.watched.insert(key.clone(), watched);
                self.settings.vitals.invariants(self.watched.len());
                if follow_anew {
                    self.follow_config();
                }
                self.reconsider(&key);
            }
            Change::Deleted(key) => {
                self.schedule.remove(&key);
                self.watched.remove(&key);
                self.settings.vitals.invariants(self.watched.len());
                self.follow_config();
            }
            Change::Synced => {}
        }
    }

    fn follow_config(&self) {
        self.history.follow_only(self.watched.values().flat_map(Watched::config_maps));
    }

    fn ticket_changed(&mut self, change: Change<Ticket>) {
        match change {
            Change::Applied(ticket) => {
                let key = ObjectKey::of(&ticket);
                let invariant = ObjectKey::new(&key.namespace, &ticket.spec.invariant_ref.name);
                self.put(ticket);
                self.settle(&key);
                self.reconsider(&invariant);
            }
            Change::Deleted(key) => {
                self.settings.vitals.moved(self.tickets.get(&key).map(|known| known.phase()), None);
                let invariant = self.tickets.get(&key).map(|it| it.spec.invariant_ref.name.clone());
                self.tickets.remove(&key);
                self.settling.remove(&key);
                if let Some(name) = invariant {
                    self.reconsider(&ObjectKey::new(&key.namespace, name));
                }
            }
            Change::Synced => {
                self.tickets_synced = true;
                self.settings.vitals.synced(Part::Monitor);
                self.drop_old_tickets();
                let keys: Vec<_> = self.watched.keys().cloned().collect();
                for key in keys {
                    self.reconsider(&key);
                }
            }
        }
    }

    fn put(&mut self, ticket: Ticket) {
        let key = ObjectKey::of(&ticket);
        let phase = |tickets: &Tickets| tickets.get(&key).map(|known| known.phase());
        let before = phase(&self.tickets);
        self.tickets.put(ticket);
        self.settings.vitals.moved(before, phase(&self.tickets));
    }

    /// Lets go of a ticket that ended, or that is being deleted while no attempt is unsettled.
    fn settle(&mut self, key: &ObjectKey) {
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
                match act::remove_finalizer(&client, &ticket).await {
                    Ok(ticket) => Acted::TicketLetGo(Box::new(ticket)),
                    Err(error) => {
                        tracing::debug!(%error, "a ticket is not let go yet; it is tried again");
                        tokio::time::sleep(if error.is_conflict() { CONFLICT_PAUSE } else { RETRY }).await;
                        Acted::TicketStays(key)
                    }
                }
            }
            .boxed(),
        );
    }

    fn drop_old_tickets(&mut self) {
        let ttl = SignedDuration::try_from(self.settings.ticket_ttl).unwrap_or(SignedDuration::MAX);
        let Ok(limit) = Timestamp::now().checked_sub(ttl) else { return };
        for ticket in self.tickets.ended_before(limit) {
            let (client, ticket) = (self.client.clone(), Arc::clone(ticket));
            self.acting.push(
                async move {
                    if let Err(error) = act::delete_ticket(&client, &ticket).await {
                        tracing::debug!(%error, "an old ticket stays for now");
                    }
                    Acted::TicketStays(ObjectKey::of(&*ticket))
                }
                .boxed(),
            );
        }
    }

    fn ask_due(&mut self) {
        let now = self.origin.elapsed();
        while self.asking.len() < MAX_IN_FLIGHT
            && let Some((key, missed)) = self.schedule.take_due(now)
        {
            let Some(watched) = self.watched.get_mut(&key) else { continue };
            if missed > 0 || watched.asking {
                tracing::warn!(%key, missed, overlapping = watched.asking, "checks were skipped");
                self.settings.vitals.skipped(u64::from(missed) + u64::from(watched.asking));
            }
            let Some(query) = watched.begin_asking() else { continue };
            let (prober, timeout) = (Arc::clone(&self.prober), watched.timeout());
            let (uid, generation) = (watched.invariant.uid().unwrap_or_default(), watched.generation());
            self.asking
                .push(async move { Asked { sample: prober.ask(&query, timeout).await, key, uid, generation } }.boxed());
        }
    }

    fn answered(&mut self, asked: &Asked) {
        let Some(watched) = self.watched.get_mut(&asked.key) else { return };
        watched.asking = false;
        // An answer to the question of an earlier spec says nothing about this one.
        if watched.invariant.uid().as_deref() == Some(&asked.uid) && watched.generation() == asked.generation {
            self.settings.vitals.checked(watched.add(&asked.sample));
            self.reconsider(&asked.key);
        }
    }

    /// Decides about one invariant, and starts at most one write.
    fn reconsider(&mut self, key: &ObjectKey) {
        let broken = self.broken_dependencies(key);
        let now = Timestamp::now();
        let Some(watched) = self.watched.get_mut(key) else { return };
        if watched.acting || !self.tickets_synced {
            return;
        }
        let ticket = watched.invariant.uid().and_then(|uid| self.tickets.open_of(&uid)).cloned();
        let may_open = ticket.is_none() && watched.has_crossed();
        let outage = if may_open { self.outage(&key.namespace) } else { None };
        let umbrella = outage.and_then(|_| self.umbrella(&key.namespace));
        let Some(watched) = self.watched.get_mut(key) else { return };
        watched.prepare(!broken.is_empty() || umbrella.is_some(), ticket.as_deref(), now);
        let guards_hold = self.guards_hold(key, ticket.as_deref());
        let Some(watched) = self.watched.get_mut(key) else { return };
        let decision =
            decide::decide(&watched.input(&broken, umbrella.as_deref(), ticket.as_deref(), guards_hold), now);
        let write = match decision.ticket {
            TicketAction::Open => {
                let number = self.tickets.next_number(&watched.invariant.uid().unwrap_or_default());
                if outage.is_some() {
                    self.umbrellas.insert(key.clone());
                }
                open(self.client.clone(), self.history.clone(), key.clone(), watched, number, outage)
            }
            TicketAction::Resolve => match ticket {
                Some(ticket) => resolve(self.client.clone(), key.clone(), watched, ticket),
                None => return,
            },
            TicketAction::Leave => {
                if !watched.must_write(&decision.status, self.settings.status_refresh, now) {
                    return;
                }
                write_status(self.client.clone(), key.clone(), watched, decision.status)
            }
        };
        watched.acting = true;
        self.acting.push(write);
    }

    /// Whether so much of a namespace is broken that the cause lies elsewhere.
    fn outage(&self, namespace: &str) -> Option<Outage> {
        let asked = || self.watched.iter().filter(|(key, it)| key.namespace == namespace && it.is_asked());
        Outage::of(asked().filter(|(_, it)| it.is_broken()).count(), asked().count())
    }

    /// The ticket that stands for all of a namespace, open or being opened.
    fn umbrella(&self, namespace: &str) -> Option<String> {
        let opening =
            self.umbrellas.iter().find(|key| key.namespace == namespace).map(|key| format!("of {}", key.name));
        self.tickets.umbrella(namespace).map(|ticket| ticket.name_any()).or(opening)
    }

    fn broken_dependencies(&self, key: &ObjectKey) -> Vec<String> {
        let Some(watched) = self.watched.get(key) else { return Vec::new() };
        let names = watched.invariant.spec.depends_on.iter().map(|dependency| &dependency.name);
        names
            .filter(|name| {
                let parent = self.watched.get(&ObjectKey::new(&key.namespace, (*name).clone()));
                parent.is_some_and(Watched::is_broken)
            })
            .cloned()
            .collect()
    }

    /// Every guard of the ticket's attempt holds now. A guard that was deleted guards nothing.
    fn guards_hold(&self, key: &ObjectKey, ticket: Option<&Ticket>) -> bool {
        let status = ticket.and_then(|ticket| ticket.status.as_ref());
        let Some(attempt) = status.and_then(|status| status.attempts.last()) else { return true };
        attempt
            .guards
            .iter()
            .all(|name| self.watched.get(&ObjectKey::new(&key.namespace, name.clone())).is_none_or(Watched::is_holding))
    }

    fn acted(&mut self, acted: Acted) {
        let key = match acted {
            Acted::StatusWritten(key, status) => {
                if let Some(watched) = self.watched.get_mut(&key) {
                    watched.written(*status, Timestamp::now());
                }
                key
            }
            Acted::TicketWritten(key, ticket) => {
                self.umbrellas.remove(&key);
                let ticket_key = ObjectKey::of(&*ticket);
                self.put(*ticket);
                self.settle(&ticket_key);
                key
            }
            Acted::TicketLetGo(ticket) => {
                // One that was being deleted is gone now, and the watch says so.
                if ticket.metadata.deletion_timestamp.is_none() {
                    self.settling.remove(&ObjectKey::of(&*ticket));
                    self.put(*ticket);
                }
                return;
            }
            Acted::TicketStays(key) => {
                self.settling.remove(&key);
                self.settle(&key);
                return;
            }
            Acted::Failed(key, error) => {
                self.umbrellas.remove(&key);
                // After a conflict the watch brings what we did not know; a lasting refusal must not be asked for again
                // at once.
                let pause = if error.is_conflict() { CONFLICT_PAUSE } else { RETRY };
                tracing::warn!(%error, ?pause, "a write is tried again");
                self.acting.push(
                    async move {
                        tokio::time::sleep(pause).await;
                        Acted::RetryDue(key)
                    }
                    .boxed(),
                );
                return;
            }
            Acted::RetryDue(key) => key,
        };
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.acting = false;
        }
        self.reconsider(&key);
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
