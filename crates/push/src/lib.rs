//! The push role: it takes the jobs that channels leave in the push stream, and posts a notification for each user to
//! the webhook of the operator, who forwards it to the vendors of phones and browsers.
//!
//! A job is a range of a room's events and the users who want them. Further jobs of one room for one user within ten
//! seconds become one notification. Before it is posted, it is compared with what the user did meanwhile: what was read
//! is not pushed, what was deleted is not shown. A job is done once every user of it is settled: posted, not wanted any
//! more, or kept as a dead letter. What became of each is in the push log, for 72 hours.
//!
//! # Map
//! - `worker`: how a push worker starts and stops. `config`: its settings.
//! - `push_loop`: the task that fetches jobs and has them settled.
//! - `attempt`: one attempt to settle what is due for a user.
//! - `collapse`: what waits for whom, and when it is due. *Pure.*
//! - `gate`: when a webhook that fails is tried again. *Pure.*
//! - `notification`: what a notification shows, by what the store says now.
//! - `webhook`: posting, with a signature.
//! - `metrics`: what operators are told of a worker.
//! - `control`: what operators ask: a test notification, and what became of an event.

mod attempt;
mod collapse;
mod config;
mod control;
mod gate;
mod metrics;
mod notification;
mod push_loop;
mod webhook;
mod worker;

pub use config::{PushConfig, WebhookConfig, WebhookConfigError};
pub use control::{ControlAnswer, ControlRequest, Explanation};
pub use worker::{PushWorker, PushWorkerStartError, start};
