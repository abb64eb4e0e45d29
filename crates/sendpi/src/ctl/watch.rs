//! `sendpi ctl watch`: the fleet in a terminal, as it changes.

mod screen;

use std::io::IsTerminal;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use sendpi_bus::Bus;
use serde_json::json;
use tokio::sync::mpsc;

use self::screen::draw;
use super::CtlError;
use super::fleet_history::FleetHistory;
use super::fleet_reader::looks;
use crate::output::say;

/// How many keys may wait.
const KEYS: usize = 16;

/// What the terminal shows.
#[derive(Debug, Default)]
struct Watched {
    history: FleetHistory,
    /// The first row of partitions that is shown.
    first_row: usize,
}

impl Watched {
    /// Moves the rows of partitions by so many.
    fn scroll(&mut self, rows: isize) {
        let last = self.history.partition_count().saturating_sub(1);
        self.first_row = self.first_row.saturating_add_signed(rows).min(last);
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
    let mut looks = looks(bus);
    if as_json {
        while let Some(view) = looks.recv().await {
            say(match view {
                Ok(view) => json!({"workers": view.workers_json(), "partitions": view.partitions_json()}),
                Err(error) => json!({"error": error.to_string()}),
            });
        }
        return Ok(());
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(CtlError::NoTerminal);
    }
    let mut terminal = ratatui::try_init().map_err(CtlError::Terminal)?;
    let shown = async {
        let (mut keys, mut watched) = (read_keys(), Watched::default());
        loop {
            terminal.draw(|frame| draw(frame, &watched)).map_err(CtlError::Terminal)?;
            tokio::select! {
                Some(view) = looks.recv() => watched.history.look(view),
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

    use super::super::fleet_view::FleetView;
    use super::*;

    fn shown(watched: &Watched) -> String {
        let mut terminal = Terminal::new(TestBackend::new(140, 30)).unwrap();
        terminal.draw(|frame| draw(frame, watched)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn what_changed_hands_is_shown() {
        let mut watched = Watched::default();
        assert!(shown(&watched).contains("looking at the fleet"));
        watched.history.look(Ok(FleetView::of(&["a", "b"], &[("a", 1), ("b", 1)])));
        watched.history.look(Ok(FleetView::of(&["b"], &[("b", 2), ("b", 1)])));
        let screen = shown(&watched);
        for text in ["1 workers, 2 of 2 partitions owned", "0: a (gone) → b, epoch 2", "PARTITION", "WORKER"] {
            assert!(screen.contains(text), "{text} is not in\n{screen}");
        }
    }

    #[test]
    fn why_a_look_failed_is_shown_with_what_was_seen() {
        let mut watched = Watched::default();
        watched.history.look(Ok(FleetView::of(&["a"], &[("a", 1)])));
        watched.history.look(Err(CtlError::NoNodes));
        let screen = shown(&watched);
        assert!(screen.contains("no node") && screen.contains("PARTITION"), "{screen}");
    }

    #[test]
    fn rows_move_no_further_than_there_are_any() {
        let mut watched = Watched::default();
        watched.history.look(Ok(FleetView::of(&["a"], &[("a", 1), ("a", 1), ("a", 1)])));
        watched.scroll(20);
        assert_eq!(watched.first_row, 2);
        watched.scroll(isize::MIN);
        assert_eq!(watched.first_row, 0);
    }
}
