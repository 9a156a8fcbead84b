//! ControllerRevisions: the agent's account writes and deletes its own records, and never the history of a workload.

use super::{AGENT, NAMESPACE, create, guarded, in_force};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const PRE_IMAGE: &str = "harness.dev/pre-image";
const KNOWN_GOOD: &str = "harness.dev/known-good";

fn owner(api_version: &str, kind: &str, controller: bool) -> Value {
    json!([{ "apiVersion": api_version, "kind": kind, "name": "a", "uid": "u", "controller": controller }])
}

fn revision(name: &str, label: &str, owners: &Value) -> Value {
    json!({
        "metadata": { "name": name, "labels": { label: "true" }, "ownerReferences": owners },
        "data": { "before": "1", "after": "2" }, "revision": 1,
    })
}

#[tokio::test]
async fn of_controller_revisions_the_agent_touches_its_own_records_only() {
    let (plane, administrator) = guarded().await;
    let agent = plane.user_client(AGENT, None).unwrap();
    in_force(&agent).await;
    let api = Api::<ControllerRevision>::namespaced(agent, NAMESPACE);
    let ticket = owner("harness.dev/v1alpha1", "Ticket", false);
    let made = [
        (revision("harness-attempt-1", PRE_IMAGE, &ticket), true),
        (revision("harness-good-1", KNOWN_GOOD, &json!([])), true),
        (revision("harness-good-2", PRE_IMAGE, &ticket), false),
        (revision("harness-attempt-2", "app", &ticket), false),
        (revision("web-7d9f", PRE_IMAGE, &ticket), false),
        (revision("harness-attempt-3", PRE_IMAGE, &owner("apps/v1", "StatefulSet", true)), false),
        (revision("harness-attempt-4", PRE_IMAGE, &owner("apps/v1", "DaemonSet", false)), false),
        (revision("harness-attempt-5", PRE_IMAGE, &owner("harness.dev/v1alpha1", "Ticket", true)), false),
    ];
    for (object, expected) in made {
        let object: ControllerRevision = serde_json::from_value(object).unwrap();
        let answer = api.create(&PostParams::default(), &object).await;
        assert_eq!(answer.is_ok(), expected, "{object:?}: {answer:?}");
    }
    let workloads = owner("apps/v1", "StatefulSet", true);
    for (name, label, owners) in [
        // Records of earlier versions, whose names begin with the ticket's or the ConfigMap's.
        ("web-1-attempt-1-0-0a1b2c3d", PRE_IMAGE, &ticket),
        ("config-good-0a1b2c3d4e5f", KNOWN_GOOD, &json!([])),
        ("web-5b8c", "app", &workloads),
        // The labels of a StatefulSet's pods are its revisions' labels.
        ("web-6c9d", KNOWN_GOOD, &workloads),
    ] {
        create::<ControllerRevision>(&administrator, revision(name, label, owners)).await;
    }
    let mine = ["harness-attempt-1", "harness-good-1", "web-1-attempt-1-0-0a1b2c3d", "config-good-0a1b2c3d4e5f"];
    let others = ["web-5b8c", "web-6c9d"];
    let changes = |name: &str| {
        let promoted = json!({ "revision": 2, "metadata": { "annotations": { "harness.dev/learned-at": "now" } } });
        let (api, name) = (api.clone(), name.to_owned());
        async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(promoted)).await }
    };
    for name in others {
        let claimed = json!({ "metadata": { "labels": { KNOWN_GOOD: "true" }, "ownerReferences": null } });
        let answers = [
            changes(name).await.err(),
            api.patch(name, &PatchParams::default(), &Patch::Merge(claimed)).await.err(),
            api.delete(name, &DeleteParams::default()).await.err(),
        ];
        for answer in answers {
            let words = answer.unwrap_or_else(|| panic!("{name} was changed")).to_string();
            assert!(words.contains("-records' denied request"), "{words}");
        }
    }
    for name in mine {
        changes(name).await.unwrap();
        let disowned = json!({ "metadata": { "labels": { PRE_IMAGE: null, KNOWN_GOOD: null } } });
        assert!(api.patch(name, &PatchParams::default(), &Patch::Merge(disowned)).await.is_err(), "{name}");
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    plane.stop().await;
}
