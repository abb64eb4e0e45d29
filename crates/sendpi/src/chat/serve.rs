//! One connection: what is typed goes out, what comes is printed.

use std::future::pending;
use std::time::Duration;

use sendpi_client::{Client, ClientError, Closed, Frames, Range, SendOptions, Sent};
use sendpi_model::{Code, RoomId};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::command::ChatCommand;
use super::lines::plain;
use super::terminal::Terminal;
use super::view::Effect;
use super::{Chat, Unsent};

/// How many messages a room begins with, and how many are read at a time.
const FIRST: usize = 20;
const PAGE: usize = 200;
/// The most messages that are caught up; of more, the oldest are left out.
const CATCH_UP: u64 = 1_000;
/// How many rooms or members a list shows.
const LIST: usize = 100;
/// How often it is told how far was read, at most.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether the server is still there.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long a close frame may take.
const CLOSE: Duration = Duration::from_secs(2);
/// The pause before a request that was refused for the moment, if the server names none.
const RETRY: Duration = Duration::from_secs(1);
/// How long a muted room is muted, in milliseconds: a year.
const MUTE_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

/// How a connection ended.
pub(super) enum End {
    /// The input ended, and everything was sent, or nobody took it in time.
    Quit,
    /// The server or the network ended it.
    Closed(Closed),
}

/// Goes to the room that was named at the start.
pub(super) async fn begin(chat: &mut Chat, client: &Client) {
    let Some(name) = chat.begin.take() else { return };
    act(chat, client, ChatCommand::Room(name)).await;
}

/// Serves a connection until it ends.
pub(super) async fn serve(chat: &mut Chat, terminal: &mut Terminal, client: &Client, mut frames: Frames) -> End {
    let mut sending: Option<JoinHandle<Result<Sent, ClientError>>> = None;
    let mut marks = tokio::time::interval(READ_EVERY);
    let mut marked = (None, 0);
    let probe = tokio::spawn(probe(client.clone()));
    let end = loop {
        show(chat, terminal, client).await;
        if sending.is_none()
            && let Some(unsent) = chat.outbox.front_mut()
        {
            sending = Some(tokio::spawn(send(client.clone(), unsent.clone())));
            unsent.was_sent = true;
        }
        if chat.ending.is_some() && (chat.outbox.is_empty() || chat.gave_up().is_some()) {
            let _ = timeout(CLOSE, client.close()).await;
            break End::Quit;
        }
        tokio::select! {
            frame = frames.next() => match frame {
                Some(Ok(frame)) => chat.view.take(frame),
                // A frame of a later release.
                Some(Err(_)) => {}
                None => break End::Closed(client.closed().await),
            },
            typed = terminal.next(), if chat.reads() => {
                if let Some(command) = chat.understand(typed.line.as_deref()) {
                    act(chat, client, command).await;
                }
                show(chat, terminal, client).await;
                // If nobody waits for the prompt, the input has ended.
                let _ = typed.prompt.send(chat.view.prompt());
            },
            answer = answer_of(&mut sending) => {
                sending = None;
                settle(chat, answer);
            },
            _ = marks.tick() => mark(chat, client, &mut marked).await,
        }
    };
    probe.abort();
    if let Some(sending) = sending {
        sending.abort();
    }
    end
}

/// Ends a connection on which nothing comes any more, whatever the socket says.
async fn probe(client: Client) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        if let Err(ClientError::Timeout(_)) = client.ping().await {
            return client.cut().await;
        }
    }
}

/// Sends a message until it is known what became of it.
async fn send(client: Client, unsent: Unsent) -> Result<Sent, ClientError> {
    let mut retry = unsent.was_sent.then_some(unsent.seq);
    loop {
        let options = SendOptions { nonce: Some(unsent.nonce.clone()), retry, mentions: unsent.mentions.clone() };
        let error = match client.send_with(unsent.room.as_str(), json!({"text": unsent.text}), options).await {
            Ok(sent) => return Ok(sent),
            Err(error) => error,
        };
        let pause = match &error {
            ClientError::Timeout(_) => RETRY,
            ClientError::Refused(refusal) if matches!(refusal.code, Code::RateLimited | Code::Unavailable) => {
                refusal.retry_in_ms.map_or(RETRY, Duration::from_millis)
            }
            _ => return Err(error),
        };
        retry = Some(unsent.seq);
        tokio::time::sleep(pause).await;
    }
}

async fn answer_of(sending: &mut Option<JoinHandle<Result<Sent, ClientError>>>) -> Option<Result<Sent, ClientError>> {
    match sending {
        Some(sending) => sending.await.ok(),
        None => pending().await,
    }
}

fn settle(chat: &mut Chat, answer: Option<Result<Sent, ClientError>>) {
    match answer {
        // The next connection sends it once more.
        Some(Err(ClientError::Closed(_))) | None => return,
        Some(Err(error)) => {
            let text = chat.outbox.front().map(|unsent| plain(&unsent.text)).unwrap_or_default();
            chat.view.print(format!("    * not sent: {text}: {error}"));
        }
        Some(Ok(_)) => {}
    }
    chat.outbox.pop_front();
}

/// Tells how far the current room was read, once for each place.
async fn mark(chat: &mut Chat, client: &Client, marked: &mut (Option<RoomId>, u64)) {
    let Some(room) = chat.view.current() else { return };
    let now = (Some(room.clone()), chat.view.shown().1);
    if now.1 == 0 || *marked == now {
        return;
    }
    // If it fails, the next place tells it.
    let _ = client.read(room.as_str(), now.1).await;
    *marked = now;
}

/// Prints what there is to print, and reads what is missing.
async fn show(chat: &mut Chat, terminal: &mut Terminal, client: &Client) {
    while let Some(effect) = chat.view.effect() {
        match effect {
            Effect::Print(line) => terminal.print(&line),
            Effect::Fill => {
                if let Err(error) = fill(chat, client).await {
                    terminal.print(&format!("    * cannot read what was missed: {error}"));
                }
            }
        }
    }
    let mut names = terminal.names();
    names.rooms = chat.view.titles();
    if names.users.len() != chat.view.users().len() {
        names.users.clone_from(chat.view.users());
    }
}

/// Shows the events of the current room after the last one that was shown.
async fn fill(chat: &mut Chat, client: &Client) -> Result<(), ClientError> {
    let Some(room) = chat.view.current().cloned() else { return Ok(()) };
    let newest = client.history(room.as_str(), Range::Newest, FIRST).await?;
    let head = newest.events.last().and_then(|event| event.seq).unwrap_or_default();
    if head > chat.view.shown().1 + CATCH_UP {
        chat.view.print("    * much was said meanwhile; /history shows it");
        chat.view.go_to(room);
        newest.events.iter().for_each(|event| chat.view.show(event));
        return Ok(());
    }
    loop {
        let after = chat.view.shown().1;
        let page = client.history(room.as_str(), Range::After(after), PAGE).await?;
        page.events.iter().for_each(|event| chat.view.show(event));
        if !page.more || chat.view.shown().1 == after {
            return Ok(());
        }
    }
}

/// Carries out a command, or says why it failed.
async fn act(chat: &mut Chat, client: &Client, command: ChatCommand) {
    if let Err(why) = try_act(chat, client, command).await {
        chat.view.print(format!("    * {why}"));
    }
}

async fn try_act(chat: &mut Chat, client: &Client, command: ChatCommand) -> Result<(), String> {
    let text = |error: ClientError| match error {
        ClientError::Refused(refusal) => refusal.to_string(),
        error => error.to_string(),
    };
    match command {
        ChatCommand::Rooms => {
            chat.view.page(&client.rooms(None, LIST).await.map_err(text)?);
            let list = chat.view.list();
            list.into_iter().for_each(|line| chat.view.print(line));
            return Ok(());
        }
        ChatCommand::Room(name) => {
            let room = chat.view.find(&name).ok_or_else(|| format!("you are in no room {name}; /rooms lists yours"))?;
            return go_to(chat, client, room).await.map_err(text);
        }
        ChatCommand::Create(name) => {
            let room = chat.view.put(client.create(&name, &[]).await.map_err(text)?);
            return go_to(chat, client, room).await.map_err(text);
        }
        ChatCommand::Direct(user) => {
            let fields = json!({"kind": "direct", "members": [user]});
            let room = chat.view.put(client.create_with(fields).await.map_err(text)?);
            return go_to(chat, client, room).await.map_err(text);
        }
        ChatCommand::Join(id) => {
            client.join(&id).await.map_err(text)?;
            chat.view.page(&client.rooms(None, LIST).await.map_err(text)?);
            let room = chat.view.find(&id).ok_or("you are in, but the room is not among your newest")?;
            return go_to(chat, client, room).await.map_err(text);
        }
        _ => {}
    }
    let room = chat.view.current().cloned().ok_or("you are in no room: /create NAME, or /room NAME")?;
    let room = room.as_str();
    match command {
        ChatCommand::Leave => client.leave(room).await,
        ChatCommand::Invite(user) => client.invite(room, &[&user]).await,
        ChatCommand::Kick(user) => client.kick(room, &user).await,
        ChatCommand::Edit(seq, body) => {
            client.request(json!({"op": "edit", "room": room, "ref": seq, "body": {"text": body}})).await.map(drop)
        }
        ChatCommand::Delete(seq) => client.request(json!({"op": "delete", "room": room, "ref": seq})).await.map(drop),
        ChatCommand::React(seq, emoji) => {
            client.request(json!({"op": "react", "room": room, "ref": seq, "emoji": emoji})).await.map(drop)
        }
        ChatCommand::Mute(is_on) => {
            let until = is_on.then(|| sendpi_model::Millis::now().0 + MUTE_MS);
            client.request(json!({"op": "notify", "room": room, "muted_until": until})).await.map(drop)
        }
        ChatCommand::Members => client.members(room, None, LIST).await.map(|page| {
            for member in page.members {
                chat.view.note_user(member.user.as_str());
                let online = if member.online { "online" } else { "offline" };
                chat.view.print(format!("    {} ({online})", plain(member.user.as_str())));
            }
        }),
        ChatCommand::History(count) => {
            let before = chat.view.shown().0;
            let page = client.history(room, Range::Before(before), count.clamp(1, PAGE)).await;
            page.map(|page| chat.view.show_earlier(&page.events))
        }
        // They were done above, or need no connection.
        _ => Ok(()),
    }
    .map_err(text)
}

/// Goes to a room and shows its newest messages.
async fn go_to(chat: &mut Chat, client: &Client, room: RoomId) -> Result<(), ClientError> {
    let page = client.history(room.as_str(), Range::Newest, FIRST).await?;
    chat.view.go_to(room);
    page.events.iter().for_each(|event| chat.view.show(event));
    Ok(())
}
