//! A TCP proxy between a client and Sendpi that forwards slowly, or not at all, or breaks connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// The receive buffer towards Sendpi, in bytes. It is small, so that what a slow client has not read waits in Sendpi.
const RECEIVE_BUFFER: u32 = 16 * 1024;
/// How often a slow connection forwards something.
const TURN: Duration = Duration::from_millis(20);

/// How much a proxy forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Everything,
    BytesPerSecond(u32),
    Nothing,
    /// Not even the connection stays.
    Cut,
}

/// A running proxy. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    /// What the clients send.
    up: watch::Sender<Pace>,
    /// What Sendpi sends.
    down: watch::Sender<Pace>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to the Sendpi at `url` that forwards everything.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(url: &str) -> Self {
        let target = url.trim_start_matches("http://").parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let (up, down) = (watch::Sender::new(Pace::Everything), watch::Sender::new(Pace::Everything));
        let task = tokio::spawn(accept(listener, target, up.subscribe(), down.subscribe()));
        Self { url: format!("http://{address}"), up, down, task }
    }

    /// Returns the address to which clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Forwards this many bytes a second of what Sendpi sends from now on, in small and steady portions.
    pub fn slow_down(&self, bytes_per_second: u32) {
        self.down.send_replace(Pace::BytesPerSecond(bytes_per_second));
    }

    /// Forwards nothing from now on, and closes nothing, as if all packets vanished.
    pub fn vanish(&self) {
        self.up.send_replace(Pace::Nothing);
        self.down.send_replace(Pace::Nothing);
    }

    /// Breaks all connections, and every new one, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.up.send_replace(Pace::Cut);
        self.down.send_replace(Pace::Cut);
    }

    /// Forwards new connections again.
    pub fn mend(&self) {
        self.up.send_replace(Pace::Everything);
        self.down.send_replace(Pace::Everything);
    }

    /// Forwards again what Sendpi sends, and what it has sent in the meantime.
    pub fn recover_downwards(&self) {
        self.down.send_replace(Pace::Everything);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, up: watch::Receiver<Pace>, down: watch::Receiver<Pace>) {
    // The tasks of the connections end with this one.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *up.borrow() == Pace::Cut {
            continue;
        }
        let Ok(server) = connect(target).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        connections.spawn(forward(from_client, to_server, up.clone()));
        connections.spawn(forward(from_server, to_client, down.clone()));
    }
}

async fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Forwards one direction of a connection until it ends.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut pace: watch::Receiver<Pace>) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(now) = pace.wait_for(|pace| *pace != Pace::Nothing).await.map(|pace| *pace) else { return };
        let most = match now {
            Pace::BytesPerSecond(bytes) => {
                turns.tick().await;
                (bytes as usize * TURN.as_millis() as usize / 1_000).clamp(1, buffer.len())
            }
            Pace::Cut => return,
            Pace::Everything | Pace::Nothing => buffer.len(),
        };
        let read = tokio::select! {
            read = from.read(&mut buffer[..most]) => read,
            _ = pace.changed() => continue,
        };
        let Ok(count @ 1..) = read else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
