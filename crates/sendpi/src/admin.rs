//! `sendpi admin`: what an operator asks of a running Sendpi through one of its gateways, as a service.

use std::time::Duration;

use bytes::Bytes;
use sendpi_fetch::{AddressRule, Fetch, FetchError};
use sendpi_model::{IdError, UserId};
use serde::Deserialize;

use crate::output::say;

/// Longer than a step takes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const ANSWER_BYTES: usize = 64 * 1024;
/// How often a step is tried while the cluster has no time for it.
const TRIES: u32 = 30;

/// The options of `sendpi admin`.
#[derive(Debug, clap::Args)]
pub(crate) struct AdminCommand {
    #[command(subcommand)]
    action: AdminAction,
}

#[derive(Debug, clap::Subcommand)]
enum AdminAction {
    /// Forget a user: sign the user out, remove the push addresses, and remove the bodies of all messages of the user
    /// in place. Memberships, seqs and counts stay. It can be run again.
    ForgetUser {
        /// The user.
        user: String,
        /// A gateway of the cluster: http://host:port or https://host.
        #[arg(long, default_value = "http://127.0.0.1:8080", env = "SENDPI_URL")]
        url: String,
        /// The token of a service: one with the scope `service`.
        #[arg(long, env = "SENDPI_TOKEN", hide_env_values = true)]
        token: String,
    },
}

/// The reason why a request of an operator failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The user's id is none.
    #[error("the user {0}")]
    User(#[source] IdError),
    /// No gateway answers.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Rooms could not be searched.
    #[error("these rooms could not be searched now; run it again: {0}")]
    Skipped(String),
    /// A gateway refused.
    #[error("{0}")]
    Refused(String),
    /// The answer is of another release.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// What a step has removed.
#[derive(Debug, Deserialize)]
struct ForgetStep {
    messages: u64,
    rooms: u64,
    devices: u64,
    skipped: Vec<String>,
    next: Option<String>,
}

/// Runs `sendpi admin`.
pub(crate) async fn run(command: AdminCommand) -> Result<(), AdminError> {
    let AdminAction::ForgetUser { user, url, token } = command.action;
    let user = UserId::parse_chosen(&user).map_err(AdminError::User)?;
    let fetch = Fetch::new(AddressRule::Any, TIMEOUT)?;
    let named: String = form_urlencoded::byte_serialize(user.as_str().as_bytes()).collect();
    let address = format!("{}/v1/users/{named}/forget", url.trim_end_matches('/'));
    let (mut messages, mut rooms, mut devices, mut skipped) = (0, 0, 0, Vec::new());
    let mut cursor: Option<String> = None;
    loop {
        let step = match &cursor {
            None => address.clone(),
            Some(cursor) => {
                let query: String =
                    form_urlencoded::Serializer::new(String::new()).append_pair("cursor", cursor).finish();
                format!("{address}?{query}")
            }
        };
        let step = ask(&fetch, &step, &token).await?;
        messages += step.messages;
        rooms += step.rooms;
        devices += step.devices;
        skipped.extend(step.skipped);
        if step.next.is_none() {
            break;
        }
        cursor = step.next;
        eprintln!("{messages} messages in {rooms} rooms so far");
    }
    say(format_args!(
        "forgot {user}: the bodies of {messages} messages in {rooms} rooms were removed, and the push addresses of \
         {devices} devices; all sessions were ended"
    ));
    if skipped.is_empty() { Ok(()) } else { Err(AdminError::Skipped(skipped.join(", "))) }
}

/// Asks for a step, until the cluster has time for it.
async fn ask(fetch: &Fetch, address: &str, token: &str) -> Result<ForgetStep, AdminError> {
    let mut left = TRIES;
    loop {
        let headers = [("authorization", format!("Bearer {token}"))];
        let answer = fetch.post_json(address, &headers, Bytes::new(), ANSWER_BYTES).await?;
        if answer.is_success() {
            return Ok(serde_json::from_slice(&answer.body)?);
        }
        left -= 1;
        if left == 0 || !matches!(answer.status, 429 | 503) {
            return Err(AdminError::Refused(String::from_utf8_lossy(&answer.body).into_owned()));
        }
        tokio::time::sleep(Duration::from_secs(answer.retry_after.unwrap_or(1))).await;
    }
}
