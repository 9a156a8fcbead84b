//! The closed list of what a planner may ask for, and the hands that read.
//!
//! Touches the world by reading only; what a planner wants changed goes to policy and the executor. Whatever comes back
//! from a target is hostile: capped and redacted before it is stored, shown or told to a model; exact texts are handed
//! on for comparison and never leave the process.

mod call;
mod cluster;
mod logs;
mod reading;
pub mod request;
mod source;

pub use call::{
    AddNote, Call, CheckInvariant, GetObject, HttpGet, ListEvents, ListObjects, ObjectKind, ObjectName, ReadConfig,
    ReadLastKnownGood, ReadLogs, ReadSource, RefusedCall, SourceOperation,
};
pub use reading::{ComparedWorkload, Reading, at};
pub use source::SourceLocation;

use super::baseline::{self, workload::state_of};
use super::executor::revisions;
use super::policy::{self, Refusal};
use super::target::{self, kind_name, template};
use crate::crd::{Allow, Connection, Invariant, Workload};
use crate::history::{ConfigHistory, Revision};
use crate::probe::{Condition, Observation, Prober, Query, Sample};
use crate::redact;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// The agent's own look at an endpoint is for the journal; the monitor judges. A slow target must not hold up its
/// repair.
const LOOK_TIMEOUT: Duration = Duration::from_millis(700);

/// What any reading may take. The client's requests have shorter deadlines of their own.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Characters of a reading that a model is told.
pub(crate) const SHOWN: usize = 6000;

/// Executes calls within the limits of one invariant.
#[derive(Clone)]
pub struct Tools {
    client: Client,
    history: ConfigHistory,
    prober: Arc<Prober>,
    source: Option<SourceLocation>,
}

impl Tools {
    /// Tools on this API, and on the source code of the services if there is any.
    pub fn new(client: Client, history: ConfigHistory, prober: Arc<Prober>, source: Option<SourceLocation>) -> Self {
        Self { client, history, prober, source }
    }

    /// Executes one call for an invariant.
    pub async fn read(&self, invariant: &Invariant, call: &Call) -> Reading {
        match tokio::time::timeout(READ_TIMEOUT, self.dispatch(invariant, call)).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(error)) => Reading::Failed { why: redact::line(&error.to_string(), 256) },
            Err(_) => Reading::Failed { why: format!("no answer within {} s", READ_TIMEOUT.as_secs()) },
        }
    }

    async fn dispatch(&self, invariant: &Invariant, call: &Call) -> Result<Reading, kube::Error> {
        let namespace = invariant.namespace().unwrap_or_default();
        match call {
            Call::HttpGet(HttpGet { url }) => self.http_get(invariant, url).await,
            Call::ReadConfig(ReadConfig { name, key }) => match allowed_key(invariant, name, key) {
                Ok(()) => self.config(&namespace, name).await,
                Err(refusal) => Ok(Reading::Refused(refusal)),
            },
            Call::ReadLastKnownGood(ReadLastKnownGood { name, key }) => match allowed_key(invariant, name, key) {
                Ok(()) => self.last_known_good(&namespace, name).await,
                Err(refusal) => Ok(Reading::Refused(refusal)),
            },
            Call::CompareWorkload(workload) => match policy::readable_workload(allow(invariant), workload) {
                Ok(()) => self.compare(&namespace, workload).await,
                Err(refusal) => Ok(Reading::Refused(refusal)),
            },
            Call::GetObject(GetObject { kind, name }) => {
                cluster::get_object(&self.client, &namespace, *kind, name.as_str()).await
            }
            Call::ListObjects(ListObjects { kind }) => cluster::list_objects(&self.client, &namespace, *kind).await,
            Call::ListEvents(ListEvents { about }) => {
                cluster::list_events(&self.client, &namespace, about.as_ref().map(ObjectName::as_str)).await
            }
            Call::ReadLogs(asked) => logs::read(&self.client, invariant, asked).await,
            Call::CheckInvariant(CheckInvariant { name }) => self.check_invariant(&namespace, name.as_str()).await,
            Call::ReadSource(query) => source::read(&self.client, &namespace, self.source.as_ref(), query).await,
            Call::AddNote(_) => Ok(Reading::Noted),
            Call::Refused(RefusedCall { refusal, .. }) => Ok(Reading::Refused(refusal.clone())),
        }
    }

    async fn config(&self, namespace: &str, name: &str) -> Result<Reading, kube::Error> {
        let found = Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get_opt(name).await?;
        Ok(Reading::Config {
            revision: found.map(|object| Box::new(Revision::of(&object, Timestamp::now(), false))),
            history: self.history.revisions(&ObjectKey::new(namespace, name)),
        })
    }

    async fn last_known_good(&self, namespace: &str, name: &str) -> Result<Reading, kube::Error> {
        let key = ObjectKey::new(namespace, name);
        Ok(Reading::LastKnownGood(baseline::newest(&self.client, &key).await?.map(Box::new)))
    }

    /// A workload as it is now beside its last good state.
    async fn compare(&self, namespace: &str, workload: &Workload) -> Result<Reading, kube::Error> {
        let Some(resource) = target::resource(kind_name(workload.kind)) else { return Ok(Reading::Noted) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let now = api.get_opt(&workload.name).await?;
        let mut template_since = None;
        if let Some(object) = &now {
            let present = state_of(object).map(|(_, revision)| revision);
            let known = revisions::of(&self.client, namespace, object).await?;
            let newest = known.into_iter().next().filter(|it| template::Revision::of(&it.template) == present);
            template_since = newest.and_then(|it| it.created_at);
        }
        let good = baseline::workload::newest(&self.client, namespace, workload).await?;
        Ok(Reading::Workload(Box::new(ComparedWorkload { now, good, template_since })))
    }

    /// Asks an endpoint, if an invariant of the same target asks it too.
    async fn http_get(&self, invariant: &Invariant, url: &str) -> Result<Reading, kube::Error> {
        let Ok(asked) = Query::parse(url) else {
            return Ok(Reading::refused("EndpointNotAllowed", "it is not a URL that can be asked"));
        };
        if !self.own_endpoints(invariant).await?.iter().any(|own| own == asked.url()) {
            let message = "only the URLs that the invariants of this target ask may be reached";
            return Ok(Reading::refused("EndpointNotAllowed", message));
        }
        let sample = self.prober.ask(&asked, Connection::New, LOOK_TIMEOUT.min(invariant.spec.timeout.into())).await;
        Ok(Reading::Http { answer: answer(&sample) })
    }

    async fn own_endpoints(&self, invariant: &Invariant) -> Result<Vec<url::Url>, kube::Error> {
        let own = Query::parse(&invariant.spec.query).ok().map(|query| query.url().clone());
        if invariant.spec.target_ref.is_none() {
            return Ok(own.into_iter().collect());
        }
        let all: Api<Invariant> = Api::namespaced(self.client.clone(), &invariant.namespace().unwrap_or_default());
        let siblings = all.list(&ListParams::default()).await?.items;
        let of_target = siblings.iter().filter(|it| it.spec.target_ref == invariant.spec.target_ref);
        let asked = of_target.filter_map(|it| Query::parse(&it.spec.query).ok().map(|query| query.url().clone()));
        Ok(own.into_iter().chain(asked).collect())
    }

    /// Asks an invariant of the namespace now, outside of its schedule.
    async fn check_invariant(&self, namespace: &str, name: &str) -> Result<Reading, kube::Error> {
        let found: Option<Invariant> = Api::namespaced(self.client.clone(), namespace).get_opt(name).await?;
        let Some(invariant) = found else {
            return Ok(Reading::text("no such invariant", format!("there is no invariant {name}")));
        };
        let parsed = (Query::parse(&invariant.spec.query), Condition::parse(&invariant.spec.condition));
        let (Ok(query), Ok(condition)) = parsed else {
            return Ok(Reading::text("not accepted", "its query or condition is not understood"));
        };
        let sample = self.prober.ask(&query, Connection::New, invariant.spec.timeout.into()).await;
        let judged = crate::probe::judge(&sample, &condition);
        let said =
            format!("{:?}: {}; expected {}", judged.verdict, judged.explanation(&condition), invariant.spec.condition);
        Ok(Reading::text(redact::line(&said, 200), redact::line(&said, 600)))
    }
}

fn allow(invariant: &Invariant) -> &[Allow] {
    &invariant.spec.remediation.allow
}

fn allowed_key(invariant: &Invariant, name: &str, key: &str) -> Result<(), Refusal> {
    policy::readable(allow(invariant), name, key)
}

/// What an endpoint answered, in one line.
fn answer(sample: &Sample) -> String {
    let took = sample.took.as_millis();
    let answer = match &sample.observation {
        Observation::Measured(measurement) => {
            format!("{} after {took} ms: {}", measurement.value, redact::line(&measurement.body, 200))
        }
        Observation::Failed(failure) => format!("{} after {took} ms: {}", failure.reason, failure.message),
        Observation::Unknown(blindness) => format!("{}: {}", blindness.reason, blindness.message),
    };
    redact::line(&answer, 400)
}
