//! Invariants in, tickets out.
//!
//! One task owns all state: it hears of changes of invariants and tickets, starts checks when they are due, judges
//! their samples, decides ([`decide`], pure) and starts the writes ([`act`]). At most one write for an invariant is
//! under way at a time; when it is done, the invariant is looked at again.

pub mod act;
pub mod analyst;
pub mod census;
mod checking;
pub mod decide;
mod deciding;
pub mod dependencies;
pub mod flapping;
mod judging;
mod others;
pub mod record;
pub mod refreshes;
mod retention;
pub mod schedule;
pub mod shares;
pub mod starting;
mod target;
pub mod tickets;
pub mod watched;
mod writing;

pub use act::FIELD_MANAGER;

use crate::crd::{Invariant, Ticket};
use crate::history::{ConfigHistory, config_maps_of};
use crate::probe::{EgressPolicy, Prober};
use crate::vitals::{PULSE, Part, Vitals};
use crate::watch::{Change, ObjectKey, changes_in};
use analyst::Analyst;
use census::Census;
use checking::{Asked, MAX_IN_FLIGHT};
use deciding::Occasion;
use dependencies::Dependencies;
use flapping::Repaired;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use judging::Evaluator;
use kube::Client;
use refreshes::Refreshes;
use schedule::Schedule;
use shares::Shares;
use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tickets::Tickets;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watched::Watched;
use writing::Acted;

/// How often ended tickets are looked over, after a first time when all are known.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

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
    /// So many ended tickets of an invariant are kept.
    pub tickets_per_invariant: usize,
    /// What the monitor reports to.
    pub vitals: Vitals,
}

/// Why the monitor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The prober cannot be set up.
    #[error("checks cannot be set up: {0}")]
    SetUpProber(String),
    /// There is no thread to judge answers on.
    #[error("no thread can be started to judge answers on: {0}")]
    StartEvaluator(#[from] std::io::Error),
}

/// Watches until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), MonitorError> {
    let prober = Prober::new(settings.egress).map_err(|error| MonitorError::SetUpProber(error.to_string()))?;
    let invariants = changes_in::<Invariant>(&client, &settings.namespaces);
    let tickets = changes_in::<Ticket>(&client, &settings.namespaces);
    let mut monitor = Monitor::new(client, settings, prober, Evaluator::start()?);
    monitor.serve(pin!(invariants), pin!(tickets), shutdown).await;
    Ok(())
}

/// All that the monitor knows. Its rooms: `checking` asks, `deciding` decides, `writing` writes, `retention` lets go.
struct Monitor {
    client: Client,
    settings: Settings,
    prober: Arc<Prober>,
    evaluator: Arc<Evaluator>,
    shares: Shares,
    history: ConfigHistory,
    analyst: Analyst,
    origin: Instant,
    schedule: Schedule,
    /// All invariants are known. Before, none is asked: what holds a ticket back may be among those to come.
    invariants_synced: bool,
    refreshes: Refreshes,
    watched: HashMap<ObjectKey, Watched>,
    census: Census,
    dependencies: Dependencies,
    repaired: Repaired,
    tickets: Tickets,
    tickets_synced: bool,
    settling: HashSet<ObjectKey>,
    /// Invariants whose ticket, which is being opened, stands for their whole namespace.
    umbrellas: HashSet<ObjectKey>,
    asking: FuturesUnordered<BoxFuture<'static, Asked>>,
    acting: FuturesUnordered<BoxFuture<'static, Acted>>,
    /// Invariants whose write waits until fewer are under way.
    waiting: VecDeque<ObjectKey>,
    /// What is tried again after a pause.
    pausing: FuturesUnordered<BoxFuture<'static, Acted>>,
}

impl Monitor {
    fn new(client: Client, settings: Settings, prober: Prober, evaluator: Evaluator) -> Self {
        let history = ConfigHistory::new(client.clone());
        Self {
            analyst: Analyst::new(client.clone(), history.clone()),
            history,
            client,
            prober: Arc::new(prober),
            evaluator: Arc::new(evaluator),
            shares: Shares::new(MAX_IN_FLIGHT),
            origin: Instant::now(),
            schedule: Schedule::default(),
            invariants_synced: false,
            refreshes: Refreshes::new(settings.status_refresh),
            settings,
            watched: HashMap::new(),
            census: Census::default(),
            dependencies: Dependencies::default(),
            repaired: Repaired::default(),
            tickets: Tickets::default(),
            tickets_synced: false,
            settling: HashSet::new(),
            umbrellas: HashSet::new(),
            asking: FuturesUnordered::new(),
            acting: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            pausing: FuturesUnordered::new(),
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
            let due = self.next_due().map(|due| self.origin + due);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = invariants.next() => self.invariant_changed(change),
                Some(change) = tickets.next() => self.ticket_changed(change),
                Some(asked) = self.asking.next() => self.answered(asked),
                Some(acted) = self.acting.next() => self.acted(acted),
                Some(acted) = self.pausing.next() => self.acted(acted),
                _ = pulse.tick() => self.settings.vitals.beat(Part::Monitor),
                _ = retention.tick() => self.drop_old_tickets(),
                () = wait_until(due) => { self.ask_due(); self.refresh_due(); self.look_for_cycles() }
            }
        }
        let finish = async { while self.acting.next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
            tracing::warn!("writes were still under way at shutdown; a successor decides them again");
        }
    }

    /// When something is to be done that nobody else brings about.
    fn next_due(&mut self) -> Option<Duration> {
        [self.next_check(), self.next_refresh(), self.next_look_for_cycles()].into_iter().flatten().min()
    }

    fn invariant_changed(&mut self, change: Change<Invariant>) {
        match change {
            Change::Applied(invariant) => self.invariant_applied(invariant),
            Change::Deleted(key) => {
                self.schedule.remove(&key);
                self.dependencies.set(&key, Vec::new());
                if let Some(watched) = self.watched.remove(&key) {
                    self.census.change(&key.namespace, watched.counted, census::Standing::Unasked);
                    self.history.follow_instead(config_maps_of(&watched.invariant), Vec::new());
                }
                self.settings.vitals.invariants(self.watched.len());
            }
            Change::Synced => {
                self.invariants_synced = true;
                let keys: Vec<_> = self.watched.keys().cloned().collect();
                for key in &keys {
                    self.plan(key);
                }
                self.say_synced();
            }
        }
    }

    fn say_synced(&self) {
        if self.invariants_synced && self.tickets_synced {
            self.settings.vitals.synced(Part::Monitor);
        }
    }

    /// Has an invariant checked from now on, or no more.
    fn plan(&mut self, key: &ObjectKey) {
        let now = self.origin.elapsed();
        match self.watched.get(key).filter(|watched| watched.is_asked()) {
            Some(watched) => self.schedule.set(key, watched.uid(), watched.interval(), now),
            None => self.schedule.remove(key),
        }
    }

    fn invariant_applied(&mut self, invariant: Invariant) {
        let (key, now) = (ObjectKey::of(&invariant), self.origin.elapsed());
        let (watched, followed) = if let Some(known) = self.watched.remove(&key) {
            // Most changes are our own statuses, which change nothing that is followed.
            let same = known.invariant.spec.remediation.allow == invariant.spec.remediation.allow;
            let followed = (!same).then(|| config_maps_of(&known.invariant));
            (known.updated(invariant, now), followed)
        } else {
            (Watched::new(invariant, now), Some(Vec::new()))
        };
        let names = watched.invariant.spec.depends_on.iter().map(|dependency| dependency.name.clone());
        self.dependencies.set(&key, names.collect());
        if watched.written.at == now {
            self.refreshes.written(&key, now);
        }
        if let Some(followed) = followed {
            self.history.follow_instead(followed, config_maps_of(&watched.invariant));
        }
        self.watched.insert(key.clone(), watched);
        if self.invariants_synced {
            self.plan(&key);
        }
        self.settings.vitals.invariants(self.watched.len());
        self.reconsider(&key, Occasion::News);
    }

    fn ticket_changed(&mut self, change: Change<Ticket>) {
        match change {
            Change::Applied(ticket) => {
                let key = ObjectKey::of(&ticket);
                let invariant = ObjectKey::new(&key.namespace, &ticket.spec.invariant_ref.name);
                self.put(ticket);
                self.settle(&key);
                self.reconsider(&invariant, Occasion::News);
            }
            Change::Deleted(key) => {
                self.settings.vitals.moved(self.tickets.get(&key).map(|known| known.phase()), None);
                let invariant = self.tickets.get(&key).map(|it| it.spec.invariant_ref.name.clone());
                self.tickets.remove(&key);
                self.settling.remove(&key);
                if let Some(name) = invariant {
                    self.reconsider(&ObjectKey::new(&key.namespace, name), Occasion::News);
                }
            }
            Change::Synced => {
                self.tickets_synced = true;
                self.say_synced();
                self.drop_old_tickets();
                let keys: Vec<_> = self.watched.keys().cloned().collect();
                for key in &keys {
                    self.reconsider(key, Occasion::News);
                }
            }
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
