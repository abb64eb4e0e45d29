//! Posting a notification to the webhook, with a signature as Standard Webhooks has it
//! (<https://www.standardwebhooks.com>): the HMAC-SHA256 of id, time and body.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sendpi_fetch::{Fetch, FetchError};
use sendpi_model::Millis;
use sha2::Sha256;

use crate::config::WebhookConfig;

/// How much of an answer is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// What became of a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The webhook took it.
    Taken(u16),
    /// The webhook did not answer, or has too much to do. It may be tried again after this time.
    Later(String, Option<Duration>),
    /// The webhook refused it.
    Refused(String),
}

/// A webhook.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    config: WebhookConfig,
    fetch: Fetch,
}

impl Webhook {
    pub(crate) fn new(config: WebhookConfig, timeout: Duration) -> Result<Self, FetchError> {
        let fetch = Fetch::new(config.rule, timeout)?;
        Ok(Self { config, fetch })
    }

    /// Posts a notification under its name.
    pub(crate) async fn post(&self, id: &str, body: Bytes) -> Posted {
        let seconds = Millis::now().0 / 1000;
        let signature = signature(&self.config.secret, id, seconds, &body);
        let headers = [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signature),
        ];
        match self.fetch.post_json(&self.config.url, &headers, body, ANSWER_BYTES).await {
            Ok(answer) if answer.is_success() => Posted::Taken(answer.status),
            Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                let pause = answer.retry_after.map(Duration::from_secs);
                Posted::Later(format!("the webhook answered {}", answer.status), pause)
            }
            Ok(answer) => Posted::Refused(format!("the webhook answered {}", answer.status)),
            Err(error @ (FetchError::BadUrl(_) | FetchError::NotPublic(_) | FetchError::Redirect)) => {
                Posted::Refused(error.to_string())
            }
            // It took the notification, and said more than was read.
            Err(FetchError::TooLarge(_)) => Posted::Taken(200),
            Err(error @ (FetchError::NoAnswer(_) | FetchError::Setup(_))) => {
                Posted::Later(format!("at the webhook: {error}"), None)
            }
        }
    }
}

/// Returns the header `webhook-signature`.
fn signature(secret: &[u8], id: &str, seconds: u64, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| unreachable!("a key of any length makes an HMAC"));
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        // The example of its specification.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
