//! The service on a terminal: keys that break and heal it, and a line for each change of its state.
//!
//! SPACE plays dead, Z answers later, Q quits. The keys do nothing but edit the config file, as anybody could.

use super::chaos::{self, ChaosError, Fault};
use super::config_file::{ConfigFile, ConfigFileError, Orders, Unready};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// By how much Z delays `/health`, in milliseconds.
const SLOWER_MILLISECONDS: u64 = 500;
/// How often the config file is looked at for changes that others made.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the thread that waits for keys looks whether anybody still wants them.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// What the keys do, for the person who sees the first line.
const LEGEND: &str = "SPACE plays dead, Z answers 500 ms later, Q quits";

/// A terminal in raw mode, which is given back as it was when this is dropped.
#[derive(Debug)]
pub struct Console {
    keys: mpsc::Receiver<Key>,
    config: ConfigFile,
    slowness: Slowness,
    _raw_mode: RawMode,
}

/// The keys that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Toggle(Toggle),
    Quit,
}

/// What a key turns on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toggle {
    Dead,
    Slow,
}

/// What Z remembers, so that the second time takes back what the first time added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slowness {
    Untouched,
    Added { to_milliseconds: u64 },
}

/// Why a key had no effect.
#[derive(Debug, thiserror::Error)]
enum ToggleError {
    #[error(transparent)]
    File(#[from] ConfigFileError),
    #[error(transparent)]
    Text(#[from] ChaosError),
    #[error("the config file is not UTF-8 text")]
    Decode,
}

#[derive(Debug)]
struct RawMode;

impl Console {
    /// Takes over the terminal if a person is there: if standard input and output both are terminals.
    pub fn open(config: ConfigFile) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        enable_raw_mode()?;
        let raw_mode = RawMode;
        let (sender, keys) = mpsc::channel(16);
        // A thread of its own: a read from a terminal cannot be cancelled, and must not hold back the runtime's end.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || send_keys(&sender))?;
        Ok(Some(Self { keys, config, slowness: Slowness::Untouched, _raw_mode: raw_mode }))
    }

    /// Obeys the keys and prints what changes, until Q or Ctrl-C.
    pub async fn run(mut self) {
        say(LEGEND);
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        let mut keys_left = true;
        loop {
            tokio::select! {
                key = self.keys.recv(), if keys_left => match key {
                    Some(Key::Quit) => return,
                    Some(Key::Toggle(toggle)) => self.toggle(toggle),
                    None => keys_left = false,
                },
                _ = looks.tick() => {
                    let state = Some(state(&self.config.orders().await));
                    if state != seen {
                        say(state.as_deref().unwrap_or_default());
                        seen = state;
                    }
                }
            }
        }
    }

    fn toggle(&mut self, toggle: Toggle) {
        match self.write(toggle) {
            Ok(done) => say(&done),
            Err(error) => say(&format!("the key had no effect: {error}")),
        }
    }

    fn write(&mut self, toggle: Toggle) -> Result<String, ToggleError> {
        let text = String::from_utf8(self.config.read()?).map_err(|_| ToggleError::Decode)?;
        let Toggled { text, slowness, done } = toggled(toggle, &text, self.slowness)?;
        self.config.replace(&text)?;
        self.slowness = slowness;
        Ok(done)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = disable_raw_mode();
    }
}

/// What a key makes of the config.
#[derive(Debug, PartialEq, Eq)]
struct Toggled {
    text: String,
    slowness: Slowness,
    done: String,
}

fn toggled(toggle: Toggle, text: &str, slowness: Slowness) -> Result<Toggled, ChaosError> {
    let delay = chaos::delay_milliseconds(text)?;
    let toggled = match (toggle, slowness) {
        (Toggle::Dead, _) if chaos::is_dead(text)? => {
            let text = chaos::with_enabled(text, true)?;
            Toggled { text, slowness, done: "SPACE: enabled again".to_owned() }
        }
        (Toggle::Dead, _) => {
            let text = chaos::apply(text, &Fault::Dead)?;
            Toggled { text, slowness, done: "SPACE: plays dead".to_owned() }
        }
        // Somebody may have repaired the delay in the meantime: then there is nothing to take back.
        (Toggle::Slow, Slowness::Added { to_milliseconds })
            if delay == to_milliseconds.checked_add(SLOWER_MILLISECONDS) =>
        {
            let text = chaos::with_delay(text, to_milliseconds)?;
            let done = format!("Z: delay back to {to_milliseconds} ms");
            Toggled { text, slowness: Slowness::Untouched, done }
        }
        (Toggle::Slow, _) => {
            let text = chaos::apply(text, &Fault::Slow { milliseconds: SLOWER_MILLISECONDS })?;
            let slowness = Slowness::Added { to_milliseconds: delay.unwrap_or_default() };
            Toggled { text, slowness, done: format!("Z: slower by {SLOWER_MILLISECONDS} ms") }
        }
    };
    Ok(toggled)
}

fn state(orders: &Result<Orders, Unready>) -> String {
    match orders {
        Ok(Orders { delay, .. }) if delay.is_zero() => "health: ok".to_owned(),
        Ok(Orders { delay, .. }) => format!("health: ok, {} ms late", delay.as_millis()),
        Err(unready) => format!("health: unhealthy, {unready}"),
    }
}

fn say(line: &str) {
    // In raw mode a line feed does not return to the first column. A reader that is gone is no reason to stop.
    let mut output = io::stdout().lock();
    let _ = write!(output, "{line}\r\n").and_then(|()| output.flush());
}

/// Waits for keys until nobody wants them or the terminal is gone.
fn send_keys(keys: &mpsc::Sender<Key>) {
    while !keys.is_closed() {
        let event = match poll(KEY_WAIT) {
            Ok(true) => read(),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        match event {
            Ok(Event::Key(pressed)) => {
                if let Some(key) = meaning(pressed) {
                    // Fails only if nobody wants keys any more.
                    let _ = keys.blocking_send(key);
                }
            }
            Ok(_) => {}
            Err(error) => return tracing::warn!(%error, "the terminal gives no more keys"),
        }
    }
}

fn meaning(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind != KeyEventKind::Press {
        return None;
    }
    match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char('q' | 'Q') => Some(Key::Quit),
        KeyCode::Char(' ') => Some(Key::Toggle(Toggle::Dead)),
        KeyCode::Char('z' | 'Z') => Some(Key::Toggle(Toggle::Slow)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_plays_dead_and_alive_again() {
        let alive = r#"{"enabled": true, "delay_ms": 0, "note": 1}"#;
        let dead = toggled(Toggle::Dead, alive, Slowness::Untouched).unwrap();
        assert_eq!(dead.text, r#"{"enabled": false, "delay_ms": 0, "note": 1}"#);
        let back = toggled(Toggle::Dead, &dead.text, dead.slowness).unwrap();
        assert_eq!(back.text, alive);
    }

    #[test]
    fn z_adds_half_a_second_and_takes_it_back() {
        let before = r#"{"enabled": true, "delay_ms": 30}"#;
        let slow = toggled(Toggle::Slow, before, Slowness::Untouched).unwrap();
        assert_eq!(slow.text, r#"{"enabled": true, "delay_ms": 530}"#);
        let back = toggled(Toggle::Slow, &slow.text, slow.slowness).unwrap();
        assert_eq!((back.text.as_str(), back.slowness), (before, Slowness::Untouched));
    }

    #[test]
    fn z_slows_again_what_somebody_else_repaired() {
        let repaired = r#"{"enabled": true, "delay_ms": 0}"#;
        let again = toggled(Toggle::Slow, repaired, Slowness::Added { to_milliseconds: 0 }).unwrap();
        assert_eq!(again.text, r#"{"enabled": true, "delay_ms": 500}"#);
    }

    #[test]
    fn only_the_documented_keys_mean_something() {
        let press = |code| meaning(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(press(KeyCode::Char('q')), Some(Key::Quit));
        assert_eq!(press(KeyCode::Char('c')), None);
        assert_eq!(meaning(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Key::Quit));
        assert_eq!(press(KeyCode::Enter), None);
    }
}
