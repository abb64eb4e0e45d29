//! A TCP proxy that is a bad network: it forwards slowly, late, or not at all, breaks connections, or lets one side
//! believe that they are still there.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

/// The receive buffer towards the server, in bytes. It is small, so that what a slow client has not read waits in the
/// server.
const RECEIVE_BUFFER: u32 = 16 * 1024;
/// How often a slow connection forwards something.
const TURN: Duration = Duration::from_millis(20);
/// How long a connection that is not served stays.
const REFUSAL: Duration = Duration::from_millis(100);
/// How many pieces of at most 64 KiB may be under way in one direction of a connection.
const UNDER_WAY: usize = 1_024;

/// How much a proxy forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Everything,
    BytesPerSecond(u32),
    Nothing,
    /// Not even the connection stays.
    Cut,
}

/// One direction of a proxy.
#[derive(Debug, Clone, Copy)]
struct Way {
    pace: Pace,
    /// How long everything is under way.
    delay: Duration,
}

/// Who keeps its end of a connection, and is not told that the other end is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfOpen {
    /// The client: the server sees its connection end.
    Client,
    /// The server: the client sees its connection end.
    Server,
}

/// What a proxy's connections share.
#[derive(Debug)]
struct Network {
    target: watch::Sender<SocketAddr>,
    /// What the clients send.
    up: watch::Sender<Way>,
    /// What the server sends.
    down: watch::Sender<Way>,
    /// Who stayed when connections were last half opened.
    half_open: watch::Sender<Option<HalfOpen>>,
    /// An address in what the server sends, and the one that clients are told instead.
    renamed: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// A running proxy. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    url: String,
    network: Arc<Network>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to the server at `url`, which may be `http://host:port` or `host:port`, that forwards everything.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(url: &str) -> Self {
        Self::start_at(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), url, None).await
    }

    /// Starts a proxy at an address. Where the server tells its clients that it is at `told`, they are told the
    /// proxy's address instead, in the binary form that databases send.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start_at(listen: SocketAddrV4, url: &str, told: Option<Ipv4Addr>) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let way = Way { pace: Pace::Everything, delay: Duration::ZERO };
        let network = Arc::new(Network {
            target: watch::Sender::new(parse(url)),
            up: watch::Sender::new(way),
            down: watch::Sender::new(way),
            half_open: watch::Sender::new(None),
            renamed: told.map(|told| (told, *listen.ip())),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&network)));
        Self { address, url: format!("http://{address}"), network, task }
    }

    /// Returns the address to which clients connect, as a URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the address to which clients connect, as `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Forwards new connections to this server.
    ///
    /// # Panics
    /// If that is no address.
    pub fn aim(&self, url: &str) {
        self.network.target.send_replace(parse(url));
    }

    /// Forwards this many bytes a second of what the server sends from now on, in small and steady portions.
    pub fn slow_down(&self, bytes_per_second: u32) {
        self.network.down.send_modify(|way| way.pace = Pace::BytesPerSecond(bytes_per_second));
    }

    /// Forwards nothing from now on, and closes nothing, as if all packets were sent again and again.
    pub fn vanish(&self) {
        self.set_pace(Pace::Nothing);
    }

    /// Breaks all connections, and every new one, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.set_pace(Pace::Cut);
    }

    /// Forwards new connections again, and what was held back, at once.
    pub fn mend(&self) {
        self.set_pace(Pace::Everything);
        self.delay(Duration::ZERO, Duration::ZERO);
    }

    /// Forwards again what the server sends, and what it has sent in the meantime.
    pub fn recover_downwards(&self) {
        self.network.down.send_modify(|way| way.pace = Pace::Everything);
    }

    /// Forwards what comes from now on so much later: what clients send, and what the server sends. What is under way
    /// arrives even if its sender ends meanwhile.
    pub fn delay(&self, up: Duration, down: Duration) {
        self.network.up.send_modify(|way| way.delay = up);
        self.network.down.send_modify(|way| way.delay = down);
    }

    /// Ends the connections that there are now for one side only. What the other one sends is lost.
    pub fn half_open(&self, stays: HalfOpen) {
        self.network.half_open.send_replace(Some(stays));
    }

    fn set_pace(&self, pace: Pace) {
        self.network.up.send_modify(|way| way.pace = pace);
        self.network.down.send_modify(|way| way.pace = pace);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn parse(url: &str) -> SocketAddr {
    let address = url.trim_start_matches("http://").trim_start_matches("nats://");
    address.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

async fn accept(listener: TcpListener, network: Arc<Network>) {
    // The tasks of the connections end with this one.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if network.up.borrow().pace == Pace::Cut {
            // Who connects again without a pause would keep the machine busy.
            connections.spawn(async move {
                sleep(REFUSAL).await;
                drop(client);
            });
        } else {
            connections.spawn(serve(client, Arc::clone(&network)));
        }
    }
}

/// Serves one connection until it ends.
async fn serve(mut client: TcpStream, network: Arc<Network>) {
    let mut half_open = network.half_open.subscribe();
    let target = *network.target.borrow();
    let Ok(mut server) = connect(target).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let upwards = forward(&mut from_client, &mut to_server, network.up.subscribe(), None);
    let downwards = forward(&mut from_server, &mut to_client, network.down.subscribe(), network.renamed);
    tokio::select! {
        _ = async { tokio::join!(upwards, downwards) } => return,
        _ = half_open.changed() => {}
    }
    let stays = *half_open.borrow();
    let mut staying = match stays {
        Some(HalfOpen::Server) => {
            drop(client);
            server
        }
        Some(HalfOpen::Client) | None => {
            drop(server);
            client
        }
    };
    let mut lost = vec![0; 64 * 1024];
    while matches!(staying.read(&mut lost).await, Ok(1..)) {}
}

async fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Forwards one direction of a connection until it ends.
async fn forward(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut way: watch::Receiver<Way>,
    renamed: Option<(Ipv4Addr, Ipv4Addr)>,
) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; 64 * 1024];
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        let Ok(Way { pace, delay }) = way.wait_for(|way| way.pace != Pace::Nothing).await.map(|way| *way) else {
            return;
        };
        if pace == Pace::Cut {
            return;
        }
        let due = under_way.front().map(|(due, _)| *due);
        if due.is_some_and(|due| due <= Instant::now()) {
            let Some((_, piece)) = under_way.pop_front() else { continue };
            if to.write_all(&piece).await.is_err() {
                return;
            }
            continue;
        }
        let most = match pace {
            Pace::BytesPerSecond(bytes) => {
                turns.tick().await;
                (bytes as usize * TURN.as_millis() as usize / 1_000).clamp(1, buffer.len())
            }
            Pace::Everything | Pace::Nothing | Pace::Cut => buffer.len(),
        };
        tokio::select! {
            biased;
            _ = way.changed() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            read = from.read(&mut buffer[..most]), if open && under_way.len() < UNDER_WAY => match read {
                Ok(count @ 1..) => {
                    rename(&mut buffer[..count], renamed);
                    under_way.push_back((Instant::now() + delay, buffer[..count].to_vec()));
                }
                // What was sent before the end is still under way.
                Ok(0) | Err(_) => open = false,
            },
        }
    }
    // If this fails, the other side has ended too.
    let _ = to.shutdown().await;
}

/// Replaces one address by another. An answer that holds one is short, and comes in one piece.
fn rename(piece: &mut [u8], renamed: Option<(Ipv4Addr, Ipv4Addr)>) {
    let Some((told, own)) = renamed else { return };
    for at in 0..piece.len().saturating_sub(3) {
        if piece[at..at + 4] == told.octets() {
            piece[at..at + 4].copy_from_slice(&own.octets());
        }
    }
}
