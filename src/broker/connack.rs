//! What a CONNECT gets: its keep alive, its session expiry, its limits for sending, and the CONNACK that says so.

use super::attach::Taken;
use super::handshake::client_maximum;
use super::limits::Limits;
use super::sending::{SendLimits, State};
use nightjar_base::{SessionId, ShardId};
use nightjar_mqtt::property::ConnAckProperties;
use nightjar_mqtt::{ConnAck, Connect, QoS, ReasonCode, Version};
use nightjar_session::{Aliases, Outbound};

impl Limits {
    /// The session expiry interval that the connection gets, in seconds.
    pub(super) fn expiry(&self, connect: &Connect) -> u32 {
        let asked = match connect.version {
            Version::V5 => connect.properties.session_expiry,
            _ if connect.clean_start => 0,
            _ => self.expiry_v3,
        };
        asked.min(self.max_expiry)
    }

    pub(super) fn sending_state(
        &self,
        connect: &Connect,
        taken: &Taken,
        session: Option<(ShardId, SessionId)>,
    ) -> State {
        let receive_maximum = if connect.version == Version::V5 { connect.properties.receive_maximum } else { 65_535 };
        let window = receive_maximum.min(self.max_inflight);
        let out = Outbound::new(window, taken.head, taken.subscriber.sent());
        let limits = SendLimits {
            packet: client_maximum(connect),
            outbox_high: self.outbox_high,
            outbox_max: self.outbox_max,
            waiting: self.waiting,
        };
        // No client before v5 has any.
        let aliases = connect.properties.topic_alias_maximum.min(self.topic_alias_maximum_out);
        let aliases = (aliases > 0).then(|| Aliases::new(aliases));
        State::new(connect.version, out, aliases, limits, session)
    }

    /// The keep alive that the client is told instead of its own [MQTT-3.2.2-21]; clients before v5 cannot be told.
    pub(super) fn keep_alive(&self, connect: &Connect) -> Option<u16> {
        if connect.version != Version::V5 {
            return None;
        }
        let too_long = |max: u16| (connect.keep_alive == 0 || connect.keep_alive > max).then_some(max);
        self.server_keep_alive.or_else(|| self.max_keep_alive.and_then(too_long))
    }

    pub(super) fn connack(
        &self,
        connect: &Connect,
        taken: &Taken,
        assigned: Option<&str>,
        keep_alive: Option<u16>,
    ) -> ConnAck {
        let mut connack = ConnAck::new(taken.present, ReasonCode::Success);
        if connect.version != Version::V5 {
            return connack;
        }
        let limits = self;
        let expiry = self.expiry(connect);
        connack.properties = ConnAckProperties {
            session_expiry: (expiry != connect.properties.session_expiry).then_some(expiry),
            receive_maximum: (limits.receive_maximum != u16::MAX).then_some(limits.receive_maximum),
            maximum_qos: (limits.max_qos < QoS::ExactlyOnce).then_some(limits.max_qos),
            retain_available: (!limits.retain_available).then_some(false),
            // Some clients refuse what is above the largest remaining length; unlimited is said by silence.
            maximum_packet_size: u32::try_from(limits.max_packet).ok().filter(|size| *size < 268_435_455),
            assigned_client_id: assigned.map(str::to_owned),
            topic_alias_maximum: (limits.topic_alias_maximum > 0).then_some(limits.topic_alias_maximum),
            server_keep_alive: keep_alive,
            // [MQTT-3.1.2-28]: only to a client that asks.
            response_information: limits
                .response_information
                .as_ref()
                .filter(|_| connect.properties.request_response_information)
                .map(|prefix| prefix.replace("%c", &taken.subscriber.client_id)),
            ..ConnAckProperties::default()
        };
        connack
    }
}
