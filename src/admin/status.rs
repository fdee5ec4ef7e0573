//! How the broker is, on one page.

use super::ListenerStatus;
use super::answer::Json;
use super::health::{Check, readiness};
use super::rates::Rates;
use super::routes::State;
use crate::broker::inspect::{Clients, Journal, Memory, Queued, Retained, Time};
use axum::extract::State as Of;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// How the broker is.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// The program's version.
    version: &'static str,
    /// The node's id.
    node_id: String,
    /// Since when it runs.
    started_at: Time,
    /// For how long.
    uptime_seconds: u64,
    /// When an acknowledgement is given: `sync`, `interval` or `memory`.
    durability: &'static str,
    /// The data folder.
    data_folder: String,
    /// Whether clients can be served.
    ready: bool,
    /// What that depends on.
    checks: Vec<Check>,
    /// Connections and sessions.
    clients: Clients,
    /// Subscriptions, shared ones included.
    subscriptions: usize,
    /// Those of them that are shared.
    shared_subscriptions: usize,
    /// Retained messages.
    retained: Retained,
    /// Messages in the queues of persistent sessions.
    queued: Queued,
    /// The journal.
    journal: Journal,
    /// Memory of the process.
    memory: Memory,
    /// What was counted since the start.
    totals: BTreeMap<&'static str, u64>,
    /// Messages dropped since the start, by reason.
    dropped: BTreeMap<&'static str, u64>,
    /// What was refused since the start, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// What clients had no right to since the start, by what they tried.
    denied: BTreeMap<&'static str, u64>,
    /// So much a second, over the last ten seconds.
    rates: Rates,
}

/// How the broker is.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", responses((status = 200, body = Status)))]
pub(super) async fn status(Of(state): Of<Arc<State>>) -> Json<Status> {
    let snapshot = state.handle.snapshot();
    let checked = readiness(&state.handle, &state.operator.listeners(), state.operator.cluster().as_ref());
    let rates = state.samples.lock().rates(snapshot.tick, &snapshot.totals);
    let by_reason = |name: &str| ["dropped_", "refused_", "denied_"].iter().any(|reason| name.starts_with(reason));
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        node_id: state.handle.node_id(),
        started_at: state.started,
        uptime_seconds: snapshot.tick.since(state.since) / 1000,
        durability: state.handle.durability(),
        data_folder: state.handle.data_folder(),
        ready: checked.ok,
        checks: checked.checks,
        clients: snapshot.clients,
        subscriptions: snapshot.subscriptions,
        shared_subscriptions: snapshot.shared_subscriptions,
        retained: snapshot.retained,
        queued: snapshot.queued,
        journal: snapshot.journal(),
        memory: snapshot.memory,
        totals: snapshot.totals.each().into_iter().filter(|(name, _)| !by_reason(name)).collect(),
        dropped: snapshot.totals.dropped().collect(),
        refused: snapshot.totals.refused().collect(),
        denied: snapshot.totals.denied().collect(),
        rates,
    })
}

/// The listeners that are open.
#[utoipa::path(get, path = "/api/v1/listeners", tag = "status",
    responses((status = 200, body = Vec<ListenerStatus>)))]
pub(super) async fn listeners(Of(state): Of<Arc<State>>) -> Json<Vec<ListenerStatus>> {
    Json(state.operator.listeners())
}
