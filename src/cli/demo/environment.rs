//! What must be up for the demo: a Kubernetes API with the definitions and the samples in it, the service, what a
//! kubelet would do for it, and the operator. Everything that is started here is stopped here, in order. Where the
//! cluster has it all already, from the chart, nothing is started.

use crate::agent::Planning;
use crate::cli::Failure;
use crate::cli::connection::Connection;
use crate::cli::control_plane::{progress_on_stderr, sources};
use crate::cli::install::{Overwrite, ensure_config_map, ensure_namespace, install_definitions, install_invariants};
use crate::cli::part::{Part, serve};
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::control_plane::assets::Assets;
use crate::gitops::GitOps;
use crate::injection::{ConfigKey, inject};
use crate::lease;
use crate::operator::{self, OperatorSettings};
use crate::samples::{CONFIG_KEY, CONFIG_NAME, SERVICE};
use crate::service::chaos::Fault;
use crate::service::{self, Service};
use crate::tui::model::Cluster;
use crate::vitals::Vitals;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// How long everything must hold before the current configuration counts as good.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// How long tickets are kept after their end.
const TICKET_TTL: Duration = Duration::from_hours(1);

/// What the user decides about the environment.
#[derive(Debug, Clone)]
pub struct EnvironmentSettings {
    /// An existing cluster, or none for one of the demo's own.
    pub connection: Connection,
    /// The namespace of the demo.
    pub namespace: String,
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
    /// How long everything must hold before the current configuration counts as good, where that is known.
    pub good_after: Option<Duration>,
    /// What runs in this process; `None` where the cluster has the demo already.
    own: Option<Own>,
}

/// What was started here. Dropped in this order, should the demo be cut short: what uses the API before what provides it.
struct Own {
    operator: Part,
    service: Part,
    plane: Option<ControlPlane>,
    _directory: TempDir,
}

impl Environment {
    /// Starts everything that the cluster has not. What was started is stopped again if this fails or is dropped.
    pub async fn start(settings: &EnvironmentSettings) -> Result<Self, Failure> {
        let connection = &settings.connection;
        if !connection.is_explicit() && !is_pod() {
            return Self::host(settings, None).await;
        }
        let client = connection.connect().await?;
        let cluster = connection.describe(&client).await?;
        if is_installed(&client, &settings.namespace).await? {
            return Ok(Self {
                client,
                cluster,
                kubeconfig: connection.kubeconfig.clone(),
                good_after: None,
                own: None,
            });
        }
        Self::host(settings, Some((client, cluster))).await
    }

    /// Runs the operator and the service in this process, and without a cluster a control plane beside it.
    async fn host(settings: &EnvironmentSettings, cluster: Option<(Client, Cluster)>) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("harness-demo-").tempdir()?;
        // First of all, because it is the likeliest to fail: the port may be taken.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let service = Service::bind(service::Settings { config: directory.path().join(CONFIG_KEY), address }).await?;
        let (plane, client, cluster, kubeconfig) = match cluster {
            Some((client, cluster)) => (None, client, cluster, settings.connection.kubeconfig.clone()),
            None => embedded().await?,
        };
        install(&client, &settings.namespace, service.address().port()).await?;
        let service = serve(&client, &settings.namespace, service, directory.path()).await?;
        let operator = operate(&client, settings);
        let own = Own { operator, service, plane, _directory: directory };
        Ok(Self { client, cluster, kubeconfig, good_after: Some(GOOD_AFTER), own: Some(own) })
    }

    /// Resolves when a part of the environment has ended by itself: why.
    pub async fn failed(&mut self) -> Failure {
        let Some(own) = &mut self.own else { return std::future::pending().await };
        let plane = own.plane.as_ref();
        let plane_ended = async {
            match plane {
                Some(plane) => plane.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = plane_ended => format!("the control plane is gone: {ended}").into(),
            failure = own.operator.failed("the operator") => failure,
            failure = own.service.failed("the service") => failure,
        }
    }

    /// Stops everything: first what acts, then what it acts on, then what both talk to.
    pub async fn stop(self) {
        let Self { client, cluster: _, kubeconfig: _, good_after: _, own } = self;
        let Some(Own { operator, service, plane, _directory }) = own else { return };
        operator.stop("operator").await;
        service.stop("service").await;
        drop(client);
        if let Some(plane) = plane {
            plane.stop().await;
        }
    }
}

/// Whether this process runs in a pod, whose own cluster is meant then.
fn is_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Whether the chart's demo runs in the cluster: then its own operator and service are to be watched and broken.
async fn is_installed(client: &Client, namespace: &str) -> Result<bool, Failure> {
    Ok(Api::<Deployment>::namespaced(client.clone(), namespace).get_opt(SERVICE).await?.is_some())
}

type Embedded = (Option<ControlPlane>, Client, Cluster, Option<PathBuf>);

async fn embedded() -> Result<Embedded, Failure> {
    let assets = Assets::find(&sources()?, &progress_on_stderr()).await?;
    let plane = ControlPlane::start(&assets, &std::env::current_exe()?).await?;
    let client = plane.client()?;
    let kubeconfig = plane.kubeconfig().to_owned();
    let connection = Connection { kubeconfig: Some(kubeconfig.clone()), context: None };
    let cluster = Cluster { context: "harness (embedded)".to_owned(), ..connection.describe(&client).await? };
    Ok((Some(plane), client, cluster, Some(kubeconfig)))
}

async fn install(client: &Client, namespace: &str, port: u16) -> Result<(), Failure> {
    install_definitions(client).await?;
    ensure_namespace(client, namespace).await?;
    ensure_config_map(client, namespace).await?;
    // A cluster that is not the demo's own may still have the fault of an earlier run.
    inject(client, &config_key(namespace), &[Fault::Heal]).await?;
    install_invariants(client, namespace, port, Overwrite::Yes).await?;
    Ok(())
}

fn operate(client: &Client, settings: &EnvironmentSettings) -> Part {
    let mut part = Part::default();
    let settings = OperatorSettings {
        namespaces: vec![settings.namespace.clone()],
        vitals: Vitals::default(),
        allow_loopback: true,
        status_refresh: settings.status_refresh,
        good_after: GOOD_AFTER,
        ticket_ttl: TICKET_TTL,
        tickets_per_invariant: 20,
        suspended: false,
        gitops: GitOps::default(),
        lease_duration: lease::DURATION,
        planning: settings.planning.clone(),
        home: settings.namespace.clone(),
    };
    let client = client.clone();
    part.spawn(|shutdown| async move { Ok(operator::run(client, settings, shutdown).await?) });
    part
}

/// The configuration of the demo's service.
pub fn config_key(namespace: &str) -> ConfigKey {
    ConfigKey { namespace: namespace.to_owned(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() }
}
