//! The connection of one node to NATS.

mod login;
mod pulse;
mod version;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Client, HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sendpi_model::NodeId;
use sendpi_model::timing::{NATS_PING, NATS_REQUEST};
use sendpi_tls::{TlsFiles, TlsFilesError};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::login::{NatsLogin, NatsLoginError};
use self::pulse::Pulse;
pub use self::version::{NATS_VERSIONS, is_safe_nats};
use crate::rights::NatsRole;
use crate::{StreamLosses, subject};

/// The least `max_payload` of a NATS server that carries everything that Sendpi sends, in bytes. It is the default.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// How to reach NATS.
#[derive(Clone)]
pub struct BusConfig {
    /// The servers, separated by commas.
    pub servers: String,
    /// How long a request may take before its outcome counts as unknown.
    pub request_timeout: Duration,
    /// What this process is to NATS.
    pub role: NatsRole,
    /// Who it is, if the servers do not let everybody in. A name and a password can be part of `servers`.
    pub login: Option<NatsLogin>,
    /// How to encrypt the connections. Without it, they are encrypted if a server asks for it or begins with `tls://`,
    /// and the authorities of the operating system are trusted.
    pub tls: Option<TlsFiles>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            servers: "nats://127.0.0.1:4222".to_owned(),
            request_timeout: NATS_REQUEST,
            role: NatsRole::Node,
            login: None,
            tls: None,
        }
    }
}

impl fmt::Debug for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusConfig").field("servers", &self.hosts()).field("role", &self.role).finish_non_exhaustive()
    }
}

impl BusConfig {
    /// Returns the servers without names and passwords, to be shown to people.
    fn hosts(&self) -> String {
        let host = |server: &&str| server.rsplit_once('@').map_or(*server, |(_, host)| host).to_owned();
        self.server_list().iter().map(host).collect::<Vec<_>>().join(",")
    }

    /// Returns the address of each server.
    pub(crate) fn server_list(&self) -> Vec<&str> {
        self.servers.split(',').map(str::trim).filter(|server| !server.is_empty()).collect()
    }
}

/// The error if no connection could be made at the start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No server can be reached, or it refused the connection.
    #[error("cannot connect to NATS at {servers}: {source}")]
    Unreachable {
        /// The servers.
        servers: String,
        /// What the client library reported.
        source: async_nats::ConnectError,
    },
    /// A file with a certificate or a key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFilesError),
    /// The server is of a release with known defects.
    #[error("the NATS server at {servers} is {found}, which can lose what it acknowledged; it must be {NATS_VERSIONS}")]
    Version {
        /// The servers.
        servers: String,
        /// Its version.
        found: String,
    },
    /// The server takes only small messages. Links would be cut for ever.
    #[error("the NATS server at {servers} has max_payload {found}; Sendpi needs {MAX_PAYLOAD} or more (the default)")]
    MaxPayload {
        /// The servers.
        servers: String,
        /// The server's setting, in bytes.
        found: usize,
    },
}

/// The error if a message could not be handed to the connection.
#[derive(Debug, Clone, thiserror::Error)]
#[error("NATS connection: {0}")]
pub struct SendError(String);

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody subscribes to the subject.
    #[error("no responders")]
    NoResponders,
    /// There was no answer in time, or the connection was lost. The request may have been done.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// Whether the connection is up, and how often it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whether it is up now.
    pub up: bool,
    /// Rises with each connect. It is 1 after the first.
    pub connects: u64,
}

/// The connection of one node to NATS. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    node: NodeId,
    connection: watch::Receiver<ConnectionState>,
    pulse: Arc<Pulse>,
    losses: Arc<watch::Sender<StreamLosses>>,
    refusals: watch::Receiver<String>,
    config: Arc<BusConfig>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Bus {
    /// Connects as `node`. After that, the client reconnects and subscribes again by itself.
    ///
    /// # Errors
    /// [`ConnectError`] if no server can be reached, or if it does not carry what Sendpi sends.
    pub async fn connect(config: &BusConfig, node: NodeId) -> Result<Self, ConnectError> {
        let (state, connection) = watch::channel(ConnectionState::default());
        let (refused, refusals) = watch::channel(String::new());
        let mut options = async_nats::ConnectOptions::new()
            .name(node.as_str())
            .custom_inbox_prefix(subject::inbox(&node, config.role))
            // A server that leaves two pings unanswered is given up.
            .ping_interval(NATS_PING)
            .request_timeout(Some(config.request_timeout))
            .reconnect_delay_callback(|attempt| Duration::from_millis((attempt as u64 * 20).min(500)))
            .event_callback(move |event| {
                match event {
                    async_nats::Event::Connected => {
                        state.send_modify(|c| *c = ConnectionState { up: true, connects: c.connects + 1 });
                    }
                    async_nats::Event::Disconnected => state.send_modify(|c| c.up = false),
                    async_nats::Event::SlowConsumer(id) => tracing::error!(id, "a subscription overran its buffer"),
                    async_nats::Event::ServerError(async_nats::ServerError::Other(error)) => {
                        tracing::error!(error, "NATS refuses what this node does");
                        refused.send_replace(error);
                    }
                    _ => {}
                }
                async {}
            });
        if let Some(login) = &config.login {
            options = login.apply(options);
        }
        if let Some(tls) = &config.tls {
            options = options.require_tls(true).tls_client_config((*tls.client_config()?).clone());
        }
        let client = options
            .connect(config.server_list())
            .await
            .map_err(|source| ConnectError::Unreachable { servers: config.hosts(), source })?;
        let found = client.server_info().version;
        if !is_safe_nats(&found) {
            return Err(ConnectError::Version { servers: config.hosts(), found });
        }
        let found = client.max_payload();
        if found < MAX_PAYLOAD {
            return Err(ConnectError::MaxPayload { servers: config.hosts(), found });
        }
        let pulse = Arc::new(Pulse::start(client.clone(), subject::pulse(&node), connection.clone()));
        let losses = Arc::new(watch::Sender::default());
        let config = Arc::new(config.clone());
        Ok(Self { client, node, connection, pulse, losses, refusals, config })
    }

    /// Returns the node whose connection this is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Returns a receiver of the connection's state, which changes when the connection is lost and made again.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.connection.clone()
    }

    /// Returns when NATS last brought a message of this node's own. Everything that NATS had brought before that waits
    /// in the subscriptions, or was received.
    #[must_use]
    pub fn last_pulse(&self) -> Instant {
        self.pulse.last()
    }

    /// Returns a receiver of how often buckets and streams were lost and made anew, which [`crate::keep_streams`]
    /// notes.
    #[must_use]
    pub fn losses(&self) -> watch::Receiver<StreamLosses> {
        self.losses.subscribe()
    }

    /// Notes the loss of buckets and streams that were made anew.
    pub(crate) fn note_losses(&self, lost: StreamLosses) {
        self.losses.send_modify(|all| {
            all.partitions += lost.partitions;
            all.presence += lost.presence;
            all.push += lost.push;
        });
    }

    /// Returns how long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.config.request_timeout
    }

    /// Returns how NATS was reached.
    pub(crate) fn config(&self) -> &BusConfig {
        &self.config
    }

    /// Returns a receiver of what a server said when it last refused a subject.
    pub(crate) fn refusals(&self) -> watch::Receiver<String> {
        self.refusals.clone()
    }

    /// Returns the JetStream context, for this crate's own use.
    pub(crate) fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client.clone())
    }

    /// Publishes a message. It may be lost.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closed for good.
    pub async fn publish(&self, subject: String, payload: Bytes) -> Result<(), SendError> {
        self.client.publish(subject, payload).await.map_err(|e| SendError(e.to_string()))
    }

    /// Publishes a message whose answers go to `reply`, as does "no responders" from NATS.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closed for good.
    pub async fn publish_with_reply(&self, subject: String, reply: String, payload: Bytes) -> Result<(), SendError> {
        self.client.publish_with_reply(subject, reply, payload).await.map_err(|e| SendError(e.to_string()))
    }

    /// Subscribes to `subject`. The server knows of it before anything that this connection sends later.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closed for good.
    pub async fn subscribe(&self, subject: String) -> Result<Subscription, SendError> {
        self.client.subscribe(subject).await.map(Subscription).map_err(|e| SendError(e.to_string()))
    }

    /// Subscribes as one member of a queue group.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closed for good.
    pub async fn queue_subscribe(&self, subject: String, group: String) -> Result<Subscription, SendError> {
        self.client.queue_subscribe(subject, group).await.map(Subscription).map_err(|e| SendError(e.to_string()))
    }

    /// Sends a request and waits for its one answer.
    ///
    /// # Errors
    /// [`RequestError`] shows whether somebody may have received the request.
    pub async fn request(&self, subject: String, payload: Bytes) -> Result<NatsMessage, RequestError> {
        self.request_with(subject, payload, None).await
    }

    pub(crate) async fn request_with(
        &self,
        subject: String,
        payload: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<NatsMessage, RequestError> {
        let mut request = async_nats::Request::new().payload(payload);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        match self.client.send_request(subject, request).await {
            Ok(message) => Ok(NatsMessage(message)),
            Err(e) if e.kind() == async_nats::RequestErrorKind::NoResponders => Err(RequestError::NoResponders),
            Err(e) => Err(RequestError::Unknown(e.to_string())),
        }
    }

    /// Returns a fresh subject for the answers to one request of this node.
    pub(crate) fn new_inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Waits until everything sent before has left this process. It waits for half a second at most, because without
    /// a connection it would wait for ever.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closed, or if it takes longer.
    pub async fn flush(&self) -> Result<(), SendError> {
        match tokio::time::timeout(Duration::from_millis(500), self.client.flush()).await {
            Ok(flushed) => flushed.map_err(|e| SendError(e.to_string())),
            Err(_) => Err(SendError("there is no connection now".to_owned())),
        }
    }

    /// Ends the connection after everything that waits has been sent.
    pub async fn close(&self) {
        if let Err(error) = self.client.drain().await {
            tracing::debug!(%error, "the NATS connection was closed already");
        }
    }
}

/// A message from NATS.
#[derive(Debug)]
pub struct NatsMessage(async_nats::Message);

impl NatsMessage {
    /// Returns the subject to which the message was sent.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Returns the subject on which the sender wants answers.
    #[must_use]
    pub fn reply(&self) -> Option<&str> {
        self.0.reply.as_deref()
    }

    /// Returns the message's content.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// Returns whether this is the report of NATS that nobody subscribes to the subject of a message that was sent
    /// with this reply subject.
    #[must_use]
    pub fn is_no_responders(&self) -> bool {
        self.0.status == Some(StatusCode::NO_RESPONDERS)
    }

    /// Returns the status that a server put in place of a payload.
    pub(crate) fn status(&self) -> Option<u16> {
        self.0.status.map(|status| status.as_u16())
    }

    /// Returns a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
    }
}

/// The messages of one subscription. At most 65,536 wait. The client drops further ones, which links and flows notice
/// and mend.
#[derive(Debug)]
pub struct Subscription(async_nats::Subscriber);

impl Stream for Subscription {
    type Item = NatsMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NatsMessage>> {
        self.0.poll_next_unpin(cx).map(|message| message.map(NatsMessage))
    }
}
