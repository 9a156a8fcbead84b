//! A client of the cluster that the user means.
//!
//! Touches the world: reads kubeconfigs (kube itself honours `KUBECONFIG` and the variables of a pod) and asks the
//! API server for its version once, so that a wrong address is known at once and by name.

mod deadline;
mod proxied;
mod proxy;

use deadline::DeadlineLayer;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use proxy::Environment;
pub use proxy::ProxyError;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// How long a request to the API server may take, unless it is a watch or a followed log.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How many contexts an error lists.
const LISTED_CONTEXTS: usize = 20;

/// Which cluster to talk to. The default is the one that `kubectl` would use, or the pod's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A kubeconfig file, in place of `KUBECONFIG` and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context in it, in place of its current one.
    pub context: Option<String>,
}

/// Why there is no connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no kubeconfig, and this is not a pod.
    #[error(
        "found no Kubernetes cluster: {kubeconfig}, and this is not a pod; name one with --kubeconfig FILE, or set KUBECONFIG"
    )]
    FindCluster {
        /// What was wrong with the kubeconfig.
        kubeconfig: Box<KubeconfigError>,
    },
    /// The kubeconfig could not be read or understood.
    #[error("could not read the kubeconfig: {0}")]
    ReadKubeconfig(#[source] Box<KubeconfigError>),
    /// The kubeconfig has no such context, or none is chosen.
    #[error("{}; it has: {}", missing_context(wanted.as_deref()), listed(contexts))]
    ChooseContext {
        /// The context that was asked for; `None` when the kubeconfig has no current one.
        wanted: Option<String>,
        /// The contexts that exist.
        contexts: Vec<String>,
    },
    /// The proxy to the API server is none that can be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// No client could be made of the configuration.
    #[error("could not make a client for {server}: {source}")]
    MakeClient {
        /// The API server's address.
        server: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// The API server refused the credentials.
    #[error("{server} refused these credentials ({message}); try `kubectl version` with the same context")]
    Refused {
        /// The API server's address.
        server: String,
        /// What it answered.
        message: String,
    },
    /// The API server did not answer.
    #[error("{server} did not answer: {source}; is the cluster running, and is this the right context?")]
    Unreachable {
        /// The API server's address.
        server: String,
        /// The reason.
        source: Box<kube::Error>,
    },
}

/// Connects to `target` and makes sure that it answers (within 10 s).
pub async fn connect(target: Target) -> Result<Client, ConnectError> {
    let Found { config, proxy } = configuration(target).await?;
    let mut server = config.cluster_url.to_string();
    if let Some(proxy) = &proxy {
        // Its credentials are nobody's business.
        let shown = &proxy[url::Position::BeforeHost..url::Position::AfterPort];
        server = format!("{server} (through the proxy {}://{shown})", proxy.scheme());
    }
    let made = match &proxy {
        Some(proxy) => proxied::client(&config, proxy),
        None => client(config),
    };
    let client = made.map_err(|error| ConnectError::MakeClient { server: server.clone(), source: Box::new(error) })?;
    match client.apiserver_version().await {
        Ok(_) => Ok(client),
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            Err(ConnectError::Refused { server, message: status.message.clone() })
        }
        Err(error) => Err(ConnectError::Unreachable { server, source: Box::new(error) }),
    }
}

/// Makes a client without a proxy, in which no plain request takes longer than [`REQUEST_DEADLINE`], whatever the server does.
///
/// Without kube's own retries: they would repeat a POST, and wait for as long as the server tells them to. Whoever
/// calls knows better whether to try again. Must be called in the tokio runtime that will use the client.
pub fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT_DEADLINE);
    config.default_retry = false;
    // kube would send everything through the HTTPS_PROXY of the environment.
    config.proxy_url = None;
    let layer = DeadlineLayer { deadline: REQUEST_DEADLINE };
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// A cluster, and how it is reached.
struct Found {
    config: Config,
    proxy: Option<Url>,
}

async fn configuration(target: Target) -> Result<Found, ConnectError> {
    let explicit = target != Target::default();
    let read = match &target.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match read {
        Ok(kubeconfig) => in_context(kubeconfig, target.context).await,
        Err(error) if !explicit && is_absent(&error) => {
            // A pod reaches the API server of its own cluster: no proxy leads there.
            let config = Config::incluster_env();
            config
                .map(|config| Found { config, proxy: None })
                .map_err(|_| ConnectError::FindCluster { kubeconfig: Box::new(error) })
        }
        Err(error) => Err(ConnectError::ReadKubeconfig(Box::new(error))),
    }
}

fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

async fn in_context(kubeconfig: Kubeconfig, context: Option<String>) -> Result<Found, ConnectError> {
    let wanted = context.or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
    let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    match wanted {
        Some(name) if contexts.contains(&name) => {
            let its_proxy = proxy_url(&kubeconfig, &name);
            let options = KubeConfigOptions { context: Some(name), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| ConnectError::ReadKubeconfig(Box::new(error)))?;
            let environment = Environment::of_this_process();
            let proxy = proxy::choose(&config.cluster_url, its_proxy.as_deref(), &environment)?;
            Ok(Found { config, proxy })
        }
        wanted => Err(ConnectError::ChooseContext { wanted, contexts }),
    }
}

/// The proxy that the kubeconfig names for the cluster of a context.
fn proxy_url(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|it| it.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|it| it.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone()
}

fn missing_context(wanted: Option<&str>) -> String {
    match wanted {
        Some(name) => format!("the kubeconfig has no context {name:?}"),
        None => "the kubeconfig has no current context; choose one with --context NAME".to_owned(),
    }
}

fn listed(contexts: &[String]) -> String {
    let shown = contexts.iter().take(LISTED_CONTEXTS).map(String::as_str).collect::<Vec<_>>().join(", ");
    match contexts.len() {
        0 => "none".to_owned(),
        count if count > LISTED_CONTEXTS => format!("{shown} and {} more", count - LISTED_CONTEXTS),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_lists_a_few_contexts_and_counts_the_rest() {
        let contexts: Vec<String> = (0..22).map(|number| format!("c{number}")).collect();
        assert!(listed(&contexts).ends_with("c19 and 2 more"));
        assert_eq!(listed(&contexts[..2]), "c0, c1");
        assert_eq!(listed(&[]), "none");
    }
}
