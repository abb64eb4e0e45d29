//! A device that sends and receives on a bad network, and remembers what it was told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sendpi_client::{Client, ClientError, Options, SendOptions};
use sendpi_model::Millis;
use sendpi_tests::{Proxy, Recording};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::call_log::{Call, CallLog, CallOutcome};
use crate::checker::Witness;
use crate::script::millis;

/// How long a device waits for an answer before it takes its connection for dead. The server gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(12);
/// How often a message is sent before it is left as it is.
const TRIES: usize = 4;
/// How many messages of a device to one room are under way at most. Rooms whose owner is away keep nobody from talking
/// in the others, and with all rooms away there are fewer than a session may have without an answer.
const UNDER_WAY: usize = 3;
/// How many of the rooms hear something all the time. The others are quiet, and their channels come and go.
pub(crate) const BUSY: usize = 6;

/// How a device spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Sends all the time.
    Talks,
    /// Is online for a while, away for a while, and sends nothing.
    ComesAndGoes,
    /// Goes away at once, and comes back at the very end.
    Leaves,
}

/// What the devices of a run share.
#[derive(Debug)]
pub(crate) struct SharedByDevices {
    pub(crate) rooms: Vec<String>,
    pub(crate) log: CallLog,
    /// The addresses of the gateways at present.
    pub(crate) gateways: watch::Receiver<Vec<String>>,
    /// Set when everybody is to stop.
    pub(crate) stops: watch::Receiver<bool>,
    /// Set when who left is to come back.
    pub(crate) all_back: watch::Receiver<bool>,
}

/// A device of a user.
#[derive(Debug)]
pub(crate) struct ChaosDevice {
    name: String,
    habit: Habit,
    line: Arc<Proxy>,
    recording: Recording,
    rng: StdRng,
    shared: Arc<SharedByDevices>,
    sent: u64,
    under_way: JoinSet<Sending>,
    /// How many of them there are, by room.
    counts: BTreeMap<String, usize>,
    online: Vec<(Millis, Millis)>,
    /// When it last began to be online or to try to be.
    since: Option<Millis>,
}

impl ChaosDevice {
    /// Signs a device in.
    pub(crate) async fn sign_in(
        (user, name): (&str, &str),
        token: &str,
        habit: Habit,
        line: Arc<Proxy>,
        shared: Arc<SharedByDevices>,
        seed: u64,
    ) -> Self {
        let since = Some(Millis::now());
        let options = Options { timeout: PATIENCE, ..Options::default() };
        let recording = Recording::connect_with(line.url(), token, user, name, options).await;
        let (name, rng) = (name.to_owned(), StdRng::seed_from_u64(seed));
        let (under_way, counts, online) = (JoinSet::new(), BTreeMap::new(), Vec::new());
        Self { name, habit, line, recording, rng, shared, sent: 0, under_way, counts, online, since }
    }

    /// Does what the device does until everybody is to stop. Then it is online, with every call answered or given up.
    pub(crate) async fn live(mut self) -> Self {
        let mut turn = Instant::now() + millis(&mut self.rng, 5_000..25_000);
        while !self.stops() {
            match self.habit {
                Habit::Talks => self.talk().await,
                Habit::Leaves => {
                    self.end_session().await;
                    until_set(&self.shared.all_back).await;
                    self.come_back().await;
                }
                Habit::ComesAndGoes => {
                    if Instant::now() >= turn {
                        self.go_away().await;
                        turn = Instant::now() + millis(&mut self.rng, 5_000..25_000);
                    }
                    if self.is_connected().await {
                        self.pause(500..2_000).await;
                    } else {
                        self.come_back().await;
                    }
                }
            }
        }
        while !self.under_way.is_empty() {
            self.settle(Instant::now() + Duration::from_secs(1)).await;
        }
        self
    }

    /// Waits until the device has seen a room up to a seq, and comes back as often as it must. Returns what is wrong if
    /// it takes too long.
    pub(crate) async fn catch_up(&mut self, room: &str, seq: u64, limit: Duration) -> Result<(), String> {
        let until = Instant::now() + limit;
        while self.recording.last(room).is_none_or(|last| last < seq) {
            if Instant::now() > until {
                let last = self.recording.last(room);
                return Err(format!("{self} saw {room} up to {last:?}, not up to {seq}, for {limit:?}"));
            }
            if !self.is_connected().await {
                self.come_back().await;
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Signs out, and says what it saw.
    pub(crate) async fn testify(mut self) -> Witness {
        self.note_offline();
        let user = self.recording.user().to_owned();
        let (violations, rooms) = self.recording.finish_with(&self.shared.rooms).await;
        Witness { user, device: self.name, rooms, online: self.online, violations }
    }

    fn stops(&self) -> bool {
        *self.shared.stops.borrow()
    }

    async fn until_stops(&self) {
        until_set(&self.shared.stops).await;
    }

    /// Returns whether the server answers on the connection that there is.
    async fn is_connected(&self) -> bool {
        timeout(PATIENCE, self.recording.client().ping()).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Waits for some of these milliseconds, or until everybody is to stop.
    async fn pause(&mut self, range: std::ops::Range<u64>) {
        let _stopped = timeout(millis(&mut self.rng, range), self.until_stops()).await;
    }

    /// Sends a few messages at once, and notes what is answered meanwhile.
    async fn talk(&mut self) {
        for _ in 0..self.rng.random_range(1..8) {
            let quiet = self.rng.random_bool(0.002);
            let rooms = if quiet { &self.shared.rooms[BUSY..] } else { &self.shared.rooms[..BUSY] };
            let Some(room) = rooms.choose(&mut self.rng) else { return };
            if self.counts.get(room).is_some_and(|count| *count >= UNDER_WAY) {
                continue;
            }
            self.sent += 1;
            let text = format!("{} of {} says {}", self.name, self.recording.user(), self.sent);
            let mut sending = Sending::new(room, text, &self.recording);
            sending.tries_left = if self.rng.random_bool(0.8) { TRIES } else { 1 };
            self.send(sending);
        }
        let until = Instant::now() + millis(&mut self.rng, 100..900);
        self.settle(until).await;
    }

    fn send(&mut self, mut sending: Sending) {
        *self.counts.entry(sending.call.room.clone()).or_default() += 1;
        let client = self.recording.client().clone();
        self.under_way.spawn(async move {
            sending.send(&client).await;
            sending
        });
    }

    /// Notes what is answered until then. Comes back if the connection is dead, and sends again what may be.
    async fn settle(&mut self, until: Instant) {
        let (mut is_unknown, mut again) = (false, Vec::new());
        while let Ok(Some(sent)) = timeout_at(until, self.under_way.join_next()).await {
            let sending = sent.unwrap_or_else(|error| panic!("{error}"));
            self.counts.entry(sending.call.room.clone()).and_modify(|count| *count -= 1);
            let is_open = matches!(sending.call.outcome, CallOutcome::Unknown(_));
            is_unknown |= is_open;
            if is_open && sending.tries_left > 0 {
                again.push(sending);
            } else {
                self.shared.log.add(sending.call);
            }
        }
        if is_unknown && !self.is_connected().await {
            self.come_back().await;
        }
        again.into_iter().for_each(|sending| self.send(sending));
        let _stopped = timeout_at(until, self.until_stops()).await;
    }

    /// Stays away for a while.
    async fn go_away(&mut self) {
        self.end_session().await;
        self.pause(50_000..75_000).await;
        self.come_back().await;
    }

    /// Ends the session in one of the ways in which devices do.
    async fn end_session(&mut self) {
        if self.rng.random_bool(0.5) {
            let _closed = timeout(PATIENCE, self.recording.client().close()).await;
        } else {
            self.recording.client().cut().await;
        }
        self.note_offline();
    }

    fn note_offline(&mut self) {
        if let Some(since) = self.since.take() {
            self.online.push((since, Millis::now()));
        }
    }

    /// Signs in at one of the gateways, and tries until it succeeds.
    async fn come_back(&mut self) {
        self.since.get_or_insert_with(Millis::now);
        loop {
            let gateways = self.shared.gateways.borrow().clone();
            if let Some(gateway) = gateways.choose(&mut self.rng) {
                self.line.aim(gateway);
            }
            let url = self.line.url().to_owned();
            if timeout(PATIENCE, self.recording.reconnect(&url)).await.is_ok_and(|back| back.is_ok()) {
                return;
            }
            sleep(millis(&mut self.rng, 100..1_000)).await;
        }
    }
}

async fn until_set(flag: &watch::Receiver<bool>) {
    // It is never dropped before.
    drop(flag.clone().wait_for(|is_set| *is_set).await);
}

impl fmt::Display for ChaosDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.recording.user())
    }
}

/// A message under way.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) call: Call,
    /// How often it may still be sent.
    pub(crate) tries_left: usize,
    /// The seq of the room that was known when it was first sent.
    known: u64,
}

impl Sending {
    /// Returns a message that may be sent any number of times.
    pub(crate) fn new(room: &str, text: String, by: &Recording) -> Self {
        let (user, room, outcome) =
            (by.user().to_owned(), room.to_owned(), CallOutcome::Unknown("not sent".to_owned()));
        let known = by.last(&room).unwrap_or(0);
        let began = Millis::now();
        let call = Call { user, room, text, began, ended: began, tries: 0, outcome };
        Self { call, tries_left: usize::MAX, known }
    }

    pub(crate) async fn send(&mut self, by: &Client) {
        self.tries_left = self.tries_left.saturating_sub(1);
        let retry = (self.call.tries > 0).then_some(self.known);
        let nonce = Some(self.call.text.replace(' ', "-"));
        let options = SendOptions { nonce, retry, ..SendOptions::default() };
        let answer = by.send_with(&self.call.room, json!({"text": self.call.text}), options);
        let answer = timeout(PATIENCE, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(ClientError::Timeout("send".to_owned())));
        self.call.outcome = CallOutcome::of(&answer, self.call.tries > 0);
        self.call.tries += 1;
        self.call.ended = Millis::now();
    }
}
