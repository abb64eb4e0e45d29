use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved};
use sendpi_model::{Code, DeviceId, Millis, Refusal, Verb};

use super::*;
use crate::client::outbound::Outbound;
use crate::client::transport::{Identity, Transport};
use crate::client::ws_frame;

mod audience;
mod devices;
mod ends;
mod farewell;
mod slow;

/// A socket that takes everything.
#[derive(Debug, Default)]
pub(super) struct OpenSocket(pub(super) Mutex<Vec<u8>>);

impl Transport for OpenSocket {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap();
        let before = written.len();
        bufs.iter().for_each(|buf| written.extend_from_slice(buf));
        Ok(written.len() - before)
    }
}

/// A client that reads everything from its socket.
struct TestClient {
    key: SessionKey,
    outbound: Arc<Outbound>,
    socket: Arc<OpenSocket>,
}

impl TestClient {
    /// Returns the text that came since the last call, without the other bytes.
    fn got(&self) -> String {
        drop(self.outbound.flush());
        let bytes = std::mem::take(&mut *self.socket.0.lock().unwrap());
        bytes.iter().filter(|b| b.is_ascii_graphic() || **b == b' ').map(|b| char::from(*b)).collect()
    }
}

/// A state with its effects.
struct Test {
    state: State,
    now: Instant,
    wall: Millis,
    effects: Effects,
    signins: u64,
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn identity(name: &str, expires_at: Millis) -> Identity {
    Identity { user: user(name), issued_at: None, expires_at, service: false }
}

impl Test {
    fn new() -> Self {
        let now = Instant::now();
        let state = State::new(SessionConfig::default(), Partitions::DEFAULT, now);
        Self { state, now, wall: Millis(1_000_000), effects: Effects::default(), signins: 0 }
    }

    fn connect(&mut self) -> TestClient {
        let socket = Arc::new(OpenSocket::default());
        let outbound = Arc::new(Outbound::new(Arc::clone(&socket) as Arc<dyn Transport>, 1 << 20));
        let key = self.state.open(Arc::clone(&outbound), self.now).unwrap();
        TestClient { key, outbound, socket }
    }

    fn join(&mut self, client: &TestClient, name: &str, device: &str) -> Result<UserKey, Refusal> {
        let who = identity(name, self.wall.after(Duration::from_secs(3600)));
        let device = (!device.is_empty()).then(|| DeviceId::parse(device).unwrap());
        let joined = self.state.join(client.key, &who, device.as_ref(), &mut self.effects)?;
        if let Some((announce, _)) = joined.announce {
            self.signins += 1;
            let signin = self.signins;
            self.state.subscribed(joined.user, announce, None, |_| (signin, ())).unwrap();
            self.state.announced(joined.user, announce, true);
        }
        Ok(joined.user)
    }

    /// Returns a client that is signed in and has received its welcome.
    fn client(&mut self, name: &str, device: &str) -> TestClient {
        let client = self.connect();
        self.join(&client, name, device).unwrap();
        self.welcome(&client, &[]);
        client.got();
        client
    }

    fn welcome(&mut self, client: &TestClient, page: &[(RoomId, u64)]) {
        let frame = ws_frame::text(b"welcome ");
        self.state.welcome(client.key, frame, page, None, self.now, &mut self.effects);
    }

    fn added(&mut self, link: u32, name: &str, seq: u64) {
        self.added_for(link, name, seq, AudienceReason::Presence);
    }

    fn added_for(&mut self, link: u32, name: &str, seq: u64, reason: AudienceReason) {
        let info = Bytes::from_static(b"{}");
        let added = AudienceAdded { room: room("r"), user: user(name), reason, seq, info };
        self.state.added(link, &added, self.now, &mut self.effects);
    }

    fn removed(&mut self, link: u32, name: &str, reason: AudienceReason) {
        let removed = AudienceRemoved { room: room("r"), user: user(name), reason };
        self.state.removed(link, &removed, &mut self.effects);
    }

    /// Delivers an event as message `number` of link 1.
    fn event(&mut self, number: u64, seq: u64) {
        self.event_of(1, number, seq);
    }

    fn event_of(&mut self, link: u32, number: u64, seq: u64) {
        let payload = Bytes::from(format!("e{seq} "));
        self.state.event(LinkOrigin { link, number }, &room("r"), seq..=seq, &payload, self.now, &mut self.effects);
    }

    /// Lets time pass in which ticks come in time. The sessions are looked at only at its end.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..2 * seconds {
            self.now += Duration::from_millis(500);
            self.state.note_tick(self.now);
        }
        self.look(seconds);
    }

    /// Lets time pass without a tick.
    fn freeze(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.state.note_tick(self.now);
        self.look(seconds);
    }

    fn look(&mut self, seconds: u64) {
        self.wall = self.wall.after(Duration::from_secs(seconds));
        self.state.beat(self.now, self.wall, &mut self.effects);
    }

    fn leave(&mut self, client: &TestClient) {
        self.state.leave(client.key, &mut self.effects);
    }

    fn settled(&mut self) -> u64 {
        self.state.settle();
        self.state.settled(1, 99)
    }

    /// Returns what owners were asked since the last call. Retried requests count as not confirmed.
    fn asked(&mut self) -> Vec<String> {
        let asks = std::mem::take(&mut self.effects.asks);
        let said = asks.iter().map(say).collect();
        for ask in asks {
            if let ReplyTo::Retry(key) = ask.tag {
                self.state.retries.not_sent(key, self.now);
            }
        }
        said
    }

    /// Returns what owners are being asked.
    fn asking(&self) -> Vec<String> {
        self.effects.asks.iter().map(say).collect()
    }

    /// Has owners confirm, on link 1, or refuse what they are being asked.
    fn answer_asked(&mut self, confirm: bool) {
        for ask in std::mem::take(&mut self.effects.asks) {
            match ask.tag {
                ReplyTo::Retry(key) if confirm => self.state.confirmed(key, 1, &mut self.effects),
                ReplyTo::Retry(key) => {
                    let pause = Some(Duration::ZERO);
                    self.state.not_confirmed(key, pause, self.now, &mut self.effects);
                }
                _ => {}
            }
        }
    }

    /// Confirms everything that owners are asked, on link 1, until nothing is left. Returns what it was, in order.
    fn confirm_all(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        self.now += Duration::from_secs(1);
        self.state.ask_again(self.now, &mut self.effects);
        while !self.effects.asks.is_empty() {
            let ask = self.effects.asks.remove(0);
            said.push(say(&ask));
            if let ReplyTo::Retry(key) = ask.tag {
                self.state.confirmed(key, 1, &mut self.effects);
            }
        }
        said
    }
}

fn say(ask: &Ask) -> String {
    match &ask.verb {
        Verb::Bounce { first, last } => format!("bounce {} {first}-{last}", ask.user),
        Verb::Detach { signin } => format!("detach {} {signin}", ask.user),
        other => format!("{other:?}"),
    }
}
