//! The exact texts of an attempt, saved before it is written: what it can be put back from.

use super::{Executor, ExecutorError, FIELD_MANAGER, Planned, failure};
use crate::crd::{ActionRecord, FailureCause, Ticket};
use crate::document;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// On ControllerRevisions that hold the exact texts of an attempt.
pub const PRE_IMAGE_LABEL: &str = "harness.dev/pre-image";

/// The names of such ControllerRevisions begin with this.
pub const PRE_IMAGE_PREFIX: &str = "harness-attempt-";

/// The exact texts of one action, kept where only the agent reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreImage {
    /// The text before.
    pub before: String,
    /// The text after.
    pub after: String,
}

impl Executor {
    /// Saves the exact texts of an action before it is written; gives the name they are kept under. Saving the same
    /// again is no error.
    pub async fn save_pre_image(
        &self,
        ticket: &Ticket,
        attempt: u32,
        index: usize,
        planned: &Planned,
    ) -> Result<String, kube::Error> {
        let namespace = ticket.namespace().unwrap_or_default();
        let name = name(&ticket.uid().unwrap_or_default(), attempt, index, planned);
        let texts = PreImage { before: planned.before.clone(), after: planned.after.clone() };
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(PRE_IMAGE_LABEL.to_owned(), "true".to_owned())])),
                owner_references: Some(vec![owner(ticket)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(json!(texts))),
            revision: i64::from(attempt),
        };
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match Api::namespaced(self.client.clone(), &namespace).create(&parameters, &revision).await {
            Ok(_) => Ok(name),
            // The name holds the ticket's UID and a digest of the texts: what has it is the same.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(name),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn pre_image(&self, namespace: &str, action: &ActionRecord) -> Result<PreImage, ExecutorError> {
        let revision = action.revision.clone().unwrap_or_default();
        let failed = |cause, words| ExecutorError::Failed { object: action.object.clone(), cause, words };
        let unusable = |why: String| failed(FailureCause::TextsLost, format!("ControllerRevision {revision}: {why}"));
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        let found = match api.get_opt(&revision).await {
            Ok(found) => found.ok_or_else(|| unusable("it does not exist".to_owned()))?,
            Err(error) => {
                let cause = failure::cause(&error).unwrap_or(FailureCause::Unavailable);
                return Err(failed(cause, failure::words(&error)));
            }
        };
        let data = found.data.ok_or_else(|| unusable("it is empty".to_owned()))?;
        let texts: PreImage = serde_json::from_value(data.0).map_err(|error| unusable(error.to_string()))?;
        let intact = document::digest(&texts.before) == action.before_digest
            && document::digest(&texts.after) == action.after_digest;
        if intact { Ok(texts) } else { Err(unusable("its texts are not those of the attempt".to_owned())) }
    }
}

/// Of a bounded length, however long the ticket's name is, and never that of another ticket.
fn name(ticket_uid: &str, attempt: u32, index: usize, planned: &Planned) -> String {
    let digest = document::digest(&format!("{}\0{}", planned.before, planned.after));
    format!("{PRE_IMAGE_PREFIX}{ticket_uid}-{attempt}-{index}-{}", &digest[..8])
}

fn owner(ticket: &Ticket) -> OwnerReference {
    OwnerReference {
        api_version: Ticket::api_version(&()).into_owned(),
        kind: Ticket::kind(&()).into_owned(),
        name: ticket.name_any(),
        uid: ticket.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}
