//! The configuration of a push worker.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sendpi_fetch::AddressRule;

/// The least length of a secret in bytes, as Standard Webhooks asks.
const SECRET_MIN: usize = 24;
/// The greatest length of a secret in bytes, as Standard Webhooks asks.
const SECRET_MAX: usize = 64;

/// The configuration of a push worker.
#[derive(Debug, Clone)]
pub struct PushConfig {
    /// Where notifications are posted. Without it, nobody is notified, and the push log says so.
    pub webhook: Option<WebhookConfig>,
    /// After a notification, further messages of the same room wait so long, and come as one.
    pub collapse: Duration,
    /// How long the webhook may take to answer.
    pub timeout: Duration,
    /// A notification that the webhook did not take for so long becomes a dead letter. It is shorter than jobs are
    /// kept.
    pub give_up: Duration,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            webhook: None,
            collapse: Duration::from_secs(10),
            timeout: Duration::from_secs(15),
            give_up: Duration::from_secs(20 * 3600),
        }
    }
}

/// Where and how notifications are posted.
#[derive(Clone)]
pub struct WebhookConfig {
    /// The address.
    pub url: String,
    /// Which addresses it may lead to.
    pub rule: AddressRule,
    /// The secret with which notifications are signed.
    pub(crate) secret: Vec<u8>,
}

impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig").field("url", &self.url).field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// The reason why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookConfigError {
    /// The secret is missing or has another form.
    #[error("the webhook secret must be whsec_ and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)")]
    Secret,
}

impl WebhookConfig {
    /// Returns the configuration of a webhook. `secret` is `whsec_` with base64 behind it, as Standard Webhooks has it.
    ///
    /// # Errors
    /// [`WebhookConfigError`] if the secret is none.
    pub fn new(url: String, secret: &str, rule: AddressRule) -> Result<Self, WebhookConfigError> {
        let encoded = secret.strip_prefix("whsec_").ok_or(WebhookConfigError::Secret)?;
        let secret = STANDARD.decode(encoded.trim()).map_err(|_| WebhookConfigError::Secret)?;
        if !(SECRET_MIN..=SECRET_MAX).contains(&secret.len()) {
            return Err(WebhookConfigError::Secret);
        }
        Ok(Self { url, rule, secret })
    }
}
