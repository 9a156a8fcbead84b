//! The only writer to what people run. It obeys an attempt whose intent and exact pre-image are saved already.
//!
//! Each write is a fresh read, judged, and a patch of that very version that sets the attempt's mark in the same
//! request: a human's edit of what was planned on wins, and the mark, not the journal, tells a successor what happened.

pub mod failure;
mod plan;
mod pre_image;
pub mod revisions;
mod state;
mod write;

pub use plan::{NotPlanned, Planned, hash as proposal_hash};
pub use pre_image::{PRE_IMAGE_LABEL, PRE_IMAGE_PREFIX, PreImage};
pub use state::{Marks, ObjectActions, TargetState, brought_back, by_object, is_as_planned, target_state};

use super::target;
use crate::crd::{Action, ActionRecord, FailureCause, ObjectReference};
use crate::gitops::GitOps;
use crate::pods::{self, PROJECTION_LAG, REFRESH_LAG};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, DynamicObject};

/// The field manager of every write to a target.
pub const FIELD_MANAGER: &str = "harness-agent";

/// Why a change was not written.
#[derive(Debug)]
pub enum ExecutorError {
    /// The part that the change was planned on is not what it was.
    PreconditionFailed {
        /// The object.
        object: ObjectReference,
    },
    /// It cannot be written, or not now.
    Failed {
        /// The object.
        object: ObjectReference,
        /// Why.
        cause: FailureCause,
        /// In the words of whoever refused it.
        words: String,
    },
}

/// Reads and writes targets.
#[derive(Clone)]
pub struct Executor {
    client: Client,
    gitops: GitOps,
}

impl Executor {
    /// An executor on this API, which leaves to GitOps tools what they manage.
    pub fn new(client: Client, gitops: GitOps) -> Self {
        Self { client, gitops }
    }

    /// Reads a target as it is now.
    pub async fn read(&self, namespace: &str, kind: &str, name: &str) -> Result<Option<DynamicObject>, kube::Error> {
        match self.api(namespace, kind) {
            Some(api) => api.get_opt(name).await,
            None => Ok(None),
        }
    }

    /// Reads a ConfigMap as it is now.
    pub async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, kube::Error> {
        Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get_opt(name).await
    }

    fn api(&self, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
        let resource = target::resource(kind)?;
        Some(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }

    /// Has the pods that mount a ConfigMap look at it at once, which has this version since it was changed.
    pub async fn refresh(&self, namespace: &str, change: &ObjectActions<'_>, mark: &str, resource_version: &str) {
        if change.actions.iter().any(|it| it.action == Action::EditConfig) {
            let written = pods::Written { config_map: &change.object.name, resource_version, mark };
            pods::refresh(&self.client, FIELD_MANAGER, namespace, written).await;
        }
    }

    /// From when on an action that was written at `written_at` is in force; `None`: that is not known yet.
    pub async fn in_force_from(
        &self,
        namespace: &str,
        action: &ActionRecord,
        mark: &str,
        written_at: Timestamp,
    ) -> Result<Option<Timestamp>, kube::Error> {
        let after = |lag| written_at.checked_add(lag).ok();
        if action.action == Action::EditConfig {
            let running = pods::running(&self.client, namespace).await?;
            let mut mounting =
                running.iter().filter(|pod| pods::use_of(pod, &action.object.name) == pods::Use::Mounted);
            let mut is_mounted = false;
            let all_refreshed = mounting.all(|pod| {
                is_mounted = true;
                pods::is_refreshed(pod, mark, written_at)
            });
            return Ok(match (is_mounted, all_refreshed) {
                (false, _) => Some(written_at),
                (true, true) => after(REFRESH_LAG),
                (true, false) => after(PROJECTION_LAG),
            });
        }
        let object = self.read(namespace, &action.object.kind, &action.object.name).await?;
        Ok(object.filter(target::is_rolled_out).map(|_| written_at))
    }
}

/// Now, as the micro-time that statuses hold.
pub fn micro(now: Timestamp) -> MicroTime {
    MicroTime(now)
}
