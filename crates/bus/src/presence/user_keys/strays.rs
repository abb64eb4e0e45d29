//! Strays: keys of users who have no session on this node. A server that was killed may bring purged keys back, and
//! such a user would count as online, and get no push.

use std::time::Duration;

use sendpi_model::faults::{Mutant, mutant};

use super::SharedPlan;
use crate::Bus;
use crate::presence::liveness::users_with_keys;

/// The pause before the keys are listed again, if they could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// Purges the strays after each reconnect. Runs until the connection is closed for good.
pub(super) async fn run(bus: &Bus, shared: &SharedPlan) {
    let mut connection = bus.connection();
    let mut seen = connection.borrow().connects;
    loop {
        let reconnected = connection.wait_for(|now| now.up && now.connects > seen).await.map(|now| now.connects);
        let Ok(connects) = reconnected else { return std::future::pending().await };
        seen = connects;
        loop {
            match users_with_keys(bus).await {
                Ok(users) => {
                    let users = if mutant(Mutant::StraysOff) { Vec::new() } else { users };
                    shared.core().purge_strays(users);
                    shared.news.notify_one();
                    break;
                }
                Err(error) => tracing::debug!(%error, "this node's user keys cannot be listed; it is tried again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
