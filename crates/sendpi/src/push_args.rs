//! The options for push notifications.

use sendpi_fetch::AddressRule;
use sendpi_push::{PushConfig, WebhookConfig, WebhookConfigError};

/// Where push notifications go.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Post push notifications to this address.
    #[arg(long, value_name = "URL", env = "SENDPI_WEBHOOK")]
    webhook: Option<String>,
    /// The secret with which they are signed: whsec_ and 24 to 64 bytes in base64.
    #[arg(long, value_name = "SECRET", env = "SENDPI_WEBHOOK_SECRET", hide_env_values = true, requires = "webhook")]
    webhook_secret: Option<String>,
    /// Let the webhook's address lead into a private network, or to this machine.
    #[arg(long)]
    webhook_private: bool,
    /// Leave push jobs in their queue, for somebody else to fetch.
    #[arg(long)]
    no_push: bool,
}

impl PushArgs {
    /// Returns the settings of the push role, or `None` if this process does not have it.
    pub(crate) fn config(&self) -> Result<Option<PushConfig>, WebhookConfigError> {
        if self.no_push {
            return Ok(None);
        }
        let rule = if self.webhook_private { AddressRule::Any } else { AddressRule::Public };
        let webhook = match &self.webhook {
            Some(url) => {
                Some(WebhookConfig::new(url.clone(), self.webhook_secret.as_deref().unwrap_or_default(), rule)?)
            }
            None => None,
        };
        Ok(Some(PushConfig { webhook, ..PushConfig::default() }))
    }
}
