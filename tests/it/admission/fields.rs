//! Every field of a workload, as the API server's own OpenAPI document lists them: the agent's account is refused a
//! change of each but those that its executor writes. A field that a later Kubernetes adds is tried here by itself.

use super::{AGENT, NAMESPACE, add, guarded, in_force};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the agent may change.
const PERMITTED: [&str; 13] = [
    "/spec/replicas",
    "/spec/template/spec/containers/0/args",
    "/spec/template/spec/containers/0/command",
    "/spec/template/spec/containers/0/env",
    "/spec/template/spec/containers/0/envFrom",
    "/spec/template/spec/containers/0/image",
    "/spec/template/spec/containers/0/resources",
    "/spec/template/spec/initContainers/0/args",
    "/spec/template/spec/initContainers/0/command",
    "/spec/template/spec/initContainers/0/env",
    "/spec/template/spec/initContainers/0/envFrom",
    "/spec/template/spec/initContainers/0/image",
    "/spec/template/spec/initContainers/0/resources",
];

/// What the API server lets nobody change, or changes by itself whatever is sent.
const BEYOND_EVERYBODY: [&str; 19] = [
    "/metadata/creationTimestamp",
    "/metadata/deletionGracePeriodSeconds",
    "/metadata/deletionTimestamp",
    "/metadata/generation",
    "/metadata/managedFields",
    "/metadata/name",
    "/metadata/namespace",
    "/metadata/resourceVersion",
    "/metadata/uid",
    "/spec/podManagementPolicy",
    "/spec/selector",
    "/spec/serviceName",
    "/spec/template/metadata/creationTimestamp",
    "/spec/template/metadata/deletionTimestamp",
    "/spec/template/spec/activeDeadlineSeconds",
    "/spec/template/spec/ephemeralContainers",
    "/spec/template/spec/restartPolicy",
    "/spec/template/spec/schedulingGroup",
    "/spec/volumeClaimTemplates",
];

/// The structures whose fields are compared one by one; what is below a field is compared with it.
const STRUCTURES: [(&str, &str); 7] = [
    ("/metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    ("/spec", ""),
    ("/spec/template", "io.k8s.api.core.v1.PodTemplateSpec"),
    ("/spec/template/metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    ("/spec/template/spec", "io.k8s.api.core.v1.PodSpec"),
    ("/spec/template/spec/containers/0", "io.k8s.api.core.v1.Container"),
    ("/spec/template/spec/initContainers/0", "io.k8s.api.core.v1.Container"),
];

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    RefusedByThePolicy,
    BeyondEverybody(String),
}

struct Workload<'a> {
    agent: Api<DynamicObject>,
    administrator: Api<DynamicObject>,
    schemas: &'a Value,
    object: DynamicObject,
}

#[tokio::test]
async fn the_agent_may_change_no_field_of_a_workload_but_those_that_its_executor_writes() {
    let (plane, administrator) = guarded().await;
    let agent = plane.user_client(AGENT, None).unwrap();
    in_force(&agent).await;
    let request = http::Request::get("/openapi/v3/apis/apps/v1").body(Vec::new()).unwrap();
    let document: Value = serde_json::from_str(&administrator.request_text(request).await.unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut beyond = BTreeSet::new();
    for kind in ["Deployment", "StatefulSet"] {
        let workload = Workload::create(&administrator, &agent, kind, &document["components"]["schemas"]).await;
        for (structure, schema) in STRUCTURES {
            let schema = if schema.is_empty() { format!("io.k8s.api.apps.v1.{kind}Spec") } else { schema.to_owned() };
            let fields = workload.schemas[&schema]["properties"].as_object().unwrap();
            for (field, schema) in fields {
                let path = format!("{structure}/{field}");
                if STRUCTURES.iter().any(|(structure, _)| *structure == path) {
                    continue;
                }
                let permitted = PERMITTED.contains(&path.as_str());
                match workload.change(&path, schema).await {
                    Outcome::RefusedByThePolicy if !permitted => {}
                    Outcome::Written if permitted => {}
                    Outcome::BeyondEverybody(why) => {
                        if !BEYOND_EVERYBODY.contains(&path.as_str()) {
                            wrong.push(format!("{kind} {path}: nobody could change it: {why}"));
                        }
                        beyond.insert(path);
                    }
                    outcome => wrong.push(format!("{kind} {path}: {outcome:?}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for path in BEYOND_EVERYBODY {
        assert!(beyond.contains(path), "{path} can be changed after all");
    }
    plane.stop().await;
}

impl<'a> Workload<'a> {
    async fn create(administrator: &Client, agent: &Client, kind: &str, schemas: &'a Value) -> Self {
        let container = json!({ "name": "main", "image": "app:2", "restartPolicy": "Never" });
        let volumes = json!([
            { "name": "files", "emptyDir": {} },
            { "name": "block", "persistentVolumeClaim": { "claimName": "block" } },
        ]);
        let object = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": { "name": "fields", "annotations": { "kept": "1" } },
            "spec": {
                "replicas": 2, "selector": { "matchLabels": { "app": "a" } },
                "template": {
                    "metadata": { "labels": { "app": "a" }, "annotations": { "kept": "1" } },
                    "spec": {
                        "containers": [container], "volumes": volumes,
                        "initContainers": [{ "name": "first", "image": "first:1", "restartPolicy": "Always" }],
                    },
                },
            },
        });
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let api = |client: &Client| Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let object = api(administrator).create(&PostParams::default(), &object).await.unwrap();
        Self { agent: api(agent), administrator: api(administrator), schemas, object }
    }

    /// Tries to give the field another value; nothing is kept.
    async fn change(&self, path: &str, schema: &Value) -> Outcome {
        let before = plain(&self.object);
        let mut beyond = "no value is known for it".to_owned();
        for value in self.candidates(path, schema) {
            let operations = json!([add("/metadata/annotations/harness.dev~1attempt", json!("t/1")), add(path, value)]);
            let change: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
            let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
            match self.agent.patch("fields", &parameters, &change).await {
                Ok(after) if plain(&after) == before => "it stays as it is".clone_into(&mut beyond),
                Ok(_) => return Outcome::Written,
                Err(error) if error.to_string().contains("-agent' denied request") => {
                    return Outcome::RefusedByThePolicy;
                }
                Err(error) => {
                    let allowed = self.administrator.patch("fields", &parameters, &change).await;
                    assert!(allowed.is_err(), "{path}: an administrator may, the agent gets {error}");
                    beyond = error.to_string();
                }
            }
        }
        Outcome::BeyondEverybody(beyond)
    }

    /// Values for a field, one of which is valid and another one than it has.
    fn candidates(&self, path: &str, schema: &Value) -> Vec<Value> {
        let field = path.rsplit('/').next().unwrap();
        if let Some(value) = known(path, field) {
            return vec![value];
        }
        match schema["enum"].as_array() {
            Some(values) => values.clone(),
            None => vec![self.sample(schema)],
        }
    }

    /// The smallest value of a schema.
    fn sample(&self, schema: &Value) -> Value {
        let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
        if let Some(name) = reference.and_then(|reference| reference.rsplit('/').next()) {
            return self.sample(&self.schemas[name]);
        }
        if let Some(value) = schema["enum"].as_array().and_then(|values| values.first()) {
            return value.clone();
        }
        match schema["type"].as_str() {
            Some("integer" | "number") => json!(7),
            Some("boolean") => json!(true),
            Some("array") => json!([self.sample(&schema["items"])]),
            Some("object") => {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let fields = required.iter().filter_map(Value::as_str);
                fields.map(|field| (field.to_owned(), self.sample(&schema["properties"][field]))).collect()
            }
            _ => json!("sample"),
        }
    }
}

/// Values that follow from no schema.
fn known(path: &str, field: &str) -> Option<Value> {
    let command = json!({ "exec": { "command": ["x"] } });
    let in_template = path.starts_with("/spec/template/metadata");
    Some(match field {
        "annotations" if in_template => json!({ "kept": "2" }),
        "annotations" => json!({ "kept": "2", "harness.dev/attempt": "t/1" }),
        "labels" => json!({ "app": "a", "more": "1" }),
        "finalizers" => json!(["a.example/b"]),
        "ownerReferences" => json!([{ "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u" }]),
        "strategy" => json!({ "type": "Recreate" }),
        "updateStrategy" => json!({ "type": "OnDelete" }),
        "ordinals" => json!({ "start": 1 }),
        "persistentVolumeClaimRetentionPolicy" => json!({ "whenDeleted": "Delete", "whenScaled": "Delete" }),
        "containers" => json!([{ "name": "main", "image": "app:2" }, { "name": "more", "image": "app:2" }]),
        "initContainers" => json!([{ "name": "more", "image": "app:2" }, { "name": "first", "image": "first:1" }]),
        "volumes" => json!([
            { "name": "files", "hostPath": { "path": "/" } },
            { "name": "block", "persistentVolumeClaim": { "claimName": "block" } },
        ]),
        "affinity" => json!({ "nodeAffinity": {} }),
        "dnsConfig" => json!({ "nameservers": ["192.0.2.1"] }),
        "dnsPolicy" => json!("Default"),
        "hostAliases" => json!([{ "ip": "192.0.2.1", "hostnames": ["a"] }]),
        "imagePullSecrets" => json!([{ "name": "s" }]),
        "nodeSelector" => json!({ "a": "b" }),
        "os" => json!({ "name": "linux" }),
        "overhead" => json!({ "cpu": "1" }),
        "readinessGates" => json!([{ "conditionType": "a.example/b" }]),
        "resourceClaims" => json!([{ "name": "c", "resourceClaimName": "c" }]),
        "resources" => json!({ "limits": { "cpu": "1" } }),
        "schedulingGates" => json!([{ "name": "a.example/b" }]),
        "securityContext" if path.contains("ontainers/") => json!({ "privileged": true }),
        "securityContext" => json!({ "runAsUser": 0 }),
        "hostUsers" => json!(false),
        "tolerations" => json!([{ "operator": "Exists" }]),
        "topologySpreadConstraints" => {
            json!([{ "maxSkew": 1, "topologyKey": "t", "whenUnsatisfiable": "DoNotSchedule" }])
        }
        "lifecycle" => json!({ "preStop": command }),
        "livenessProbe" | "readinessProbe" | "startupProbe" => command,
        "ports" => json!([{ "containerPort": 80, "protocol": "TCP" }]),
        "volumeMounts" => json!([{ "name": "files", "mountPath": "/x" }]),
        "volumeDevices" => json!([{ "name": "block", "devicePath": "/x" }]),
        "resizePolicy" => json!([{ "resourceName": "cpu", "restartPolicy": "NotRequired" }]),
        "envFrom" => json!([{ "configMapRef": { "name": "c" } }]),
        "restartPolicy" if path.contains("ontainers/") => json!("OnFailure"),
        "restartPolicyRules" => json!([{ "action": "Restart", "exitCodes": { "operator": "In", "values": [7] } }]),
        "terminationMessagePath" | "workingDir" => json!("/x"),
        _ => return None,
    })
}

/// An object without what every write changes.
fn plain(object: &DynamicObject) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["resourceVersion", "generation", "managedFields"] {
        metadata.remove(field);
    }
    metadata["annotations"].as_object_mut().unwrap().remove("harness.dev/attempt");
    object
}
