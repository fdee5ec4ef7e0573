//! Clients and sessions.

use super::access::Caller;
use super::answer::{Answer, ErrorBody, Failure, Json, Part, Query, page};
use super::routes::State;
use crate::broker::BRIDGE_PREFIX;
use crate::broker::inspect::{ClientDetail, ClientSummary, Page, SessionDetail, SessionSummary, Who};
use axum::Extension;
use axum::extract::{Path, State as Of};
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which clients.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichClients {
    /// Of this user.
    user: Option<String>,
    /// From this IP address, without a port; `unix` for Unix sockets.
    address: Option<String>,
    /// By this listener.
    listener: Option<String>,
    /// With this in their identifier.
    #[serde(rename = "match")]
    part: Option<String>,
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Connected clients, sorted by client identifier.
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients", params(WhichClients, Part),
    responses((status = 200, body = Page<ClientSummary>)))]
pub(super) async fn clients(
    Of(state): Of<Arc<State>>,
    Query(which): Query<WhichClients>,
    Query(part): Query<Part>,
) -> Answer<Page<ClientSummary>> {
    let WhichClients { user, address, listener, part: contained } = which;
    let who = Who { user: given(user), address: given(address), listener: given(listener), part: given(contained) };
    Ok(Json(page(state.handle.clients(&who, part.cursor()?.as_deref(), part.limit()))))
}

/// All about one connected client.
#[utoipa::path(get, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path, description = "The client identifier")),
    responses((status = 200, body = ClientDetail), (status = 404, body = ErrorBody)))]
pub(super) async fn client(Of(state): Of<Arc<State>>, Path(client_id): Path<String>) -> Answer<ClientDetail> {
    state.handle.client(&client_id).map(Json).ok_or_else(|| Failure::not_found("client is connected"))
}

/// Disconnects a client. MQTT 5 clients are told 0x98 (administrative action). The session stays, the will is published.
#[utoipa::path(delete, path = "/api/v1/clients/{client_id}", tag = "clients",
    params(("client_id" = String, Path, description = "The client identifier")),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub(super) async fn kick(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(client_id): Path<String>,
) -> Result<StatusCode, Failure> {
    if !state.handle.kick(&client_id) {
        return Err(Failure::not_found("client is connected"));
    }
    caller.audit("disconnect client", &client_id);
    Ok(StatusCode::NO_CONTENT)
}

/// Persistent sessions, connected or not, sorted by client identifier.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(Part),
    responses((status = 200, body = Page<SessionSummary>)))]
pub(super) async fn sessions(Of(state): Of<Arc<State>>, Query(part): Query<Part>) -> Answer<Page<SessionSummary>> {
    Ok(Json(page(state.handle.sessions(part.cursor()?.as_deref(), part.limit()))))
}

/// All about one persistent session.
#[utoipa::path(get, path = "/api/v1/sessions/{client_id}", tag = "sessions",
    params(("client_id" = String, Path, description = "The client identifier")),
    responses((status = 200, body = SessionDetail), (status = 404, body = ErrorBody)))]
pub(super) async fn session(Of(state): Of<Arc<State>>, Path(client_id): Path<String>) -> Answer<SessionDetail> {
    state.handle.session(&client_id).map(Json).ok_or_else(|| Failure::not_found("session"))
}

/// Ends a session with its queue and its subscriptions, for good. A connected client is disconnected.
#[utoipa::path(delete, path = "/api/v1/sessions/{client_id}", tag = "sessions",
    params(("client_id" = String, Path, description = "The client identifier")),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub(super) async fn end_session(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(client_id): Path<String>,
) -> Result<StatusCode, Failure> {
    if state.handle.session(&client_id).is_none() {
        return Err(Failure::not_found("session"));
    }
    if client_id.starts_with(BRIDGE_PREFIX) {
        return Err(Failure::new(StatusCode::CONFLICT, "a bridge's session ends with the bridge: remove that"));
    }
    caller.audit("end session", &client_id);
    if state.handle.end_session(&client_id).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Failure::not_found("session"))
}
