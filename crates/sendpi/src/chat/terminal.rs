//! The terminal: a line that is edited, with history and completion, and lines printed above it meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::{mpsc, oneshot};

use crate::chat::command::COMMANDS;
use crate::output::say;

/// How many lines the history has.
const HISTORY: usize = 1_000;
/// How many lines may wait to be printed.
const LINES: usize = 4_096;
/// How long they may take at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The names that are completed.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// How rooms are called.
    pub(crate) rooms: Vec<String>,
    /// Users who were seen.
    pub(crate) users: BTreeSet<String>,
}

/// A line that was typed. The terminal waits until it is told with what to prompt for the next one.
#[derive(Debug)]
pub(crate) struct Typed {
    /// The line. `None` at the end of the input.
    pub(crate) line: Option<String>,
    /// Takes the next prompt.
    pub(crate) prompt: oneshot::Sender<String>,
}

/// The lines to print above the one that is edited, and the end of the thread that prints them. The editor may take its
/// time for a line, so nobody else waits for it.
struct Printer {
    lines: SyncSender<String>,
    ended: Receiver<()>,
}

/// The terminal. Dropping it leaves it in the state in which it was found.
pub(crate) struct Terminal {
    typed: mpsc::Receiver<Typed>,
    /// `None` if the input or the output is no terminal.
    printer: Option<Printer>,
    names: Arc<Mutex<Names>>,
    found: Option<Termios>,
}

impl Terminal {
    /// Starts to read lines.
    pub(crate) fn start(prompt: String) -> Result<Self, ReadlineError> {
        let names = Arc::new(Mutex::new(Names::default()));
        let found = tcgetattr(io::stdin()).ok();
        let config = Config::builder().completion_type(CompletionType::List).history_ignore_dups(true)?.build();
        let mut editor: Editor<Words, DefaultHistory> = Editor::with_config(config)?;
        editor.set_max_history_size(HISTORY)?;
        editor.set_helper(Some(Words { names: Arc::clone(&names) }));
        let printer = editor.create_external_printer().ok().map(Printer::start);
        let (lines, typed) = mpsc::channel(1);
        thread::spawn(move || read_lines(editor, prompt, &lines));
        Ok(Self { typed, printer, names, found })
    }

    /// Waits for the next line.
    pub(crate) async fn next(&mut self) -> Typed {
        match self.typed.recv().await {
            Some(typed) => typed,
            None => Typed { line: None, prompt: oneshot::channel().0 },
        }
    }

    /// Prints a line above the one that is edited. If the terminal is too slow, it is left out.
    pub(crate) fn print(&mut self, line: &str) {
        match &self.printer {
            Some(printer) => drop(printer.lines.try_send(format!("{line}\n"))),
            None => say(line),
        }
    }

    /// The names that are completed.
    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Printer {
    fn start(mut printer: impl ExternalPrinter + Send + 'static) -> Self {
        let ((lines, waiting), (end, ended)) = (sync_channel::<String>(LINES), sync_channel(1));
        thread::spawn(move || {
            let _end = end;
            for line in waiting {
                if printer.print(line.clone()).is_err() {
                    say(line.trim_end());
                }
            }
        });
        Self { lines, ended }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(Printer { lines, ended }) = self.printer.take() {
            drop(lines);
            // It ends once everything is printed, at the latest when nobody looks any more.
            let _ = ended.recv_timeout(LAST_LINES);
        }
        // A line may still be edited, in which case the terminal echoes nothing.
        if let Some(found) = &self.found {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, found);
        }
    }
}

fn read_lines(mut editor: Editor<Words, DefaultHistory>, mut prompt: String, lines: &mpsc::Sender<Typed>) {
    loop {
        let line = editor.readline(&prompt).ok();
        if let Some(line) = &line {
            // The history is in memory and has a limit, so that this cannot fail.
            let _ = editor.add_history_entry(line);
        }
        let (next, told) = oneshot::channel();
        if lines.blocking_send(Typed { line, prompt: next }).is_err() {
            return;
        }
        let Ok(told) = told.blocking_recv() else { return };
        prompt = told;
    }
}

/// Completes commands, rooms and users.
struct Words {
    names: Arc<Mutex<Names>>,
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(complete(line.get(..at).unwrap_or_default(), &names))
    }
}

impl Helper for Words {}
impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}

/// Returns where the word to complete begins, and what it may become.
fn complete(line: &str, names: &Names) -> (usize, Vec<String>) {
    let from = |begin: usize, candidates: &mut dyn Iterator<Item = String>| {
        (begin, candidates.filter(|candidate| candidate.starts_with(&line[begin..])).collect())
    };
    let Some((command, rest)) = line.split_once(' ').filter(|_| line.starts_with('/')) else {
        if line.starts_with('/') {
            return from(0, &mut COMMANDS.into_iter().map(|(name, ..)| name.to_owned()));
        }
        let begin = line.rfind(' ').map_or(0, |space| space + 1);
        return from(begin, &mut names.users.iter().map(|user| format!("@{user}")));
    };
    let begin = line.len() - rest.len();
    match command {
        "/room" => from(begin, &mut names.rooms.iter().cloned()),
        "/direct" | "/invite" | "/kick" => from(begin, &mut names.users.iter().cloned()),
        _ => (line.len(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_rooms_and_users_are_completed() {
        let users = ["ann", "anton", "bob"].map(str::to_owned).into_iter().collect();
        let names = Names { rooms: vec!["a room".to_owned(), "lobby".to_owned()], users };
        let complete = |line: &str| complete(line, &names);
        assert_eq!(complete("/ro"), (0, vec!["/rooms".to_owned(), "/room".to_owned()]));
        assert_eq!(complete("/room a r"), (6, vec!["a room".to_owned()]));
        assert_eq!(complete("/invite an"), (8, vec!["ann".to_owned(), "anton".to_owned()]));
        assert_eq!(complete("hello @b"), (6, vec!["@bob".to_owned()]));
        assert!(complete("hello ").1.iter().all(|word| word.starts_with('@')));
        assert_eq!(complete("/history 1").1, Vec::<String>::new());
    }
}
