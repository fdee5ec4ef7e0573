//! Configuration, log and rules: what the node does.

use super::access::Caller;
use super::answer::{Answer, ErrorBody, Failure, Json, Query};
use super::routes::State;
use super::{Operator, Reloaded};
use axum::Extension;
use axum::extract::State as Of;
use nightjar_mqtt::{QoS, topic};
use nightjar_policy::Action;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// The configuration in force.
#[derive(Serialize, ToSchema)]
pub(super) struct Effective {
    /// As a file that would give it again, with where each value came from; secrets are masked.
    toml: String,
}

/// The configuration in force.
#[utoipa::path(get, path = "/api/v1/config", tag = "operate", responses((status = 200, body = Effective)))]
pub(super) async fn config(Of(state): Of<Arc<State>>) -> Json<Effective> {
    Json(Effective { toml: state.operator.effective() })
}

/// Reads the configuration and the files that it names again, and puts them in force: all of it or nothing.
#[utoipa::path(post, path = "/api/v1/reload", tag = "operate",
    responses((status = 200, body = Reloaded), (status = 422, body = ErrorBody)))]
pub(super) async fn reload(Of(state): Of<Arc<State>>, Extension(caller): Extension<Caller>) -> Answer<Reloaded> {
    caller.audit("reload", "");
    state.operator.reload().map(Json).map_err(Failure::mistakes)
}

/// How much is logged.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct LogLevel {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    level: String,
}

/// How much is logged.
#[utoipa::path(get, path = "/api/v1/log", tag = "operate", responses((status = 200, body = LogLevel)))]
pub(super) async fn level(Of(state): Of<Arc<State>>) -> Json<LogLevel> {
    Json(LogLevel { level: state.operator.log_level().to_owned() })
}

/// Logs this much, until the next reload or start.
#[utoipa::path(put, path = "/api/v1/log", tag = "operate", request_body = LogLevel,
    responses((status = 200, body = LogLevel), (status = 422, body = ErrorBody)))]
pub(super) async fn set_level(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Json(LogLevel { level }): Json<LogLevel>,
) -> Answer<LogLevel> {
    if !state.operator.set_log_level(&level) {
        return Err(Failure::wrong("level: expected error, warn, info, debug or trace"));
    }
    caller.audit("set log level", &level);
    Ok(Json(LogLevel { level: state.operator.log_level().to_owned() }))
}

/// Who would do what.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RuleTest {
    /// The user; none if it is not given.
    user: Option<String>,
    /// The client identifier.
    client: Option<String>,
    /// `publish`, `subscribe` or `receive`.
    action: String,
    /// The topic, or the filter of a subscription.
    topic: String,
    /// The quality of service; 0 unless given.
    qos: Option<u8>,
    /// Whether the message is retained.
    retain: Option<bool>,
    /// Groups that the credentials put the user in, with commas between them.
    groups: Option<String>,
}

/// Whether it may.
#[derive(Serialize, ToSchema)]
pub(super) struct Tested {
    /// Whether it may.
    allowed: bool,
    /// The rule that decided, if one did.
    rule: Option<RulePlace>,
    /// Why, in words.
    why: String,
}

/// A rule, and where it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct RulePlace {
    /// The file.
    file: String,
    /// The line, counted from 1; 0 if it came with the credentials.
    line: usize,
    /// The rule.
    text: String,
}

/// Whether a client may do something, and by which rule.
#[utoipa::path(get, path = "/api/v1/rules/test", tag = "operate", params(RuleTest),
    responses((status = 200, body = Tested), (status = 422, body = ErrorBody)))]
pub(super) async fn test_rule(Of(state): Of<Arc<State>>, Query(test): Query<RuleTest>) -> Answer<Tested> {
    let operator: &dyn Operator = &*state.operator;
    let groups: Vec<Arc<str>> = test
        .groups
        .iter()
        .flat_map(|groups| groups.split(','))
        .map(str::trim)
        .filter(|g| !g.is_empty())
        .map(Arc::from)
        .collect();
    let user = test.user.as_deref().filter(|user| !user.is_empty());
    let rights = operator.rights(user, test.client.as_deref().unwrap_or_default(), &groups);
    let qos = QoS::from_bits(test.qos.unwrap_or(0)).ok_or_else(|| Failure::wrong("qos: expected 0, 1 or 2"))?;
    let name = |error| Failure::wrong(format!("topic: {error}"));
    let verdict = match test.action.as_str() {
        "publish" => {
            topic::validate_name(test.topic.as_bytes()).map_err(name)?;
            rights.explain(Action::Publish { qos, retain: test.retain.unwrap_or(false) }, &test.topic)
        }
        "receive" => {
            topic::validate_name(test.topic.as_bytes()).map_err(name)?;
            rights.explain(Action::Receive, &test.topic)
        }
        "subscribe" => {
            let parsed = topic::parse_filter(&test.topic).map_err(name)?;
            rights.explain(Action::Subscribe { qos, shared: parsed.share.is_some() }, parsed.filter)
        }
        _ => return Err(Failure::wrong("action: expected publish, subscribe or receive")),
    };
    let place =
        |rule: nightjar_policy::RuleRef| RulePlace { file: rule.file.to_string(), line: rule.line, text: rule.text };
    Ok(Json(Tested { allowed: verdict.allowed, rule: verdict.rule.map(place), why: verdict.why }))
}
