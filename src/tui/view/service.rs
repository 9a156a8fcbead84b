//! The service's pane: its configuration, and whether there is a good one to return to.

use crate::tui::model::{Baseline, Model, Service};
use ratatui::style::Stylize;
use ratatui::text::Line;

/// How many lines the pane has at most.
pub(super) const ROWS: usize = 5;

pub(super) fn lines(model: &Model) -> Vec<Line<'static>> {
    let config = &model.scope.config;
    let mut lines = vec![Line::from(format!(" {}/{}", config.name, config.key)).dim(), state(&model.service)];
    if let Service::Configured(config) = &model.service {
        lines.push(Line::from(format!(" enabled   {}", config.enabled)));
        lines.push(Line::from(format!(" delay_ms  {}", config.delay_milliseconds)));
    }
    lines.extend(baseline(model.baseline));
    lines
}

fn state(service: &Service) -> Line<'static> {
    let summary = service.summary();
    match service {
        Service::Configured(config) if config.is_healthy() => Line::from(format!(" ● {summary}")).green(),
        Service::Configured(_) | Service::Broken(_) => Line::from(format!(" ✘ {summary}")).red(),
        Service::Unseen | Service::Absent | Service::KeyAbsent => Line::from(format!(" ○ {summary}")).yellow(),
    }
}

fn baseline(baseline: Baseline) -> Option<Line<'static>> {
    match baseline {
        Baseline::NotShown => None,
        Baseline::Learning { held, needed } => {
            Some(Line::from(format!(" learning baseline: {} of {} s", held.as_secs(), needed.as_secs())).yellow())
        }
        Baseline::Learned => Some(Line::from(" baseline learned").green()),
    }
}
