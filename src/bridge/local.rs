//! The connection to this broker: a pair of sockets within the process, by a listener of the bridge's own.

use super::wire::{Wire, WireError};
use super::{Host, Plan};
use crate::auth::Identity;
use crate::broker::{BridgeSession, Listener, ListenerSettings};
use crate::config::ListenAddress;
use crate::env::net;
use crate::env::task;
use crate::transport::{Options, Socket};
use nightjar_base::millis;
use nightjar_mqtt::{ConnAck, Connect, Packet, RetainHandling, Subscribe, SubscriptionOptions, Version, encode};
use nightjar_policy::Way;
use std::sync::Arc;
use std::time::Duration;

/// How long this broker has for CONNACK.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why this broker did not take the bridge in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("within this broker: {0}")]
    Wire(#[from] WireError),
    #[error("this broker refuses the bridge: {0:?}")]
    Reason(nightjar_mqtt::ReasonCode),
    #[error("this broker does not answer the bridge")]
    Silent,
}

/// The listener by which a bridge comes in.
pub(super) fn listener(plan: &Plan) -> Arc<Listener> {
    let settings = ListenerSettings {
        address: ListenAddress::Unix("bridge".into()),
        anonymous: true,
        known: Some(identity(plan)),
        bridge: true,
        // The one that is there, and the one that takes over.
        max_connections: 2,
        connection_rate: 0,
        strict: false,
        transport: Options { mqtt: true, first_frame: plan.limits.first_packet(), ..Options::default() },
        methods: None,
        limits: Arc::clone(&plan.limits),
    };
    Listener::new(format!("bridge {}", plan.bridge.name).into(), settings)
}

fn identity(plan: &Plan) -> Arc<Identity> {
    Arc::new(Identity::bridge(plan.bridge.local_user.as_deref()))
}

/// The session that a bridge wants. `takes`: whether it takes what is published from now on.
pub(super) fn session(plan: &Plan, client_id: &str, takes: bool, clean: bool) -> BridgeSession {
    let bridge = &plan.bridge;
    BridgeSession {
        client_id: client_id.to_owned(),
        identity: identity(plan),
        filters: if takes { plan.filters(Way::Out) } else { Vec::new() },
        limits: plan.limits.queue(),
        max_age: bridge.queue_age.map_or(0, millis),
        queue_qos0: bridge.queue_qos0,
        clean,
    }
}

/// Connects to this broker, which sends `window` messages at a time. `replay`: filters whose retained messages are to go
/// out.
pub(super) async fn connect(
    host: &dyn Host,
    plan: &Plan,
    listener: &Arc<Listener>,
    client_id: &str,
    window: u16,
    replay: &[String],
) -> Result<(Wire, ConnAck), Refused> {
    let (ours, theirs) = net::pair().map_err(WireError::from)?;
    host.adopt(theirs, listener);
    let mut wire = Wire::new(Socket::unix(ours));
    let mut connect = Connect::new(Version::V5, client_id);
    connect.clean_start = false;
    connect.keep_alive = 0;
    connect.properties.session_expiry = u32::MAX;
    connect.properties.receive_maximum = window;
    let opening = async {
        wire.send(&Packet::Connect(Box::new(connect)), Version::V5).await.map_err(WireError::from)?;
        match wire.receive(Version::V5).await? {
            Packet::ConnAck(connack) if connack.reason.is_error() => Err(Refused::Reason(connack.reason)),
            Packet::ConnAck(connack) => Ok(*connack),
            _ => Err(Refused::Silent),
        }
    };
    let connack = task::timeout(PATIENCE, opening).await.unwrap_or(Err(Refused::Silent))?;
    let wanted: Vec<_> = plan
        .filters(Way::Out)
        .into_iter()
        .filter(|(filter, _)| replay.contains(filter))
        .map(|(filter, options)| (filter, SubscriptionOptions { retain_handling: RetainHandling::Always, ..options }))
        .collect();
    if !wanted.is_empty() {
        let subscribe = Subscribe { packet_id: 1, properties: Default::default(), filters: wanted };
        encode(&Packet::Subscribe(subscribe), Version::V5, &mut wire.output);
    }
    Ok((wire, connack))
}
