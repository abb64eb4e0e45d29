//! A client that remembers everything it received, and fails the test if a promise was broken.

mod record;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sendpi_client::{Client, ClientError, EventFrame, History, Options, Range, ResumedRoom, ServerFrame, Welcome};
use sendpi_model::RoomId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::record::sign_in;
use crate::{Sendpi, Timeline, Timelines, within};

/// How long a test waits for one thing.
const LIMIT: Duration = Duration::from_secs(20);

/// One device of one user, over any number of connections.
///
/// Dropping it fails the test if an event was missing, repeated or out of order. [`Recording::finish`] closes the
/// connection first, so that every frame is checked.
#[derive(Debug)]
pub struct Recording {
    user: String,
    device: String,
    token: String,
    options: Options,
    client: Client,
    welcome: Welcome,
    seen: Arc<Seen>,
    /// Records the frames of the current connection.
    recorder: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    all: Mutex<All>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct All {
    timelines: Timelines,
    /// The frames other than durable events.
    others: Vec<ServerFrame>,
    /// The errors of frames that could not be read.
    unreadable: Vec<String>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut All)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }
}

impl Recording {
    /// Signs in on the first node of `server`.
    ///
    /// # Panics
    /// If the sign-in fails.
    pub async fn connect(server: &Sendpi, user: &str, device: &str) -> Self {
        Self::connect_with(server.url(), &server.token(user).await, user, device, Options::default()).await
    }

    /// Signs in at `url`.
    ///
    /// # Panics
    /// If the sign-in fails.
    pub async fn connect_with(url: &str, token: &str, user: &str, device: &str, options: Options) -> Self {
        let seen = Arc::new(Seen::default());
        let signed_in = sign_in(url, token, device, &options, &seen).await;
        let (client, welcome, recorder) = signed_in.unwrap_or_else(|error| panic!("{user} cannot sign in: {error}"));
        let (user, device, token) = (user.to_owned(), device.to_owned(), token.to_owned());
        Self { user, device, token, options, client, welcome, seen, recorder }
    }

    /// Cuts the current connection, if there still is one, and signs in again at `url`, resuming the known rooms (at
    /// most 100).
    ///
    /// # Errors
    /// [`ClientError`] if the sign-in fails.
    pub async fn reconnect(&mut self, url: &str) -> Result<(), ClientError> {
        self.client.cut().await;
        // Everything that came on the old connection must be recorded first. After a failed attempt to come back the
        // recorder has ended already, and its handle must not be awaited twice.
        if !self.recorder.is_finished() {
            let _ = (&mut self.recorder).await;
        }
        let signed_in = sign_in(url, &self.token, &self.device, &self.options, &self.seen).await?;
        (self.client, self.welcome, self.recorder) = signed_in;
        Ok(())
    }

    /// Signs in again, and retries until it succeeds.
    ///
    /// # Panics
    /// If it takes too long.
    pub async fn come_back(&mut self, url: &str) {
        let device = self.device.clone();
        let coming_back = async {
            while self.reconnect(url).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        within(3 * LIMIT, &format!("{device} comes back"), coming_back).await;
    }

    /// Returns the client of the current connection, which asks the server.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the answer to the last sign-in.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Returns the user whose device this is.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns what is known about a room.
    #[must_use]
    pub fn room(&self, room: &str) -> Timeline {
        self.seen.lock().timelines.room(room)
    }

    /// Returns the violations of promises so far, and the errors of frames that could not be read.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let all = self.seen.lock();
        all.timelines.violations().iter().chain(&all.unreadable).cloned().collect()
    }

    /// Returns the frames other than durable events so far: typing, `room_added`, `marker` and so on.
    #[must_use]
    pub fn others(&self) -> Vec<ServerFrame> {
        self.seen.lock().others.clone()
    }

    /// Waits for a durable event, pushed or read from history, and returns it.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn until_event(&self, room: &str, what: &str, wanted: impl Fn(&EventFrame) -> bool) -> EventFrame {
        let find = |all: &All| all.timelines.room(room).events().values().find(|event| wanted(event)).cloned();
        self.until(&format!("{what} in {room}"), find).await
    }

    /// Waits for a message with this text, and returns its event.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn until_text(&self, room: &str, text: &str) -> EventFrame {
        self.until_event(room, &format!("{text:?}"), |event| event.text() == Some(text)).await
    }

    /// Waits until this client has seen the room up to `seq`.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn until_seq(&self, room: &str, seq: u64) {
        let find = |all: &All| all.timelines.last(room).filter(|last| *last >= seq);
        self.until(&format!("seq {seq} in {room}"), find).await;
    }

    /// Returns the seq up to which this client has seen a room, or `None` if it has seen nothing yet.
    #[must_use]
    pub fn last(&self, room: &str) -> Option<u64> {
        self.seen.lock().timelines.last(room)
    }

    /// Waits for a frame, other than a durable event, for which `wanted` returns `Some`, and returns the value.
    ///
    /// # Panics
    /// If it does not come in time.
    pub async fn until_frame<T>(&self, what: &str, wanted: impl Fn(&ServerFrame) -> Option<T>) -> T {
        self.until(what, |all| all.others.iter().find_map(&wanted)).await
    }

    /// Waits until the last resume has ended, and returns how it ended in each room.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn until_resumed(&self) -> BTreeMap<RoomId, ResumedRoom> {
        let resumed = |frame: &ServerFrame| match frame {
            ServerFrame::Resumed(resumed) => Some(resumed.rooms.clone()),
            _ => None,
        };
        self.until("the end of a resume", |all| all.others.iter().rev().find_map(resumed)).await
    }

    async fn until<T>(&self, what: &str, find: impl Fn(&All) -> Option<T>) -> T {
        let mut changed = self.seen.changed.subscribe();
        let found = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = find(&self.seen.lock()) {
                    return found;
                }
                // This cannot fail, because the sender lives as long as this recording.
                let _ = changed.changed().await;
            }
        };
        within(LIMIT, &format!("{} of {} gets {what}", self.device, self.user), found).await
    }

    /// Reads a page of a timeline, and checks it against everything seen so far.
    ///
    /// # Errors
    /// Those of [`Client::request`].
    pub async fn history(&self, room: &str, range: Range, limit: usize) -> Result<History, ClientError> {
        let page = self.client.history(room, range, limit).await?;
        self.seen.change(|all| all.timelines.history(room, &page.events));
        Ok(page)
    }

    /// Reads a whole timeline, oldest event first.
    ///
    /// # Errors
    /// Those of [`Client::request`].
    pub async fn whole_history(&self, room: &str) -> Result<Vec<EventFrame>, ClientError> {
        let mut events: Vec<EventFrame> = Vec::new();
        loop {
            let after = events.last().and_then(|event| event.seq).unwrap_or(0);
            let page = self.history(room, Range::After(after), 200).await?;
            let more = page.more && !page.events.is_empty();
            events.extend(page.events);
            if !more {
                // The events are checked once more as a whole, so that a gap between two pages is noticed too.
                self.seen.change(|all| all.timelines.history(room, &events));
                return Ok(events);
            }
        }
    }

    /// Closes the connection, and fails the test if a promise was broken.
    ///
    /// # Panics
    /// If one was.
    pub async fn finish(mut self) {
        self.end().await;
    }

    /// Closes the connection, and returns which promises were broken, with what was seen of these rooms.
    pub async fn finish_with(mut self, rooms: &[String]) -> (Vec<String>, BTreeMap<String, Timeline>) {
        self.end().await;
        let mut all = std::mem::take(&mut *self.seen.lock());
        let rooms = rooms.iter().map(|room| (room.clone(), all.timelines.take(room))).collect();
        (all.timelines.violations().iter().chain(&all.unreadable).cloned().collect(), rooms)
    }

    async fn end(&mut self) {
        self.client.close().await;
        let _ = (&mut self.recorder).await;
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.recorder.abort();
        let violations = self.violations();
        if !violations.is_empty() && !std::thread::panicking() {
            panic!("{} of {} saw:\n  {}", self.device, self.user, violations.join("\n  "));
        }
    }
}
