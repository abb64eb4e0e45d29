//! What a request brings: its path, its query and its body, each with an error that names what was wrong.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, RawQuery, Request};
use bytes::Bytes;
use http::request::Parts;
use sendpi_model::{Code, Fields, Refusal, limits};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http_error::HttpError;
use crate::shared::Shared;

/// The parts of the path, percent-decoded.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Shared>> for At<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, HttpError> {
        let path = Path::<T>::from_request_parts(parts, shared).await;
        let Path(path) = path.map_err(|error| Refusal::field("path", format!("cannot be read: {error}")))?;
        Ok(Self(path))
    }
}

/// The body, which is one JSON object, or empty.
#[derive(Debug)]
pub(super) struct JsonBody(Bytes);

impl FromRequest<Arc<Shared>> for JsonBody {
    type Rejection = HttpError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, HttpError> {
        let arrived = tokio::time::timeout(shared.config.sign_in_timeout, Bytes::from_request(request, shared)).await;
        let body = arrived.map_err(|_| Refusal::new(Code::BadFrame, "the body did not arrive in time"))?;
        let body = body.map_err(|error| {
            if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
                Refusal::too_large("body", format!("{} bytes", limits::FRAME_BYTES))
            } else {
                Refusal::new(Code::BadFrame, "the body did not arrive whole")
            }
        })?;
        let body = if body.trim_ascii().is_empty() { Bytes::from_static(b"{}") } else { body };
        Fields::parse(&body)?;
        Ok(Self(body))
    }
}

impl JsonBody {
    /// Returns the body as it arrived.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.trim_ascii()
    }

    /// Returns the fields of the body.
    pub(super) fn fields(&self) -> Result<Fields<'_>, Refusal> {
        Fields::parse(&self.0)
    }
}

/// The query, each parameter at most once but `user`.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl FromRequestParts<Arc<Shared>> for Query {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, HttpError> {
        let Ok(RawQuery(query)) = RawQuery::from_request_parts(parts, shared).await;
        let query = query.unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// Returns the values of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    /// Returns these parameters, as far as they are there, as the fields of a JSON object. Digits are a number.
    pub(super) fn fields(&self, names: &[&'static str]) -> Vec<(&'static str, Value)> {
        let value = |name: &str| self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let fields = names.iter().filter_map(|name| Some((*name, value(name)?)));
        fields.map(|(name, text)| (name, numeric(name, text))).collect()
    }
}

fn numeric(name: &str, text: &str) -> Value {
    let number = text.parse::<u64>().ok().filter(|_| name != "cursor" && text.bytes().all(|b| b.is_ascii_digit()));
    number.map_or_else(|| text.into(), Value::from)
}
