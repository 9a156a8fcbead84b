//! `harness demo`: the whole loop on this machine.

pub mod environment;
pub mod report;
pub mod script;
pub mod situation;

use super::Failure;
use super::connection::Connection;
use super::interruption::interruption;
use super::planning;
use crate::samples::PORT;
use crate::tui::model::Scope;
use crate::tui::screen;
use environment::{Environment, EnvironmentSettings, config_key};
use jiff::SignedDuration;
use report::Report;
use script::{Deadlines, Player, ScriptError, scenes};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How a process says that it was interrupted.
const INTERRUPTED: u8 = 130;
/// How often the screen's values are refreshed.
const SCREEN_REFRESH: Duration = Duration::from_secs(1);

/// Arguments of `harness demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    planning: planning::PlanningArguments,
    /// The namespace of the demo.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// The port of the demo's service on this machine.
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Play a script of three faults and exit 0 if each ended as it must; so it is wherever stdout is no terminal.
    #[arg(long)]
    auto: bool,
    /// How to report the script's results; json implies --auto.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Stay up after the script until interrupted.
    #[arg(long)]
    hold: bool,
}

/// How results are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Lines for people.
    Text,
    /// One JSON document on stdout, all else on stderr.
    Json,
}

/// Runs the demo to its end, or until interrupted.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let interrupted = interruption()?;
    let scripted = arguments.auto || arguments.output == Output::Json || !std::io::stdout().is_terminal();
    let settings = EnvironmentSettings {
        connection: arguments.connection,
        namespace: arguments.namespace,
        port: arguments.port,
        planning: arguments.planning.planning()?,
        status_refresh: (!scripted).then_some(SCREEN_REFRESH),
    };
    let started = Instant::now();
    let mut environment = tokio::select! {
        environment = Environment::start(&settings) => environment?,
        () = interrupted.cancelled() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let result = if scripted {
        let narrator = Narrator { output: arguments.output, started };
        perform(&mut environment, &settings.namespace, &narrator, arguments.hold, &interrupted).await
    } else {
        show(&mut environment, &settings.namespace, &interrupted).await
    };
    environment.stop().await;
    result
}

async fn show(
    environment: &mut Environment,
    namespace: &str,
    interrupted: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let scope = Scope {
        namespace: Some(namespace.to_owned()),
        config: config_key(namespace),
        good_after: environment.good_after.and_then(|it| SignedDuration::try_from(it).ok()),
    };
    let (client, cluster) = (environment.client.clone(), environment.cluster.clone());
    tokio::select! {
        shown = screen::show(client, cluster, scope, interrupted.clone()) => shown?,
        failure = environment.failed() => return Err(failure),
    }
    Ok(if interrupted.is_cancelled() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

async fn perform(
    environment: &mut Environment,
    namespace: &str,
    narrator: &Narrator,
    hold: bool,
    interrupted: &CancellationToken,
) -> Result<ExitCode, Failure> {
    narrator.tell(&format!("Kubernetes {} is up; watch along:", environment.cluster.version));
    narrator.tell(&format!("  {} get tickets -w", environment.cluster.kubectl));
    let tell = |line: &str| narrator.tell(line);
    let (client, cluster) = (environment.client.clone(), environment.cluster.clone());
    let deadlines = environment.good_after.map_or_else(Deadlines::patient, |_| Deadlines::default());
    let mut player = Player::new(client, cluster, config_key(namespace), deadlines, &tell);
    let mut report = Report {
        kubernetes: environment.cluster.version.clone(),
        kubeconfig: environment.kubeconfig.clone(),
        incidents: Vec::new(),
    };
    let outcome = tokio::select! {
        outcome = play(&mut player, &mut report) => outcome,
        failure = environment.failed() => return Err(failure),
        () = interrupted.cancelled() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    narrator.conclude(&report)?;
    if hold && outcome.is_ok() {
        narrator.tell("holding: Ctrl-C stops everything");
        tokio::select! {
            failure = player.follow() => return Err(failure.into()),
            failure = environment.failed() => return Err(failure),
            () = interrupted.cancelled() => {}
        }
    }
    outcome?;
    Ok(if report.is_success(scenes().len()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play(player: &mut Player<'_>, report: &mut Report) -> Result<(), ScriptError> {
    for scene in &scenes() {
        player.settle().await?;
        report.incidents.push(player.play(scene).await?);
    }
    Ok(())
}

/// Says what happens, with the seconds since the start.
struct Narrator {
    output: Output,
    started: Instant,
}

impl Narrator {
    fn tell(&self, line: &str) {
        let line = format!("[{:6.1} s] {line}\n", self.started.elapsed().as_secs_f64());
        // A line that nobody can read any more is no reason to stop in the middle of an incident.
        let _ = match self.output {
            Output::Text => std::io::stdout().write_all(line.as_bytes()),
            Output::Json => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn conclude(&self, report: &Report) -> Result<(), Failure> {
        match self.output {
            Output::Text => self.tell(&format!("timeline\n{}", report.timeline())),
            Output::Json => writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(report)?)?,
        }
        Ok(())
    }
}
