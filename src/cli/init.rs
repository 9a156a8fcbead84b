//! `harness init`: installs the definitions and the samples into a cluster.

use super::Failure;
use super::connection::Connection;
use super::install::{
    Installed, Overwrite, ensure_config_map, ensure_namespace, install_definitions, install_invariants,
};
use super::policies::{Policies, install_policies};
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
    let namespace = arguments.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let mut lines = Vec::new();
    for name in install_definitions(&client).await? {
        lines.push(format!("customresourcedefinition/{name} installed"));
    }
    match install_policies(&client).await? {
        Policies::Installed(names) => lines.extend(names.into_iter().map(|name| format!("{name} installed"))),
        Policies::NotPossible(why) => lines.extend(unguarded(&why)),
    }
    if ensure_namespace(&client, &namespace).await? == Installed::Applied {
        lines.push(format!("namespace/{namespace} created"));
    }
    let config = ensure_config_map(&client, &namespace).await?;
    lines.push(format!("configmap/{CONFIG_NAME} {}", became(config)));
    for (name, outcome) in install_invariants(&client, &namespace, PORT, Overwrite::No).await? {
        lines.push(format!("invariant/{name} {}", became(outcome)));
    }
    lines.extend(next(&format!("{} --namespace {namespace}", arguments.connection.flags())));
    writeln!(std::io::stdout(), "{}", lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What the absence of the admission policies means.
fn unguarded(why: &str) -> [String; 3] {
    [
        format!("the admission policies are not installed: {why}"),
        "    so nobody verifies the names in approvals, and whoever may write invariants may grant anything;"
            .to_owned(),
        "    a cluster administrator installs them with `harness init`".to_owned(),
    ]
}

/// What to type next, with the flags that lead to the same place.
fn next(place: &str) -> [String; 10] {
    [
        String::new(),
        "What is next:".to_owned(),
        format!("  kubectl{place} get invariants"),
        "      what must hold".to_owned(),
        format!("  harness run{place} --with-service --allow-loopback --good-after 10s"),
        "      the operator, which checks and repairs, and the service that the samples are about".to_owned(),
        format!("  harness watch{place}"),
        "      the screen".to_owned(),
        format!("  harness chaos slow{place}"),
        "      something to repair".to_owned(),
    ]
}

fn became(outcome: Installed) -> &'static str {
    match outcome {
        Installed::Applied => "installed",
        Installed::LeftAsItWas => "is there already; left as it is",
    }
}
