//! Writes a fault into the configuration of the demo's service, through the API: as a person with `kubectl edit`
//! would, and told apart from the harness's own repairs by its field manager.

use crate::document::escape;
use crate::pods;
use crate::service::chaos::{ChaosError, Fault, apply};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// The field manager of every fault.
pub const FIELD_MANAGER: &str = "harness-chaos";

/// How often a write is tried again after somebody else wrote in between.
const WRITE_ATTEMPTS: usize = 5;

/// A key of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigKey {
    /// The ConfigMap's namespace.
    pub namespace: String,
    /// The ConfigMap's name.
    pub name: String,
    /// The key in its `data`.
    pub key: String,
}

/// A fault that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// When the API server acknowledged it.
    pub at: Timestamp,
    /// The ConfigMap's resourceVersion since.
    pub resource_version: String,
}

/// Why a fault could not be written.
#[derive(Debug, thiserror::Error)]
pub enum InjectionError {
    /// The ConfigMap could not be read.
    #[error("could not read ConfigMap {namespace}/{name}: {source}; `harness init` creates it")]
    ReadConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// The ConfigMap has no such key.
    #[error("ConfigMap {namespace}/{name} has no key {key:?}; it has: {}", present.join(", "))]
    FindKey {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key that was looked for.
        key: String,
        /// The first of the keys that it has; at most 10.
        present: Vec<String>,
    },
    /// The configuration cannot be edited.
    #[error("could not change {key} of ConfigMap {namespace}/{name}: {source}")]
    EditText {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The reason.
        source: ChaosError,
    },
    /// The API server refused the write.
    #[error("could not write ConfigMap {namespace}/{name}: {source}")]
    WriteConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// The patch could not be put together.
    #[error("could not build the patch: {0}")]
    BuildPatch(#[source] serde_json::Error),
    /// Somebody else wrote in between, again and again.
    #[error("ConfigMap {namespace}/{name} was changed by somebody else {WRITE_ATTEMPTS} times in a row; try again")]
    Outrun {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl std::fmt::Display for ConfigKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}[{}]", self.namespace, self.name, self.key)
    }
}

/// Writes these faults into the configuration, in this order and in one write; on top of whatever is there then.
pub async fn inject(client: &Client, target: &ConfigKey, faults: &[Fault]) -> Result<Written, InjectionError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &target.namespace);
    let (namespace, name) = (target.namespace.clone(), target.name.clone());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for _ in 0..WRITE_ATTEMPTS {
        let current = api.get(&target.name).await.map_err(|source| InjectionError::ReadConfigMap {
            namespace: namespace.clone(),
            name: name.clone(),
            source: Box::new(source),
        })?;
        let patch = patch(&current, target, faults)?;
        match api.patch(&target.name, &parameters, &patch).await {
            Ok(written) => {
                let resource_version = written.resource_version().unwrap_or_default();
                // Else a kubelet may bring the fault a minute later.
                let written =
                    pods::Written { config_map: &name, resource_version: &resource_version, mark: FIELD_MANAGER };
                pods::refresh(client, FIELD_MANAGER, &namespace, written).await;
                return Ok(Written { at: Timestamp::now(), resource_version });
            }
            // 422 is how the API server says that a `test` of a JSON patch failed.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {}
            Err(source) => return Err(InjectionError::WriteConfigMap { namespace, name, source: Box::new(source) }),
        }
    }
    Err(InjectionError::Outrun { namespace, name })
}

fn patch(current: &ConfigMap, target: &ConfigKey, faults: &[Fault]) -> Result<Patch<ConfigMap>, InjectionError> {
    let ConfigKey { namespace, name, key } = target.clone();
    let nothing = std::collections::BTreeMap::new();
    let data = current.data.as_ref().unwrap_or(&nothing);
    let Some(text) = data.get(&key) else {
        let present = data.keys().take(10).cloned().collect();
        return Err(InjectionError::FindKey { namespace, name, key, present });
    };
    let pointer = format!("/data/{}", escape(&key));
    let changed = faults
        .iter()
        .try_fold(text.clone(), |text, fault| apply(&text, fault))
        .map_err(|source| InjectionError::EditText { namespace, name, key, source })?;
    let operations = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": current.metadata.resource_version },
        { "op": "replace", "path": pointer, "value": changed },
    ]);
    Ok(Patch::Json(serde_json::from_value(operations).map_err(InjectionError::BuildPatch)?))
}
