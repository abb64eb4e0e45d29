//! The pulse: a message that a node sends to itself every second, so that it knows whether NATS brings anything.

use async_nats::Client;
use futures_util::StreamExt;
use sendpi_model::timing::BUS_PULSE_EVERY;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{ConnectionState, MAX_PAYLOAD, NATS_VERSIONS, is_safe_nats};

/// The pulse of one connection. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    last: watch::Receiver<Instant>,
    task: JoinHandle<()>,
}

impl Pulse {
    pub(super) fn start(client: Client, subject: String, connection: watch::Receiver<ConnectionState>) -> Self {
        let (tell, last) = watch::channel(Instant::now());
        Self { last, task: tokio::spawn(beat(client, subject, connection, tell)) }
    }

    /// Returns when the last pulse was received.
    pub(super) fn last(&self) -> Instant {
        *self.last.borrow()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs until the connection is closed for good.
async fn beat(
    client: Client,
    subject: String,
    mut connection: watch::Receiver<ConnectionState>,
    tell: watch::Sender<Instant>,
) {
    let Ok(mut pulses) = client.subscribe(subject.clone()).await else { return };
    let mut ticks = interval(BUS_PULSE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            pulse = pulses.next() => {
                if pulse.is_none() {
                    return;
                }
                tell.send_replace(Instant::now());
            }
            _ = ticks.tick() => {
                // Without a connection, pulses would only fill the queue of what is to be sent.
                if connection.borrow().up && client.publish(subject.clone(), "".into()).await.is_err() {
                    return;
                }
            }
            Ok(()) = connection.changed() => {
                if !connection.borrow_and_update().up {
                    continue;
                }
                let max_payload = client.max_payload();
                if max_payload < MAX_PAYLOAD {
                    tracing::error!(max_payload, "the NATS server has a max_payload below {MAX_PAYLOAD}; raise it");
                }
                let version = client.server_info().version;
                if !is_safe_nats(&version) {
                    tracing::error!(version, "the NATS server can lose what it acknowledged; use {NATS_VERSIONS}");
                }
            }
        }
    }
}
