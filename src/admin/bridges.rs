//! Bridges: how they are, what becomes of a topic, and changes that stay.

use super::access::Caller;
use super::answer::{Answer, ErrorBody, Failure, Json, Query};
use super::routes::State;
use crate::broker::inspect::Time;
use axum::Extension;
use axum::extract::{Path, State as Of};
use axum::http::StatusCode;
use nightjar_mqtt::topic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// What a bridge may be doing.
pub const BRIDGE_STATES: [&str; 9] =
    ["connecting", "connected", "waiting", "idle", "paused", "draining", "drained", "ended", "elsewhere"];

/// A bridge.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BridgeStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What it is doing: `connecting`, `connected`, `waiting` (for the next try), `idle` (lazy, and nothing to do),
    /// `paused`, `draining`, `drained`, `ended` (it was to connect once, and has) or `elsewhere` (another node of the cluster runs it).
    pub state: &'static str,
    /// Since when.
    pub since: Time,
    /// What it is to do: `running`, `paused` or `draining`.
    pub mode: &'static str,
    /// The address that it is connected to, or tried last.
    pub address: Option<String>,
    /// All addresses, in order.
    pub addresses: Vec<String>,
    /// What is spoken with the remote, while it is there.
    pub speaks: Option<String>,
    /// Why the remote was lost, or not reached, the last time.
    pub last_error: Option<String>,
    /// When.
    pub last_error_at: Option<Time>,
    /// When it is tried again.
    pub retry_at: Option<Time>,
    /// What waits for the remote.
    pub queue: BridgeQueue,
    /// Messages that the remote will never take.
    pub set_aside: SetAside,
    /// Messages of the remote that were not taken here.
    pub not_taken: NotTaken,
    /// Messages of QoS 1 and 2 that the remote has acknowledged.
    pub acknowledged: u64,
    /// Messages that no rule carries any more.
    pub unmatched: u64,
    /// Messages that the remote sent back.
    pub echoes: u64,
    /// Connections to the remote that came to be.
    pub connects: u64,
    /// Connections that were lost, or never came to be.
    pub failures: u64,
    /// Filters that the remote has refused.
    pub refused_filters: Vec<String>,
    /// Its rules, in order.
    pub rules: Vec<BridgeRule>,
    /// Settings that were changed while the broker ran.
    pub changed: Vec<String>,
}

impl BridgeStatus {
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, "connected" | "draining")
    }
}

/// What waits for the remote of a bridge.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BridgeQueue {
    /// Messages, those under way included.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Milliseconds that the oldest has waited, to a second; null if none waits.
    pub oldest_ms: Option<u64>,
    /// Messages on their way to the remote.
    pub under_way: usize,
    /// Messages that were dropped because it was full.
    pub dropped: u64,
}

/// Messages that the remote will never take.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SetAside {
    /// Larger, or their topics longer or deeper, than it takes.
    pub too_large: u64,
    /// Refused by a reason code.
    pub refused: u64,
    /// At which it closed the connection again and again.
    pub closed_at: u64,
}

/// Messages of the remote that were not taken here.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NotTaken {
    /// Larger than this broker takes.
    pub too_large: u64,
    /// Refused.
    pub refused: u64,
}

/// A rule of a bridge, and what it has carried since the start, or since the rules were changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BridgeRule {
    /// Its line.
    pub line: String,
    /// Sent to the remote, repetitions included.
    pub sent: Carried,
    /// Taken from the remote, repetitions included.
    pub received: Carried,
}

/// Messages, and bytes of their payloads.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Carried {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// What becomes of a topic.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MappedTopic {
    /// The topic.
    pub topic: String,
    /// What a message that is published here on it is called at the remote; null if no rule carries it there.
    pub out: Option<Mapped>,
    /// What a message of the remote on it is called here; null if no rule brings it in.
    #[serde(rename = "in")]
    pub inward: Option<Mapped>,
}

/// The name on the other side.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Mapped {
    /// The name.
    pub topic: String,
    /// The number of the rule that says so, counted from 1.
    pub rule: usize,
    /// The rule.
    pub line: String,
}

/// A change of a bridge. It is kept in the data folder, over the config file.
#[derive(Clone, Debug)]
pub enum BridgeChange {
    /// It is new, with these settings.
    Add(Map<String, Value>),
    /// These settings change; `null` has the config file decide again.
    Set(Map<String, Value>),
    /// The config file decides about this setting again, or about all.
    Reset(Option<String>),
    /// It goes, with all that waits for its remote.
    Remove,
}

/// Why a bridge was not changed. Everything stays as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BridgeRefused {
    /// There is none of that name.
    #[error("no such bridge")]
    Unknown,
    /// What is there already is in the way.
    #[error("{0}")]
    Conflict(String),
    /// The configuration would have mistakes.
    #[error("the configuration would have mistakes")]
    Mistakes(Vec<String>),
    /// It could not be kept, or not be done.
    #[error("{0}")]
    Failed(String),
}

impl From<BridgeRefused> for Failure {
    fn from(refused: BridgeRefused) -> Self {
        match refused {
            BridgeRefused::Unknown => Self::not_found("bridge"),
            BridgeRefused::Conflict(why) => Self::new(StatusCode::CONFLICT, why),
            BridgeRefused::Mistakes(mistakes) => Self::mistakes(mistakes),
            failed @ BridgeRefused::Failed(_) => Self::inside(&failed),
        }
    }
}

/// Settings of a bridge as the config file has them: texts, numbers, `true` and `false`, lists.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub(super) struct BridgeSettings(Map<String, Value>);

/// Which topic.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichTopic {
    /// The topic.
    topic: String,
}

/// All bridges, by name.
#[utoipa::path(get, path = "/api/v1/bridges", tag = "bridges", responses((status = 200, body = Vec<BridgeStatus>)))]
pub(super) async fn bridges(Of(state): Of<Arc<State>>) -> Json<Vec<BridgeStatus>> {
    Json(state.operator.bridges())
}

/// One bridge.
#[utoipa::path(get, path = "/api/v1/bridges/{bridge}", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody)))]
pub(super) async fn bridge(Of(state): Of<Arc<State>>, Path(name): Path<String>) -> Answer<BridgeStatus> {
    state.operator.bridge(&name).map(Json).ok_or_else(|| BridgeRefused::Unknown.into())
}

/// What becomes of a topic, by the rules in force.
#[utoipa::path(get, path = "/api/v1/bridges/{bridge}/map", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name"), WhichTopic),
    responses((status = 200, body = MappedTopic), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn map(
    Of(state): Of<Arc<State>>,
    Path(name): Path<String>,
    Query(which): Query<WhichTopic>,
) -> Answer<MappedTopic> {
    topic::validate_name(which.topic.as_bytes()).map_err(|error| Failure::wrong(format!("topic: {error}")))?;
    state.operator.map_topic(&name, &which.topic).map(Json).ok_or_else(|| BridgeRefused::Unknown.into())
}

/// Makes a change that stays; the bridge as it is then. `told` is what the log says of it: values may be secrets.
fn change(state: &State, caller: Caller, name: &str, told: &str, change: BridgeChange) -> Answer<BridgeStatus> {
    state.operator.change_bridge(name, change)?;
    caller.audit("change bridge", &format!("{name}: {told}"));
    state.operator.bridge(name).map(Json).ok_or_else(|| BridgeRefused::Unknown.into())
}

/// Adds a bridge. It is kept in the data folder, over the config file.
#[utoipa::path(put, path = "/api/v1/bridges/{bridge}", tag = "bridges", request_body = BridgeSettings,
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn add(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(BridgeSettings(settings)): Json<BridgeSettings>,
) -> Answer<BridgeStatus> {
    change(&state, caller, &name, "added", BridgeChange::Add(settings))
}

/// Changes settings of a bridge; the others stay. `null` has the config file decide again.
#[utoipa::path(patch, path = "/api/v1/bridges/{bridge}", tag = "bridges", request_body = BridgeSettings,
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn set(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(BridgeSettings(settings)): Json<BridgeSettings>,
) -> Answer<BridgeStatus> {
    let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
    let told = format!("set {}", keys.join(" "));
    change(&state, caller, &name, &told, BridgeChange::Set(settings))
}

/// Removes a bridge, with all that waits for its remote. One of the config file stays away until it is reset.
#[utoipa::path(delete, path = "/api/v1/bridges/{bridge}", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn remove(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    state.operator.change_bridge(&name, BridgeChange::Remove)?;
    caller.audit("change bridge", &format!("{name}: removed"));
    Ok(StatusCode::NO_CONTENT)
}

/// Has the config file decide about a bridge again: all that was changed of it is undone, its removal too.
#[utoipa::path(delete, path = "/api/v1/bridges/{bridge}/settings", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn reset(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<BridgeStatus> {
    change(&state, caller, &name, "reset", BridgeChange::Reset(None))
}

/// Has the config file decide about a setting of a bridge again.
#[utoipa::path(delete, path = "/api/v1/bridges/{bridge}/settings/{setting}", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name"),
        ("setting" = String, Path, description = "The key, as `keep_alive`")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn reset_one(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path((name, setting)): Path<(String, String)>,
) -> Answer<BridgeStatus> {
    let told = format!("reset {setting}");
    change(&state, caller, &name, &told, BridgeChange::Reset(Some(setting)))
}

/// Sets the mode of a bridge.
fn turn(state: &State, caller: Caller, name: &str, mode: &'static str) -> Answer<BridgeStatus> {
    let settings = Map::from_iter([("mode".to_owned(), Value::from(mode))]);
    change(state, caller, name, mode, BridgeChange::Set(settings))
}

/// Disconnects a bridge; what is published meanwhile waits.
#[utoipa::path(post, path = "/api/v1/bridges/{bridge}/pause", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn pause(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<BridgeStatus> {
    turn(&state, caller, &name, "paused")
}

/// Has a bridge work again.
#[utoipa::path(post, path = "/api/v1/bridges/{bridge}/resume", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn resume(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<BridgeStatus> {
    turn(&state, caller, &name, "running")
}

/// Has what waits for the remote of a bridge go out, and nothing new be taken; then it disconnects.
#[utoipa::path(post, path = "/api/v1/bridges/{bridge}/drain", tag = "bridges",
    params(("bridge" = String, Path, description = "Its name")),
    responses((status = 200, body = BridgeStatus), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn drain(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<BridgeStatus> {
    turn(&state, caller, &name, "draining")
}
