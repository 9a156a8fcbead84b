//! What the tests share: one real control plane for the whole run, and how to wait for a condition.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

use harness::cli::control_plane::{progress_on_stderr, sources};
use harness::cluster::connect;
use harness::cluster::control_plane::ControlPlane;
use harness::cluster::control_plane::assets::Assets;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

/// The harness's own binary.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_harness"))
}

/// The control plane of this test run. The first caller starts it; it dies with this process.
///
/// It lives in a runtime of its own, because each test's runtime ends with the test. Statics are not dropped: its
/// directory is swept by the next control plane.
pub(crate) fn cluster() -> &'static ControlPlane {
    static CLUSTER: OnceLock<ControlPlane> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        install_tls_provider();
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            send.send(runtime.block_on(start_plane())).unwrap();
        });
        receive.recv().expect("the control plane of the tests did not start; the reason is above")
    })
}

/// The binaries of the control plane, found (or, the first time on a machine, built) as the product does it.
pub(crate) async fn assets() -> &'static Assets {
    static ASSETS: OnceCell<Assets> = OnceCell::const_new();
    let find = || async {
        install_tls_provider();
        Assets::find(&sources().unwrap(), &progress_on_stderr()).await.unwrap_or_else(|error| panic!("{error}"))
    };
    ASSETS.get_or_init(find).await
}

/// Starts another control plane, from the same binaries as the product would.
pub(crate) async fn start_plane() -> ControlPlane {
    ControlPlane::start(assets().await, binary()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Chooses the TLS provider, as `main` does.
pub(crate) fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A new administrator's client: a client belongs to the runtime, and so to the test, that made it.
pub(crate) fn client() -> Client {
    cluster().client().unwrap()
}

/// A client made of nothing but the text of a kubeconfig.
pub(crate) async fn client_of(kubeconfig: &str) -> Client {
    install_tls_provider();
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    connect::client(config).unwrap()
}

/// Makes a namespace that no other test has; `name` is how it begins. It is left behind.
pub(crate) async fn namespace(client: &Client, name: &str) -> String {
    let metadata = ObjectMeta { generate_name: Some(format!("{name}-")), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let created = Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    created.metadata.name.unwrap()
}

/// Asks again and again until there is an answer; panics if there is none by the deadline.
pub(crate) async fn eventually<T, F>(deadline: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "it did not come true within {deadline:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
