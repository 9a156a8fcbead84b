//! The agent's pane: what was done about each ticket, the newest at the bottom.

use crate::crd::Phase;
use crate::tui::model::{Incident, Model, PhaseChange, StepLine};
use crate::tui::text::between;
use jiff::Timestamp;
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};

/// The last `rows` lines of the story.
pub(super) fn lines(model: &Model, rows: usize) -> Vec<Line<'static>> {
    if model.incidents.is_empty() {
        return vec![Line::from(" no tickets: nothing to do").dim()];
    }
    // From the newest incident backwards, as far as there is room.
    let mut chapters: Vec<Vec<Line>> = Vec::new();
    let mut filled = 0;
    for incident in model.incidents.iter().rev() {
        let mut chapter = story(incident, model.now);
        if !chapters.is_empty() {
            chapter.push(Line::default());
        }
        filled += chapter.len();
        chapters.push(chapter);
        if filled >= rows {
            break;
        }
    }
    chapters.into_iter().rev().flatten().skip(filled.saturating_sub(rows)).collect()
}

fn story(incident: &Incident, now: Timestamp) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(vec![
        Span::raw(format!(" {}", incident.key.name)).bold(),
        Span::raw(format!("  {}", incident.title)),
    ])];
    let passed = incident.phases.split_last().map_or(&[][..], |(_, passed)| passed);
    let mut passed = passed.iter().peekable();
    for step in &incident.steps {
        while let Some(change) = passed.next_if(|change| change.after_steps < step.number) {
            lines.push(phase(change));
        }
        lines.extend(step_lines(step));
    }
    lines.extend(passed.map(phase));
    lines.extend(incident.root_cause.as_ref().map(|cause| Line::from(format!("   cause: {cause}")).yellow()));
    lines.extend(verdict(incident, now));
    lines
}

fn phase(change: &PhaseChange) -> Line<'static> {
    let because = if change.reason.is_empty() { String::new() } else { format!(" ({})", change.reason) };
    Line::from(format!("   ▸ {:?}{because}", change.phase)).magenta()
}

fn step_lines(step: &StepLine) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::from(vec![Span::raw(format!(" [{}]", step.number)).cyan(), Span::raw(format!(" # {}", step.summary))]),
        Line::from(format!("    › {}", step.call)).cyan(),
    ];
    if !step.outcome.is_empty() {
        lines.push(Line::from(format!("      {}", step.outcome)).dim());
    }
    lines
}

fn verdict(incident: &Incident, now: Timestamp) -> Vec<Line<'static>> {
    let verdict = incident.verdict();
    match incident.phase {
        Phase::Resolved => vec![Line::from(format!(" ✔ {verdict}")).green().bold()],
        Phase::Cancelled => vec![Line::from(format!(" ✘ {verdict}")).yellow()],
        Phase::Escalated => vec![
            Line::from(format!(" ! {verdict}: a person is needed")).red().bold(),
            Line::from(format!("   {}", incident.message)).red(),
        ],
        Phase::AwaitingApproval => vec![
            Line::from(format!(" ! {verdict}: waiting for a person's word")).yellow().bold(),
            Line::from(format!("   {}", incident.message)).yellow(),
        ],
        Phase::Open | Phase::Diagnosing | Phase::Repairing | Phase::Verifying | Phase::RollingBack => {
            let open_for = between(incident.opened_at, now);
            vec![Line::from(format!("   ▸ {verdict}, open for {open_for}")).magenta()]
        }
    }
}
