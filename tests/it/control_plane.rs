//! The embedded control plane: real processes, a real API, no orphans.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

mod connect;
mod process;
mod projector;
mod proxy;

use crate::support::{client, client_of, cluster, namespace, start_plane};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn it_is_ready_and_says_its_version() {
    let version = client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, cluster().version());
    assert!(cluster().version().starts_with("v1."), "{}", cluster().version());
}

#[tokio::test]
async fn the_kubeconfig_alone_is_enough_for_another_client_and_is_private() {
    let path = cluster().kubeconfig();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let client = client_of(&fs::read_to_string(path).unwrap()).await;
    let namespaces = Api::<Namespace>::all(client).list(&ListParams::default()).await.unwrap();
    assert!(namespaces.items.iter().any(|namespace| namespace.metadata.name.as_deref() == Some("default")));
}

#[tokio::test]
async fn a_user_without_rights_is_known_by_name_and_denied() {
    let client = client_of(&cluster().user_kubeconfig("mallory", Some("strangers")).unwrap()).await;
    let error = Api::<Namespace>::all(client).list(&ListParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!(status.code, 403);
    assert!(status.message.contains("mallory"), "{}", status.message);
}

#[tokio::test]
async fn two_planes_at_once_do_not_disturb_each_other() {
    let other = start_plane().await;
    let here = client();
    let namespace = namespace(&here, "two-planes").await;
    let metadata = ObjectMeta { name: Some("only-here".to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, ..ConfigMap::default() };
    Api::<ConfigMap>::namespaced(here, &namespace).create(&PostParams::default(), &map).await.unwrap();
    let there = Api::<ConfigMap>::namespaced(other.client().unwrap(), &namespace);
    assert!(there.get_opt("only-here").await.unwrap().is_none());
    other.stop().await;
    assert!(Api::<ConfigMap>::namespaced(client(), &namespace).get_opt("only-here").await.unwrap().is_some());
}
