//! The limit: what a plain broadcast over axum's WebSockets reaches, without a bus and without a store.
//!
//! Each socket is split into two tasks with a queue between them. An event is encoded once, and its bytes are shared.
//! All frames in a queue are written together. `TCP_NODELAY` stays off, so that the kernel combines writes that follow
//! each other fast, at the price of latency tails of 50 ms.
//!
//! The limit speaks as much of the client protocol as the cases need, and checks nothing. It is the one exception to
//! the workspace's rule that only the gateway names axum, because it is not a part of the server but what the server
//! is measured against.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::BenchError;

/// How many frames may be queued for one socket. A member that falls further behind receives no more events.
const QUEUE: usize = 1024;
const BUFFER: usize = 4096;

type Out = mpsc::Sender<Utf8Bytes>;

#[derive(Debug, Default)]
struct LimitRoom {
    seq: u64,
    members: Vec<String>,
    online: Vec<(String, Out)>,
}

/// All rooms. Each has a lock of its own, so that rooms do not wait for each other.
#[derive(Debug, Default)]
struct LimitRooms(Mutex<HashMap<String, Arc<Mutex<LimitRoom>>>>);

#[derive(Deserialize)]
struct LimitRequest<'a> {
    op: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    token: Option<&'a str>,
    room: Option<&'a str>,
    nonce: Option<&'a str>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
}

/// Serves until the process ends.
pub(crate) async fn serve(port: u16) -> Result<(), BenchError> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve_on(listener).await
}

pub(crate) async fn serve_on(listener: TcpListener) -> Result<(), BenchError> {
    let rooms = Arc::new(LimitRooms::default());
    let router = Router::new().route("/v1/ws", get(upgrade)).route("/dev/token", get(token)).with_state(rooms);
    Ok(axum::serve(listener, router).await?)
}

/// Issues a token, which is just the user's name: everybody is believed.
async fn token(Query(query): Query<HashMap<String, String>>) -> String {
    query.get("user").cloned().unwrap_or_default()
}

async fn upgrade(State(rooms): State<Arc<LimitRooms>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(BUFFER).write_buffer_size(BUFFER).on_upgrade(|socket| session(socket, rooms))
}

async fn session(socket: WebSocket, rooms: Arc<LimitRooms>) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut queue) = mpsc::channel::<Utf8Bytes>(QUEUE);
    let writer = tokio::spawn(async move {
        let mut frames = Vec::new();
        while queue.recv_many(&mut frames, QUEUE).await > 0 {
            for frame in frames.drain(..) {
                if sink.feed(Message::Text(frame)).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    });
    let mut user = String::new();
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(ask) = serde_json::from_str::<LimitRequest<'_>>(&text) else { break };
        if ask.op == "hello" {
            user = ask.token.unwrap_or_default().to_owned();
        }
        if !rooms.answer(&user, &ask, &out) {
            break;
        }
    }
    rooms.leave(&user, &out);
    drop(out);
    // The task ends with its queue or its socket. How it ended does not matter any more.
    let _ = writer.await;
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LimitRooms {
    fn room(&self, name: &str) -> Arc<Mutex<LimitRoom>> {
        locked(&self.0).entry(name.to_owned()).or_default().clone()
    }

    fn all(&self) -> Vec<(String, Arc<Mutex<LimitRoom>>)> {
        locked(&self.0).iter().map(|(name, room)| (name.clone(), room.clone())).collect()
    }

    /// Executes a request. Returns `false` if the socket is to be closed.
    fn answer(&self, user: &str, ask: &LimitRequest<'_>, out: &Out) -> bool {
        let id = ask.id.map_or("null", RawValue::get);
        let answer = match (ask.op, ask.room) {
            ("hello", _) => self.hello(id, user, out),
            ("create" | "invite", Some(name)) => {
                let room = self.room(name);
                let mut room = locked(&room);
                if ask.op == "create" {
                    room.members.push(user.to_owned());
                }
                room.members.extend_from_slice(&ask.members);
                room.members.extend_from_slice(&ask.users);
                room.seq += 1;
                format!(r#"{{"id":{id},"op":"ok","seq":{}}}"#, room.seq)
            }
            ("send", Some(name)) => {
                let (nonce, body) = (ask.nonce.unwrap_or_default(), ask.body.map_or("{}", RawValue::get));
                let room = self.room(name);
                let mut room = locked(&room);
                room.seq += 1;
                let (seq, at) = (room.seq, 1_790_000_000_000u64);
                // The answer goes first. Without TCP_NODELAY, the write that follows it waits for the sender's next
                // message. If the answer came second, the answer would have to wait instead.
                let answer = format!(r#"{{"id":{id},"op":"ok","seq":{seq},"count":{seq},"at":{at}}}"#);
                if out.try_send(answer.into()).is_err() {
                    return false;
                }
                let event: Utf8Bytes = format!(
                    r#"{{"op":"event","room":"{name}","seq":{seq},"count":{seq},"kind":"message","from":"{user}","at":{at},"nonce":"{nonce}","body":{body}}}"#
                )
                .into();
                // Under the room's lock, so that all members receive events in the same order.
                room.online.retain(|(_, member)| member.try_send(event.clone()).is_ok());
                return true;
            }
            ("ping", _) => format!(r#"{{"id":{id},"op":"pong"}}"#),
            _ => return true,
        };
        out.try_send(answer.into()).is_ok()
    }

    fn hello(&self, id: &str, user: &str, out: &Out) -> String {
        let mut listed = Vec::new();
        for (name, room) in self.all() {
            let mut room = locked(&room);
            if room.members.iter().any(|member| member == user) {
                listed.push(json!({"room": name, "seq": room.seq}));
                room.online.push((user.to_owned(), out.clone()));
            }
        }
        format!(r#"{{"id":{id},"op":"welcome","rooms":{}}}"#, json!(listed))
    }

    fn leave(&self, user: &str, out: &Out) {
        for (_, room) in self.all() {
            locked(&room).online.retain(|(name, member)| name != user || !member.same_channel(out));
        }
    }
}
