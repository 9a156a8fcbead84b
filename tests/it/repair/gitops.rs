//! What GitOps tools manage, as the API server records it when they apply it.

use super::stage::Stage;
use super::{DEAD, status};
use harness::agent::change::ProposedChange;
use harness::agent::executor::Executor;
use harness::agent::policy::Edit;
use harness::crd::{Allow, Outcome, Phase, Workload, WorkloadKind};
use harness::gitops::GitOps;
use harness::operator::Halves;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Applies the service's configuration as a tool does.
async fn apply_config(stage: &Stage, manager: &str, text: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": CONFIG_NAME }, "data": { CONFIG_KEY: text },
    });
    let parameters = PatchParams::apply(manager).force();
    stage.api::<ConfigMap>().patch(CONFIG_NAME, &parameters, &Patch::Apply(object)).await.unwrap();
}

#[tokio::test]
async fn what_a_gitops_tool_applied_is_proposed_with_its_source_and_not_written() {
    for (manager, tool, configured) in [
        ("argocd-controller", "Argo CD", false),
        ("kustomize-controller", "Flux", false),
        ("our-deployer", "our-deployer", true),
    ] {
        let stage = Stage::new("gitops-applied").await;
        apply_config(&stage, manager, super::stage::BASELINE).await;
        stage.watch_service(&json!({})).await;
        let _operator = stage.operate_with(stage.client.clone(), Halves::Both, |settings| {
            settings.gitops = GitOps::new(configured.then(|| manager.to_owned()));
        });
        stage.learned().await;
        apply_config(&stage, manager, DEAD).await;
        let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
        assert_eq!(status(&ticket).outcome, Some(Outcome::Proposed), "{manager}");
        let cause = &status(&ticket).diagnosis.as_ref().unwrap().root_cause;
        assert!(cause.starts_with("/enabled of rate-limiter-config changed from true to false at "), "{cause}");
        assert!(cause.ends_with(&format!(": {tool} brought that from its source")), "{cause}");
        let message = status(&ticket).message.as_ref().unwrap();
        assert!(message.contains(&format!("look at the last commit of its source in {tool}")), "{message}");
        assert_eq!(stage.config().await, DEAD);
    }
}

#[tokio::test]
async fn a_key_that_a_person_took_over_is_repaired_unless_the_marks_say_that_it_is_managed() {
    let flux =
        json!({ "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" });
    for labels in [json!({}), flux] {
        let stage = Stage::new("gitops-person").await;
        apply_config(&stage, "kustomize-controller", super::stage::BASELINE).await;
        stage.patch_config(json!({ "metadata": { "labels": labels } })).await;
        stage.watch_service(&json!({})).await;
        let _operator = stage.operate_both();
        stage.learned().await;
        stage.write_config(DEAD).await;
        let managed = labels != json!({});
        let wanted = if managed { Phase::Escalated } else { Phase::Resolved };
        let ticket = stage.wait_for_phase("healthy-1", wanted).await;
        let cause = &status(&ticket).diagnosis.as_ref().unwrap().root_cause;
        assert!(cause.starts_with("person changed /enabled"), "{cause}");
        if managed {
            let message = status(&ticket).message.as_ref().unwrap();
            assert!(message.contains("`flux get kustomizations apps -n flux-system`"), "{message}");
            assert_eq!(stage.config().await, DEAD);
        }
    }
}

#[tokio::test]
async fn a_workload_is_managed_by_who_applied_the_part_that_would_be_changed() {
    let stage = Stage::new("gitops-workload").await;
    let executor = Executor::new(stage.client.clone(), GitOps::default());
    let workload = |name: &str| Workload { kind: WorkloadKind::Deployment, name: name.to_owned() };
    let template = json!({
        "metadata": { "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "main", "image": "main:1" }] },
    });
    let apply = async |name: &str, manager: &str, more: Value| {
        let mut spec = json!({ "selector": { "matchLabels": { "app": "a" } }, "template": template });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let object =
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": spec });
        let parameters = PatchParams::apply(manager).force();
        stage.api::<Deployment>().patch(name, &parameters, &Patch::Apply(object)).await.unwrap();
    };
    apply("whole", "argocd-controller", json!({ "replicas": 1 })).await;
    apply("template", "kustomize-controller", json!({})).await;
    apply("person", "kubectl", json!({ "replicas": 1 })).await;
    let planned = async |change: ProposedChange| {
        let planned = executor.plan(&stage.namespace, &Vec::<Allow>::new(), &change).await.unwrap();
        planned[0].managed_by.as_ref().map(|it| it.tool.clone())
    };
    for (name, restart, scale) in
        [("whole", Some("Argo CD"), Some("Argo CD")), ("template", Some("Flux"), None), ("person", None, None)]
    {
        assert_eq!(planned(ProposedChange::Restart(workload(name))).await.as_deref(), restart, "{name}");
        let change = ProposedChange::Scale { workload: workload(name), replicas: 3 };
        assert_eq!(planned(change).await.as_deref(), scale, "{name}");
    }
    // Another key than the one that the tool applied is not the tool's.
    apply_config(&stage, "argocd-controller", DEAD).await;
    stage.patch_config(json!({ "data": { "notes.txt": "a person's" } })).await;
    for (key, before, expected) in [(CONFIG_KEY, DEAD, Some("Argo CD")), ("notes.txt", "a person's", None)] {
        let edit = Edit { name: CONFIG_NAME.into(), key: key.into(), before: before.into(), after: "{}".into() };
        assert_eq!(planned(ProposedChange::EditConfig(edit)).await.as_deref(), expected, "{key}");
    }
}
