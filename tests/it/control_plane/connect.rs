//! Connecting to the cluster that the user means.

use crate::support::{cluster, install_tls_provider};
use harness::cluster::connect::{ConnectError, Target, connect};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

pub(super) fn target(kubeconfig: &Path, context: Option<&str>) -> Target {
    Target { kubeconfig: Some(kubeconfig.to_path_buf()), context: context.map(str::to_owned) }
}

#[tokio::test]
async fn a_kubeconfig_and_its_context_lead_to_the_cluster() {
    let client = connect(target(cluster().kubeconfig(), Some("harness"))).await.unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().git_version, cluster().version());
}

#[tokio::test]
async fn an_unknown_context_is_answered_with_those_that_exist() {
    let error = connect(target(cluster().kubeconfig(), Some("production"))).await.err().unwrap();
    assert_eq!(error.to_string(), "the kubeconfig has no context \"production\"; it has: harness");
}

#[tokio::test]
async fn a_missing_and_an_unreadable_kubeconfig_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let error = connect(target(&path, None)).await.err().unwrap();
    assert!(matches!(error, ConnectError::ReadKubeconfig(_)), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    fs::write(&path, "clusters: [").unwrap();
    let error = connect(target(&path, None)).await.err().unwrap();
    assert!(matches!(error, ConnectError::ReadKubeconfig(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    install_tls_provider();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let text = format!(
        "{{clusters: [{{name: c, cluster: {{server: 'https://{closed}'}}}}], users: [{{name: u, user: {{}}}}],
        contexts: [{{name: c, context: {{cluster: c, user: u}}}}], current-context: c}}"
    );
    fs::write(&path, text).unwrap();
    let error = connect(target(&path, None)).await.err().unwrap();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
}
