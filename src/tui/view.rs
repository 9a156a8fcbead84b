//! The model, drawn. Pure: the same model and size give the same picture. What a colour means is also said in words.

mod agent;
mod monitor;
mod service;

use super::model::{Cluster, Model, Scope, Service};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

/// From this width on, the service and the monitor stand side by side.
const WIDE_COLUMNS: u16 = 76;
/// The least and the greatest width of the service's pane beside the monitor's.
const SERVICE_COLUMNS: (u16, u16) = (32, 42);

/// Draws the screen.
pub fn draw(model: &Model, frame: &mut Frame) {
    let [header, body, footer] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(2)]).areas(frame.area());
    lines(frame, header, vec![heading(&model.cluster, &model.scope)]);
    let [service, monitor, agent] = panes(model, body);
    pane(frame, service, "SERVICE", service::lines(model));
    let rows = usize::from(monitor.height.saturating_sub(2));
    pane(frame, monitor, "MONITOR", monitor::lines(model, rows));
    let rows = usize::from(agent.height.saturating_sub(2));
    pane(frame, agent, "AGENT", agent::lines(model, rows));
    lines(frame, footer, footing(model));
}

fn panes(model: &Model, body: Rect) -> [Rect; 3] {
    let rows = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(2);
    let service_rows = rows(service::ROWS);
    let monitor_rows = rows(monitor::ROWS_EACH * model.invariants.len().max(1)).min(body.height / 2);
    if body.width >= WIDE_COLUMNS {
        let top = service_rows.max(monitor_rows).min(body.height / 2);
        let [top, agent] = Layout::vertical([Constraint::Length(top), Constraint::Fill(1)]).areas(body);
        let service_columns = (body.width * 2 / 5).clamp(SERVICE_COLUMNS.0, SERVICE_COLUMNS.1);
        let [service, monitor] =
            Layout::horizontal([Constraint::Length(service_columns), Constraint::Fill(1)]).areas(top);
        [service, monitor, agent]
    } else {
        let service_rows = service_rows.min(body.height / 3);
        let monitor_rows = monitor_rows.min(body.height / 3);
        Layout::vertical([Constraint::Length(service_rows), Constraint::Length(monitor_rows), Constraint::Fill(1)])
            .areas(body)
    }
}

fn heading(cluster: &Cluster, scope: &Scope) -> Line<'static> {
    let namespace = scope.namespace.as_deref().unwrap_or("all");
    Line::from(vec![
        " harness ".bold().reversed(),
        format!("  Kubernetes {}  ·  context {}  ·  namespace {namespace}", cluster.version, cluster.context).into(),
    ])
}

fn footing(model: &Model) -> Vec<Line<'static>> {
    let answer = match (model.interrupted.iter().next(), &model.notice) {
        (Some((source, reason)), _) => {
            format!("! watch of {source:?} interrupted, this may be out of date: {reason}").red()
        }
        (None, Some(notice)) => notice.text.clone().yellow(),
        (None, None) => Span::raw(""),
    };
    let chaos = match &model.service {
        Service::Configured(_) => &[("SPACE", "play dead"), ("Z", "delay 500 ms")][..],
        Service::Unseen | Service::Absent | Service::KeyAbsent | Service::Broken(_) => &[],
    };
    let mut keys = vec![Span::raw(" ")];
    for (key, meaning) in chaos.iter().chain(&[("Q", "quit")]) {
        keys.push(key.bold());
        keys.push(Span::raw(format!(" {meaning}  ")));
    }
    keys.push(answer);
    let namespace = match model.scope.namespace.as_deref() {
        None => " --all-namespaces".to_owned(),
        Some("default") => String::new(),
        Some(namespace) => format!(" --namespace {namespace}"),
    };
    vec![Line::from(keys), Line::from(format!(" {}{namespace} get tickets -w", model.cluster.kubectl)).dim()]
}

fn pane(frame: &mut Frame, area: Rect, title: &'static str, content: Vec<Line<'static>>) {
    let block = Block::bordered().title(format!(" {title} ").bold());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    lines(frame, inside, content);
}

fn lines(frame: &mut Frame, area: Rect, content: Vec<Line<'static>>) {
    let fitted: Vec<Line> = content.into_iter().map(|line| fitted(line, usize::from(area.width))).collect();
    frame.render_widget(Paragraph::new(fitted), area);
}

/// A line that does not fit ends in `…`.
fn fitted(line: Line<'static>, columns: usize) -> Line<'static> {
    if line.width() <= columns {
        return line;
    }
    let mut left = columns.saturating_sub(1);
    let mut kept = Line { spans: Vec::new(), ..line };
    for span in line.spans {
        let width = span.width();
        if width <= left {
            left -= width;
            kept.spans.push(span);
            continue;
        }
        let mut content = span.content.into_owned();
        while Span::raw(content.as_str()).width() > left {
            content.pop();
        }
        content.push('…');
        kept.spans.push(Span::styled(content, span.style));
        break;
    }
    kept
}

#[cfg(test)]
mod tests;
