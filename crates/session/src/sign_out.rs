//! Signing a user out everywhere: tokens that were issued up to now are revoked, and the sessions that they opened end.
//!
//! *Why no session is missed:* a sign-in puts presence first and then looks whether its token is revoked. If it looked
//! before the revocation was written, its presence was there before that, too. So the sign-out, which reads presence
//! after the write, finds its node and asks it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::Subscription;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Code, Millis, NodeId, Refusal, UserId, encode_json};
use sendpi_store::{RevokedRow, Row};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::client::transport::Identity;
use crate::context::NodeContext;
use crate::handle::UserTier;
use crate::sign_in::room_list::store_failed;

/// The version of this format.
const VERSION: u8 = 1;
/// The pause before nodes that did not answer are asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the user's nodes are asked. One that was not reached by then has died, or finds out at its next sign-in.
const LIMIT: Duration = Duration::from_secs(10);

/// The word to another node that a user was signed out. The answer is empty.
#[derive(Debug, Serialize, Deserialize)]
struct SignOutNotice {
    v: u8,
    user: UserId,
    /// Tokens that were issued up to this time are revoked.
    before: Millis,
}

impl UserTier {
    /// Signs a user out: revokes all tokens that were issued up to now, and ends the sessions that they opened, on all
    /// nodes.
    ///
    /// # Errors
    /// Returns `unavailable` if the store did not take it, or if a node that has the user did not answer in time. It
    /// is safe to try again.
    pub async fn sign_out(&self, user: &UserId) -> Result<(), Refusal> {
        let (node, before) = (self.context(), Millis::now());
        let row = Row::Revoked(RevokedRow { user: user.clone(), before });
        node.store.write(vec![row]).await.map_err(|error| {
            tracing::warn!(%error, "a sign-out could not be written");
            Refusal::unavailable("the store did not answer", 1_000)
        })?;
        let notice = SignOutNotice { v: VERSION, user: user.clone(), before };
        let told = timeout(LIMIT, tell_nodes(node, &notice)).await;
        told.map_err(|_| Refusal::unavailable("a node with sessions of the user did not answer", 1_000))
    }

    /// Checks that the token of a client is not revoked.
    ///
    /// # Errors
    /// Returns `unauthorized` if it is, and `unavailable` if the store does not answer.
    pub async fn check_token(&self, who: &Identity) -> Result<(), Refusal> {
        check_token(self.context(), who).await
    }
}

/// Checks that the token of a client is not revoked. A token without a time of issue is revoked by any sign-out.
pub(crate) async fn check_token(node: &NodeContext, who: &Identity) -> Result<(), Refusal> {
    let revoked = node.store.revoked(&who.user).await.map_err(store_failed)?;
    match revoked {
        _ if mutant(Mutant::RevokedForgiven) => Ok(()),
        Some(before) if who.issued_at.is_none_or(|issued| issued <= before) => {
            Err(Refusal::new(Code::Unauthorized, "the token was revoked: the user was signed out"))
        }
        _ => Ok(()),
    }
}

/// Tells every node that has the user, until all have answered.
async fn tell_nodes(node: &Arc<NodeContext>, notice: &SignOutNotice) {
    node.with(|state, effects| state.revoke(&notice.user, notice.before, effects));
    if mutant(Mutant::SignOutHere) {
        return;
    }
    let payload = Bytes::from(encode_json(notice));
    let mut told: HashSet<NodeId> = [node.bus.node().clone()].into();
    loop {
        if let Some(online) = node.presence.read(vec![notice.user.clone()]).await {
            let named = online.into_values().flatten().map(|(other, _)| other);
            let named: HashSet<NodeId> = named.filter(|other| !told.contains(other)).collect();
            if named.is_empty() {
                return;
            }
            let asks = named.into_iter().map(|other| async {
                let answer = node.bus.request(subject::node(&other, NodeSubject::SignOut), payload.clone()).await;
                answer.inspect_err(|error| tracing::debug!(%error, node = %other, "a sign-out is told again")).ok()?;
                Some(other)
            });
            let answered = futures_util::future::join_all(asks).await;
            let count = told.len();
            told.extend(answered.into_iter().flatten());
            if told.len() > count {
                continue;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Ends the sessions of users who were signed out on other nodes, until this node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>, mut notices: Subscription) {
    while let Some(Some(message)) = node.shutdown.run_until_cancelled(notices.next()).await {
        let Some(reply) = message.reply().filter(|reply| subject::is_inbox(reply)) else { continue };
        match serde_json::from_slice(message.payload()) {
            Ok(SignOutNotice { user, before, .. }) => {
                node.with(|state, effects| state.revoke(&user, before, effects));
            }
            Err(error) => {
                tracing::debug!(%error, "ignored an unreadable sign-out");
                continue;
            }
        }
        if let Err(error) = node.bus.publish(reply.to_owned(), Bytes::new()).await {
            tracing::debug!(%error, "could not answer a sign-out; it comes again");
        }
    }
}
