//! What others than the harness wrote to a ticket's configuration and workload since it was opened, by the API server's
//! account. It tells a service that somebody repaired from one that healed by itself.
//!
//! Touches the world by reading: the ConfigMaps of the ticket's evidence, and the workload that it is about.

use super::target;
use crate::crd::Ticket;
use crate::document;
use crate::redact;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeSet;

/// The field managers of the harness begin like this.
const OWN: &str = "harness-";

/// What is written without anybody's will: rollouts, scaling by load, node agents.
const CONTROLLERS: [&str; 4] = ["kube-controller-manager", "kubelet", "kube-scheduler", "horizontal-pod-autoscaler"];

/// Who wrote what since the ticket was opened. What cannot be read is left out.
pub(super) async fn wrote_since(client: &Client, ticket: &Ticket) -> Vec<String> {
    let namespace = ticket.namespace().unwrap_or_default();
    let since = ticket.spec.opening.opened_at.0;
    let mut found = Vec::new();
    let evidence = ticket.spec.evidence.iter().flat_map(|evidence| &evidence.config);
    let names: BTreeSet<&str> = evidence.clone().map(|it| it.target.name.as_str()).collect();
    for name in names {
        let object = match Api::<ConfigMap>::namespaced(client.clone(), &namespace).get_opt(name).await {
            Ok(Some(object)) => object,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(namespace, name, %error, "who wrote to a ConfigMap is not known");
                continue;
            }
        };
        let data = object.data.clone().unwrap_or_default();
        let changed = evidence
            .clone()
            .filter(|it| it.target.name == name)
            .any(|it| data.get(&it.target.key).map(|text| document::digest(text)) != it.digest);
        if changed {
            found.extend(writer(object.managed_fields(), since).map(|by| format!("{by} wrote ConfigMap {name}")));
        }
    }
    if let Some(about) = &ticket.spec.target_ref
        && let Some(object) = target::read(client, &namespace, about).await
    {
        let by = writer(object.managed_fields(), since);
        found.extend(by.map(|by| format!("{by} wrote {:?} {}", about.kind, about.name)));
    }
    found
}

/// The manager other than the harness and the cluster's own controllers that wrote last, not before `since`.
fn writer(entries: &[ManagedFieldsEntry], since: Timestamp) -> Option<String> {
    // Managed fields have whole seconds.
    let since = since.checked_sub(SignedDuration::from_secs(1)).unwrap_or(since);
    let is_other = |entry: &&ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let is_status = entry.subresource.as_deref() == Some("status");
        !manager.starts_with(OWN) && !CONTROLLERS.contains(&manager) && !is_status
    };
    let recent = entries.iter().filter(is_other).filter(|it| it.time.as_ref().is_some_and(|time| time.0 > since));
    let last = recent.max_by_key(|it| it.time.as_ref().map(|time| time.0))?;
    Some(redact::line(last.manager.as_deref().unwrap_or("somebody"), 128))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_write_of_others_since_the_ticket_was_opened_counts() {
        let opened: Timestamp = "2026-11-23T10:00:00.500Z".parse().unwrap();
        let entry = |manager: &str, second: &str, subresource: Option<&str>| {
            let time = format!("2026-11-23T{second}Z");
            serde_json::from_value(json!({ "manager": manager, "time": time, "subresource": subresource })).unwrap()
        };
        let table = [
            (vec![entry("kubectl-edit", "10:00:03", None)], Some("kubectl-edit")),
            (vec![entry("kubectl", "10:00:03", Some("scale"))], Some("kubectl")),
            (vec![entry("argocd-controller", "10:00:00", None)], Some("argocd-controller")),
            (vec![entry("kubectl-edit", "09:59:59", None)], None),
            (vec![entry("harness-agent", "10:00:03", None)], None),
            (vec![entry("kube-controller-manager", "10:00:03", Some("status"))], None),
            (vec![entry("operator", "10:00:03", Some("status"))], None),
            (vec![entry("ann", "10:00:01", None), entry("bob", "10:00:02", None)], Some("bob")),
        ];
        for (entries, expected) in table {
            let entries: Vec<ManagedFieldsEntry> = entries;
            assert_eq!(writer(&entries, opened).as_deref(), expected, "{entries:?}");
        }
    }
}
