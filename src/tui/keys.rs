//! What a key means.

use super::model::Service;
use crate::service::chaos::Fault;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// How late Z makes the service, in milliseconds.
const DELAY_MILLISECONDS: u64 = 500;

/// What the person at the keys wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// Leave.
    Quit,
    /// Change the service's configuration.
    Inject(Fault),
}

/// What a key means while the service is in this state. SPACE and Z are switches: pressed while their own fault is
/// there, they heal.
pub fn intent(key: KeyEvent, service: &Service) -> Option<Intent> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Intent::Quit),
        KeyCode::Char('q' | 'Q') => Some(Intent::Quit),
        KeyCode::Char(' ') => toggled(service, |state| !state.enabled, Fault::Dead),
        KeyCode::Char('z' | 'Z') => {
            toggled(service, |state| state.delay_milliseconds > 0, Fault::Slow { milliseconds: DELAY_MILLISECONDS })
        }
        _ => None,
    }
}

fn toggled(service: &Service, present: fn(&super::model::ConfigState) -> bool, fault: Fault) -> Option<Intent> {
    match service {
        Service::Configured(state) if present(state) => Some(Intent::Inject(Fault::Heal)),
        Service::Configured(_) => Some(Intent::Inject(fault)),
        Service::Unseen | Service::Absent | Service::KeyAbsent | Service::Broken(_) => None,
    }
}
