//! `sendpi ctl watch`: the fleet in a terminal, as it changes.

mod screen;

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use futures_util::future::OptionFuture;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use sendpi_bus::Bus;
use sendpi_bus::lease::Lease;
use sendpi_model::{NodeId, Partition};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::screen::draw;
use super::CtlError;
use super::fleet_view::FleetView;
use crate::output::say;

/// How often the fleet is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How many looks the chart of events shows.
const SHOWN: usize = 300;
/// How many changes of owners are kept.
const CHANGES: usize = 200;
/// How many keys may wait.
const KEYS: usize = 16;

/// What was seen so far.
#[derive(Debug, Default)]
struct Watched {
    /// What was seen last.
    view: Option<FleetView>,
    /// Why the last look failed, if it did.
    failure: Option<String>,
    /// Events a second, by look.
    events: VecDeque<u64>,
    /// The lease of each partition when it was last seen.
    leases: BTreeMap<Partition, Lease>,
    /// Partitions that changed hands, the newest first.
    changes: VecDeque<OwnerChange>,
    /// The first row of partitions that is shown.
    first_row: usize,
}

/// A partition that changed hands.
#[derive(Debug, PartialEq, Eq)]
struct OwnerChange {
    partition: Partition,
    from: NodeId,
    to: NodeId,
    epoch: u64,
    /// The former owner lives no longer.
    is_gone: bool,
}

impl Watched {
    /// Notes what a look showed.
    fn look(&mut self, view: Result<FleetView, CtlError>) {
        let view = match view {
            Ok(view) => view,
            Err(error) => return self.failure = Some(error.to_string()),
        };
        self.failure = None;
        for (partition, lease) in view.leases() {
            let before = self.leases.insert(*partition, lease.clone());
            let Some(before) = before.filter(|before| before.owner != lease.owner) else { continue };
            let is_gone = !view.is_live(&before.owner);
            let (from, to) = (before.owner, lease.owner.clone());
            self.changes.push_front(OwnerChange { partition: *partition, from, to, epoch: lease.epoch, is_gone });
        }
        self.changes.truncate(CHANGES);
        self.events.push_back(view.events().round() as u64);
        while self.events.len() > SHOWN {
            self.events.pop_front();
        }
        self.view = Some(view);
    }

    /// Moves the rows of partitions by so many.
    fn scroll(&mut self, rows: isize) {
        self.first_row = self.first_row.saturating_add_signed(rows).min(self.leases.len().saturating_sub(1));
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Quit,
    Scroll(isize),
    /// The terminal has another size.
    Draw,
}

/// Shows the fleet until somebody presses `q`, or prints it once a second as JSON.
pub(super) async fn run(bus: &Bus, as_json: bool) -> Result<(), CtlError> {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if as_json {
        loop {
            looks.tick().await;
            say(match FleetView::read(bus).await {
                Ok(view) => json!({"workers": view.workers_json(), "partitions": view.partitions_json()}),
                Err(error) => json!({"error": error.to_string()}),
            });
        }
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(CtlError::NoTerminal);
    }
    let mut terminal = ratatui::try_init().map_err(CtlError::Terminal)?;
    let shown = async {
        let (mut keys, mut watched) = (read_keys(), Watched::default());
        // A look takes seconds while NATS is away, and keys must not wait for it.
        let mut looking = None;
        loop {
            terminal.draw(|frame| draw(frame, &watched)).map_err(CtlError::Terminal)?;
            tokio::select! {
                _ = looks.tick(), if looking.is_none() => looking = Some(Box::pin(FleetView::read(bus))),
                view = OptionFuture::from(looking.as_mut()), if looking.is_some() => {
                    looking = None;
                    view.into_iter().for_each(|view| watched.look(view));
                }
                key = keys.recv() => match key {
                    Some(Key::Scroll(rows)) => watched.scroll(rows),
                    Some(Key::Draw) => {}
                    Some(Key::Quit) | None => return Ok(()),
                },
            }
        }
    };
    let ended = shown.await;
    ratatui::restore();
    ended
}

/// Reads keys in a thread, which ends with the process.
fn read_keys() -> mpsc::Receiver<Key> {
    let (tell, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let Some(key) = key_of(&event) else { continue };
            if tell.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

fn key_of(event: &Event) -> Option<Key> {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Some(Key::Draw),
        _ => return None,
    };
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Scroll(-1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Key::Scroll(20)),
        KeyCode::PageUp => Some(Key::Scroll(-20)),
        KeyCode::Home => Some(Key::Scroll(isize::MIN)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn shown(watched: &Watched) -> String {
        let mut terminal = Terminal::new(TestBackend::new(140, 30)).unwrap();
        terminal.draw(|frame| draw(frame, watched)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn what_changed_hands_is_noted_and_shown() {
        let mut watched = Watched::default();
        assert!(shown(&watched).contains("looking at the fleet"));
        watched.look(Ok(FleetView::of(&["a", "b"], &[("a", 1), ("b", 1)])));
        assert!(watched.changes.is_empty());
        watched.look(Ok(FleetView::of(&["b"], &[("b", 2), ("b", 1)])));
        let id = |name: &str| NodeId::parse(name).unwrap();
        let change = OwnerChange { partition: Partition(0), from: id("a"), to: id("b"), epoch: 2, is_gone: true };
        assert_eq!(watched.changes, [change]);
        let screen = shown(&watched);
        for text in ["1 workers, 2 of 2 partitions owned", "0: a (gone) → b, epoch 2", "PARTITION", "WORKER"] {
            assert!(screen.contains(text), "{text} is not in\n{screen}");
        }
    }

    #[test]
    fn a_look_that_fails_is_told_and_what_was_seen_stays() {
        let mut watched = Watched::default();
        watched.look(Ok(FleetView::of(&["a"], &[("a", 1)])));
        watched.look(Err(CtlError::Nodes("there is no node")));
        let screen = shown(&watched);
        assert!(screen.contains("there is no node") && screen.contains("PARTITION"), "{screen}");
    }

    #[test]
    fn rows_move_no_further_than_there_are_any() {
        let mut watched = Watched::default();
        watched.look(Ok(FleetView::of(&["a"], &[("a", 1), ("a", 1), ("a", 1)])));
        watched.scroll(20);
        assert_eq!(watched.first_row, 2);
        watched.scroll(isize::MIN);
        assert_eq!(watched.first_row, 0);
    }
}
