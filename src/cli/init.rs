//! `harness init`: installs the definitions and the samples into a cluster.

use super::Failure;
use super::connection::Connection;
use super::install::{
    Installed, Overwrite, ensure_config_map, ensure_namespace, install_definitions, install_invariants,
};
use crate::samples::{CONFIG_NAME, PORT};
use std::io::Write;
use std::process::ExitCode;

/// Arguments of `harness init`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The namespace of the samples; the context's own if absent.
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
}

/// Installs, and says what it did and what to type next. Safe to repeat: what people changed stays as it is.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let client = arguments.connection.connect().await?;
    let cluster = arguments.connection.describe(&client).await?;
    let namespace = arguments.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let mut lines = Vec::new();
    for name in install_definitions(&client).await? {
        lines.push(format!("customresourcedefinition/{name} installed"));
    }
    if ensure_namespace(&client, &namespace).await? == Installed::Applied {
        lines.push(format!("namespace/{namespace} created"));
    }
    let config = ensure_config_map(&client, &namespace).await?;
    lines.push(format!("configmap/{CONFIG_NAME} {}", became(config)));
    for (name, outcome) in install_invariants(&client, &namespace, PORT, Overwrite::No).await? {
        lines.push(format!("invariant/{name} {}", became(outcome)));
    }
    let kubectl = cluster.kubectl;
    lines.push(String::new());
    lines.push("What is next:".to_owned());
    lines.push(format!("  {kubectl} --namespace {namespace} get invariants   what must hold"));
    lines.push("  harness service --config config.json   the service that the samples are about".to_owned());
    lines.push("  harness run                            the operator, which checks and repairs".to_owned());
    lines.push("  harness watch                          the screen".to_owned());
    writeln!(std::io::stdout(), "{}", lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn became(outcome: Installed) -> &'static str {
    match outcome {
        Installed::Applied => "installed",
        Installed::LeftAsItWas => "is there already; left as it is",
    }
}
