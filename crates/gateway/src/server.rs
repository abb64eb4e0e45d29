//! Listens for clients, accepts their connections, and stops in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sendpi_session::UserTier;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::addresses::{AddressCounts, CountedAddress};
use crate::metrics::{GatewayMetrics, RequestLabels};
use crate::rates::{FORGET_EVERY, UserRates};
use crate::shared::Shared;
use crate::{GatewayConfig, Tokens, TokensError, http, js_client, operations, page, upgrade};

/// How long the listener pauses when it cannot accept, for example because the machine has no sockets left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The send buffer of a socket in bytes, which the operating system may double. What is written to a socket waits there
/// for a slow client, so that only a small buffer lets a session know what its client can have read. It also bounds
/// what the operating system keeps for slow clients.
const SEND_BUFFER: u32 = 64 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a client may take to read that its address has too many connections.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// The largest size of a request line together with its headers, in bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// The reason why a gateway cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is already in use.
    #[error("port {} is taken; choose another with --port", .0.port())]
    Taken(SocketAddr),
    /// Tokens cannot be checked.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The operating system refuses the address for another reason.
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, #[source] io::Error),
}

/// A gateway that listens. It accepts clients once [`Gateway::serve`] is called.
#[derive(Debug)]
pub struct Gateway {
    config: GatewayConfig,
    tokens: Tokens,
    listener: TcpListener,
    address: SocketAddr,
}

impl Gateway {
    /// Binds the listening socket.
    ///
    /// # Errors
    /// [`BindError`], worded for the person who chose the port.
    pub async fn bind(config: GatewayConfig) -> Result<Self, BindError> {
        let wanted = config.listen;
        let tokens = Tokens::new(config.tokens.clone())?;
        match listen(wanted).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => Ok(Self { config, tokens, listener, address }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::Taken(wanted)),
            Err(error) => Err(BindError::Other(wanted, error)),
        }
    }

    /// Returns the address on which the gateway listens. If port 0 was configured, it holds the port that was chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns whether it serves clients, and not only operations.
    #[must_use]
    pub fn serves_clients(&self) -> bool {
        self.config.clients
    }

    /// Serves, with the metrics of `registry` beside its own, until `stop` says by when to have ended. Then accepts no
    /// more connections, waits for the sessions to end (the user tier drains them), and cuts off those that are left at
    /// that time.
    pub async fn serve(self, sessions: UserTier, mut registry: Registry, mut stop: oneshot::Receiver<Instant>) {
        let metrics = GatewayMetrics::default();
        metrics.register(&mut registry);
        let shared = Arc::new(Shared {
            tokens: self.tokens,
            metrics,
            registry,
            rates: UserRates::new(&self.config.rates),
            connections: AddressCounts::new(self.config.rates.connections),
            unsigned: AddressCounts::new(self.config.rates.unsigned),
            config: self.config,
            sessions,
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
        });
        let router = router(&shared);
        let stopping = CancellationToken::new();
        let (forgetful, fresh) = (Arc::clone(&shared), Arc::clone(&shared));
        let (stop_forgetting, stop_fetching) = (stopping.clone(), stopping.clone());
        shared.tasks.spawn(async move { stop_forgetting.run_until_cancelled(forget_idle(&forgetful.rates)).await });
        shared.tasks.spawn(async move { stop_fetching.run_until_cancelled(fresh.tokens.keep_fresh()).await });
        let until = loop {
            let accepted = tokio::select! {
                until = &mut stop => break until.unwrap_or_else(|_| Instant::now()),
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    shared.tasks.spawn(connection(stream, peer, router.clone(), Arc::clone(&shared), stopping.clone()));
                }
                Err(error) if is_of_one_connection(&error) => debug!(%error, "a connection ended before it began"),
                Err(error) => {
                    warn!(%error, "cannot accept connections now");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        };
        drop(self.listener);
        stopping.cancel();
        finish(&shared, until).await;
    }
}

/// Listens on `address`. Accepted sockets inherit the size of the send buffer.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Forgets now and then who asks nothing any more.
async fn forget_idle(rates: &UserRates) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        rates.forget_idle();
    }
}

/// Sets for how long a client may read nothing of what is written to it. A WebSocket has limits of its own.
///
/// # Errors
/// That of the operating system. Others than Linux have no such limit.
#[cfg(target_os = "linux")]
pub(crate) fn set_write_timeout(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(limit)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn set_write_timeout(_: &TcpStream, _: Option<Duration>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells a client that its address has too many connections.
async fn turn_away(stream: &mut TcpStream) {
    let answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let _ = tokio::time::timeout(TURN_AWAY, stream.write_all(answer)).await;
}

/// Waits at most until `until` for the tasks that still run, then cuts off the rest.
async fn finish(shared: &Shared, until: Instant) {
    shared.tasks.close();
    if tokio::time::timeout_at(until, shared.tasks.wait()).await.is_err() {
        info!(left = shared.tasks.len(), "connections did not end in time and are cut off");
    }
    shared.cut.cancel();
    shared.tasks.wait().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn router(shared: &Arc<Shared>) -> Router {
    let mut router = operations::router();
    if shared.config.clients {
        router = router.route("/v1/ws", get(upgrade::upgrade)).merge(js_client::router()).merge(http::router(shared));
    }
    if shared.config.page {
        router = router.merge(page::router(shared.config.dev_tokens));
    }
    router.layer(from_fn_with_state(Arc::clone(shared), count_request)).with_state(Arc::clone(shared))
}

/// Counts a request by its method and the status of its answer.
async fn count_request(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    // A method that nobody knows is not counted by its name, of which there may be any number.
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let method = if known.contains(&method) { method.to_string() } else { "other".to_owned() };
    shared.metrics.requests.get_or_create(&RequestLabels { method, status: response.status().as_u16() }).inc();
    response
}

/// A connection, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl OpenConnection {
    fn count(gauge: &Gauge) -> Arc<Self> {
        gauge.inc();
        Arc::new(Self(gauge.clone()))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The connection of a request.
#[derive(Debug, Clone)]
pub(crate) struct PeerConnection {
    pub(crate) peer: SocketAddr,
    /// The count of its address, if it came from there itself. A WebSocket keeps it.
    pub(crate) counted: Option<Arc<CountedAddress>>,
    /// A WebSocket keeps this, too.
    pub(crate) open: Arc<OpenConnection>,
}

fn client_is_proxy(peer: SocketAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&peer.ip().to_canonical()))
}

/// Serves HTTP on one connection until it ends or becomes a WebSocket.
async fn connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shared: Arc<Shared>,
    stopping: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection ended before it began");
        return;
    }
    if let Err(error) = set_write_timeout(&stream, Some(shared.config.sign_in_timeout)) {
        debug!(%error, "who does not read an answer holds a connection until the operating system gives up");
    }
    let open = OpenConnection::count(&shared.metrics.connections);
    // What comes through a proxy that is trusted is counted by what the proxy says.
    let is_proxy = client_is_proxy(peer, &shared.config.trusted_proxies);
    let counted = if is_proxy { None } else { shared.connections.admit(peer.ip().to_canonical()) };
    if counted.is_none() && !is_proxy {
        return turn_away(&mut stream).await;
    }
    let client = PeerConnection { peer, counted: counted.map(Arc::new), open };
    let router = router.layer(axum::Extension(ConnectInfo(peer))).layer(axum::Extension(client));
    let service = TowerToHyperService::new(router);
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.config.sign_in_timeout)
        .max_buf_size(HEAD_BYTES);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    // On the heap, so that the future of this task stays small.
    let mut serving = Box::pin(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = shared.cut.cancelled() => return,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                result = serving => result,
                () = shared.cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        debug!(%error, %peer, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TokenKey, TokenRules};

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_way_out() {
        let mut config =
            GatewayConfig::new(TokenRules { keys: vec![TokenKey::Hs256(vec![7; 32])], ..TokenRules::default() });
        config.listen.set_port(0);
        let first = Gateway::bind(config.clone()).await.unwrap();
        let port = first.address().port();
        config.listen.set_port(port);
        let error = Gateway::bind(config).await.unwrap_err();
        assert_eq!(error.to_string(), format!("port {port} is taken; choose another with --port"));
    }
}
