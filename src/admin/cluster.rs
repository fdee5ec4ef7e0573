//! The cluster: how this node sees it, and what operators tell it.

use super::access::Caller;
use super::answer::{Answer, ErrorBody, Failure, Json};
use super::routes::State;
use crate::cluster::{Command, Refused, Status};
use axum::Extension;
use axum::extract::{Path, State as Of};
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Unknown(_) | Refused::Gone(_) => StatusCode::NOT_FOUND,
            Refused::Address(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::NoAgreement | Refused::Silent(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Self::new(status, refused.to_string())
    }
}

fn alone() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "this node is alone: a cluster begins with the setting cluster.listen")
}

/// Whom to ask.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Join {
    /// `host:port` of the door for other nodes of any node of the cluster.
    address: String,
}

/// Who takes the place.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Replace {
    /// A node that is in the cluster already, by id, name or address; without, the fresh node that comes to the address.
    by: Option<String>,
}

/// The cluster as this node sees it.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster",
    responses((status = 200, body = Status), (status = 404, body = ErrorBody)))]
pub(super) async fn cluster(Of(state): Of<Arc<State>>) -> Answer<Status> {
    state.operator.cluster().map(Json).ok_or_else(alone)
}

/// Does it; the cluster as it is then.
async fn command(state: &State, caller: Caller, told: (&'static str, &str), command: Command) -> Answer<Status> {
    let Some(done) = state.operator.command_cluster(command) else { return Err(alone()) };
    let status = done.await?;
    caller.audit(told.0, told.1);
    Ok(Json(status))
}

/// Has this node, which waits to be told, join the cluster of the node at an address.
#[utoipa::path(post, path = "/api/v1/cluster/join", tag = "cluster", request_body = Join,
    responses((status = 200, body = Status), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn join(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Json(Join { address }): Json<Join>,
) -> Answer<Status> {
    command(&state, caller, ("join cluster", &address), Command::Join(address.clone())).await
}

/// Makes this node, which waits to be told, the first of a cluster. It keeps what it has.
#[utoipa::path(post, path = "/api/v1/cluster/form", tag = "cluster",
    responses((status = 200, body = Status), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn form(Of(state): Of<Arc<State>>, Extension(caller): Extension<Caller>) -> Answer<Status> {
    command(&state, caller, ("form cluster", ""), Command::Form).await
}

/// Has a node give up all that it has: what it leads, what it votes for, its clients.
#[utoipa::path(post, path = "/api/v1/cluster/nodes/{node}/drain", tag = "cluster",
    params(("node" = String, Path, description = "Its id, name or address")),
    responses((status = 200, body = Status), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn drain(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Answer<Status> {
    command(&state, caller, ("drain node", &node), Command::Drain(node.clone())).await
}

/// Has a node that is being drained stay after all.
#[utoipa::path(post, path = "/api/v1/cluster/nodes/{node}/resume", tag = "cluster",
    params(("node" = String, Path, description = "Its id, name or address")),
    responses((status = 200, body = Status), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn resume(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Answer<Status> {
    command(&state, caller, ("resume node", &node), Command::Resume(node.clone())).await
}

/// Takes a node that was drained, or is down, out of the cluster for good.
#[utoipa::path(post, path = "/api/v1/cluster/nodes/{node}/leave", tag = "cluster",
    params(("node" = String, Path, description = "Its id, name or address")),
    responses((status = 200, body = Status), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn leave(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Answer<Status> {
    command(&state, caller, ("take out node", &node), Command::Leave(node.clone())).await
}

/// Has another node take the place of one that is down, for good.
#[utoipa::path(post, path = "/api/v1/cluster/nodes/{node}/replace", tag = "cluster", request_body = Replace,
    params(("node" = String, Path, description = "Its id, name or address")),
    responses((status = 200, body = Status), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn replace(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
    Json(Replace { by }): Json<Replace>,
) -> Answer<Status> {
    command(&state, caller, ("replace node", &node), Command::Replace { old: node.clone(), new: by }).await
}
