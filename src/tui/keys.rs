//! What a key means.

use super::model::{ConfigState, Service};
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
    Inject {
        /// By these faults, in this order.
        faults: Vec<Fault>,
        /// What that comes to, for people.
        meaning: &'static str,
    },
}

/// What a key means while the service is in this state. SPACE and Z are switches: pressed while their own fault is
/// there, they take it back, and leave the others.
pub fn intent(key: KeyEvent, service: &Service) -> Option<Intent> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let state = match service {
        Service::Configured(state) => Some(state),
        Service::Unseen | Service::Absent | Service::KeyAbsent | Service::Broken(_) => None,
    };
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Intent::Quit),
        KeyCode::Char('q' | 'Q') => Some(Intent::Quit),
        KeyCode::Char(' ') => Some(play_dead(state?)),
        KeyCode::Char('z' | 'Z') => Some(delay(state?)),
        _ => None,
    }
}

fn play_dead(state: &ConfigState) -> Intent {
    if state.enabled {
        return Intent::Inject { faults: vec![Fault::Dead], meaning: "the service plays dead" };
    }
    let rest = [slow(state), forbidden(state)];
    Intent::Inject { faults: healed_but_for(rest), meaning: "the service no longer plays dead" }
}

fn delay(state: &ConfigState) -> Intent {
    if state.delay_milliseconds == 0 {
        let faults = vec![Fault::Slow { milliseconds: DELAY_MILLISECONDS }];
        return Intent::Inject { faults, meaning: "the service is made slow" };
    }
    let rest = [(!state.enabled).then_some(Fault::Dead), forbidden(state)];
    Intent::Inject { faults: healed_but_for(rest), meaning: "the service is no longer slow" }
}

fn slow(state: &ConfigState) -> Option<Fault> {
    let milliseconds = state.delay_milliseconds;
    (milliseconds > 0).then_some(Fault::Slow { milliseconds })
}

fn forbidden(state: &ConfigState) -> Option<Fault> {
    state.invalid_rate.as_ref().map(|_| Fault::Forbidden)
}

fn healed_but_for(rest: [Option<Fault>; 2]) -> Vec<Fault> {
    [Some(Fault::Heal)].into_iter().chain(rest).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn faults(code: KeyCode, service: &Service) -> Vec<Fault> {
        let Some(Intent::Inject { faults, .. }) = press(code, service) else { panic!("a change") };
        faults
    }

    #[test]
    fn space_and_z_break_a_service_that_is_in_order() {
        let slow = Fault::Slow { milliseconds: DELAY_MILLISECONDS };
        assert_eq!(faults(KeyCode::Char(' '), &configured(true, 0)), [Fault::Dead]);
        assert_eq!(faults(KeyCode::Char('z'), &configured(true, 0)), [slow]);
    }

    #[test]
    fn each_switch_takes_back_its_own_fault_only() {
        let both = configured(false, 700);
        assert_eq!(faults(KeyCode::Char(' '), &both), [Fault::Heal, Fault::Slow { milliseconds: 700 }]);
        assert_eq!(faults(KeyCode::Char('z'), &both), [Fault::Heal, Fault::Dead]);
        assert_eq!(faults(KeyCode::Char('z'), &configured(true, 700)), [Fault::Heal]);
    }

    #[test]
    fn without_a_configuration_there_is_nothing_to_break() {
        for service in [Service::Unseen, Service::Absent, Service::KeyAbsent, Service::Broken(String::new())] {
            assert_eq!(press(KeyCode::Char(' '), &service), None);
        }
    }
}
