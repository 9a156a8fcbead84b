//! What must be up for the demo: a Kubernetes API with the definitions and the samples in it, the service, what a
//! kubelet would do for it, and the operator. Everything that is started here is stopped here, in order.

use crate::agent::Planning;
use crate::cli::Failure;
use crate::cli::connection::Connection;
use crate::cli::control_plane::{progress_on_stderr, sources};
use crate::cli::install::{Overwrite, ensure_config_map, ensure_namespace, install_definitions, install_invariants};
use crate::cli::part::{Part, serve};
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::control_plane::assets::Assets;
use crate::injection::{ConfigKey, inject};
use crate::operator::{self, OperatorSettings};
use crate::samples::{CONFIG_KEY, CONFIG_NAME};
use crate::service::chaos::Fault;
use crate::service::{self, Service};
use crate::tui::model::Cluster;
use crate::vitals::Vitals;
use kube::Client;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// The namespace of the demo.
pub const NAMESPACE: &str = "default";
/// How long everything must hold before the current configuration counts as good.
pub const GOOD_AFTER: Duration = Duration::from_secs(10);
/// How long tickets are kept after their end.
const TICKET_TTL: Duration = Duration::from_hours(1);

/// What the user decides about the environment.
#[derive(Debug, Clone)]
pub struct EnvironmentSettings {
    /// An existing cluster, or none for one of the demo's own.
    pub connection: Connection,
    /// The port of the service.
    pub port: u16,
    /// Who plans repairs.
    pub planning: Planning,
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

impl Environment {
    /// Starts everything. What was started is stopped again if this fails or is dropped.
    pub async fn start(settings: &EnvironmentSettings) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("harness-demo-").tempdir()?;
        // First of all, because it is the likeliest to fail: the port may be taken.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let service = Service::bind(service::Settings { config: directory.path().join(CONFIG_KEY), address }).await?;
        let (plane, client, cluster, kubeconfig) = api(&settings.connection).await?;
        install(&client, service.address().port()).await?;
        let service = serve(&client, NAMESPACE, service, directory.path()).await?;
        let operator = operate(&client, settings.status_refresh, settings.planning.clone());
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
    let connection = Connection { kubeconfig: Some(kubeconfig.clone()), context: None };
    let cluster = Cluster { context: "harness (embedded)".to_owned(), ..connection.describe(&client).await? };
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

fn operate(client: &Client, status_refresh: Option<Duration>, planning: Planning) -> Part {
    let mut part = Part::default();
    let settings = OperatorSettings {
        namespaces: vec![NAMESPACE.to_owned()],
        vitals: Vitals::default(),
        allow_loopback: true,
        status_refresh,
        good_after: GOOD_AFTER,
        ticket_ttl: TICKET_TTL,
        suspended: false,
        planning,
        home: NAMESPACE.to_owned(),
    };
    let client = client.clone();
    part.spawn(|shutdown| async move { Ok(operator::run(client, settings, shutdown).await?) });
    part
}

/// The configuration of the demo's service.
pub fn config_key() -> ConfigKey {
    ConfigKey { namespace: NAMESPACE.to_owned(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() }
}
