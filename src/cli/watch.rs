//! `harness watch`: the demo's screen for any cluster.

use super::Failure;
use super::connection::Connection;
use super::interruption::interruption;
use crate::injection::ConfigKey;
use crate::samples::{CONFIG_KEY, CONFIG_NAME};
use crate::tui::model::{Cluster, Model, Scope};
use crate::tui::{chronicle, feed, screen};
use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// Arguments of `harness watch`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The namespace to watch; all namespaces if absent.
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
}

/// Shows the cluster until the person leaves: a screen, or lines where stdout is no terminal.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let interrupted = interruption()?;
    let client = arguments.connection.connect().await?;
    let cluster = arguments.connection.describe(&client).await?;
    let config = ConfigKey {
        namespace: arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()),
        name: CONFIG_NAME.to_owned(),
        key: CONFIG_KEY.to_owned(),
    };
    let scope = Scope { namespace: arguments.namespace, config, good_after: None };
    if io::stdout().is_terminal() {
        screen::show(client, cluster, scope, interrupted).await?;
    } else {
        print_changes(&client, cluster, scope, &interrupted).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each change, until interrupted or until nobody reads any more.
async fn print_changes(
    client: &Client,
    cluster: Cluster,
    scope: Scope,
    interrupted: &CancellationToken,
) -> Result<(), io::Error> {
    let mut events = std::pin::pin!(feed::events(client, &scope));
    let mut model = Model::new(cluster, scope, Timestamp::now());
    while let Some(Some(event)) = interrupted.run_until_cancelled(events.next()).await {
        let before = model.clone();
        model.apply(event);
        for line in chronicle::lines(&before, &model) {
            match writeln!(io::stdout(), "{} {line}", Timestamp::now().strftime("%FT%TZ")) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    Ok(())
}
