//! What is good of a workload: its replicas, and of its pod template what a rollback may put back.

use super::records;
use crate::agent::target::{self, kind_name, template};
use crate::crd::{Action, Workload};
use jiff::Timestamp;
use kube::Client;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A good state of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodWorkload {
    /// Its replicas.
    pub replicas: u32,
    /// Its pod template.
    pub revision: template::Revision,
    /// When it was found to be good.
    pub learned_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    kind: String,
    name: String,
    replicas: u32,
    template: String,
    rest: String,
}

/// The replicas and the template of a workload as it is now; `None`: it has none.
pub fn state_of(object: &DynamicObject) -> Option<(u32, template::Revision)> {
    let replicas = target::text(object, Action::Scale, "replicas")?.parse().ok()?;
    Some((replicas, template::Revision::of(object.data.pointer("/spec/template")?)?))
}

/// The newest good state of a workload.
pub async fn newest(
    client: &Client,
    namespace: &str,
    workload: &Workload,
) -> Result<Option<GoodWorkload>, kube::Error> {
    let found = records::newest(client, namespace, &label(workload)).await?;
    Ok(found.and_then(|(stored, learned_at)| {
        let Stored { kind: _, name: _, replicas, template, rest } = serde_json::from_value(stored).ok()?;
        Some(GoodWorkload { replicas, revision: template::Revision { part: template, rest }, learned_at })
    }))
}

/// Keeps the state of a workload as good.
pub async fn keep(
    client: &Client,
    namespace: &str,
    workload: &Workload,
    object: &DynamicObject,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let Some((replicas, template::Revision { part, rest })) = state_of(object) else { return Ok(()) };
    let (kind, name) = (kind_name(workload.kind).to_owned(), workload.name.clone());
    let stored = json!(Stored { kind, name, replicas, template: part, rest });
    records::keep(client, namespace, &label(workload), stored, now).await
}

/// No ConfigMap is called that: names are in lower case.
fn label(workload: &Workload) -> String {
    format!("{}.{}", kind_name(workload.kind), workload.name)
}
