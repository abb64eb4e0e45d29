//! Refusals as HTTP responses.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sendpi_model::{Code, Refusal};

/// A refusal that becomes a response with the HTTP status of its code.
#[derive(Debug)]
pub(crate) struct HttpError(pub(crate) Refusal);

impl<E: Into<Refusal>> From<E> for HttpError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let status = status(self.0.code);
        let retry_after = self.0.retry_in_ms.map(|ms| ms.div_ceil(1000));
        let mut response = (status, axum::Json(self.0)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::BadFrame | Code::BadField => StatusCode::BAD_REQUEST,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::NotAMember => StatusCode::FORBIDDEN,
        Code::NoSuchRoom | Code::NoSuchEvent => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
