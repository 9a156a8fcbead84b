//! Writes that the real API server refuses: told apart, tried again only where that can help, and told to people.

use super::stage::{BASELINE, Stage};
use super::webhook::{Says, Webhook};
use super::{DEAD, settled, status};
use crate::stage::{Operating, PATIENCE};
use crate::support::eventually;
use harness::agent::executor::{FIELD_MANAGER, failure};
use harness::crd::{AttemptResult, FailureCause, Outcome, Phase, Ticket};
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const WORDS: &str = "change freeze until Monday";

/// Broken by something outside the allow list, so that no repair helps.
const HOPELESS: &str = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;

fn of<K: DeserializeOwned>(manifest: Value) -> K {
    serde_json::from_value(manifest).unwrap()
}

/// The answer to a JSON patch of a ConfigMap by the agent.
async fn answer(stage: &Stage, name: &str, operations: Value) -> Result<ConfigMap, kube::Error> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    stage.api().patch(name, &parameters, &Patch::<()>::Json(of(operations))).await
}

async fn refusal(stage: &Stage, name: &str, operations: Value) -> kube::Error {
    answer(stage, name, operations).await.unwrap_err()
}

fn write(text: &str) -> Value {
    json!([{ "op": "add", "path": "/data", "value": { "k": text } }])
}

fn told_apart(error: &kube::Error, expected: Option<FailureCause>, words: &str) {
    assert_eq!(failure::cause(error), expected, "{error:?}");
    assert!(failure::words(error).contains(words), "{error:?}");
}

#[tokio::test]
async fn what_the_object_itself_does_not_allow_is_told_apart() {
    let stage = Stage::new("refused-object").await;
    let moved = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": "1" }, { "op": "add", "path": "/data", "value": {} },
    ]);
    told_apart(&refusal(&stage, CONFIG_NAME, moved).await, None, "error in our request");
    told_apart(&refusal(&stage, "nothing", write("a")).await, Some(FailureCause::Gone), "not found");
    for bytes in [1_100_000, 4_100_000] {
        let large = refusal(&stage, CONFIG_NAME, write(&"a".repeat(bytes))).await;
        told_apart(&large, Some(FailureCause::TooLarge), "");
    }
    let frozen = json!({ "metadata": { "name": "frozen" }, "immutable": true, "data": { "k": "a" } });
    stage.api::<ConfigMap>().create(&PostParams::default(), &of(frozen)).await.unwrap();
    told_apart(&refusal(&stage, "frozen", write("b")).await, Some(FailureCause::Immutable), "immutable");
    let nonsense = json!([{ "op": "add", "path": "/metadata/labels", "value": { "a b": "c" } }]);
    told_apart(&refusal(&stage, CONFIG_NAME, nonsense).await, Some(FailureCause::Invalid), "");
    let mut outdated = stage.config_map().await;
    outdated.metadata.resource_version = Some("1".to_owned());
    let conflict = stage.api::<ConfigMap>().replace(CONFIG_NAME, &PostParams::default(), &outdated).await.unwrap_err();
    told_apart(&conflict, None, "modified");
}

#[tokio::test]
async fn a_webhook_that_denies_is_told_by_its_words_whatever_code_it_gives() {
    let stage = Stage::new("refused-webhook").await;
    let webhook = Webhook::start(&stage).await;
    for status in [
        json!({ "message": WORDS }),
        json!({ "code": 403, "reason": "Forbidden", "message": WORDS }),
        json!({ "code": 409, "reason": "Conflict", "message": WORDS }),
        json!({ "code": 422, "reason": "Invalid", "message": WORDS }),
        json!({ "code": 429, "message": WORDS }),
        json!({ "code": 500, "message": WORDS }),
    ] {
        webhook.say(Says::No(status));
        let denied = refusal(&stage, CONFIG_NAME, write("b")).await;
        told_apart(&denied, Some(FailureCause::Denied), WORDS);
        assert!(failure::words(&denied).contains(webhook.name()));
    }
    webhook.say(Says::No(json!({})));
    told_apart(&refusal(&stage, CONFIG_NAME, write("b")).await, Some(FailureCause::Denied), "without explanation");
    // One that fails may be well again in a moment.
    webhook.say(Says::Nonsense);
    told_apart(&refusal(&stage, CONFIG_NAME, write("b")).await, Some(FailureCause::Unavailable), webhook.name());
    webhook.remove().await;
}

#[tokio::test]
async fn a_policy_that_denies_is_told_by_its_name_and_its_words() {
    let stage = Stage::new("refused-policy").await;
    let name = stage.namespace.clone();
    let policy = json!({
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"],
            }] },
            "validations": [{ "expression": "false", "message": WORDS }],
        },
    });
    let binding = json!({
        "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } },
        },
    });
    let parameters = PostParams::default();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(stage.client.clone());
    policies.create(&parameters, &of(policy)).await.unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(stage.client.clone());
    bindings.create(&parameters, &of(binding)).await.unwrap();
    // A new policy is in force after some seconds.
    let denied = eventually(PATIENCE, || async {
        answer(&stage, CONFIG_NAME, write(&Timestamp::now().to_string())).await.err()
    })
    .await;
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    told_apart(&denied, Some(FailureCause::Denied), WORDS);
    assert!(failure::words(&denied).contains(&name));
}

/// Keeps objects of this kind from being created any more.
async fn leave_no_room(stage: &Stage, resource: &str) {
    let full = json!({ "hard": { resource: "0" }, "used": { resource: "0" } });
    let quota = json!({ "metadata": { "name": "full" }, "spec": { "hard": full["hard"] } });
    let quotas = stage.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &of(quota)).await.unwrap();
    // What a controller manager does.
    let status = Patch::Merge(json!({ "status": full }));
    quotas.patch_status("full", &PatchParams::default(), &status).await.unwrap();
}

#[tokio::test]
async fn a_quota_and_a_namespace_that_is_being_deleted_are_told_apart_from_missing_rights() {
    let stage = Stage::new("refused-create").await;
    let create = || async {
        let made = json!({ "metadata": { "generateName": "n-" } });
        stage.api::<ConfigMap>().create(&PostParams::default(), &of(made)).await.err()
    };
    leave_no_room(&stage, "count/configmaps").await;
    let full = eventually(PATIENCE, create).await;
    told_apart(&full, Some(FailureCause::QuotaExceeded), "exceeded quota: full");
    stage.delete::<ResourceQuota>("full").await;
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    namespaces.delete(&stage.namespace, &DeleteParams::default()).await.unwrap();
    let terminating = eventually(PATIENCE, || async {
        create().await.filter(|it| failure::cause(it) != Some(FailureCause::QuotaExceeded))
    })
    .await;
    told_apart(&terminating, Some(FailureCause::NamespaceTerminating), "being terminated");
}

fn message(ticket: &Ticket) -> &str {
    status(ticket).message.as_deref().unwrap()
}

fn results(ticket: &Ticket) -> Vec<AttemptResult> {
    status(ticket).attempts.iter().map(|it| it.result).collect()
}

#[tokio::test]
async fn a_denied_repair_is_tried_once_and_told_in_the_words_of_the_webhook_and_resolves_when_it_holds() {
    let (stage, _operator) = settled("denied", &json!({})).await;
    let webhook = Webhook::start(&stage).await;
    webhook.say(Says::No(json!({ "message": WORDS })));
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::WriteRefused));
    let expected = format!(
        "the write to ConfigMap {CONFIG_NAME} was denied: admission webhook \"{}\" denied the request: {WORDS}; lift that, \
         or make the change by hand",
        webhook.name()
    );
    assert!(message(&ticket).starts_with(&expected), "{}", message(&ticket));
    assert!(message(&ticket).contains("harness retry healthy-1"), "{}", message(&ticket));
    assert_eq!(results(&ticket), [AttemptResult::NotWritten]);
    stage.write_config(BASELINE).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::FixedByPerson));
    assert_eq!(webhook.refused(), 1);
    webhook.remove().await;
}

#[tokio::test]
async fn a_freeze_before_the_undo_leaves_the_change_and_says_who_froze_it() {
    let (stage, _operator) = settled("frozen-undo", &json!({ "verifyTimeout": "3s" })).await;
    let webhook = Webhook::start(&stage).await;
    stage.write_config(HOPELESS).await;
    stage.wait_for_phase("healthy-1", Phase::Verifying).await;
    webhook.say(Says::No(json!({ "code": 422, "reason": "Invalid", "message": WORDS })));
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::UndoConflict), "{:#?}", ticket.status);
    assert!(message(&ticket).contains(WORDS) && message(&ticket).contains(webhook.name()), "{}", message(&ticket));
    assert_eq!(results(&ticket), [AttemptResult::LeftInPlace]);
    assert_eq!(webhook.refused(), 1);
    webhook.remove().await;
}

#[tokio::test]
async fn a_webhook_that_fails_delays_the_repair_with_growing_pauses_until_it_is_well() {
    let (stage, _operator) = settled("delayed", &json!({})).await;
    let webhook = Webhook::start(&stage).await;
    webhook.say(Says::Nonsense);
    stage.write_config(DEAD).await;
    let twice = |it: &Ticket| it.status.as_ref().and_then(|it| it.failed_write.as_ref()).is_some_and(|it| it.tries > 1);
    let ticket = stage.ticket("healthy-1", twice).await;
    assert_eq!((status(&ticket).phase, status(&ticket).reason.as_deref()), (Phase::Repairing, Some("WriteDelayed")));
    assert!(message(&ticket).contains(webhook.name()), "{}", message(&ticket));
    assert!(message(&ticket).contains("it is tried again at "), "{}", message(&ticket));
    let failed = status(&ticket).failed_write.clone().unwrap();
    assert_eq!((failed.cause, webhook.refused()), (FailureCause::Unavailable, 2));
    let pause = failed.retry_at.unwrap().0.duration_since(failed.since.0);
    assert!(pause >= SignedDuration::from_secs(8), "{pause}");
    webhook.say(Says::Yes);
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert_eq!((status(&ticket).failed_write.as_ref(), results(&ticket)), (None, vec![AttemptResult::Verified]));
    webhook.remove().await;
}

#[tokio::test]
async fn a_repair_that_is_refused_for_too_long_is_given_up_so_that_others_have_their_turn() {
    let (stage, _operator) = settled("given-up", &json!({})).await;
    let webhook = Webhook::start(&stage).await;
    webhook.say(Says::Nonsense);
    stage.write_config(DEAD).await;
    stage.ticket("healthy-1", |it| it.status.as_ref().is_some_and(|it| it.failed_write.is_some())).await;
    // As if it had begun an hour ago.
    let past = Timestamp::now() - SignedDuration::from_hours(1);
    let began = Patch::Merge(json!({ "status": { "failedWrite": { "since": format!("{past:.6}") } } }));
    stage.ticket_api().patch_status("healthy-1", &PatchParams::default(), &began).await.unwrap();
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::WriteRefused));
    assert!(message(&ticket).starts_with("given up after 5 minutes: "), "{}", message(&ticket));
    webhook.remove().await;
    // The claim is free.
    stage.patch_ticket("healthy-1", json!({ "metadata": { "annotations": { "harness.dev/retry": "1" } } })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
}

#[tokio::test]
async fn a_change_whose_exact_texts_cannot_be_kept_is_not_made() {
    let (stage, _operator) = settled("no-room", &json!({})).await;
    leave_no_room(&stage, "count/controllerrevisions.apps").await;
    // The quota is in force a moment later.
    eventually(PATIENCE, || async {
        let probe = json!({ "metadata": { "generateName": "probe-" }, "revision": 1 });
        stage.api::<ControllerRevision>().create(&PostParams::default(), &of(probe)).await.err()
    })
    .await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::WriteRefused), "{:#?}", ticket.status);
    assert!(message(&ticket).contains("exceeded quota: full"), "{}", message(&ticket));
    assert_eq!(stage.config().await, DEAD);
}

/// A service whose repairs may touch two ConfigMaps, both known to be good.
pub(super) async fn with_two_objects(name: &str, client: impl FnOnce(&Stage) -> kube::Client) -> (Stage, Operating) {
    let stage = Stage::new(name).await;
    let second = json!({ "metadata": { "name": "second" }, "data": { "k": "good" } });
    stage.api::<ConfigMap>().create(&PostParams::default(), &of(second)).await.unwrap();
    let allow = json!([
        { "editConfig": { "name": CONFIG_NAME, "key": CONFIG_KEY, "paths": ["/enabled", "/delay_ms"] } },
        { "editConfig": { "name": "second", "key": "k" } },
    ]);
    stage.watch("healthy", "", "== 200", &json!({ "allow": allow })).await;
    let client = client(&stage);
    let operator = stage.operate_with(client, harness::operator::Halves::Both, |_| ());
    stage.learned().await;
    eventually(PATIENCE, || async {
        let known = stage.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap();
        known.items.iter().any(|it| it.data.as_ref().unwrap().0["data"]["k"] == "good").then_some(())
    })
    .await;
    (stage, operator)
}

#[tokio::test]
async fn what_was_written_before_an_immutable_object_is_put_back() {
    let (stage, _operator) = with_two_objects("immutable", |stage| stage.client.clone()).await;
    let frozen = Patch::Merge(json!({ "immutable": true, "data": { "k": "bad" } }));
    stage.api::<ConfigMap>().patch("second", &PatchParams::default(), &frozen).await.unwrap();
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::WriteRefused), "{:#?}", ticket.status);
    assert!(
        message(&ticket).starts_with("ConfigMap second is immutable and must be replaced: "),
        "{}",
        message(&ticket)
    );
    assert!(message(&ticket).contains("what was written of the attempt was put back."), "{}", message(&ticket));
    assert_eq!(results(&ticket), [AttemptResult::Undone]);
    assert_eq!(stage.config().await, DEAD);
}
