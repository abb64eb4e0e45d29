//! The user tier: user channels and their sessions, without sockets.
//!
//! A gateway opens a [`Session`] for each socket and passes the client's frames to it. Everything that a node knows
//! of its users is one state, which is pure and changes under one lock. Thin tasks surround it. The uplink sends
//! the requests in the flows to the owners of rooms. The downlink receives what the links bring and writes it to
//! the sessions. One timer serves all heartbeats, and short tasks run sign-ins, replays and gap fills. The user
//! tier reads a user's own rows (the list of rooms, the read markers) from the store; timelines come only from the
//! owners of rooms.
//!
//! # Map
//!
//! Files marked *pure* do no I/O and have no clock of their own: times come in as arguments.
//!
//! - `handle`: [`UserTier`], which the gateway and the binary hold, and [`start()`], which spawns the long-lived
//!   tasks.
//! - `config`: the settings and the check of their relations.
//! - `context`: the node's shared context: locks and their order, changes of the state, and how their effects are
//!   carried out.
//! - `drain`: the drain of a node before it stops.
//! - `keys`: the keys of sessions, users, rooms and retried requests, and the numbers of link incarnations.
//! - `ordered_lock`: a mutex that checks the lock order in builds with debug assertions.
//! - `client`: a session's side towards its client.
//!   - `client/session`: the session as the gateway holds it.
//!   - `client/transport`: what the gateway provides: the socket, and the identity behind it.
//!   - `client/outbound`: a session's outbound queue together with its socket.
//!   - `client/outbound/write_queue`: what of it waits for the socket, and how it was written.
//!   - `client/node_budget`: what may wait for all sessions of a node together.
//!   - `client/outbox`: the bounded queue of frames inside the outbound queue. *Pure.*
//!   - `client/ws_frame`: encodes WebSocket frames. *Pure.*
//!   - `client/typing_limit`: how often a session may say that its user is typing. *Pure.*
//! - `owners`: this node's side towards the owners of rooms.
//!   - `owners/flows`: the flows, one to each partition. *Pure.*
//!   - `owners/uplink`: the task that publishes the flows' messages and hears when a partition has no owner.
//!   - `owners/inbound_links`: the links, one from each worker. *Pure.*
//!   - `owners/downlink`: the task that receives link messages and delivers their items.
//!   - `owners/reply_to`: what the answer to a request is for.
//!   - `owners/answer`: reads the owners' answers.
//!   - `owners/patience`: how long a list of rooms waits for their owners.
//!   - `owners/peek`: asks an owner how a member sees its room.
//!   - `owners/retries`: the task that retries what owners have not confirmed, and settles what sessions have.
//! - `state`: all that a node knows of its users. *Pure*, with all its files, except that they queue frames in the
//!   sessions' outbound queues.
//!   - `state/join`: the beginning of a session, its welcome, and the beginning and end of a replay.
//!   - `state/leave`: the end of a session, bounces, sign-out, and read markers from other devices.
//!   - `state/devices`: one session for each device of a user, and a limited number of them.
//!   - `state/farewell`: the end of all sessions when the node is drained.
//!   - `state/overload`: closes the slowest sessions when too much waits for all of them.
//!   - `state/attach`: attaching users to rooms.
//!   - `state/deliver`: delivers events, and keeps the audiences that the links name.
//!   - `state/gaps`: what the sessions of a room are missing.
//!   - `state/heartbeat`: heartbeats, expired tokens, and what the sessions confirm.
//!   - `state/lateness`: for how long the node could hear nobody, which counts against no client. *Pure.*
//!   - `state/session_state`: a session's confirmed positions, and what is held back for it.
//!   - `state/user`: a user channel and its presence.
//!   - `state/rooms`: the rooms with users on this node, and their audiences by link.
//!   - `state/rooms/member`: up to which seq a user has a room's events, and the gap if some are missing.
//!   - `state/unconfirmed`: the log of events that not every session has confirmed.
//!   - `state/retry_queue`: detaches and bounces, which are retried until they are confirmed.
//!   - `state/retry_queue/entry`: what one user in one room is owed.
//!   - `state/timer_wheel`: the times of all heartbeats.
//!   - `state/effects`: what a change of the state asks the code around it to do.
//! - `sign_in`: signs a session in: presence, attaches, welcome.
//!   - `sign_in/rate`: lets sign-ins begin at a limited rate. *Pure.*
//!   - `sign_in/attach`: attaches a user to the rooms that may be active.
//!   - `sign_in/other_nodes`: what the nodes of one user tell each other at a sign-in.
//!   - `sign_in/room_list`: a user's list of rooms, in pages.
//! - `sign_out`: signs a user out on all nodes, and revokes the tokens.
//! - `forget`: removes the bodies of a user's messages.
//! - `metrics`: what operators are told of it.
//! - `requests`: requests of callers without a session, such as HTTP.
//! - `catch_up`: reads what sessions missed from the owners.
//!   - `catch_up/resume`: replays what a client missed, in the two files `plan` and `task`.
//!   - `catch_up/resume/plan`: which rooms a resume replays, from where, and how each one ends. *Pure.*
//!   - `catch_up/resume/task`: carries the plan out.
//!   - `catch_up/gap_fill`: fills the gaps that the state reports.
//!   - `catch_up/head_check`: compares the heads of recently active rooms.
//!   - `catch_up/resync`: after a link was cut, puts presence again and attaches the node's users again.
//!   - `catch_up/attach_queue`: the attaches that are still to be made. *Pure.*
//!   - `catch_up/attach_later`: makes them, each until its owner answers.
//! - `markers`: writes read markers to the store, and publishes notices to the nodes of a user.
//!   - `markers/pending`: the markers that moved lately, and the notices that are not published yet.
//!   - `markers/notice`: the format of notices, and the names of sessions in them.
//!   - `markers/notice_receiver`: receives the notices about this node's users, also those of this node.

mod catch_up;
mod client;
mod config;
mod context;
mod drain;
mod forget;
mod handle;
mod keys;
mod markers;
mod metrics;
mod ordered_lock;
mod owners;
mod requests;
mod sign_in;
mod sign_out;
mod state;

pub use client::session::Session;
pub use client::transport::{Flush, Identity, Transport};
pub use config::{SessionConfig, SessionConfigError};
pub use forget::ForgottenUser;
pub use handle::{UserTier, UserTierStartError, start};
