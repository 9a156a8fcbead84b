//! The operator: the monitor and the agent, together or each alone.

use crate::agent::Planning;
use crate::gitops::GitOps;
use crate::lease::{self, LeaseSettings, Standing};
use crate::probe::EgressPolicy;
use crate::vitals::{Part, Vitals};
use crate::{agent, monitor};
use kube::Client;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What the operator is to do.
#[derive(Debug, Clone)]
pub struct OperatorSettings {
    /// The namespaces to work in; none: all.
    pub namespaces: Vec<String>,
    /// Checks may reach loopback addresses.
    pub allow_loopback: bool,
    /// How often a status may be written when nothing but values and samples changed; `None`: never.
    pub status_refresh: Option<Duration>,
    /// How long everything about a target must hold for a revision to be good.
    pub good_after: Duration,
    /// How long an ended ticket is kept.
    pub ticket_ttl: Duration,
    /// So many ended tickets of an invariant are kept.
    pub tickets_per_invariant: usize,
    /// Stops all writes to targets.
    pub suspended: bool,
    /// Who plans repairs.
    pub planning: Planning,
    /// What is left to GitOps tools.
    pub gitops: GitOps,
    /// The harness's own namespace: there it keeps what concerns no single ticket.
    pub home: String,
    /// What both halves report to.
    pub vitals: Vitals,
    /// How long a lease is valid that its holder does not renew: whole seconds, at least 3.
    pub lease_duration: Duration,
}

/// Whose holder is the monitor that works, in the harness's own namespace.
pub const MONITOR_LEASE: &str = "harness-monitor";
/// Whose holder is the agent that works.
pub const AGENT_LEASE: &str = "harness-agent";

/// Which halves of the operator run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halves {
    /// Both.
    Both,
    /// Only the monitor.
    Monitor,
    /// Only the agent.
    Agent,
}

/// Why the operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The monitor.
    #[error(transparent)]
    Monitor(#[from] monitor::MonitorError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] agent::AgentError),
    /// A half ended in a way that it never should.
    #[error("a half of the operator broke down, which is a defect: {0}")]
    BrokeDown(#[source] JoinError),
}

/// Runs both halves until `shutdown`.
pub async fn run(client: Client, settings: OperatorSettings, shutdown: CancellationToken) -> Result<(), OperatorError> {
    run_halves(client, settings, Halves::Both, shutdown).await
}

/// Runs the given halves until `shutdown`, or until one of them fails. Each works while it holds its lease, and stands by
/// while another process does.
pub async fn run_halves(
    client: Client,
    settings: OperatorSettings,
    halves: Halves,
    shutdown: CancellationToken,
) -> Result<(), OperatorError> {
    let (home, vitals) = (settings.home.clone(), settings.vitals.clone());
    let egress = EgressPolicy { allow_loopback: settings.allow_loopback };
    let monitor_settings = monitor::Settings {
        namespaces: settings.namespaces.clone(),
        vitals: settings.vitals.clone(),
        egress,
        status_refresh: settings.status_refresh,
        ticket_ttl: settings.ticket_ttl,
        tickets_per_invariant: settings.tickets_per_invariant,
    };
    let agent_settings = agent::Settings {
        namespaces: settings.namespaces,
        vitals: settings.vitals,
        egress,
        good_after: settings.good_after,
        suspended: settings.suspended,
        planning: settings.planning,
        gitops: settings.gitops,
        home: settings.home,
    };
    let lease = |name| LeaseSettings { namespace: home.clone(), name, duration: settings.lease_duration };
    let report = |part| {
        let vitals = vitals.clone();
        move |standing: &Standing| vitals.stands(part, standing)
    };
    // A half that ends ends the other, which stops as at a shutdown.
    let shutdown = shutdown.child_token();
    // Tasks of their own, so that a long step of one does not delay the other.
    let mut tasks: JoinSet<Result<(), OperatorError>> = JoinSet::new();
    if halves != Halves::Agent {
        let (lease, report) = (lease(MONITOR_LEASE), report(Part::Monitor));
        let (client, settings, shutdown) = (client.clone(), monitor_settings, shutdown.clone());
        tasks.spawn(lease::work_under(client.clone(), lease, report, shutdown, move |permit, term| {
            let monitor = monitor::run(permit.fence(client.clone()), settings.clone(), term);
            async move { Ok(monitor.await?) }
        }));
    }
    if halves != Halves::Monitor {
        let (lease, report) = (lease(AGENT_LEASE), report(Part::Agent));
        let (settings, shutdown) = (agent_settings, shutdown.clone());
        tasks.spawn(lease::work_under(client.clone(), lease, report, shutdown, move |permit, term| {
            let agent = Box::pin(agent::run(client.clone(), settings.clone(), permit, term));
            async move { Ok(agent.await?) }
        }));
    }
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        // A half that broke down is a defect: better a restart of the process than half an operator.
        shutdown.cancel();
        result = result.and(ended.map_err(OperatorError::BrokeDown).flatten());
    }
    result
}
