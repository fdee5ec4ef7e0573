//! Who is it: from a CONNECT to an identity, by password and the like, or by MQTT 5's exchange of AUTH packets.

use super::Broker;
use super::access::Access;
use super::connection::{Connection, End};
use super::handshake::{Opening, Refusal, client_maximum, read_some, send_connack};
use super::limits::Limits;
use super::listener::Door;
use super::people::{Bounds, Share, TooMany};
use super::stats;
use crate::auth::{Attempt, Denied, Exchange, Identity, Step};
use crate::env::task;
use crate::transport::{Socket, TlsInfo};
use nightjar_base::{Wall, millis};
use nightjar_mqtt::property::AuthProperties;
use nightjar_mqtt::{Auth, ConnAck, Connect, Packet, ReasonCode, Version, decode, encode, frame};
use std::sync::Arc;

/// Steps of an exchange, before it is a dispute.
const MOST_STEPS: usize = 16;

/// An identity, and what CONNACK carries of the exchange that found it.
pub(crate) struct Authenticated {
    pub(crate) identity: Arc<Identity>,
    pub(crate) method: Option<String>,
    pub(crate) data: Option<Vec<u8>>,
}

impl Broker {
    /// Finds out who sent CONNECT; if it may not come in, tells it so.
    pub(crate) async fn authenticate(
        &self,
        access: &Access,
        socket: &Socket,
        door: &Door,
        tls: Option<&TlsInfo>,
        opening: &mut Opening,
    ) -> Result<Authenticated, Refusal> {
        let connect = &opening.connect;
        let result = match &connect.properties.authentication_method {
            Some(method) => {
                let data = connect.properties.authentication_data.clone().unwrap_or_default();
                let method = method.clone();
                self.exchange(access, socket, door, method, data, &mut opening.rest).await
            }
            None => Self::by_credentials(access, door, tls, connect).await,
        };
        let connect = &opening.connect;
        match result {
            Ok(authenticated) => Ok(authenticated),
            Err(Failed::Denied(denied)) => {
                stats::add(|s| &s.refused_credentials, 1);
                let reason = reason_of(&denied, connect.version);
                send_connack(socket, connect.version, client_maximum(connect), &ConnAck::new(false, reason)).await;
                Err(Refusal::Denied { user: connect.username.clone(), reason: denied.to_string() })
            }
            Err(Failed::Method) => {
                let refused = ConnAck::new(false, ReasonCode::BadAuthenticationMethod);
                send_connack(socket, connect.version, client_maximum(connect), &refused).await;
                Err(Refusal::Refused("no such authentication method here"))
            }
            Err(Failed::Socket(refusal)) => Err(refusal),
        }
    }

    async fn by_credentials(
        access: &Access,
        door: &Door,
        tls: Option<&TlsInfo>,
        connect: &Connect,
    ) -> Result<Authenticated, Failed> {
        let settings = door.at.settings().clone();
        if let Some(known) = &settings.known {
            return Ok(Authenticated { identity: Arc::clone(known), method: None, data: None });
        }
        let attempt = Attempt {
            client_id: &connect.client_id,
            user: connect.username.as_deref(),
            password: connect.password.as_deref(),
            address: door.remote.ip(),
            listener: &door.at.name,
            certificate_user: tls.and_then(|tls| tls.certificate_user.as_deref()),
            anonymous: settings.anonymous,
            methods: settings.methods.as_deref(),
        };
        let identity = access.auth.authenticate(&attempt).await.map_err(Failed::Denied)?;
        Ok(Authenticated { identity: identity.shared(), method: None, data: None })
    }

    /// Enhanced authentication (v5 section 4.12): AUTH packets, until the method is content.
    async fn exchange(
        &self,
        access: &Access,
        socket: &Socket,
        door: &Door,
        method: String,
        mut data: Vec<u8>,
        rest: &mut Vec<u8>,
    ) -> Result<Authenticated, Failed> {
        let mut exchange =
            access.auth.exchange(&method, door.at.settings().methods.as_deref()).ok_or(Failed::Method)?;
        let limits = door.at.limits();
        let deadline = self.clock.tick().plus_millis(millis(limits.connect_timeout));
        for _ in 0..MOST_STEPS {
            match access.auth.step(&mut exchange, door.remote.ip(), &data).map_err(Failed::Denied)? {
                Step::Done(identity, data) => {
                    return Ok(Authenticated { identity: Arc::new(identity), method: Some(method), data });
                }
                Step::Failed => break,
                Step::Continue(challenge) => {
                    let packet = auth_packet(ReasonCode::ContinueAuthentication, &method, Some(challenge));
                    // A fresh socket has room for these few bytes.
                    socket.writable().await.map_err(|error| Failed::Socket(error.into()))?;
                    let sent = socket.try_write(&packet).and_then(|_| socket.try_flush());
                    sent.map_err(|error| Failed::Socket(error.into()))?;
                    stats::add(|s| &s.packets_sent, 1);
                    let left = deadline.since(self.clock.tick());
                    let answer = read_auth(socket, rest, &method, limits.max_connect);
                    let answer = task::timeout(std::time::Duration::from_millis(left), answer).await;
                    data = answer.unwrap_or(Err(Refusal::Timeout)).map_err(Failed::Socket)?;
                }
            }
        }
        Err(Failed::Denied(Denied::BadCredentials))
    }
}

/// Why nobody was found.
enum Failed {
    Denied(Denied),
    Method,
    Socket(Refusal),
}

fn reason_of(denied: &Denied, version: Version) -> ReasonCode {
    match denied {
        // Before v5 the code of that name is for credentials that are malformed (3.1.1 table 3.1).
        Denied::BadCredentials if version != Version::V5 => ReasonCode::NotAuthorized,
        Denied::BadCredentials => ReasonCode::BadUserNameOrPassword,
        Denied::NoCredentials => ReasonCode::NotAuthorized,
        Denied::Banned { .. } => ReasonCode::Banned,
        Denied::Busy => ReasonCode::ServerBusy,
        Denied::Unavailable(_) => ReasonCode::ServerUnavailable,
    }
}

fn auth_packet(reason: ReasonCode, method: &str, data: Option<Vec<u8>>) -> Vec<u8> {
    let properties = AuthProperties {
        authentication_method: Some(method.to_owned()),
        authentication_data: data,
        ..AuthProperties::default()
    };
    let mut bytes = Vec::new();
    encode(&Packet::Auth(Auth { reason, properties }), Version::V5, &mut bytes);
    bytes
}

/// The next AUTH of the client, which must go on with `method` [MQTT-4.12.0-5].
async fn read_auth(socket: &Socket, rest: &mut Vec<u8>, method: &str, most: usize) -> Result<Vec<u8>, Refusal> {
    loop {
        if let Some(frame) = frame::peek(rest, most, Version::V5)? {
            let size = frame.size;
            stats::add(|s| &s.packets_received, 1);
            let Packet::Auth(auth) = decode(&frame, Version::V5)? else {
                return Err(Refusal::Refused("another packet than AUTH before CONNACK [MQTT-3.1.2-30]"));
            };
            let same = auth.properties.authentication_method.as_deref() == Some(method);
            if auth.reason != ReasonCode::ContinueAuthentication || !same {
                return Err(Refusal::Refused("AUTH does not go on with the method of CONNECT [MQTT-4.12.0-5]"));
            }
            rest.drain(..size);
            return Ok(auth.properties.authentication_data.unwrap_or_default());
        }
        read_some(socket, rest).await?;
    }
}

/// A re-authentication under way, or a connection that could begin one.
pub(crate) struct Renewal {
    pub(crate) method: String,
    exchange: Option<Exchange>,
}

impl Renewal {
    pub(crate) fn new(method: String) -> Self {
        Self { method, exchange: None }
    }
}

impl Connection {
    /// AUTH on a connection that was authenticated by an exchange [MQTT-4.12.1-1].
    pub(crate) fn auth(&mut self, auth: &Auth) -> Result<(), End> {
        let violation = |what| End::Violation(ReasonCode::ProtocolError, what);
        let Some(renewal) = &mut self.renewal else { return Err(violation("AUTH without enhanced authentication")) };
        if auth.properties.authentication_method.as_deref() != Some(&renewal.method) {
            return Err(violation("AUTH with another method than CONNECT [MQTT-4.12.1-1]"));
        }
        match auth.reason {
            ReasonCode::ReAuthenticate => {
                let settings = self.peer.about.door.at.settings().clone();
                renewal.exchange =
                    self.broker.access.load().auth.exchange(&renewal.method, settings.methods.as_deref());
            }
            ReasonCode::ContinueAuthentication if renewal.exchange.is_some() => {}
            _ => return Err(violation("AUTH out of place")),
        }
        let data = auth.properties.authentication_data.as_deref().unwrap_or_default();
        let step = match &mut renewal.exchange {
            Some(exchange) => {
                let address = self.peer.about.door.remote.ip();
                self.broker.access.load().auth.step(exchange, address, data).unwrap_or(Step::Failed)
            }
            None => Step::Failed,
        };
        let packet = match step {
            Step::Continue(data) => auth_packet(ReasonCode::ContinueAuthentication, &renewal.method, Some(data)),
            Step::Done(identity, data) if identity.user == self.peer.about.identity.user => {
                renewal.exchange = None;
                self.credentials_expire = identity.expires;
                auth_packet(ReasonCode::Success, &renewal.method, data)
            }
            // [MQTT-4.12.1-2]: whoever fails, or turns out to be somebody else, is disconnected.
            _ => return Err(End::Violation(ReasonCode::NotAuthorized, "re-authentication failed")),
        };
        let mut state = self.peer.lock();
        state.packet(&packet);
        self.peer.schedule(&mut state);
        Ok(())
    }

    /// Whether the client's credentials have expired at `now`.
    pub(crate) fn credentials_expired(&self, now: Wall) -> bool {
        self.credentials_expire.is_some_and(|at| at <= now)
    }
}

impl Broker {
    /// Counts a connection for its user, where users are counted.
    pub(super) fn count_user(
        &self,
        authenticated: &Authenticated,
        limits: &Limits,
    ) -> Result<Option<Share<Arc<str>>>, (ReasonCode, &'static str)> {
        self.share_of(&authenticated.identity, limits, limits.connections_per_user).map_err(|_| {
            stats::add(|s| &s.refused_user, 1);
            (ReasonCode::QuotaExceeded, "too many connections of this user")
        })
    }

    /// Counts a connection that came in before its user was counted.
    pub(crate) fn count_late(&self, identity: &Identity, limits: &Limits) -> Option<Share<Arc<str>>> {
        self.share_of(identity, limits, usize::MAX).ok().flatten()
    }

    fn share_of(
        &self,
        identity: &Identity,
        limits: &Limits,
        connections: usize,
    ) -> Result<Option<Share<Arc<str>>>, TooMany> {
        let bounds = Bounds { connections, arrivals: 0, rate: limits.user_rate };
        let Some(user) = identity.owner().filter(|_| !bounds.is_unlimited()) else { return Ok(None) };
        self.users.enter(Arc::clone(user), &bounds, self.clock.tick()).map(Some)
    }
}
