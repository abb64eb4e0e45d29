//! What the tests stand on: servers of their own, and clients that notice when something is lost, repeated or out of order.
//!
//! [`Sendpi`] and [`NatsServer`] are real processes on free ports, ended on drop; [`Browser`] is a headless Chromium. A
//! [`Recording`] is a client that remembers all it got and checks it against the promises of the protocol.

mod browser;
mod http;
mod nats;
mod process;
mod pushes;
mod recording;
mod sendpi;
mod timelines;
mod within;

pub use browser::{Browser, BrowserPage};
pub use http::{HttpAnswer, get};
pub use nats::NatsServer;
pub use pushes::{Push, PushRecorder};
pub use recording::Recording;
pub use sendpi::{Sendpi, SendpiSetup};
pub use timelines::{Timeline, Timelines};
pub use within::{step, within};
