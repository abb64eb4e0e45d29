//! Who asks: the user or the service of the token, or the user for whom a service acts.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use sendpi_model::flow::Requester;
use sendpi_model::{Code, Millis, Refusal, UserId};

use super::USER_HEADER;
use crate::http_error::HttpError;
use crate::shared::Shared;
use crate::upgrade::bearer;

/// The caller of a request.
#[derive(Debug)]
pub(super) struct Caller {
    /// The user, or the service that acts as itself.
    pub(super) user: UserId,
    /// Whether the token is one of a service.
    pub(super) has_service_token: bool,
    /// Whether a service acts as itself.
    as_service: bool,
}

impl Caller {
    /// Returns on whose behalf rooms are asked.
    pub(super) fn requester(&self) -> Requester<'_> {
        if self.as_service { Requester::Service(&self.user) } else { Requester::User(&self.user) }
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, HttpError> {
        let no_token = || Refusal::new(Code::Unauthorized, "the request needs the header Authorization: Bearer …");
        let identity = shared.tokens.check(bearer(&parts.headers).ok_or_else(no_token)?, Millis::now()).await?;
        shared.sessions.check_token(&identity).await?;
        let has_service_token = identity.service;
        shared.rates.check_request(&identity.user)?;
        let Some(named) = parts.headers.get(USER_HEADER) else {
            return Ok(Self { user: identity.user, has_service_token, as_service: has_service_token });
        };
        let named = named.to_str().map_err(|_| Refusal::field("Sendpi-User", "must be text"))?;
        let named = percent_decoded(named);
        let user = UserId::parse_chosen(&named).map_err(|rule| Refusal::field("Sendpi-User", rule))?;
        if !has_service_token && user != identity.user {
            return Err(Refusal::new(Code::Forbidden, "only a service may act for another user").into());
        }
        Ok(Self { user, has_service_token, as_service: false })
    }
}

/// Returns the user of the header, in which other characters than those of ASCII are percent-encoded.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
