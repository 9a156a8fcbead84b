//! The monitor's pane: three lines for each invariant.

use crate::crd::VerdictName;
use crate::tui::model::{InvariantRow, Model, SampleBar, State};
use crate::watch::ObjectKey;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

/// How many lines an invariant has.
pub(super) const ROWS_EACH: usize = 3;
/// The most samples that are shown.
const BARS_SHOWN: usize = 20;
/// A bar of full height stands for at least this, so that what is fast looks low. Milliseconds.
const FULL_BAR_MILLISECONDS: u32 = 50;

const BARS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

pub(super) fn lines(model: &Model, rows: usize) -> Vec<Line<'static>> {
    if model.invariants.is_empty() {
        return vec![Line::from(" no invariants").dim()];
    }
    let mut shown: Vec<(&ObjectKey, &InvariantRow)> = model.invariants.iter().collect();
    let room = if shown.len() * ROWS_EACH <= rows { shown.len() } else { rows.saturating_sub(1) / ROWS_EACH };
    let hidden = shown.len() - room;
    if hidden > 0 {
        // Where not all fit, the broken ones come first.
        shown.sort_by_key(|(_, row)| row.state != State::Violated);
    }
    let several_namespaces = model.scope.namespace.is_none();
    let mut lines: Vec<Line> =
        shown.iter().take(room).flat_map(|(key, row)| story(key, row, several_namespaces)).collect();
    if hidden > 0 {
        lines.push(Line::from(format!(" … and {hidden} more")).dim());
    }
    lines
}

fn story(key: &ObjectKey, row: &InvariantRow, with_namespace: bool) -> [Line<'static>; ROWS_EACH] {
    let (mark, colour) = match row.state {
        State::Holds => ("✔", Color::Green),
        State::Violated => ("✘", Color::Red),
        State::Unknown => ("?", Color::Yellow),
        State::Suspended => ("‖", Color::Yellow),
    };
    let name = if with_namespace { key.to_string() } else { key.name.clone() };
    let state = Line::from(vec![
        Span::styled(format!(" {mark} {:<9} ", row.state.word()), Style::new().fg(colour).bold()),
        Span::raw(name).bold(),
        Span::raw(format!("  {}", row.value)),
    ]);
    let mut latency = vec![Span::raw(format!("   wanted {}  ", row.condition)).dim()];
    latency.extend(bars(&row.samples));
    if let Some(milliseconds) = row.latency_milliseconds() {
        latency.push(Span::raw(format!(" {milliseconds} ms")).dim());
    }
    let mut consequence = vec![Span::raw("   ")];
    if let Some(ticket) = &row.ticket {
        consequence.push(Span::raw(format!("ticket {ticket}  ")).red());
    }
    if !row.message.is_empty() {
        consequence.push(Span::raw(row.message.clone()).yellow());
    }
    [state, Line::from(latency), Line::from(consequence)]
}

/// How long the answers took, each against the slowest one; a breach stands out by its colour.
fn bars(samples: &[SampleBar]) -> impl Iterator<Item = Span<'static>> {
    let shown = &samples[samples.len().saturating_sub(BARS_SHOWN)..];
    let slowest = shown.iter().map(|sample| sample.latency_milliseconds).max().unwrap_or(0).max(FULL_BAR_MILLISECONDS);
    shown.iter().map(move |sample| {
        let step = u64::from(sample.latency_milliseconds) * 7 / u64::from(slowest);
        let bar = usize::try_from(step).ok().and_then(|step| BARS.get(step)).copied().unwrap_or("█");
        let colour = match sample.verdict {
            VerdictName::Holds => Color::Green,
            VerdictName::Breached => Color::Red,
            VerdictName::Unknown => Color::Yellow,
        };
        Span::styled(bar, Style::new().fg(colour))
    })
}
