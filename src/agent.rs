//! Tickets in, repairs out.
//!
//! A dispatcher hears of changes and runs one task for each open ticket ([`incident`]); the task looks ([`observe`]),
//! decides ([`decide`], pure) and acts. Planners propose ([`planner`]), [`policy`] judges, the [`executor`] is the only
//! writer to what people run. What is good ([`baseline`]) is learned in a task beside that (`learner`).

pub mod baseline;
pub mod board;
pub mod books;
pub mod breaker;
pub mod budget;
pub mod change;
pub mod claims;
pub mod decide;
mod dispatcher;
pub mod executor;
pub mod handover;
pub mod incident;
mod incidents;
mod learner;
pub mod observe;
pub mod planner;
pub mod policy;
pub mod prompt;
pub mod scribe;
mod setbacks;
pub mod spending;
pub mod target;
pub mod tools;

use crate::claude;
use crate::crd::{Invariant, Ticket};
use crate::gitops::GitOps;
use crate::history::ConfigHistory;
use crate::lease::Permit;
use crate::probe::{EgressPolicy, Prober};
use crate::vitals::Vitals;
use crate::watch::changes_in;
use board::Board;
use books::Books;
use breaker::Breaker;
use budget::Amount;
use claims::Claims;
use dispatcher::Dispatcher;
use executor::Executor;
use kube::Client;
use learner::Learner;
use planner::Planner;
use planner::claude::Claude;
use planner::last_known_good::LastKnownGood;
use scribe::Scribe;
use spending::Spending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tools::{SourceLocation, Tools};

/// Incidents that look at once.
const LOOKS_AT_ONCE: usize = 32;

/// What the agent is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces to work in; none: all.
    pub namespaces: Vec<String>,
    /// What the tools may reach.
    pub egress: EgressPolicy,
    /// How long everything about a target must hold for a revision to be good.
    pub good_after: Duration,
    /// Stops all writes to targets.
    pub suspended: bool,
    /// Who plans repairs.
    pub planning: Planning,
    /// What is left to GitOps tools.
    pub gitops: GitOps,
    /// The harness's own namespace: there it keeps what concerns no single ticket.
    pub home: String,
    /// What the agent reports to.
    pub vitals: Vitals,
}

/// Who plans repairs, in this order.
#[derive(Debug, Clone, Default)]
pub struct Planning {
    /// Claude, where it can be asked.
    pub model: Option<ModelSettings>,
    /// The last known good configuration.
    pub last_known_good: bool,
}

/// How models are asked, and what they may cost.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// The API.
    pub api: claude::Settings,
    /// The model that plans.
    pub planner: String,
    /// The model that writes lines for people.
    pub scribe: String,
    /// What the models cost.
    pub prices: claude::Prices,
    /// What may be spent on one day (UTC).
    pub day_limit: Amount,
    /// The source code of the services.
    pub source: Option<SourceLocation>,
}

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The tools cannot be set up.
    #[error("the agent's tools cannot be set up: {0}")]
    SetUpTools(String),
    /// The client of the Messages API cannot be set up.
    #[error(transparent)]
    SetUpClaude(#[from] claude::ClaudeError),
    /// What learns ended in a way that it never should.
    #[error("the agent's learner broke down, which is a defect: {0}")]
    LearnerBrokeDown(#[source] JoinError),
}

/// What every incident shares.
pub struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    /// Who this agent is: the holder of the lease.
    pub(crate) holder: String,
    pub(crate) executor: Executor,
    pub(crate) tools: Tools,
    pub(crate) prober: Arc<Prober>,
    pub(crate) planners: Vec<Arc<dyn Planner>>,
    pub(crate) spending: Spending,
    pub(crate) breaker: Breaker,
    /// Writes for people, where a model can be asked.
    pub(crate) scribe: Option<Scribe>,
    pub(crate) claims: Claims,
    pub(crate) board: Board,
    /// Incidents that look at once: a look is several requests, and after a restart every incident looks.
    pub(crate) looks: Semaphore,
    /// Counts what concerns every incident: an object was let go, or a configuration changed.
    changed: signal::Sender<u64>,
}

impl Context {
    /// Lets every incident look again.
    pub(crate) fn wake_all(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Everybody who helps with a repair.
struct Staff {
    planners: Vec<Arc<dyn Planner>>,
    scribe: Option<Scribe>,
    day_limit: Amount,
    source: Option<SourceLocation>,
}

impl Staff {
    fn of(planning: &Planning) -> Result<Self, AgentError> {
        let mut staff = Self { planners: Vec::new(), scribe: None, day_limit: Amount::default(), source: None };
        if let Some(model) = planning.model.clone() {
            let client = claude::Client::new(model.api)?;
            let (planner, scribe) = (model.prices.of(&model.planner), model.prices.of(&model.scribe));
            staff.planners.push(Arc::new(Claude::new(client.clone(), model.planner, planner)));
            staff.scribe = Some(Scribe::new(client, model.scribe, scribe));
            staff.day_limit = model.day_limit;
            staff.source = model.source;
        }
        if planning.last_known_good {
            staff.planners.push(Arc::new(LastKnownGood));
        }
        Ok(staff)
    }
}

/// Works until `shutdown`; then stops between two writes. Nothing is written once the permit is over.
pub async fn run(
    client: Client,
    settings: Settings,
    permit: Permit,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let client = permit.fence(client);
    let prober = Prober::new(settings.egress).map_err(|error| AgentError::SetUpTools(error.to_string()))?;
    let prober = Arc::new(prober);
    let history = ConfigHistory::new(client.clone());
    let invariants = changes_in::<Invariant>(&client, &settings.namespaces);
    let tickets = changes_in::<Ticket>(&client, &settings.namespaces);
    let Staff { planners, scribe, day_limit, source } = Staff::of(&settings.planning)?;
    let books = Books::new(client.clone(), &settings.home);
    let context = Arc::new(Context {
        executor: Executor::new(client.clone(), settings.gitops.clone()),
        tools: Tools::new(client.clone(), history.clone(), Arc::clone(&prober), source),
        prober,
        planners,
        spending: Spending::new(books.clone(), day_limit),
        breaker: Breaker::new(books),
        scribe,
        claims: Claims::default(),
        board: Board::default(),
        looks: Semaphore::new(LOOKS_AT_ONCE),
        changed: signal::Sender::new(0),
        holder: permit.identity().to_owned(),
        client,
        settings,
    });
    // A task of its own: to find out what is good is work, and never urgent.
    let mut learner = JoinSet::new();
    learner.spawn(Learner::new(Arc::clone(&context), history.clone()).run());
    let mut dispatcher = Dispatcher::new(context, history, shutdown.clone());
    let (invariants, tickets) = (pin!(invariants), pin!(tickets));
    tokio::select! {
        () = dispatcher.serve(invariants, tickets, shutdown) => Ok(()),
        Some(Err(error)) = learner.join_next() => Err(AgentError::LearnerBrokeDown(error)),
    }
}

/// Waits until then; for ever without a time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
