//! The start of a control plane, step by step: directory, certificates, etcd, API server, readiness.
//!
//! The store listens on a unix socket in the private directory: no port, no other user, no certificates. The socket's
//! path is relative to the working directory of both processes, because the kernel limits it to about 100 bytes.

use super::access::Access;
use super::assets::Assets;
use super::directory::DataDirectory;
use super::process::{Program, TetheredChild};
use super::{ControlPlane, ControlPlaneError, Ended};
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the whole control plane may take to be ready.
const READY_DEADLINE: Duration = Duration::from_mins(1);
/// How long one answer to "are you ready" may take.
const READY_ANSWER_DEADLINE: Duration = Duration::from_secs(2);
const READY_POLL: Duration = Duration::from_millis(20);
/// How often another port is tried when somebody took the chosen one.
const PORT_ATTEMPTS: usize = 5;
/// etcd's client socket. etcd wants a `host:port`; of a unix address it makes the file name.
const STORE_SOCKET: &str = "store:1";
/// etcd's peer socket, which nobody uses.
const PEER_SOCKET: &str = "peer:1";

pub(super) async fn start(assets: &Assets, launcher: &Path) -> Result<ControlPlane, ControlPlaneError> {
    let deadline = Instant::now() + READY_DEADLINE;
    // The children run in another directory.
    let launcher = &std::path::absolute(launcher)
        .map_err(|source| ControlPlaneError::Launch { launcher: launcher.to_path_buf(), source })?;
    let directory = make_directory(assets.run_directory()).await?;
    let mut access = Access::new(free_port()?)?;
    write_identities(&directory, &access)?;
    let etcd = start_etcd(assets, launcher, &directory)?;
    wait_for_store(&etcd, &directory, deadline).await?;
    let mut attempts_left = PORT_ATTEMPTS;
    let (api_server, version) = loop {
        attempts_left -= 1;
        let api_server = start_api_server(assets, launcher, &directory, access.port())?;
        match wait_until_ready(&etcd, &api_server, &access, deadline).await {
            Ok(version) => break (api_server, version),
            Err(ControlPlaneError::ChildEnded(ended)) if attempts_left > 0 && port_was_taken(&ended) => {
                access = access.moved_to(free_port()?);
            }
            Err(error) => return Err(error),
        }
    };
    let kubeconfig = directory.write("kubeconfig", &access.administrator_kubeconfig())?;
    Ok(ControlPlane { api_server, etcd, access, kubeconfig, version, directory })
}

async fn make_directory(run: &Path) -> Result<DataDirectory, ControlPlaneError> {
    let run = run.to_path_buf();
    let fail = |source| ControlPlaneError::PrepareDirectory { directory: run.clone(), source };
    let at = run.clone();
    tokio::task::spawn_blocking(move || DataDirectory::create(&at))
        .await
        .map_err(|error| fail(std::io::Error::other(error)))?
}

fn write_identities(directory: &DataDirectory, access: &Access) -> Result<(), ControlPlaneError> {
    let serving = access.authority().serving().map_err(ControlPlaneError::MakeCertificate)?;
    let tokens = rcgen::KeyPair::generate().map_err(ControlPlaneError::MakeCertificate)?;
    directory.write("authority.crt", &access.authority().pem())?;
    directory.write("serving.crt", &serving.certificate_pem)?;
    directory.write("serving.key", &serving.key_pem)?;
    directory.write("tokens.pub", &tokens.public_key_pem())?;
    directory.write("tokens.key", &tokens.serialize_pem())?;
    Ok(())
}

/// Takes a free port and lets it go: somebody else may get it before the API server does, hence the attempts.
fn free_port() -> Result<u16, ControlPlaneError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ControlPlaneError::FindPort)?;
    Ok(listener.local_addr().map_err(ControlPlaneError::FindPort)?.port())
}

fn port_was_taken(ended: &Ended) -> bool {
    ended.log_tail.contains("address already in use")
}

fn start_etcd(assets: &Assets, launcher: &Path, directory: &DataDirectory) -> Result<TetheredChild, ControlPlaneError> {
    let store = format!("unix://{STORE_SOCKET}");
    let peer = format!("unix://{PEER_SOCKET}");
    let arguments = [
        "--name=harness".to_owned(),
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={store}"),
        format!("--advertise-client-urls={store}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=harness={peer}"),
        // The data does not outlive the process: there is nothing to save from a power cut.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    start_child(launcher, directory, assets.etcd(), arguments)
}

fn start_api_server(
    assets: &Assets,
    launcher: &Path,
    directory: &DataDirectory,
    port: u16,
) -> Result<TetheredChild, ControlPlaneError> {
    let arguments = [
        format!("--etcd-servers=unix://{STORE_SOCKET}"),
        "--bind-address=127.0.0.1".to_owned(),
        // Without it, a machine that is offline has no address to advertise, and the API server refuses to start.
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--tls-cert-file=serving.crt".to_owned(),
        "--tls-private-key-file=serving.key".to_owned(),
        "--client-ca-file=authority.crt".to_owned(),
        "--anonymous-auth=false".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-account-key-file=tokens.pub".to_owned(),
        "--service-account-signing-key-file=tokens.key".to_owned(),
        // It would refuse every pod: no controller makes the default accounts.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        // The `kubernetes` Service would have to point to loopback, which is no valid endpoint.
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    start_child(launcher, directory, assets.kube_apiserver(), arguments)
}

fn start_child<const N: usize>(
    launcher: &Path,
    directory: &DataDirectory,
    executable: PathBuf,
    arguments: [String; N],
) -> Result<TetheredChild, ControlPlaneError> {
    let arguments = arguments.into_iter().map(OsString::from).collect();
    TetheredChild::start(launcher, &Program { executable, arguments, directory: directory.path() })
}

/// Waits for etcd's socket: an API server that finds none at its first try waits a whole second before its next.
async fn wait_for_store(
    etcd: &TetheredChild,
    directory: &DataDirectory,
    deadline: Instant,
) -> Result<(), ControlPlaneError> {
    let socket = directory.path().join(STORE_SOCKET);
    while !socket.exists() {
        if let Some(ended) = etcd.end() {
            return Err(ControlPlaneError::ChildEnded(ended));
        }
        if Instant::now() >= deadline {
            return Err(not_ready(etcd, "etcd made no socket".to_owned()));
        }
        sleep(READY_POLL).await;
    }
    Ok(())
}

/// Waits until the API server says that it is ready, and returns its version.
async fn wait_until_ready(
    etcd: &TetheredChild,
    api_server: &TetheredChild,
    access: &Access,
    deadline: Instant,
) -> Result<String, ControlPlaneError> {
    let client = access.administrator_client()?;
    let mut last_answer = "it was not asked".to_owned();
    while Instant::now() < deadline {
        if let Some(ended) = etcd.end().or_else(|| api_server.end()) {
            return Err(ControlPlaneError::ChildEnded(ended));
        }
        match timeout(READY_ANSWER_DEADLINE, ask_ready(&client)).await {
            Ok(Ok(())) => {
                let info =
                    client.apiserver_version().await.map_err(|error| ControlPlaneError::UseApi(Box::new(error)))?;
                return Ok(info.git_version);
            }
            Ok(Err(error)) => last_answer = error.to_string(),
            Err(_) => last_answer = format!("no answer in {} s", READY_ANSWER_DEADLINE.as_secs()),
        }
        sleep(READY_POLL).await;
    }
    Err(not_ready(api_server, last_answer))
}

async fn ask_ready(client: &kube::Client) -> Result<(), kube::Error> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await.map(drop)
}

fn not_ready(child: &TetheredChild, last_answer: String) -> ControlPlaneError {
    ControlPlaneError::NotReady { waited: READY_DEADLINE, last_answer, log_tail: child.log_tail() }
}
