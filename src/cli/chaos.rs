//! `harness chaos`: breaks the demo's service, or heals it.

use super::Failure;
use super::connection::Connection;
use crate::injection::{ConfigKey, FIELD_MANAGER, inject};
use crate::samples::{CONFIG_KEY, CONFIG_NAME};
use crate::service::chaos::Fault;
use std::io::Write;
use std::process::ExitCode;

/// Arguments of `harness chaos`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do to the service's configuration.
    #[arg(value_enum)]
    fault: FaultName,
    #[command(flatten)]
    connection: Connection,
    /// The namespace of the ConfigMap; the context's own if absent.
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// The ConfigMap.
    #[arg(long, default_value = CONFIG_NAME)]
    name: String,
    /// The key of the configuration in it.
    #[arg(long, default_value = CONFIG_KEY)]
    key: String,
}

/// The faults by name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FaultName {
    /// Answer 500 ms later than now.
    Slow,
    /// Answer that the service is not healthy.
    Dead,
    /// Set an impossible rate: a value that the sample invariants do not let a repair touch.
    Forbidden,
    /// Take all of these back.
    Heal,
}

impl FaultName {
    fn fault(self) -> Fault {
        match self {
            Self::Slow => Fault::Slow { milliseconds: 500 },
            Self::Dead => Fault::Dead,
            Self::Forbidden => Fault::Forbidden,
            Self::Heal => Fault::Heal,
        }
    }
}

/// Writes the fault and says where.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let client = arguments.connection.connect().await?;
    let namespace = arguments.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let target = ConfigKey { namespace, name: arguments.name, key: arguments.key };
    inject(&client, &target, &[arguments.fault.fault()]).await?;
    let fault = format!("{:?}", arguments.fault).to_lowercase();
    writeln!(std::io::stdout(), "{fault} is written into ConfigMap {target} as {FIELD_MANAGER}")?;
    Ok(ExitCode::SUCCESS)
}
