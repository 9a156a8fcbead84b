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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::model::ConfigState;

    fn press(code: KeyCode, service: &Service) -> Option<Intent> {
        intent(KeyEvent::new(code, KeyModifiers::NONE), service)
    }

    fn configured(enabled: bool, delay_milliseconds: u64) -> Service {
        Service::Configured(ConfigState { enabled, delay_milliseconds, invalid_rate: None })
    }

    #[test]
    fn q_and_control_c_leave_and_c_alone_does_not() {
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(intent(control_c, &Service::Unseen), Some(Intent::Quit));
        assert_eq!(press(KeyCode::Char('Q'), &Service::Unseen), Some(Intent::Quit));
        assert_eq!(press(KeyCode::Char('c'), &Service::Unseen), None);
    }

    #[test]
    fn space_and_z_break_a_service_that_is_in_order() {
        let slow = Fault::Slow { milliseconds: DELAY_MILLISECONDS };
        assert_eq!(press(KeyCode::Char(' '), &configured(true, 0)), Some(Intent::Inject(Fault::Dead)));
        assert_eq!(press(KeyCode::Char('z'), &configured(true, 0)), Some(Intent::Inject(slow)));
    }

    #[test]
    fn without_a_configuration_there_is_nothing_to_break() {
        for service in [Service::Unseen, Service::Absent, Service::KeyAbsent, Service::Broken(String::new())] {
            assert_eq!(press(KeyCode::Char(' '), &service), None);
        }
    }
}
