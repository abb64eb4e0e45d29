//! A reader of all subscriptions on one connection. It reconnects and subscribes again by itself.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use sendpi_model::UserId;
use sendpi_model::timing::NATS_PING;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::UserMessage;
use super::handshake::{ServerAddress, connect};
use super::protocol::{ServerOp, next};
use crate::{Bus, BusConfig, subject};

const PAUSE: Duration = Duration::from_millis(250);
/// A server that has sent no byte since this many pings of the clock is given up.
const UNHEARD_PINGS: u32 = 2;

/// The subscriptions. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SubjectReader(Arc<SharedTable>);

#[derive(Debug, Default)]
struct SharedTable {
    table: Mutex<SubscriptionTable>,
    news: Notify,
}

#[derive(Debug, Default)]
struct SubscriptionTable {
    last_sid: u64,
    users: HashMap<u64, UserId>,
    /// What is to be sent to the server. Subscriptions are added only while the connection is up.
    out: Vec<u8>,
    connected: bool,
    /// Those who wait for the answer to the next ping.
    waiting: Vec<oneshot::Sender<()>>,
    /// Those who wait for the answers to the pings under way.
    pinged: VecDeque<Vec<oneshot::Sender<()>>>,
    /// The pings of the clock since the server was last heard. Those of sign-ins do not count, because many of them
    /// may be under way at any time.
    unheard: u32,
}

/// Ends one subscription when it is dropped.
#[derive(Debug)]
pub(super) struct Subscribed {
    shared: Arc<SharedTable>,
    sid: u64,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        table.users.remove(&self.sid);
        if table.connected {
            table.out.extend_from_slice(format!("UNSUB {}\r\n", self.sid).as_bytes());
        }
        drop(table);
        self.shared.news.notify_one();
    }
}

impl SharedTable {
    fn table(&self) -> MutexGuard<'_, SubscriptionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SubscriptionTable {
    fn subscribe(&mut self, sid: u64, user: &UserId) {
        self.out.extend_from_slice(format!("SUB {} {sid}\r\n", subject::user(user)).as_bytes());
    }

    fn ping(&mut self) {
        self.out.extend_from_slice(b"PING\r\n");
        let waiting = std::mem::take(&mut self.waiting);
        self.pinged.push_back(waiting);
    }

    /// Begins a connection. It subscribes to everything again, and those who wait now wait for the answer to this
    /// ping.
    fn connected(&mut self) {
        self.connected = true;
        self.unheard = 0;
        self.out.clear();
        let users: Vec<(u64, UserId)> = self.users.iter().map(|(sid, user)| (*sid, user.clone())).collect();
        users.iter().for_each(|(sid, user)| self.subscribe(*sid, user));
        let pinged = std::mem::take(&mut self.pinged);
        self.waiting.extend(pinged.into_iter().flatten());
        self.ping();
    }

    /// Sends a ping of the clock. Returns `false` if the server must be given up.
    fn tick(&mut self) -> bool {
        if self.unheard >= UNHEARD_PINGS {
            return false;
        }
        self.unheard += 1;
        self.ping();
        true
    }

    fn pong(&mut self) {
        for tell in self.pinged.pop_front().into_iter().flatten() {
            // A waiter that has dropped its receiver needs no answer.
            let _ = tell.send(());
        }
    }
}

impl SubjectReader {
    pub(super) fn start(bus: &Bus, tell: mpsc::Sender<UserMessage>) -> Self {
        let shared = Arc::new(SharedTable::default());
        let (config, name) = (bus.config().clone(), format!("{} users", bus.node()));
        let task = ReaderTask { shared: Arc::clone(&shared), config, name, tell };
        tokio::spawn(task.run());
        Self(shared)
    }

    /// Subscribes to a user's subject and waits until the server knows of it.
    pub(super) async fn subscribe(&self, user: &UserId) -> Subscribed {
        let (tell, known) = oneshot::channel();
        let sid = {
            let mut table = self.0.table();
            table.last_sid += 1;
            let sid = table.last_sid;
            table.users.insert(sid, user.clone());
            if table.connected {
                table.subscribe(sid, user);
            }
            table.waiting.push(tell);
            sid
        };
        let subscribed = Subscribed { shared: Arc::clone(&self.0), sid };
        self.0.news.notify_one();
        // It fails only if the reader has ended with the process.
        drop(known.await);
        subscribed
    }
}

struct ReaderTask {
    shared: Arc<SharedTable>,
    config: BusConfig,
    name: String,
    tell: mpsc::Sender<UserMessage>,
}

impl ReaderTask {
    /// Runs until nobody receives the messages any more.
    async fn run(self) {
        let addresses: Vec<ServerAddress> =
            self.config.server_list().into_iter().filter_map(ServerAddress::parse).collect();
        for address in addresses.iter().cycle() {
            let ended = tokio::select! {
                () = self.tell.closed() => return,
                ended = self.connection(address) => ended,
            };
            self.shared.table().connected = false;
            if let Err(error) = ended {
                tracing::warn!(%error, server = address.host(), "the connection for users' subjects is made anew");
            }
            sleep(PAUSE).await;
        }
    }

    async fn connection(&self, address: &ServerAddress) -> io::Result<()> {
        let stream = connect(address, &self.config, &self.name).await?;
        self.shared.table().connected();
        self.shared.news.notify_one();
        let (mut from, mut to) = tokio::io::split(stream);
        tokio::try_join!(self.read(&mut from), self.write(&mut to)).map(|_| ())
    }

    async fn read(&self, from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(4096);
        loop {
            while let Some(said) = next(&mut buffer).map_err(io::Error::other)? {
                self.take(said);
            }
            if from.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.shared.table().unheard = 0;
        }
    }

    fn take(&self, said: ServerOp) {
        match said {
            ServerOp::Message { sid, payload } => {
                let Some(user) = self.shared.table().users.get(&sid).cloned() else { return };
                if self.tell.try_send(UserMessage { user, payload }).is_err() {
                    tracing::debug!("a message to a user's devices is lost");
                }
            }
            ServerOp::Ping => {
                self.shared.table().out.extend_from_slice(b"PONG\r\n");
                self.shared.news.notify_one();
            }
            ServerOp::Pong => self.shared.table().pong(),
            ServerOp::Error(error) => tracing::warn!(error, "the server reports an error about users' subjects"),
            ServerOp::Other => {}
        }
    }

    async fn write(&self, to: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        let mut pings = interval(NATS_PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.tick().await;
        loop {
            let out = {
                let mut table = self.shared.table();
                if !table.waiting.is_empty() {
                    table.ping();
                }
                std::mem::take(&mut table.out)
            };
            to.write_all(&out).await?;
            // TLS may hold back the end of it.
            to.flush().await?;
            tokio::select! {
                () = self.shared.news.notified() => {}
                _ = pings.tick() => {
                    if !self.shared.table().tick() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
