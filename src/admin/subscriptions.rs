//! Subscriptions.

use super::answer::{Answer, Failure, Json, Part, Query, page};
use super::routes::State;
use crate::broker::inspect::{Page, SubscriptionSummary};
use axum::extract::State as Of;
use nightjar_mqtt::topic;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which subscriptions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichSubscriptions {
    /// Of this client.
    client: Option<String>,
    /// That match this topic.
    topic: Option<String>,
}

/// Subscriptions, sorted by client identifier and filter.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "subscriptions", params(WhichSubscriptions, Part),
    responses((status = 200, body = Page<SubscriptionSummary>)))]
pub(super) async fn subscriptions(
    Of(state): Of<Arc<State>>,
    Query(which): Query<WhichSubscriptions>,
    Query(part): Query<Part>,
) -> Answer<Page<SubscriptionSummary>> {
    let client = which.client.filter(|client| !client.is_empty());
    let name = which.topic.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        topic::validate_name(name.as_bytes()).map_err(|error| Failure::wrong(format!("topic: {error}")))?;
    }
    let cursor = part.cursor()?;
    let found = state.handle.subscriptions(client.as_deref(), name.as_deref(), cursor.as_deref(), part.limit());
    Ok(Json(page(found)))
}
