//! A session's side towards its client: what the gateway calls, the outbound queue, and the transport below it.

pub(crate) mod node_budget;
pub(crate) mod outbound;
pub(crate) mod outbox;
pub(crate) mod session;
pub(crate) mod transport;
pub(crate) mod typing_limit;
pub(crate) mod ws_frame;
