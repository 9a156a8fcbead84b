//! Installs what the harness needs in a cluster: the definitions, a namespace, the samples.
//!
//! Touches the world: writes to the API server, as field manager `harness-installer`.

use crate::crd::{Invariant, definitions};
use crate::samples;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The field manager of everything that is installed.
pub const FIELD_MANAGER: &str = "harness-installer";

/// How long the API server may take to serve a new definition.
const ESTABLISH_DEADLINE: Duration = Duration::from_secs(30);
/// The pause between two looks at whether a new resource is served.
const SERVED_PAUSE: Duration = Duration::from_millis(50);

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A definition could not be written.
    #[error("could not install the definition {name}: {source}; installing definitions needs a cluster administrator")]
    ApplyDefinition {
        /// The definition.
        name: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// The API server does not serve a definition.
    #[error("the API server did not serve {name} within {} s; `kubectl describe crd {name}` says why", ESTABLISH_DEADLINE.as_secs())]
    Establish {
        /// The definition.
        name: String,
    },
    /// An admission policy could not be written.
    #[error("could not install the admission policy {name}: {source}")]
    ApplyPolicy {
        /// The policy, or its binding.
        name: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// The namespace could not be made.
    #[error("could not create the namespace {name}: {source}")]
    CreateNamespace {
        /// The namespace.
        name: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// An object could not be written.
    #[error("could not install {kind} {namespace}/{name}: {source}")]
    Apply {
        /// The object's kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// A sample cannot be read.
    #[error("a sample of the harness itself cannot be read: {0}")]
    ReadSample(#[from] serde_yaml::Error),
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It is there as wanted.
    Applied,
    /// It was there, and is as it was.
    LeftAsItWas,
}

/// Whether others' values are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// They are.
    Yes,
    /// Whoever changed a value keeps it.
    No,
}

/// Installs the definitions, and waits until the API server serves them. The names of what was installed.
pub async fn install_definitions(client: &Client) -> Result<Vec<String>, InstallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut names = Vec::new();
    for definition in definitions() {
        let name = definition.name_any();
        // Nobody else owns these: a field that somebody else has set would only be in the way.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &parameters, &Patch::Apply(&definition))
            .await
            .map_err(|source| InstallError::ApplyDefinition { name: name.clone(), source: Box::new(source) })?;
        names.push(name);
    }
    for name in &names {
        let established = await_condition(api.clone(), name, conditions::is_crd_established());
        match timeout(ESTABLISH_DEADLINE, established).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(InstallError::Establish { name: name.clone() }),
        }
    }
    served(client).await?;
    Ok(names)
}

/// Waits until invariants can be listed: the API server says Established a moment before it serves.
async fn served(client: &Client) -> Result<(), InstallError> {
    let api: Api<Invariant> = Api::all(client.clone());
    let deadline = Instant::now() + ESTABLISH_DEADLINE;
    while let Err(error) = api.list(&ListParams::default().limit(1)).await {
        let absent = matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 503));
        if !absent || Instant::now() > deadline {
            return Err(InstallError::Establish { name: "invariants.harness.dev".to_owned() });
        }
        sleep(SERVED_PAUSE).await;
    }
    Ok(())
}

/// Creates the namespace unless it is there.
pub async fn ensure_namespace(client: &Client, name: &str) -> Result<Installed, InstallError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    created(api.create(&parameters(), &namespace).await)
        .map_err(|source| InstallError::CreateNamespace { name: name.to_owned(), source })
}

/// Creates the ConfigMap of the demo's service unless it is there.
pub async fn ensure_config_map(client: &Client, namespace: &str) -> Result<Installed, InstallError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    created(api.create(&parameters(), &samples::config_map()?).await).map_err(|source| InstallError::Apply {
        kind: "ConfigMap",
        namespace: namespace.to_owned(),
        name: samples::CONFIG_NAME.to_owned(),
        source,
    })
}

/// Installs the sample invariants for a service at this port of localhost: each one's name, and what became of it.
pub async fn install_invariants(
    client: &Client,
    namespace: &str,
    port: u16,
    overwrite: Overwrite,
) -> Result<Vec<(String, Installed)>, InstallError> {
    let mut installed = Vec::new();
    for invariant in samples::invariants(port)? {
        let name = invariant["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let outcome = install_invariant(client, namespace, &name, &invariant, overwrite).await?;
        installed.push((name, outcome));
    }
    Ok(installed)
}

async fn install_invariant(
    client: &Client,
    namespace: &str,
    name: &str,
    invariant: &Value,
    overwrite: Overwrite,
) -> Result<Installed, InstallError> {
    let api: Api<Invariant> = Api::namespaced(client.clone(), namespace);
    let apply = PatchParams::apply(FIELD_MANAGER);
    let parameters = if overwrite == Overwrite::Yes { apply.force() } else { apply };
    match api.patch(name, &parameters, &Patch::Apply(invariant)).await {
        Ok(_) => Ok(Installed::Applied),
        // Somebody else changed a value that the sample sets.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Installed::LeftAsItWas),
        Err(source) => Err(InstallError::Apply {
            kind: "Invariant",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        }),
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn created<K>(result: Result<K, kube::Error>) -> Result<Installed, Box<kube::Error>> {
    match result {
        Ok(_) => Ok(Installed::Applied),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Installed::LeftAsItWas),
        Err(source) => Err(Box::new(source)),
    }
}
