//! A TCP proxy between Sendpi and a database that loses some of its answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The head of a frame (CQL binary protocol v4, section 2): version, flags, stream, opcode, length.
const HEAD: usize = 9;
/// The opcodes of requests that execute prepared statements.
const EXECUTE: [u8; 2] = [0x0a, 0x0d];

/// Which answers are lost.
#[derive(Debug, Default)]
struct Losses {
    /// One answer in so many is lost, or none if it is 0.
    one_in: AtomicU32,
    answers: AtomicU32,
    lost: AtomicUsize,
}

impl Losses {
    fn loses_next(&self) -> bool {
        let one_in = self.one_in.load(Ordering::Relaxed);
        let loses = one_in > 0 && self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in);
        self.lost.fetch_add(usize::from(loses), Ordering::Relaxed);
        loses
    }
}

/// A running proxy. Dropping it cuts its connections.
#[derive(Debug)]
pub struct CqlProxy {
    address: SocketAddr,
    losses: Arc<Losses>,
    task: JoinHandle<()>,
}

impl CqlProxy {
    /// Starts a proxy at an address, to a node of a database, that forwards everything. Both are `host:port`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub(crate) async fn start(address: &str, node: &str) -> Self {
        let target = node.parse().unwrap_or_else(|error| panic!("{node}: {error}"));
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let losses = Arc::<Losses>::default();
        let task = tokio::spawn(accept(listener, target, Arc::clone(&losses)));
        Self { address, losses, task }
    }

    /// Returns its address, as `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Loses one answer in so many to what executes a prepared statement.
    pub fn lose_one_in(&self, answers: u32) {
        self.losses.one_in.store(answers, Ordering::Relaxed);
    }

    /// Loses no further answer.
    pub fn lose_none(&self) {
        self.losses.one_in.store(0, Ordering::Relaxed);
    }

    /// Returns how many answers were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.losses.lost.load(Ordering::Relaxed)
    }
}

impl Drop for CqlProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The streams of a connection on which prepared statements are executed.
type Executing = Arc<Mutex<std::collections::HashSet<[u8; 2]>>>;

async fn accept(listener: TcpListener, target: SocketAddr, losses: Arc<Losses>) {
    // The tasks of the connections end with this one.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (executing, losses) = (Executing::default(), Arc::clone(&losses));
        let noted = Arc::clone(&executing);
        connections.spawn(forward(from_client, to_server, move |stream, opcode| {
            if EXECUTE.contains(&opcode) {
                lock(&noted).insert(stream);
            }
            true
        }));
        connections.spawn(forward(from_server, to_client, move |stream, _| {
            !(lock(&executing).remove(&stream) && losses.loses_next())
        }));
    }
}

fn lock(executing: &Executing) -> std::sync::MutexGuard<'_, std::collections::HashSet<[u8; 2]>> {
    executing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Forwards the frames that `passes` says, by their stream and opcode.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passes: impl Fn([u8; 2], u8) -> bool,
) -> std::io::Result<()> {
    let mut frame = vec![0; HEAD];
    loop {
        frame.truncate(HEAD);
        from.read_exact(&mut frame).await?;
        let (stream, opcode) = ([frame[2], frame[3]], frame[4]);
        let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) as usize;
        frame.resize(HEAD + length, 0);
        from.read_exact(&mut frame[HEAD..]).await?;
        if passes(stream, opcode) {
            to.write_all(&frame).await?;
        }
    }
}
