//! `sendpi chat`: a chat client in the terminal.
//!
//! # Map
//! - `command`: what a line asks for. `lines`: what events look like. `view`: the rooms that are known, and what of
//!   them is printed. `serve`: one connection. `terminal`: reading lines and printing above them.

mod command;
mod lines;
mod serve;
mod terminal;
mod view;

use std::collections::VecDeque;
use std::time::Duration;

use sendpi_client::{Client, ClientError, Closed, Frames, Options, Welcome};
use sendpi_fetch::{AddressRule, Fetch, FetchError};
use sendpi_model::RoomId;
use tokio::time::{Instant, timeout};

use crate::chat::command::{COMMANDS, ChatCommand, parse};
use crate::chat::serve::{End, serve};
use crate::chat::terminal::Terminal;
use crate::chat::view::{Effect, View};

/// How long a token may take, and how large it may be.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN_BYTES: usize = 16 * 1024;
/// How long a connection may take until its welcome.
const SIGN_IN: Duration = Duration::from_secs(30);
/// The shortest and the longest pause before the next connection.
const PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(15));
/// The most messages that wait for a connection.
const OUTBOX: usize = 500;
/// How long messages may wait once the input has ended.
const LAST_TRIES: Duration = Duration::from_secs(10);
/// The most users whom a message may mention.
const MENTIONS: usize = 50;

/// The options of `sendpi chat`.
#[derive(Debug, clap::Args)]
pub(crate) struct ChatArgs {
    /// The user to chat as, at a `sendpi dev` on this machine, which gives the token.
    #[arg(long = "as", value_name = "USER", required_unless_present = "token")]
    user: Option<String>,
    /// The token to sign in with, at any other Sendpi.
    #[arg(long, env = "SENDPI_TOKEN", hide_env_values = true, conflicts_with = "user")]
    token: Option<String>,
    /// The address of the gateway.
    #[arg(long, default_value = "http://localhost:8080", env = "SENDPI_URL")]
    url: String,
    /// The room to begin in, by its name or id.
    #[arg(long)]
    room: Option<String>,
}

/// The reason why a chat ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatError {
    /// Nobody answers.
    #[error("cannot get a token at {0}: {1}; is sendpi dev running there?")]
    Fetch(String, #[source] FetchError),
    /// There is no token.
    #[error("there is no token: {0}")]
    NoToken(String),
    /// The sign-in failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The session has ended for good.
    #[error("the session was {0}")]
    Ended(Closed),
    /// The terminal cannot be used.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] rustyline::error::ReadlineError),
    /// There are messages without an answer.
    #[error("{0} messages were not sent")]
    NotSent(usize),
}

impl ChatError {
    /// Returns whether it may go away by itself.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Fetch(_, error) => matches!(error, FetchError::NoAnswer(_)),
            Self::Client(ClientError::Refused(refusal)) => refusal.retry_in_ms.is_some(),
            Self::Client(error) => matches!(error, ClientError::Connect(_)) || error.is_unknown(),
            _ => false,
        }
    }
}

/// A message that is not answered yet.
#[derive(Debug, Clone)]
struct Unsent {
    room: RoomId,
    text: String,
    nonce: String,
    mentions: Vec<String>,
    /// The seq of the room that was known when it was written.
    seq: u64,
    /// Whether it was sent before.
    was_sent: bool,
}

/// What outlives a connection.
struct Chat {
    view: View,
    outbox: VecDeque<Unsent>,
    /// The room to begin in, until it was tried.
    begin: Option<String>,
    /// When the input ended, so that only the outbox keeps the chat.
    ending: Option<Instant>,
}

/// Chats until the input ends.
pub(crate) async fn run(args: ChatArgs) -> Result<(), ChatError> {
    let begin = args.room.clone();
    let mut chat = Chat { view: View::default(), outbox: VecDeque::new(), begin, ending: None };
    let device = format!("terminal-{:016x}", rand::random::<u64>());
    let mut terminal = None;
    let mut pause = PAUSES.0;
    loop {
        let signing_in = timeout(SIGN_IN, sign_in(&args, &device, &chat.view)).await;
        match signing_in.unwrap_or_else(|_| Err(ClientError::Timeout("hello".to_owned()).into())) {
            Ok((client, frames, welcome)) => {
                pause = PAUSES.0;
                chat.view.welcome(&welcome);
                let terminal = match &mut terminal {
                    Some(terminal) => terminal,
                    empty => {
                        serve::begin(&mut chat, &client).await;
                        empty.insert(Terminal::start(chat.view.prompt())?)
                    }
                };
                terminal.print(&format!("    * signed in as {}; /help lists the commands", welcome.user));
                match serve(&mut chat, terminal, &client, frames).await {
                    End::Quit => return chat.gave_up().map_or(Ok(()), Err),
                    End::Closed(closed) if is_final(&closed, &args) => return Err(ChatError::Ended(closed)),
                    End::Closed(closed) => terminal.print(&format!("    * not connected ({closed}): trying again")),
                }
            }
            Err(error) if terminal.is_some() && error.is_temporary() => {}
            Err(error) => return Err(error),
        }
        if let Some(terminal) = &mut terminal {
            wait(&mut chat, terminal, pause.mul_f64(rand::random_range(0.5..1.0))).await;
        }
        if chat.ending.is_some() && chat.outbox.is_empty() {
            return Ok(());
        }
        if let Some(error) = chat.gave_up() {
            return Err(error);
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn sign_in(args: &ChatArgs, device: &str, view: &View) -> Result<(Client, Frames, Welcome), ChatError> {
    let token = match (&args.token, &args.user) {
        (Some(token), _) => token.clone(),
        (None, user) => development_token(&args.url, user.as_deref().unwrap_or_default()).await?,
    };
    let resume = view.current().filter(|_| view.shown().1 > 0).map(|room| (room.to_string(), view.shown().1));
    let options = Options { resume: resume.into_iter().collect(), ..Options::default() };
    Ok(sendpi_client::connect(&args.url, &token, device, options).await?)
}

async fn development_token(url: &str, user: &str) -> Result<String, ChatError> {
    let failed = |error| ChatError::Fetch(url.to_owned(), error);
    let fetch = Fetch::new(AddressRule::Any, TOKEN_TIMEOUT).map_err(failed)?;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("user", user).finish();
    let address = format!("{}/dev/token?{query}", url.trim_end_matches('/'));
    let answer = fetch.get(&address, TOKEN_BYTES).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    match answer.status {
        200 => Ok(text),
        404 => Err(ChatError::NoToken("that Sendpi gives none; name yours with --token".to_owned())),
        _ => Err(ChatError::NoToken(lines::plain(&text))),
    }
}

/// Returns whether coming back would not help. For a token that has expired there is another, unless it was given.
fn is_final(closed: &Closed, args: &ChatArgs) -> bool {
    match closed.code {
        Some(4101) => args.token.is_some(),
        Some(code) => (4100..4200).contains(&code),
        None => false,
    }
}

/// Waits for the next try, and takes what is typed meanwhile.
async fn wait(chat: &mut Chat, terminal: &mut Terminal, pause: Duration) {
    let pause = tokio::time::sleep(pause);
    tokio::pin!(pause);
    loop {
        for effect in std::iter::from_fn(|| chat.view.effect()).collect::<Vec<_>>() {
            if let Effect::Print(line) = effect {
                terminal.print(&line);
            }
        }
        tokio::select! {
            () = &mut pause => return,
            typed = terminal.next(), if chat.reads() => {
                if chat.understand(typed.line.as_deref()).is_some() {
                    chat.view.print("    * not connected: try again in a moment");
                }
                // If nobody waits for the prompt, the input has ended.
                let _ = typed.prompt.send(chat.view.prompt());
            }
        }
    }
}

impl Chat {
    /// Reads a line. What needs no connection is done; any other command is returned.
    fn understand(&mut self, line: Option<&str>) -> Option<ChatCommand> {
        match line.map_or(Ok(Some(ChatCommand::Quit)), parse) {
            Ok(Some(ChatCommand::Say(text))) => self.say(text),
            Ok(Some(ChatCommand::Quit)) => self.ending = Some(Instant::now()),
            Ok(Some(ChatCommand::Help)) => {
                for (name, arguments, what) in COMMANDS {
                    self.view.print(format!("    {:<18} {what}", format!("{name} {arguments}")));
                }
            }
            Ok(command) => return command,
            Err(error) => self.view.print(format!("    * {error}")),
        }
        None
    }

    /// Puts a message into the outbox.
    fn say(&mut self, text: String) {
        let Some(room) = self.view.current().cloned() else {
            return self.view.print("    * you are in no room: /create NAME, or /room NAME");
        };
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix('@'));
        let named: Vec<String> =
            words.map(|word| word.trim_end_matches(['.', ',', ':', '!', '?']).to_owned()).collect();
        let mentions = self.view.users().iter().filter(|user| named.contains(user)).take(MENTIONS).cloned().collect();
        let nonce = format!("{:032x}", rand::random::<u128>());
        let seq = self.view.shown().1;
        self.outbox.push_back(Unsent { room, text, nonce, mentions, seq, was_sent: false });
    }

    /// Returns whether another line is read. A pipe waits while too many messages do.
    fn reads(&self) -> bool {
        self.ending.is_none() && self.outbox.len() < OUTBOX
    }

    /// Returns the error with which a chat ends whose messages nobody took in time.
    fn gave_up(&self) -> Option<ChatError> {
        let too_late = self.ending?.elapsed() > LAST_TRIES && !self.outbox.is_empty();
        too_late.then_some(ChatError::NotSent(self.outbox.len()))
    }
}
