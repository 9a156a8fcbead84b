//! The kubelet's part: a ConfigMap becomes files.

use crate::support::{client, cluster, eventually, namespace};
use harness::cluster::projector::Projector;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

/// A ConfigMap `config` that is projected into a directory.
struct Projection {
    config_maps: Api<ConfigMap>,
    directory: TempDir,
    cancellation: CancellationToken,
    task: JoinHandle<()>,
}

impl Projection {
    async fn start(name: &str, data: Value) -> Self {
        let client = client();
        let namespace = namespace(&client, name).await;
        let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
        let metadata = ObjectMeta { name: Some("config".to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, data: serde_json::from_value(data).unwrap(), ..ConfigMap::default() };
        config_maps.create(&PostParams::default(), &map).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("unrelated"), "kept").unwrap();
        let projector = Projector::new(client, &namespace, "config", directory.path());
        let settled = projector.settled();
        let cancellation = CancellationToken::new();
        let task = tokio::spawn(projector.run(cancellation.clone()));
        assert!(tokio::time::timeout(PATIENCE, settled).await.unwrap());
        Self { config_maps, directory, cancellation, task }
    }

    async fn patch(&self, data: Value) {
        let patch = Patch::Merge(json!({"data": data}));
        self.config_maps.patch("config", &PatchParams::default(), &patch).await.unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn read(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.path().join(key)).ok()
    }

    async fn eventually_reads(&self, key: &str, expected: Option<&str>) {
        eventually(PATIENCE, || async { (self.read(key).as_deref() == expected).then_some(()) }).await;
    }
}

#[tokio::test]
async fn the_first_projection_has_every_key_and_touches_nothing_else() {
    let projection = Projection::start("project-first", json!({"a": "1", "b.json": "{}"})).await;
    assert_eq!(projection.read("a").as_deref(), Some("1"));
    assert_eq!(projection.read("b.json").as_deref(), Some("{}"));
    assert_eq!(projection.read("unrelated").as_deref(), Some("kept"));
    assert_eq!(fs::read_link(projection.path().join("a")).unwrap(), Path::new("..data/a"));
}

#[tokio::test]
async fn an_update_shows_through_the_same_link_and_a_removed_key_disappears() {
    let projection = Projection::start("project-update", json!({"a": "1", "b": "2"})).await;
    projection.patch(json!({"a": "changed", "b": null})).await;
    projection.eventually_reads("a", Some("changed")).await;
    // The link to a removed key dangles for a moment.
    let link = projection.path().join("b");
    eventually(PATIENCE, || async { fs::symlink_metadata(&link).is_err().then_some(()) }).await;
    assert_eq!(projection.read("unrelated").as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_deleted_config_map_leaves_its_content_and_a_new_one_is_projected() {
    let projection = Projection::start("project-delete", json!({"a": "1"})).await;
    projection.config_maps.delete("config", &DeleteParams::default()).await.unwrap();
    let metadata = ObjectMeta { name: Some("config".to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, data: Some([("b".to_owned(), "2".to_owned())].into()), ..ConfigMap::default() };
    assert_eq!(projection.read("a").as_deref(), Some("1"));
    projection.config_maps.create(&PostParams::default(), &map).await.unwrap();
    projection.eventually_reads("b", Some("2")).await;
}

#[tokio::test]
async fn a_cancelled_projector_ends() {
    let projection = Projection::start("project-cancel", json!({"a": "1"})).await;
    projection.cancellation.cancel();
    tokio::time::timeout(PATIENCE, projection.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_watch_is_tried_again_until_it_is_allowed() {
    let administrator = client();
    let namespace = namespace(&administrator, "project-refused").await;
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some("config".to_owned()), ..ObjectMeta::default() },
        data: Some([("a".to_owned(), "1".to_owned())].into()),
        ..ConfigMap::default()
    };
    let config_maps = Api::<ConfigMap>::namespaced(administrator.clone(), &namespace);
    config_maps.create(&PostParams::default(), &map).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let reader = cluster().user_client("projector", None).unwrap();
    assert!(Api::<ConfigMap>::namespaced(reader.clone(), &namespace).get("config").await.is_err());
    let projector = Projector::new(reader, &namespace, "config", directory.path());
    let settled = projector.settled();
    tokio::spawn(projector.run(CancellationToken::new()));

    let role: Role = serde_json::from_value(json!({
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}],
    }))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "projector"}],
    }))
    .unwrap();
    Api::namespaced(administrator.clone(), &namespace).create(&PostParams::default(), &role).await.unwrap();
    Api::namespaced(administrator, &namespace).create(&PostParams::default(), &binding).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, settled).await.unwrap());
    assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "1");
}
