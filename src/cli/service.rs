//! `harness service`: the demo's rate limiter.

use super::Failure;
use crate::service::config_file::{ConfigFile, Presence};
use crate::service::console::Console;
use crate::service::{Service, Settings};
use std::future::pending;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Arguments of `harness service`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The config file, read anew on each request; created with the default if there is none.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The port to listen on; 0 lets the system choose.
    #[arg(long, default_value_t = 8001)]
    port: u16,
    /// The address to listen on; 0.0.0.0 for all.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
}

/// Serves until interrupted.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { config, port, host } = arguments;
    // Before anything is said: whoever reads the first line may stop the service at once.
    let interruption = Interruption::listen()?;
    let service = Service::bind(Settings { config: config.clone(), address: SocketAddr::new(host, port) }).await?;
    let file = ConfigFile::new(config);
    match file.ensure() {
        Ok(Presence::Found) => {}
        Ok(Presence::Created) => say(&format!("created {} with the default config", file.path().display())),
        // Not the end: /health says what is missing, and the file may come later.
        Err(error) => eprintln!("harness: {error}"),
    }
    say(&format!("listening on http://{}, config {}", service.address(), file.path().display()));
    let console = Console::open(file)?;
    let keys = async {
        match console {
            Some(console) => console.run().await,
            None => pending().await,
        }
    };
    let shutdown = async {
        tokio::select! {
            () = interruption.wait() => {}
            () = keys => {}
        }
    };
    service.serve(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C or SIGTERM.
struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn say(line: &str) {
    // A reader that is gone is no reason to stop.
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
