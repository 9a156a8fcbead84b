//! The admission policies that need no account of the chart's: who may grant, and whose word an approval is.
//!
//! Touches the world: writes to the API server, as field manager `harness-installer`.

use super::install::{FIELD_MANAGER, InstallError};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;

/// Made from the chart by `deploy/render`.
const MANIFESTS: &str = include_str!("policies.yaml");

/// What became of the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policies {
    /// They are there as wanted: the names of all objects, with their resources.
    Installed(Vec<String>),
    /// The API server does not let this user install them, or does not know such policies: its words.
    NotPossible(String),
}

/// Installs the policies.
pub async fn install_policies(client: &Client) -> Result<Policies, InstallError> {
    let mut names = Vec::new();
    for document in serde_yaml::Deserializer::from_str(MANIFESTS) {
        let Some(object) = Option::<DynamicObject>::deserialize(document)? else { continue };
        let (resource, name) = (resource(&object), object.name_any());
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        // Nobody else owns these: a field that somebody else has set would only be in the way.
        match api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await {
            Ok(_) => names.push(format!("{}/{name}", resource.kind.to_lowercase())),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                return Ok(Policies::NotPossible(status.message.clone()));
            }
            Err(source) => return Err(InstallError::ApplyPolicy { name, source: Box::new(source) }),
        }
    }
    Ok(Policies::Installed(names))
}

fn resource(object: &DynamicObject) -> ApiResource {
    let is_binding = object.types.as_ref().is_some_and(|types| types.kind.ends_with("Binding"));
    if is_binding {
        ApiResource::erase::<ValidatingAdmissionPolicyBinding>(&())
    } else {
        ApiResource::erase::<ValidatingAdmissionPolicy>(&())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_policies_are_those_that_need_no_account_of_the_chart() {
        let documents = serde_yaml::Deserializer::from_str(MANIFESTS);
        let found = documents.filter_map(|it| Option::<Value>::deserialize(it).unwrap());
        let mut found: Vec<String> = found.map(|it| format!("{} {}", it["kind"], it["metadata"]["name"])).collect();
        found.sort();
        let names = ["harness-init-approvals", "harness-init-grants"];
        let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
        let expected: Vec<String> =
            kinds.iter().flat_map(|kind| names.iter().map(move |name| format!("{kind:?} {name:?}"))).collect();
        assert_eq!(found, expected);
    }
}
