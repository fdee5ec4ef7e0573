//! What all answers have in common: JSON, errors as `{"error":"…"}`, lists a page at a time.

use crate::broker::inspect::Page;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Items on a page, unless the request says how many.
const PAGE: usize = 100;
/// Items on a page at most.
const LONGEST_PAGE: usize = 1_000;

/// What a request that failed is answered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What is wrong.
    pub(super) error: String,
    /// Every mistake in the configuration, where that is what is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) mistakes: Option<Vec<String>>,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: ErrorBody,
}

/// What a handler gives.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), mistakes: None } }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no such {what}"))
    }

    pub(super) fn wrong(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    pub(super) fn mistakes(mistakes: Vec<String>) -> Self {
        let error = "the configuration has mistakes: everything stays as it was".to_owned();
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: ErrorBody { error, mistakes: Some(mistakes) } }
    }

    pub(super) fn inside(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "an admin request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body, in both directions.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.0).into_response();
        // Nothing of this is true for long, and some of it is nobody else's business.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = axum::Json::<T>::from_request(request, state).await;
        body.map(|axum::Json(value)| Self(value))
            .map_err(|rejection: JsonRejection| Failure::new(rejection.status(), rejection.body_text()))
    }
}

/// The query of a request.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection: QueryRejection| Failure::new(rejection.status(), rejection.body_text()))
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// How many items at most; 100 unless given, never more than 1000.
    pub(super) limit: Option<usize>,
    /// What the part before gave as `next`.
    pub(super) cursor: Option<String>,
}

impl Part {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE)
    }

    /// Where the part begins.
    pub(super) fn cursor(&self) -> Result<Option<String>, Failure> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.map(Some).ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "not a cursor of ours"))
    }
}

/// The page with its cursor in letters that need no escape in an address.
pub(super) fn page<T>(page: Page<T>) -> Page<T> {
    Page { next: page.next.map(|next| URL_SAFE_NO_PAD.encode(next)), ..page }
}
