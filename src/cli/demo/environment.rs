//! What must be up for the demo: a Kubernetes API with the definitions and the samples in it, the service, what a
//! kubelet would do for it, and the operator. Everything that is started here is stopped here, in order.

use crate::cli::Failure;
use crate::cli::connection::{Connection, kubectl};
use crate::cli::control_plane::{progress_on_stderr, sources};
use crate::cli::install::{Overwrite, ensure_config_map, ensure_namespace, install_definitions, install_invariants};
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::control_plane::assets::Assets;
use crate::cluster::projector::Projector;
use crate::injection::{ConfigKey, inject};
use crate::operator::{self, OperatorSettings};
use crate::samples::{CONFIG_KEY, CONFIG_NAME};
use crate::service::chaos::Fault;
use crate::service::{self, Service};
use crate::tui::model::Cluster;
use kube::Client;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The namespace of the demo.
pub const NAMESPACE: &str = "default";
/// How long everything must hold before the current configuration counts as good.
pub const GOOD_AFTER: Duration = Duration::from_secs(10);
/// How long tickets are kept after their end.
const TICKET_TTL: Duration = Duration::from_hours(1);
/// How long the service's configuration may take to reach its directory for the first time.
const PROJECTION_DEADLINE: Duration = Duration::from_secs(10);
/// How long the operator, and then the rest, may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What the user decides about the environment.
#[derive(Debug, Clone)]
pub struct EnvironmentSettings {
    /// An existing cluster, or none for one of the demo's own.
    pub connection: Connection,
    /// The port of the service.
    pub port: u16,
    /// How often statuses are refreshed although nothing changed; `None` for a quiet API.
    pub status_refresh: Option<Duration>,
}

/// All that is up.
pub struct Environment {
    /// A client of the cluster.
    pub client: Client,
    /// The cluster, as the screen names it.
    pub cluster: Cluster,
    /// The kubeconfig that reaches it; `None` for the user's own current one.
    pub kubeconfig: Option<PathBuf>,
    // Dropped in this order, should the demo be cut short: what uses the API before what provides it.
    operator: Part,
    service: Part,
    plane: Option<ControlPlane>,
    _directory: TempDir,
}

/// Tasks that are stopped together. Dropping it ends them at once.
struct Part {
    tasks: JoinSet<Result<(), Failure>>,
    shutdown: CancellationToken,
}

impl Environment {
    /// Starts everything. What was started is stopped again if this fails or is dropped.
    pub async fn start(settings: &EnvironmentSettings) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("harness-demo-").tempdir()?;
        // First of all, because it is the likeliest to fail: the port may be taken.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let service = Service::bind(service::Settings { config: directory.path().join(CONFIG_KEY), address }).await?;
        let (plane, client, cluster, kubeconfig) = api(&settings.connection).await?;
        install(&client, service.address().port()).await?;
        let service = serve(&client, service, &directory).await?;
        let operator = operate(&client, settings.status_refresh);
        Ok(Self { client, cluster, kubeconfig, operator, service, plane, _directory: directory })
    }

    /// Resolves when a part of the environment has ended by itself: why.
    pub async fn failed(&mut self) -> Failure {
        let plane = self.plane.as_ref();
        let plane_ended = async {
            match plane {
                Some(plane) => plane.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = plane_ended => format!("the control plane is gone: {ended}").into(),
            failure = self.operator.failed("the operator") => failure,
            failure = self.service.failed("the service") => failure,
        }
    }

    /// Stops everything: first what acts, then what it acts on, then what both talk to.
    pub async fn stop(self) {
        let Self { client, cluster: _, kubeconfig: _, operator, service, plane, _directory } = self;
        operator.stop("operator").await;
        service.stop("service").await;
        drop(client);
        if let Some(plane) = plane {
            plane.stop().await;
        }
    }
}

impl Part {
    fn new() -> Self {
        Self { tasks: JoinSet::new(), shutdown: CancellationToken::new() }
    }

    async fn failed(&mut self, name: &str) -> Failure {
        match self.tasks.join_next().await {
            None | Some(Ok(Ok(()))) => format!("{name} stopped although nobody asked it to").into(),
            Some(Ok(Err(failure))) => format!("{name} failed: {failure}").into(),
            Some(Err(error)) => panicked(name, &error),
        }
    }

    async fn stop(mut self, name: &str) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_DEADLINE, all).await.is_err() {
            tracing::warn!("the {name} did not stop within {} s and is cut short", STOP_DEADLINE.as_secs());
        }
    }
}

fn panicked(name: &str, error: &JoinError) -> Failure {
    format!("{name} broke down ({error}); this is a bug").into()
}

type Api = (Option<ControlPlane>, Client, Cluster, Option<PathBuf>);

async fn api(connection: &Connection) -> Result<Api, Failure> {
    if connection.is_explicit() {
        let client = connection.connect().await?;
        let cluster = connection.describe(&client).await?;
        return Ok((None, client, cluster, connection.kubeconfig.clone()));
    }
    let assets = Assets::find(&sources()?, &progress_on_stderr()).await?;
    let plane = ControlPlane::start(&assets, &std::env::current_exe()?).await?;
    let client = plane.client()?;
    let kubeconfig = plane.kubeconfig().to_owned();
    let cluster = Cluster {
        version: plane.version().to_owned(),
        context: "harness (embedded)".to_owned(),
        kubectl: kubectl(Some(&kubeconfig)),
    };
    Ok((Some(plane), client, cluster, Some(kubeconfig)))
}

async fn install(client: &Client, port: u16) -> Result<(), Failure> {
    install_definitions(client).await?;
    ensure_namespace(client, NAMESPACE).await?;
    ensure_config_map(client, NAMESPACE).await?;
    // A cluster that is not the demo's own may still have the fault of an earlier run.
    inject(client, &config_key(), &[Fault::Heal]).await?;
    install_invariants(client, NAMESPACE, port, Overwrite::Yes).await?;
    Ok(())
}

async fn serve(client: &Client, service: Service, directory: &TempDir) -> Result<Part, Failure> {
    let mut part = Part::new();
    let projector = Projector::new(client.clone(), NAMESPACE, CONFIG_NAME, directory.path());
    let projected = projector.settled();
    let shutdown = part.shutdown.clone();
    part.tasks.spawn(async move {
        projector.run(shutdown).await;
        Ok(())
    });
    let shutdown = part.shutdown.clone();
    part.tasks.spawn(async move { Ok(service.serve(async move { shutdown.cancelled().await }).await?) });
    match timeout(PROJECTION_DEADLINE, projected).await {
        Ok(true) => Ok(part),
        Ok(false) | Err(_) => Err(format!(
            "ConfigMap {NAMESPACE}/{CONFIG_NAME} did not reach {} within {} s",
            directory.path().display(),
            PROJECTION_DEADLINE.as_secs(),
        )
        .into()),
    }
}

fn operate(client: &Client, status_refresh: Option<Duration>) -> Part {
    let mut part = Part::new();
    let settings = OperatorSettings {
        namespace: Some(NAMESPACE.to_owned()),
        allow_loopback: true,
        status_refresh,
        good_after: GOOD_AFTER,
        ticket_ttl: TICKET_TTL,
        suspended: false,
    };
    let (client, shutdown) = (client.clone(), part.shutdown.clone());
    part.tasks.spawn(async move { Ok(operator::run(client, settings, shutdown).await?) });
    part
}

/// The configuration of the demo's service.
pub fn config_key() -> ConfigKey {
    ConfigKey { namespace: NAMESPACE.to_owned(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() }
}
