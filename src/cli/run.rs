//! `harness run`, `harness monitor` and `harness agent`: the operator on a cluster, whole or by halves.

use super::Failure;
use super::connection::Connection;
use super::interruption::interruption;
use super::part::{Part, serve};
use super::planning;
use crate::agent::Planning;
use crate::gitops::GitOps;
use crate::http;
use crate::lease;
use crate::operator::{self, Halves, OperatorSettings};
use crate::samples::CONFIG_KEY;
use crate::service::{Service, Settings};
use crate::telemetry;
use crate::vitals::Vitals;
use kube::Client;
use kube::core::Duration as GoDuration;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tempfile::TempDir;

/// Arguments of the operator.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// The namespaces to work in, with commas between; by default all.
    #[arg(long, short, value_delimiter = ',', value_name = "NAMES")]
    pub namespace: Vec<String>,
    /// Serve /healthz, /readyz and /metrics at this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Let checks reach loopback addresses: for a harness on the machine of the service.
    #[arg(long)]
    pub allow_loopback: bool,
    /// How often a status may be written when nothing but values and samples changed; 0s: never.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    pub status_refresh: GoDuration,
    /// How long everything about a target must hold for its configuration to count as good.
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub good_after: GoDuration,
    /// How long an ended ticket is kept.
    #[arg(long, default_value = "168h", value_name = "DURATION")]
    pub ticket_ttl: GoDuration,
    /// How many ended tickets of an invariant are kept at most; the newest are.
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub tickets_per_invariant: usize,
    /// Stop all writes to targets; watching goes on.
    #[arg(long)]
    pub suspended: bool,
    /// A further field manager that writes from a source, as Argo CD and Flux do: what it owns is proposed and not
    /// written. Repeatable, or with commas between.
    #[arg(long = "gitops-manager", value_delimiter = ',', value_name = "NAMES")]
    pub gitops_managers: Vec<String>,
    /// Who plans repairs.
    #[command(flatten)]
    pub planning: planning::PlanningArguments,
    /// What to log.
    #[arg(long, env = "HARNESS_LOG", default_value = "info", value_name = "DIRECTIVES")]
    pub log: String,
}

/// Arguments of `harness run`.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// The operator's.
    #[command(flatten)]
    pub operator: Arguments,
    /// Supervise the demo service too, with the configuration of ConfigMap rate-limiter-config.
    #[arg(long)]
    pub with_service: bool,
    /// The port of the demo service.
    #[arg(long, default_value_t = 8001, requires = "with_service")]
    pub port: u16,
}

/// Runs monitor and agent until interrupted.
pub async fn run(arguments: RunArguments) -> Result<ExitCode, Failure> {
    let service = arguments.with_service.then_some(arguments.port);
    operate(arguments.operator, Halves::Both, service).await
}

/// Runs the monitor alone until interrupted.
pub async fn monitor(arguments: Arguments) -> Result<ExitCode, Failure> {
    operate(arguments, Halves::Monitor, None).await
}

/// Runs the agent alone until interrupted.
pub async fn agent(arguments: Arguments) -> Result<ExitCode, Failure> {
    operate(arguments, Halves::Agent, None).await
}

async fn operate(arguments: Arguments, halves: Halves, service_port: Option<u16>) -> Result<ExitCode, Failure> {
    telemetry::log_to_stderr(&arguments.log);
    let shutdown = interruption()?;
    let client = arguments.connection.connect().await?;
    let namespace = arguments.namespace.clone();
    let vitals = Vitals::default();
    let mut endpoint = Part::default();
    if let Some(address) = arguments.listen {
        let vitals = vitals.clone();
        endpoint.spawn(move |shutdown| async move {
            let failed = |error| format!("cannot serve at {address}: {error}");
            http::serve(address, vitals, shutdown).await.map_err(|error| failed(error).into())
        });
    }
    let listens = arguments.listen.is_some();
    let settings = OperatorSettings {
        namespaces: arguments.namespace,
        vitals: vitals.clone(),
        // The supervised service is on this machine's loopback.
        allow_loopback: arguments.allow_loopback || service_port.is_some(),
        status_refresh: Some(arguments.status_refresh.into()).filter(|every: &Duration| !every.is_zero()),
        good_after: arguments.good_after.into(),
        ticket_ttl: arguments.ticket_ttl.into(),
        tickets_per_invariant: arguments.tickets_per_invariant,
        suspended: arguments.suspended,
        gitops: GitOps::new(arguments.gitops_managers),
        lease_duration: lease::DURATION,
        // The monitor asks no model.
        // In a pod, the pod's; else that of the kubeconfig's context.
        home: client.default_namespace().to_owned(),
        planning: if halves == Halves::Monitor { Planning::default() } else { arguments.planning.planning()? },
    };
    let service = match service_port {
        Some(port) => Some(demo_service(&client, namespace.first().map_or("default", String::as_str), port).await?),
        None => None,
    };
    tracing::info!(?halves, "the harness is at work; Ctrl-C stops it");
    let operator = async {
        tokio::select! {
            result = operator::run_halves(client, settings, halves, shutdown.clone()) => result.map_err(Failure::from),
            failure = endpoint.failed("the endpoint"), if listens => Err(failure),
        }
    };
    let result = match service {
        Some((mut service, _directory)) => {
            let result = tokio::select! {
                result = operator => result,
                failure = service.failed("the service") => Err(failure),
            };
            service.stop("service").await;
            result
        }
        None => operator.await,
    };
    result.map(|()| ExitCode::SUCCESS)
}

/// The demo's service on this machine; its configuration comes from the ConfigMap, as in a pod.
async fn demo_service(client: &Client, namespace: &str, port: u16) -> Result<(Part, TempDir), Failure> {
    let directory = tempfile::Builder::new().prefix("harness-service-").tempdir()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let service = Service::bind(Settings { config: directory.path().join(CONFIG_KEY), address }).await?;
    Ok((serve(client, namespace, service, directory.path()).await?, directory))
}
