//! The page's own MQTT connection: a WebSocket at the admin door, handed on to the broker.

use super::access::{Caller, From, Scope};
use super::answer::Failure;
use super::patient::Patient;
use super::routes::State;
use crate::broker::Adopted;
use crate::env::net::TcpStream;
use crate::env::task;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State as Of};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tungstenite::handshake::derive_accept_key;

/// Takes a WebSocket of the page for MQTT. Whoever has the token for everything may do everything here.
pub(super) async fn mqtt(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
) -> Result<Response<Body>, Failure> {
    if caller.scope != Scope::Full {
        return Err(Failure::new(StatusCode::FORBIDDEN, "this token is for reading alone"));
    }
    let From::Address(address) = caller.from else {
        return Err(Failure::wrong("a WebSocket comes in by admin.address, not by the socket"));
    };
    let key = key(request.headers()).ok_or_else(|| Failure::wrong("expected a WebSocket handshake"))?;
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(Failure::wrong("this connection cannot become a WebSocket"));
    };
    caller.audit("console", "connects by MQTT");
    task::spawn(async move {
        // It comes when the answer is out; it fails when nobody reads that.
        if let Ok(upgraded) = upgrade.await
            && let Some((stream, rest)) = take_apart(upgraded)
        {
            state.operator.adopt(Adopted::WebSocket { stream, address, rest });
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(&key))
        .header(header::SEC_WEBSOCKET_PROTOCOL, "mqtt")
        .body(Body::empty())
        .map_err(|error| Failure::inside(&error))
}

/// The handshake's key, if it is one.
fn key(headers: &HeaderMap) -> Option<Vec<u8>> {
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    let upgrades = has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade");
    // [MQTT-6.0.0-3]
    let mqtt = has(header::SEC_WEBSOCKET_PROTOCOL, "mqtt") && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    key.filter(|_| upgrades && mqtt)
}

/// The socket under an upgraded connection, and what was read of it already.
fn take_apart(upgraded: Upgraded) -> Option<(std::net::TcpStream, Vec<u8>)> {
    let parts = upgraded.downcast::<Patient<TokioIo<TcpStream>>>().ok()?;
    // It is to live on another thread's runtime.
    let stream = parts.io.into_inner().into_inner().into_std().ok()?;
    Some((stream, parts.read_buf.to_vec()))
}
