//! Messages that are sent while something fails: which of them were acknowledged, and that these are all there.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test ends at what it does not expect")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sendpi_client::{ClientError, SendOptions, Sent};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{Recording, Sendpi, until, within};

/// How soon there must be service again once what failed is well.
const SERVICE: Duration = Duration::from_secs(30);

/// The messages of a test: how many were sent, and which of them were acknowledged.
#[derive(Debug, Default)]
pub struct Messages {
    sent: usize,
    /// The text and the seq of each message that was acknowledged.
    pub acknowledged: Vec<(String, u64)>,
}

impl Messages {
    /// Sends a message.
    ///
    /// # Errors
    /// [`ClientError`] if it is not acknowledged.
    pub async fn send(&mut self, from: &Recording, room: &str) -> Result<(), ClientError> {
        let text = format!("message {} in {room} {}", self.sent, "x".repeat(2000));
        self.sent += 1;
        let Sent { seq, .. } =
            from.client().send_with(room, json!({"text": text}), SendOptions::nonce(format!("n{}", self.sent))).await?;
        self.acknowledged.push((text, seq));
        Ok(())
    }

    /// Sends until a message is refused, or not answered.
    pub async fn until_refused(&mut self, from: &Recording, room: &str) -> ClientError {
        loop {
            if let Err(error) = self.send(from, room).await {
                return error;
            }
            assert!(self.sent < 1000, "the disk is never full");
        }
    }

    /// Sends until a message is acknowledged.
    pub async fn until_acknowledged(&mut self, from: &Recording, room: &str) {
        let sending = async {
            while let Err(error) = self.send(from, room).await {
                assert!(error.is_unknown(), "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        within(SERVICE, "a message is acknowledged again", sending).await;
    }

    /// Checks that every acknowledged message is in the timeline, once, and at its place.
    pub async fn check(&self, by: &Recording, room: &str) {
        let history = by.whole_history(room).await.unwrap();
        for (text, seq) in &self.acknowledged {
            let found: Vec<_> =
                history.iter().filter(|event| event.text() == Some(text.as_str())).map(|e| e.seq).collect();
            assert_eq!(found, [Some(*seq)], "{}", &text[..24.min(text.len())]);
        }
        let mut texts: Vec<_> = history.iter().filter_map(|event| event.text()).collect();
        let all = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), all, "a message is there twice");
    }
}

/// What the senders of a [`SteadyLoad`] share.
#[derive(Debug)]
struct LoadState {
    acknowledged: AtomicUsize,
    unanswered: AtomicUsize,
    stops: AtomicBool,
    /// How long the longest answer took to each sender.
    slowest: Mutex<Vec<Duration>>,
    /// How long each sender waits between two messages.
    pace: Duration,
}

/// Users who send all the time, each in a room of their own, with one who only listens in all of them.
#[derive(Debug)]
pub struct SteadyLoad {
    state: Arc<LoadState>,
    senders: Vec<JoinHandle<(Recording, String, Messages)>>,
    listener: Recording,
}

impl SteadyLoad {
    /// Begins to send in so many rooms.
    pub async fn start(server: &Sendpi, rooms: usize) -> Self {
        let connect = async |user: &str, device: &str| Recording::connect(server, user, device).await;
        Self::start_with(rooms, Duration::ZERO, connect).await
    }

    /// Begins to send in so many rooms, at this pace. `connect` signs a user in with a device.
    pub async fn start_with(rooms: usize, pace: Duration, connect: impl AsyncFn(&str, &str) -> Recording) -> Self {
        let state = Arc::new(LoadState {
            acknowledged: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            stops: AtomicBool::new(false),
            slowest: Mutex::new(vec![Duration::ZERO; rooms]),
            pace,
        });
        let mut senders = Vec::new();
        let listener = connect("listener", "laptop").await;
        for n in 0..rooms {
            let sender = connect(&format!("sender{n}"), "phone").await;
            let info = sender.client().create(&format!("room {n}"), &["listener"]).await.unwrap();
            senders.push(tokio::spawn(send_all_the_time(n, sender, info.room.to_string(), Arc::clone(&state))));
        }
        let load = Self { state, senders, listener };
        load.goes_on().await;
        load
    }

    /// Waits until many more messages are acknowledged.
    pub async fn goes_on(&self) {
        let enough = self.acknowledged() + 10 * self.senders.len();
        within(2 * SERVICE, "messages are acknowledged", async {
            until("messages to be acknowledged", async || self.acknowledged() >= enough).await;
        })
        .await;
    }

    /// Returns how many messages were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.state.acknowledged.load(Ordering::SeqCst)
    }

    /// Returns how many messages were not answered with their place.
    pub fn unanswered(&self) -> usize {
        self.state.unanswered.load(Ordering::SeqCst)
    }

    /// Begins to look for the slowest answers anew.
    pub fn forget_slowest(&self) {
        self.state.slowest.lock().unwrap().fill(Duration::ZERO);
    }

    /// Returns how long the slowest answer in each room took since [`Self::forget_slowest`]. A message that was not
    /// answered yet does not count.
    pub fn slowest(&self) -> Vec<Duration> {
        self.state.slowest.lock().unwrap().clone()
    }

    /// Ends it. Everybody must be served again in each room, and find all that was acknowledged, once, in order.
    pub async fn finish(self) {
        self.state.stops.store(true, Ordering::SeqCst);
        let mut senders = Vec::new();
        for sender in self.senders {
            let (sender, room, mut messages) = sender.await.unwrap();
            messages.until_acknowledged(&sender, &room).await;
            self.listener.until_seq(&room, messages.acknowledged.last().unwrap().1).await;
            for by in [&sender, &self.listener] {
                messages.check(by, &room).await;
            }
            senders.push(sender);
        }
        self.listener.finish().await;
        for sender in senders {
            sender.finish().await;
        }
    }
}

async fn send_all_the_time(
    number: usize,
    sender: Recording,
    room: String,
    state: Arc<LoadState>,
) -> (Recording, String, Messages) {
    let mut messages = Messages::default();
    while !state.stops.load(Ordering::SeqCst) {
        tokio::time::sleep(state.pace).await;
        let began = Instant::now();
        match messages.send(&sender, &room).await {
            Ok(()) => {
                let slowest = &mut state.slowest.lock().unwrap()[number];
                *slowest = (*slowest).max(began.elapsed());
                state.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert!(error.is_unknown(), "{error}");
                state.unanswered.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    (sender, room, messages)
}
