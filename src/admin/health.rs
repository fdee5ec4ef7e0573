//! Whether the process lives, and whether it can do its work. Asking has no side effects.

use super::ListenerStatus;
use super::answer::Json;
use super::routes::State;
use crate::broker::Handle;
use crate::cluster::Status;
use crate::store::Health;
use axum::extract::State as Of;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// One thing that must be in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Check {
    /// Its name.
    pub(super) name: String,
    /// Whether it is in order.
    pub(super) ok: bool,
    /// What is wrong, or how it is.
    pub(super) detail: String,
}

/// All that must be in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Checked {
    /// Whether all of it is.
    pub(super) ok: bool,
    /// Each thing by itself.
    pub(super) checks: Vec<Check>,
}

impl Check {
    fn new(name: &str, wrong: Option<String>, fine: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: wrong.is_none(), detail: wrong.unwrap_or_else(|| fine.into()) }
    }
}

impl Checked {
    fn of(checks: Vec<Check>) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), checks }
    }
}

impl IntoResponse for Checked {
    fn into_response(self) -> Response {
        let status = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

/// Whether clients can be served as was promised.
pub(super) fn readiness(handle: &Handle, listeners: &[ListenerStatus], cluster: Option<&Status>) -> Checked {
    let store = match handle.health() {
        Health::Writable => None,
        Health::Stalled { why, .. } => Some(format!("cannot be written now: {why}")),
        Health::Failed { why } => Some(format!("failed: {why}")),
    };
    let closed = listeners.is_empty().then(|| "none is open".to_owned());
    let now = handle.now();
    let expired: Vec<&str> = listeners
        .iter()
        .filter(|listener| listener.certificate_expires.is_some_and(|until| until <= now))
        .map(|listener| listener.name.as_str())
        .collect();
    let expired = (!expired.is_empty()).then(|| format!("expired: {}", expired.join(", ")));
    let mut checks = vec![
        Check::new("store", store, "acknowledgements can be given"),
        Check::new("listeners", closed, format!("{} open", listeners.len())),
        Check::new("certificates", expired, "none has expired"),
        Check::new("running", handle.is_stopping().then(|| "the broker stops".to_owned()), "not stopping"),
    ];
    // A node alone says what it always did.
    checks.extend(cluster.map(|cluster| Check::new("cluster", cluster.unready(), "in touch")));
    Checked::of(checks)
}

/// Whether the process lives. If this is not answered, it is to be started anew.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = Checked)))]
pub(super) async fn livez() -> Checked {
    Checked::of(vec![Check::new("process", None, "it answers")])
}

/// Whether clients can be served: if not, they are to be sent elsewhere.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Checked), (status = 503, body = Checked)))]
pub(super) async fn readyz(Of(state): Of<Arc<State>>) -> Checked {
    readiness(&state.handle, &state.operator.listeners(), state.operator.cluster().as_ref())
}

/// Whether the start is over: the store is recovered before this door opens.
#[utoipa::path(get, path = "/startupz", tag = "health", security(()),
    responses((status = 200, body = Checked), (status = 503, body = Checked)))]
pub(super) async fn startupz(Of(state): Of<Arc<State>>) -> Checked {
    let listeners = state.operator.listeners();
    let closed = listeners.is_empty().then(|| "none is open yet".to_owned());
    Checked::of(vec![Check::new("listeners", closed, format!("{} open", listeners.len()))])
}
