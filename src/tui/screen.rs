//! The terminal: set up, fed and restored, on every way out.
//!
//! Touches the world: the terminal, the watches, and for the chaos keys the service's ConfigMap.

use super::feed;
use super::keys::{Intent, intent};
use super::model::{Cluster, Event, Model, Scope};
use super::view;
use crate::injection::inject;
use crate::service::chaos::Fault;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::Client;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as TerminalEvent};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The shortest time between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// How long the keyboard's thread waits before it looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Keys that may wait to be handled.
const KEY_QUEUE: usize = 16;

/// Why the screen stopped working.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// The terminal could not be set up.
    #[error("could not set up the terminal: {0}; `harness demo --auto` and a pipe after `harness watch` need none")]
    SetUpTerminal(#[source] io::Error),
    /// The picture could not be drawn.
    #[error("could not draw on the terminal: {0}")]
    Draw(#[source] io::Error),
    /// No key could be read.
    #[error("could not read the keyboard: the terminal is gone")]
    ReadKeys,
}

/// Shows the screen until the person leaves or `shutdown` is cancelled.
pub async fn show(
    client: Client,
    cluster: Cluster,
    scope: Scope,
    shutdown: CancellationToken,
) -> Result<(), ScreenError> {
    let events = feed::events(&client, &scope);
    let model = Model::new(cluster, scope, Timestamp::now());
    let mut terminal = Restored::set_up()?;
    Screen { model, client, injection: None }.run(&mut terminal.0, events, shutdown).await
}

/// The terminal in raw mode on its alternate screen; as it was before when this is dropped (and, by ratatui's own
/// hook, before the message of a panic is printed).
struct Restored(DefaultTerminal);

impl Restored {
    fn set_up() -> Result<Self, ScreenError> {
        ratatui::try_init().map(Self).map_err(|error| {
            ratatui::restore();
            ScreenError::SetUpTerminal(error)
        })
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

struct Screen {
    model: Model,
    client: Client,
    /// The write that a key asked for, until its answer is there; meanwhile such keys do nothing.
    injection: Option<JoinHandle<String>>,
}

impl Screen {
    async fn run(
        mut self,
        terminal: &mut DefaultTerminal,
        events: impl Stream<Item = Event> + Send,
        shutdown: CancellationToken,
    ) -> Result<(), ScreenError> {
        let mut events = std::pin::pin!(events);
        let mut keys = keyboard();
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drawn_second = None;
        let mut changed = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(event) = events.next() => {
                    self.model.apply(event);
                    changed = true;
                }
                key = keys.recv() => match key {
                    None => return Err(ScreenError::ReadKeys),
                    Some(TerminalEvent::Key(key)) => match intent(key, &self.model.service) {
                        Some(Intent::Quit) => return Ok(()),
                        Some(Intent::Inject { faults, meaning }) => self.begin(faults, meaning),
                        None => {}
                    },
                    Some(_) => changed = true,
                },
                answer = finished(&mut self.injection) => {
                    self.model.apply(Event::Notice(answer));
                    changed = true;
                }
                _ = frames.tick() => {
                    let now = Timestamp::now();
                    if changed || drawn_second != Some(now.as_second()) {
                        self.model.apply(Event::Clock(now));
                        terminal.draw(|frame| view::draw(&self.model, frame)).map_err(ScreenError::Draw)?;
                        (changed, drawn_second) = (false, Some(now.as_second()));
                    }
                }
            }
        }
    }

    fn begin(&mut self, faults: Vec<Fault>, meaning: &'static str) {
        if self.injection.is_none() {
            let (client, target) = (self.client.clone(), self.model.scope.config.clone());
            self.injection = Some(tokio::spawn(async move {
                match inject(&client, &target, &faults).await {
                    Ok(_) => meaning.to_owned(),
                    Err(error) => error.to_string(),
                }
            }));
        }
    }
}

/// The answer of the write under way; never, while there is none.
async fn finished(injection: &mut Option<JoinHandle<String>>) -> String {
    match injection {
        None => std::future::pending().await,
        Some(running) => {
            let answer = running.await.unwrap_or_else(|error| format!("the write was given up: {error}"));
            *injection = None;
            answer
        }
    }
}

/// What is typed, read on a thread of its own, which ends soon after the receiver is dropped.
fn keyboard() -> mpsc::Receiver<TerminalEvent> {
    let (sender, receiver) = mpsc::channel(KEY_QUEUE);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_WAIT) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}
