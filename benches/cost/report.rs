//! What was measured, in a table and a plot.

use crate::operator::{INTERVAL, Start, Steady};
use crate::process::Usage;
use std::fmt::Write;
use std::path::Path;

/// All that was measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) sizes: Vec<Size>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) false_tickets: usize,
    pub(crate) incidents: Option<Incidents>,
}

/// How many faults at once went, with the agent beside the monitor.
pub(crate) struct Incidents {
    /// From fault to ticket, beyond interval × threshold, in order. Milliseconds.
    pub(crate) beyond: Vec<f64>,
    /// What the agent used while everything held.
    pub(crate) idle: Usage,
    /// What the agent used from the first fault until all tickets were escalated.
    pub(crate) busy: Usage,
    /// Of the monitor and of the agent, at the end.
    pub(crate) resident_mebibytes: [f64; 2],
}

/// What so many invariants cost.
pub(crate) struct Size {
    pub(crate) invariants: usize,
    pub(crate) start: Start,
    pub(crate) steady: Steady,
}

/// Everybody measured once, one after the other.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) start: Start,
    pub(crate) steady: Steady,
    pub(crate) bare: f64,
    pub(crate) blackbox: Option<f64>,
    pub(crate) prometheus: Option<f64>,
}

impl Report {
    /// All of it, in Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write_sizes(&mut text);
        if !self.rounds.is_empty() {
            self.write_peers(&mut text);
            self.write_limits(&mut text);
        }
        text
    }

    fn write_sizes(&self, text: &mut String) {
        text.push_str("## What it costs, by the number of invariants\n\n");
        text.push_str("| invariants | checks/s | cores | µs a check | MiB resident | p99 late by at most | skipped | all checked after a restart | burst |\n");
        text.push_str("|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        for Size { invariants, start, steady } in &self.sizes {
            let _ = writeln!(
                text,
                "| {invariants} | {:.0} | {:.3} | {:.0} | {:.0} | {:.0} ms | {} | {:.1} s | {:.2} |",
                steady.checks / steady.usage.seconds,
                steady.usage.cores(),
                steady.cost(),
                steady.resident_mebibytes,
                steady.late_seconds[1] * 1000.0,
                steady.skipped,
                start.all_checked,
                start.burst,
            );
        }
    }

    fn write_peers(&self, text: &mut String) {
        let harness: Vec<f64> = self.rounds.iter().map(|round| round.steady.cost()).collect();
        let bare: Vec<f64> = self.rounds.iter().map(|round| round.bare).collect();
        let blackbox: Option<Vec<f64>> = self.rounds.iter().map(|round| round.blackbox).collect();
        let prometheus: Option<Vec<f64>> = self.rounds.iter().map(|round| round.prometheus).collect();
        let _ = write!(
            text,
            "\n## CPU time a check, beside others\n\nMedian of {} interleaved runs, with the least and the most.\n\n| | µs a check | harness ÷ this |\n|---|---:|---:|\n",
            self.rounds.len()
        );
        let mut row = |name: &str, costs: Option<&Vec<f64>>| {
            let _ = match costs {
                Some(costs) => {
                    writeln!(text, "| {name} | {} | {:.2} |", spread(costs), median(&harness) / median(costs))
                }
                None => writeln!(text, "| {name} | not found | |"),
            };
        };
        row("harness: everything included", Some(&harness));
        row("a bare loop over reqwest: the probe alone", Some(&bare));
        row("blackbox_exporter: the probe alone", blackbox.as_ref());
        row("Prometheus driving blackbox_exporter, with a rule", prometheus.as_ref());
    }

    fn write_limits(&self, text: &mut String) {
        let of = |value: fn(&Round) -> f64| self.rounds.iter().map(value).collect::<Vec<f64>>();
        let checks = of(|round| round.steady.checks / round.steady.usage.seconds);
        let _ = write!(
            text,
            "\n## The limits that it is held to\n\nWith 10000 invariants every {} s, {:.0} checks a second, over {} runs; the median, with the least and the most.\n\n| | limit | measured |\n|---|---:|---:|\n",
            INTERVAL.as_secs(),
            median(&checks),
            self.rounds.len(),
        );
        let mut row = |what: &str, limit: &str, measured: String| {
            let _ = writeln!(text, "| {what} | {limit} | {measured} |");
        };
        row("cores", "0.25", spread_by(&of(|round| round.steady.usage.cores()), 3));
        row("MiB resident", "80", spread(&of(|round| round.steady.resident_mebibytes)));
        row(
            "p99 of the lateness of starts, at most (ms)",
            "50",
            spread(&of(|round| round.steady.late_seconds[1] * 1e3)),
        );
        row("checks missed", "0", spread(&of(|round| round.steady.skipped)));
        row(
            "restart: from the first check until all were checked (s)",
            "5",
            spread_by(&of(|round| round.start.all_checked), 2),
        );
        row(
            "restart: from the start of the process to the first check (s)",
            "",
            spread_by(&of(|round| round.start.first_check), 2),
        );
        row("restart: starts in any 100 ms ÷ even share", "1.5", spread_by(&of(|round| round.start.burst), 2));
        row("tickets that should not be", "0", self.false_tickets.to_string());
        if let Some(Incidents { beyond, idle, busy, resident_mebibytes: [monitor, agent] }) = &self.incidents {
            let at = |share: usize| beyond[(beyond.len() - 1) * share / 100];
            row(
                &format!("fault to ticket beyond interval × threshold, p99 of {} (ms)", beyond.len()),
                "250",
                format!("{:.0} (median {:.0}, longest {:.0})", at(99), at(50), at(100)),
            );
            row("the agent beside it, while all holds (cores)", "", format!("{:.3}", idle.cores()));
            row(
                &format!("the agent, {} incidents from fault to Escalated (CPU s in s)", beyond.len()),
                "",
                format!("{:.1} in {:.0}", busy.cpu_seconds, busy.seconds),
            );
            row("after these incidents, monitor and agent (MiB resident)", "", format!("{monitor:.0} and {agent:.0}"));
        }
    }

    /// Writes the page and its plot.
    pub(crate) fn write(&self, directory: &Path) {
        let page = format!("{HEAD}{}\n{PLOT}", self.text());
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("benchmarks.md"), page).unwrap();
        crate::plot::write(&directory.join("benchmarks.svg"), &self.sizes);
    }
}

const HEAD: &str = "# Benchmarks

What it costs to watch, measured by `cargo bench --bench cost` on the machine that this page was written on: the released
`harness monitor` on the real API server, plain HTTP on loopback, a new connection for each check, the target in another
process. CPU time is user and system time of the process, from `/proc`. The machine is shared: what to read is the ratios
of one run. `cargo bench --bench decisions` has the parts that touch nothing.

Few invariants cost more each: wake-ups, and the refreshes of statuses, of which there are at most 20 a second, are shared
by fewer. Burst is the most starts within 100 ms as a multiple of the even share, which is 2 for 100 invariants.

";

const PLOT: &str = "## The curve\n\n![Cores and memory by the number of invariants](benchmarks.svg)\n";

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn spread(values: &[f64]) -> String {
    spread_by(values, 0)
}

/// The median, with the least and the most.
fn spread_by(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(values))
}
