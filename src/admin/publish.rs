//! Publishing from outside MQTT.

use super::access::Caller;
use super::answer::{Answer, ErrorBody, Failure, Json};
use super::routes::State;
use axum::Extension;
use axum::extract::State as Of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightjar_mqtt::{Message, QoS, topic};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A message to publish.
#[derive(Deserialize, ToSchema)]
pub(super) struct PublishBody {
    /// Its topic.
    topic: String,
    /// Its payload as text.
    payload: Option<String>,
    /// Its payload as base64, in place of `payload`.
    payload_base64: Option<String>,
    /// Its quality of service; 0 unless given.
    #[serde(default)]
    qos: u8,
    /// Whether it becomes its topic's retained message. An empty payload removes that.
    #[serde(default)]
    retain: bool,
}

/// What became of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Published {
    /// The reason in words.
    reason: &'static str,
    /// The reason code that PUBACK would carry: 0, or 16 if nobody has subscribed.
    code: u8,
}

/// Publishes a message. The answer comes when what it says is durable, as with PUBACK. Access rules do not apply.
#[utoipa::path(post, path = "/api/v1/publish", tag = "publish", request_body = PublishBody,
    responses((status = 200, body = Published), (status = 422, body = ErrorBody)))]
pub(super) async fn publish(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<PublishBody>,
) -> Answer<Published> {
    let name =
        topic::validate_name(body.topic.as_bytes()).map_err(|error| Failure::wrong(format!("topic: {error}")))?;
    if name == "$SYS" || name.starts_with("$SYS/") {
        return Err(Failure::wrong("topic: $SYS is the broker's own"));
    }
    let payload = match (body.payload, body.payload_base64) {
        (Some(_), Some(_)) => return Err(Failure::wrong("expected one of payload and payload_base64")),
        (text, None) => text.unwrap_or_default().into_bytes(),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|error| Failure::wrong(format!("payload_base64: {error}")))?
        }
    };
    let mut message = Message::new(name, &[], &payload);
    message.qos = QoS::from_bits(body.qos).ok_or_else(|| Failure::wrong("qos: expected 0, 1 or 2"))?;
    message.retain = body.retain;
    caller.audit("publish", name);
    let reason = state.handle.publish(message).await;
    Ok(Json(Published { reason: reason.text(), code: reason.as_u8() }))
}
