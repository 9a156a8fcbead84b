//! The scenario: three faults as data, and what plays them.
//!
//! Touches the world: watches the cluster, and writes faults into the service's ConfigMap. It waits for conditions of
//! the cluster, each with a deadline, and never for time to pass.

use super::report::{Incident, seconds_between};
use super::situation::Situation;
use crate::agent::baseline::{KNOWN_GOOD_LABEL, OBJECT_LABEL};
use crate::crd::{Outcome, Phase, Ticket};
use crate::injection::{ConfigKey, InjectionError, Written, inject};
use crate::samples::{HEALTHY, LATENCY};
use crate::service::chaos::Fault;
use crate::tui::chronicle;
use crate::tui::feed;
use crate::tui::model::{Cluster, Event, Model, Scope};
use crate::watch::{Change, changes};
use futures::StreamExt;
use futures::stream::{BoxStream, select};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a scene's fault is, and what must come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// The fault's name, as `harness chaos` knows it.
    pub name: &'static str,
    /// The fault.
    pub fault: Fault,
    /// The invariant that it breaks.
    pub breaks: &'static str,
    /// What must come of it.
    pub ending: Ending,
}

/// What must come of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The harness repairs it, and the monitor sees the invariant hold.
    Repaired,
    /// The harness asks for a person and leaves the ConfigMap as it is.
    EscalatedUntouched,
}

/// The scenes, in order.
pub fn scenes() -> [Scene; 3] {
    [
        Scene { name: "slow", fault: Fault::Slow { milliseconds: 500 }, breaks: LATENCY, ending: Ending::Repaired },
        Scene { name: "dead", fault: Fault::Dead, breaks: HEALTHY, ending: Ending::Repaired },
        Scene { name: "forbidden", fault: Fault::Forbidden, breaks: HEALTHY, ending: Ending::EscalatedUntouched },
    ]
}

/// How long each wait may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until everything holds, no ticket is open, and the current configuration is known to be good.
    pub calm: Duration,
    /// From a fault to its ticket.
    pub detection: Duration,
    /// From the ticket to its end.
    pub ending: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { calm: Duration::from_secs(90), detection: Duration::from_secs(30), ending: Duration::from_mins(2) }
    }
}

impl Deadlines {
    /// For a harness that was installed by somebody else: how soon it takes a configuration for good is not known.
    pub fn patient() -> Self {
        Self { calm: Duration::from_mins(10), ..Self::default() }
    }
}

/// Why the script could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Something that was waited for did not happen.
    #[error("waited {} s for {awaited}, in vain ({situation})", waited.as_secs())]
    Await {
        /// What was waited for.
        awaited: String,
        /// How long.
        waited: Duration,
        /// What was the case instead.
        situation: String,
    },
    /// A fault could not be written.
    #[error("could not inject a fault: {0}")]
    Inject(#[from] InjectionError),
    /// The ConfigMap could not be read.
    #[error("could not read the service's ConfigMap: {0}")]
    ReadConfigMap(#[source] Box<kube::Error>),
    /// The watches ended, which they never do.
    #[error("the watches of the cluster ended; start the demo again")]
    Watch,
}

/// Plays scenes against a cluster, and tells what happens there.
pub struct Player<'a> {
    client: Client,
    config: ConfigKey,
    deadlines: Deadlines,
    observations: BoxStream<'static, Observation>,
    situation: Situation,
    model: Model,
    tell: &'a (dyn Fn(&str) + Send + Sync),
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and only for a moment")]
enum Observation {
    Shown(Event),
    GoodRevision(Change<ControllerRevision>),
}

impl<'a> Player<'a> {
    /// Watches the namespace of `config`. `tell` gets each line of what happens.
    pub fn new(
        client: Client,
        cluster: Cluster,
        config: ConfigKey,
        deadlines: Deadlines,
        tell: &'a (dyn Fn(&str) + Send + Sync),
    ) -> Self {
        let scope = Scope { namespace: Some(config.namespace.clone()), config: config.clone(), good_after: None };
        let labels = format!("{KNOWN_GOOD_LABEL}=true,{OBJECT_LABEL}={}", config.name);
        let revisions =
            changes(Api::namespaced(client.clone(), &config.namespace), watcher::Config::default().labels(&labels));
        let shown = feed::events(&client, &scope).map(Observation::Shown);
        let observations = select(shown, revisions.map(Observation::GoodRevision)).boxed();
        let model = Model::new(cluster, scope, Timestamp::now());
        Self { client, config, deadlines, observations, situation: Situation::default(), model, tell }
    }

    /// Waits until a fault can be injected: all holds, no ticket is open, and there is a state to return to.
    pub async fn settle(&mut self) -> Result<(), ScriptError> {
        let awaited = "every invariant to hold, no ticket to be open, and the configuration to be known as good";
        (self.tell)(&format!("learning baseline: waiting for {awaited}"));
        self.until(awaited, self.deadlines.calm, |situation| {
            (situation.is_calm(&[HEALTHY, LATENCY]) && situation.has_baseline()).then_some(())
        })
        .await
    }

    /// Injects the scene's fault, and waits for what comes of it. Afterwards nothing of the fault is left.
    pub async fn play(&mut self, scene: &Scene) -> Result<Incident, ScriptError> {
        let known = self.situation.ticket_names();
        (self.tell)(&format!("injecting the fault {:?}: it breaks {}", scene.name, scene.breaks));
        let written = inject(&self.client, &self.config, std::slice::from_ref(&scene.fault)).await?;
        let name = self
            .until(&format!("a ticket about {}", scene.breaks), self.deadlines.detection, |situation| {
                situation.new_ticket(scene.breaks, &known).map(ResourceExt::name_any)
            })
            .await?;
        let ticket = self
            .until(&format!("ticket {name} to be resolved or escalated"), self.deadlines.ending, |situation| {
                situation.ticket(&name).filter(|ticket| is_decided(ticket)).cloned()
            })
            .await?;
        let untouched = self.resource_version().await? == written.resource_version;
        let incident = incident(scene, &ticket, &written, untouched);
        if ticket.phase() != Phase::Resolved {
            self.undo(&name).await?;
        }
        Ok(incident)
    }

    /// Goes on telling what happens, for ever.
    pub async fn follow(&mut self) -> ScriptError {
        while let Some(observation) = self.observations.next().await {
            self.observe(observation);
        }
        ScriptError::Watch
    }

    /// Takes the fault back, as a person would, and waits for the ticket's end.
    async fn undo(&mut self, ticket: &str) -> Result<(), ScriptError> {
        (self.tell)("undoing the fault, as a person would");
        inject(&self.client, &self.config, &[Fault::Heal]).await?;
        self.until(&format!("ticket {ticket} to be resolved"), self.deadlines.ending, |situation| {
            situation.ticket(ticket).filter(|ticket| ticket.phase() == Phase::Resolved).map(|_| ())
        })
        .await
    }

    async fn resource_version(&self) -> Result<String, ScriptError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let config = api.get(&self.config.name).await.map_err(|source| ScriptError::ReadConfigMap(Box::new(source)))?;
        Ok(config.resource_version().unwrap_or_default())
    }

    async fn until<T>(
        &mut self,
        awaited: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Situation) -> Option<T>,
    ) -> Result<T, ScriptError> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(answer) = condition(&self.situation) {
                return Ok(answer);
            }
            match timeout_at(end, self.observations.next()).await {
                Ok(Some(observation)) => self.observe(observation),
                Ok(None) => return Err(ScriptError::Watch),
                Err(_) => {
                    return Err(ScriptError::Await {
                        awaited: awaited.to_owned(),
                        waited: deadline,
                        situation: self.situation.summary(),
                    });
                }
            }
        }
    }

    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Shown(event) => {
                self.situation.apply(&event);
                let before = self.model.clone();
                self.model.apply(event);
                for line in chronicle::lines(&before, &self.model) {
                    (self.tell)(&line);
                }
            }
            Observation::GoodRevision(change) => {
                let before = self.situation.has_baseline();
                self.situation.apply_revision(&change);
                if !before && self.situation.has_baseline() {
                    (self.tell)("baseline learned: the current configuration is known as good");
                }
            }
        }
    }
}

/// The harness has done what it will do.
fn is_decided(ticket: &Ticket) -> bool {
    match ticket.phase() {
        Phase::Resolved | Phase::Cancelled | Phase::Escalated => true,
        Phase::Open
        | Phase::Diagnosing
        | Phase::AwaitingApproval
        | Phase::Repairing
        | Phase::Verifying
        | Phase::RollingBack => false,
    }
}

/// What came of a scene. `untouched`: the ConfigMap is as the fault left it.
fn incident(scene: &Scene, ticket: &Ticket, written: &Written, untouched: bool) -> Incident {
    let opened_at = ticket.spec.opening.opened_at.0;
    let status = ticket.status.clone().unwrap_or_default();
    let repaired_at = status.attempts.last().and_then(|attempt| attempt.written_at.as_ref()).map(|time| time.0);
    let ended_at = status.ended_at.as_ref().map(|time| time.0);
    let as_expected = match scene.ending {
        Ending::Repaired => status.phase == Phase::Resolved && status.outcome == Some(Outcome::Repaired),
        Ending::EscalatedUntouched => status.phase == Phase::Escalated && untouched,
    };
    Incident {
        fault: scene.name,
        invariant: scene.breaks,
        ticket: ticket.name_any(),
        phase: status.phase,
        outcome: status.outcome,
        planner: status.planner,
        detection_seconds: Some(seconds_between(written.at, opened_at)),
        repair_seconds: repaired_at.map(|repaired_at| seconds_between(opened_at, repaired_at)),
        resolution_seconds: repaired_at.zip(ended_at).map(|(repaired, ended)| seconds_between(repaired, ended)),
        untouched,
        as_expected,
    }
}
