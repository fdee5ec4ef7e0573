//! Retained messages.

use super::access::Caller;
use super::answer::{Answer, ErrorBody, Failure, Json, Part, Query, page};
use super::routes::State;
use crate::broker::inspect::{Page, RetainedDetail, RetainedSummary};
use axum::Extension;
use axum::extract::{Path, State as Of};
use axum::http::StatusCode;
use nightjar_mqtt::topic;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which retained messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichRetained {
    /// Of topics that this filter matches; `#` unless given.
    filter: Option<String>,
}

/// Retained messages. The order is the same each time, and no other. A page may be short, or empty, and still have a
/// next: only so much is looked at for one answer.
#[utoipa::path(get, path = "/api/v1/retained", tag = "retained", params(WhichRetained, Part),
    responses((status = 200, body = Page<RetainedSummary>), (status = 422, body = ErrorBody)))]
pub(super) async fn list(
    Of(state): Of<Arc<State>>,
    Query(which): Query<WhichRetained>,
    Query(part): Query<Part>,
) -> Answer<Page<RetainedSummary>> {
    let filter = which.filter.filter(|filter| !filter.is_empty()).unwrap_or_else(|| "#".to_owned());
    topic::validate_filter(&filter).map_err(|error| Failure::wrong(format!("filter: {error}")))?;
    let found = state.handle.retained(&filter, part.cursor()?.as_deref(), part.limit());
    Ok(Json(page(found.map_err(|error| Failure::inside(&error))?)))
}

/// The retained message of a topic.
#[utoipa::path(get, path = "/api/v1/retained/{topic}", tag = "retained",
    params(("topic" = String, Path, description = "The topic, `/` written as `%2F`")),
    responses((status = 200, body = RetainedDetail), (status = 404, body = ErrorBody)))]
pub(super) async fn read(Of(state): Of<Arc<State>>, Path(topic): Path<String>) -> Answer<RetainedDetail> {
    let found = state.handle.retained_message(&topic).map_err(|error| Failure::inside(&error))?;
    found.map(Json).ok_or_else(|| Failure::not_found("retained message"))
}

/// Removes the retained message of a topic. Subscribers are sent nothing.
#[utoipa::path(delete, path = "/api/v1/retained/{topic}", tag = "retained",
    params(("topic" = String, Path, description = "The topic, `/` written as `%2F`")),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub(super) async fn forget(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(topic): Path<String>,
) -> Result<StatusCode, Failure> {
    if !state.handle.forget_retained(&topic).await.map_err(|error| Failure::inside(&error))? {
        return Err(Failure::not_found("retained message"));
    }
    caller.audit("remove retained message", &topic);
    Ok(StatusCode::NO_CONTENT)
}
