//! Marks and owners as the tools leave them.

use super::*;
use kube::api::DynamicObject;
use serde_json::json;

fn object(metadata: &Value) -> DynamicObject {
    let mut whole = json!({ "name": "config" });
    whole.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    serde_json::from_value(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": whole })).unwrap()
}

fn owned_by(manager: &str, fields: &Value) -> Value {
    json!({ "managedFields": [{
        "manager": manager, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields,
    }] })
}

fn key(object: &DynamicObject) -> Option<String> {
    GitOps::default().managed_by(object, Action::EditConfig, "a.json").map(|it| it.to_string())
}

#[test]
fn an_object_is_managed_by_the_tool_whose_marks_it_carries() {
    let table = [
        (json!({}), None),
        (
            json!({ "annotations": { "argocd.argoproj.io/tracking-id": "shop:/ConfigMap:shop/config" } }),
            Some("Argo CD (Application shop)"),
        ),
        (json!({ "labels": { "argocd.argoproj.io/instance": "shop" } }), Some("Argo CD (Application shop)")),
        // A chart's own label is no mark of Argo CD ...
        (json!({ "labels": { INSTANCE: "shop" } }), None),
        (json!({ "labels": { INSTANCE: "shop", "app.kubernetes.io/managed-by": "Helm" } }), None),
        // ... unless something of Argo CD is beside it.
        (
            json!({ "labels": { INSTANCE: "shop" }, "annotations": { "argocd.argoproj.io/sync-wave": "1" } }),
            Some("Argo CD (Application shop)"),
        ),
        (
            json!({
                "labels": { "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" },
            }),
            Some("Flux (Kustomization flux-system/apps)"),
        ),
        (
            json!({
                "labels": { "helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "shop" },
            }),
            Some("Flux (HelmRelease shop/shop)"),
        ),
        (
            json!({ "annotations": { "objectset.rio.cattle.io/id": "default-shop", "meta.helm.sh/release-name": "shop" } }),
            Some("Rancher Fleet (bundle default-shop)"),
        ),
        (json!({ "annotations": { "objectset.rio.cattle.io/id": "" } }), None),
        (
            json!({ "annotations": {
                "objectset.rio.cattle.io/id": "x", "objectset.rio.cattle.io/owner-gvk": "k3s.cattle.io/v1, Kind=Addon",
            } }),
            None,
        ),
        (
            json!({ "labels": { "kapp.k14s.io/app": "1645205001589335916" } }),
            Some("kapp (app with label kapp.k14s.io/app=1645205001589335916)"),
        ),
        (
            json!({ "annotations": {
                "configmanagement.gke.io/managed": "enabled", "configmanagement.gke.io/source-path": "shop/config.yaml",
                "configmanagement.gke.io/token": "2b3bb353",
            } }),
            Some("Config Sync (file shop/config.yaml at commit 2b3bb353)"),
        ),
        (json!({ "annotations": { "configmanagement.gke.io/managed": "disabled" } }), None),
    ];
    for (metadata, expected) in table {
        assert_eq!(key(&object(&metadata)).as_deref(), expected, "{metadata}");
    }
}

#[test]
fn a_field_manager_counts_for_the_part_that_it_owns() {
    let data = json!({ "f:data": { ".": {}, "f:a.json": {} } });
    let other_key = json!({ "f:data": { "f:b.json": {} } });
    let template = json!({ "f:spec": { "f:template": { "f:spec": {} } } });
    let replicas = json!({ "f:spec": { "f:replicas": {} } });
    let labels = json!({ "f:metadata": { "f:labels": { "f:team": {} } } });
    for (manager, tool) in MANAGERS {
        let found = |fields: &Value, action, key| {
            GitOps::default().managed_by(&object(&owned_by(manager, fields)), action, key).map(|it| it.tool)
        };
        let (managed, free) = (Some(tool.to_owned()), None);
        assert_eq!(found(&data, Action::EditConfig, "a.json"), managed);
        assert_eq!(found(&other_key, Action::EditConfig, "a.json"), free);
        assert_eq!(found(&labels, Action::EditConfig, "a.json"), free);
        assert_eq!(found(&replicas, Action::Scale, "replicas"), managed);
        assert_eq!(found(&template, Action::Scale, "replicas"), free);
        for action in [Action::Restart, Action::Rollback] {
            assert_eq!(found(&template, action, ""), managed, "{action:?}");
            assert_eq!(found(&replicas, action, ""), free, "{action:?}");
        }
    }
    for person in ["kubectl-edit", "kubectl-client-side-apply", "helm", "harness-agent", "kube-controller-manager"] {
        assert_eq!(key(&object(&owned_by(person, &data))), None, "{person}");
    }
}

#[test]
fn further_managers_are_known_by_configuration() {
    let object = object(&owned_by("deployer", &json!({ "f:data": { "f:a.json": {} } })));
    let found = |gitops: &GitOps| gitops.managed_by(&object, Action::EditConfig, "a.json").map(|it| it.to_string());
    assert_eq!(found(&GitOps::default()), None);
    assert_eq!(found(&GitOps::new(["deployer".to_owned()])).as_deref(), Some("deployer"));
}

#[test]
fn argo_cd_that_tracks_by_label_is_known_by_having_set_the_label_whoever_edited_the_key_since() {
    let mut metadata = json!({ "labels": { INSTANCE: "shop" } });
    let fields = json!({ "f:metadata": { "f:labels": { "f:app.kubernetes.io/instance": {} } } });
    metadata["managedFields"] = owned_by("argocd-controller", &fields)["managedFields"].clone();
    let edited = &owned_by("kubectl-edit", &json!({ "f:data": { "f:a.json": {} } }))["managedFields"][0];
    metadata["managedFields"].as_array_mut().unwrap().push(edited.clone());
    assert_eq!(key(&object(&metadata)).as_deref(), Some("Argo CD (Application shop)"));
}

#[test]
fn what_an_annotation_says_is_no_command_unless_it_is_a_plain_name() {
    let tracked =
        |id: &str| tracked_by(&object(&json!({ "annotations": { "argocd.argoproj.io/tracking-id": id } }))).unwrap();
    assert_eq!(
        tracked("shop:/ConfigMap:shop/config").look_at(),
        "look at the last commit of its Application shop in Argo CD: `argocd app history shop`"
    );
    for hostile in ["$(rm -rf /):x", "a; reboot", "`id`", "--help", "\u{202e}a", &"a".repeat(200)] {
        assert_eq!(tracked(hostile).look_at(), "look at the last commit of its source in Argo CD", "{hostile}");
    }
}
