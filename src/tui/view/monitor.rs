//! The monitor's pane: two lines for each invariant.

use crate::crd::VerdictName;
use crate::tui::model::{InvariantRow, Model, SampleBar, State};
use crate::watch::ObjectKey;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

/// How many lines an invariant has.
pub(super) const ROWS_EACH: usize = 2;

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
    let mut lines: Vec<Line> = shown.iter().take(room).flat_map(|(key, row)| both(key, row, several_namespaces)).collect();
    if hidden > 0 {
        lines.push(Line::from(format!(" … and {hidden} more")).dim());
    }
    lines
}

fn both(key: &ObjectKey, row: &InvariantRow, with_namespace: bool) -> [Line<'static>; ROWS_EACH] {
    let (mark, colour) = match row.state {
        State::Holds => ("✔", Color::Green),
        State::Violated => ("✘", Color::Red),
        State::Unknown => ("?", Color::Yellow),
        State::Suspended => ("‖", Color::Yellow),
    };
    let name = if with_namespace { key.to_string() } else { key.name.clone() };
    let first = Line::from(vec![
        Span::styled(format!(" {mark} {:<9} ", row.state.word()), Style::new().fg(colour).bold()),
        Span::raw(name).bold(),
        Span::raw(format!("  {}", row.value)),
        Span::raw(format!("  wanted {}", row.condition)).dim(),
    ]);
    let mut second = vec![Span::raw("   ")];
    second.extend(bars(&row.samples));
    if let Some(milliseconds) = row.latency_milliseconds() {
        second.push(Span::raw(format!(" {milliseconds} ms")).dim());
    }
    if let Some(ticket) = &row.ticket {
        second.push(Span::raw(format!("  ticket {ticket}")).fg(Color::Red));
    }
    if !row.message.is_empty() {
        second.push(Span::raw(format!("  {}", row.message)).fg(Color::Yellow));
    }
    [first, Line::from(second)]
}

/// How long the answers took, each against the slowest one; a breach stands out by its colour.
fn bars(samples: &[SampleBar]) -> impl Iterator<Item = Span<'static>> {
    let slowest = samples.iter().map(|sample| sample.latency_milliseconds).max().unwrap_or(0).max(1);
    samples.iter().map(move |sample| {
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
