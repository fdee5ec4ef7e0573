//! Who may come in, and what each may do: what a reload replaces as a whole.

use super::Broker;
use super::bridges::is_bridge;
use super::peer::{Close, Peer};
use super::subscriber::Subscriber;
use crate::auth::{Admits, Auth, Identity};
use nightjar_base::ClientId;
use nightjar_mqtt::{Message, QoS};
use nightjar_policy::{Policy, Rights, Who};
use std::sync::Arc;

/// What a client before MQTT 5 meets when it publishes what it may not: there is no reason code to tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedPublish {
    /// The message is acknowledged and dropped.
    Drop,
    /// The connection is closed.
    Disconnect,
}

/// What becomes of a session whose client identifier another user comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherUser {
    /// The newcomer is refused, and nothing is touched.
    Refuse,
    /// The session ends, queue and all, and the newcomer gets a new one.
    End,
}

/// Who may come in and what each may do.
pub struct Access {
    /// Who are you.
    pub auth: Auth,
    /// What may you do.
    pub policy: Policy,
    /// What a client before MQTT 5 meets when it publishes what it may not.
    pub denied_publish: DeniedPublish,
    /// What becomes of a session whose client identifier another user comes with.
    pub other_user: OtherUser,
}

impl Access {
    /// What a client may do.
    pub(crate) fn rights(&self, client_id: &str, identity: &Identity) -> Rights {
        if identity.is_operator() {
            return Rights::open();
        }
        self.policy.rights(&Who {
            user: identity.user.as_deref(),
            client_id,
            groups: &identity.groups,
            grants: identity.grants.as_deref(),
        })
    }

    /// What the owner of a session may do while it is away. What a token granted counts only while it is shown.
    pub(crate) fn rights_of_absent(&self, client_id: &str, user: Option<&str>) -> Rights {
        if user.is_none() && is_bridge(client_id) {
            return Rights::open();
        }
        self.policy.rights(&Who { user, client_id, groups: &[], grants: None })
    }

    /// Whether a will that could not be published is refused with its CONNECT. Mosquitto's rules let it in.
    pub(crate) fn refuses_wills(&self) -> bool {
        !matches!(self.policy, Policy::Mosquitto(_))
    }
}

impl Broker {
    /// Replaces who may come in and what each may do: at once for those who are in, too. Those whose credentials do not
    /// stand any more are disconnected.
    pub fn replace_access(&self, access: Access) {
        let access = Arc::new(access);
        self.access.store(Arc::clone(&access));
        for sessions in &self.sessions {
            let all: Vec<_> = sessions.lock().values().cloned().collect();
            for subscriber in all {
                let user = subscriber.user();
                subscriber.set_rights_while_away(access.rights_of_absent(&subscriber.client_id, user.as_deref()));
            }
        }
        for peer in self.registry.peers() {
            hold_to(&access, &peer);
        }
        self.routes_changed();
    }

    /// A client that came in by `used` and is now among those whom a reload finds: what was replaced meanwhile holds for
    /// it too.
    pub(crate) fn catch_up(&self, peer: &Peer, used: &Arc<Access>) {
        let mut access = self.access.load_full();
        // Where there are rules, a reload may have taken its session for one whose client is away.
        if !Arc::ptr_eq(&access, used) || !matches!(access.policy, Policy::Open) {
            loop {
                hold_to(&access, peer);
                let now = self.access.load_full();
                if Arc::ptr_eq(&access, &now) {
                    break;
                }
                access = now;
            }
        }
        drop_if_revoked(peer);
    }

    /// Who may come in and what each may do, as it is now.
    #[must_use]
    pub fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Disconnects those whose certificates have been revoked.
    pub fn drop_revoked(&self) {
        self.registry.peers().iter().for_each(|peer| drop_if_revoked(peer));
    }

    /// Whether the will of a session that has no connection any more may still be published.
    pub(crate) fn will_is_allowed(&self, client_id: &ClientId, user: Option<&str>, will: &Message) -> bool {
        self.access.load().rights_of_absent(client_id, user).publish(will.topic(), will.qos, will.retain)
    }
}

/// Gives a connected client the rights that it has now, and disconnects it if its credentials do not stand any more.
fn hold_to(access: &Access, peer: &Peer) {
    let settings = peer.about.door.at.settings().clone();
    let here = Admits { anonymous: settings.anonymous, methods: settings.methods.as_deref() };
    if !access.auth.still_stands(&peer.about.identity, &here) {
        peer.close(Close::Revoked);
    }
    let rights = access.rights(&peer.client_id, &peer.about.identity);
    if let Some(subscriber) = peer.subscriber.upgrade() {
        peer.lock().set_rights(&rights, subscriber.certainly_sent());
        subscriber.set_rights(rights);
    }
}

/// Disconnects a client whose certificate has been revoked.
fn drop_if_revoked(peer: &Peer) {
    let certificate = peer.about.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
    if let (Some(certificate), Some(tls)) = (certificate, peer.about.door.at.tls())
        && !tls.still_takes(certificate)
    {
        peer.close(Close::Revoked);
    }
}

/// What one publisher may do on one topic: a bit for each QoS, with and without the retain flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MayPublish(u8);

impl MayPublish {
    pub(crate) const ALL: Self = Self(0b11_1111);

    pub(crate) fn of(rights: &Rights, topic: &str) -> Self {
        if rights.is_open() {
            return Self::ALL;
        }
        let mut bits = 0;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for retain in [false, true] {
                bits |= u8::from(rights.publish(topic, qos, retain)) << Self::bit(qos, retain);
            }
        }
        Self(bits)
    }

    #[inline]
    pub(crate) fn allows(self, qos: QoS, retain: bool) -> bool {
        self.0 >> Self::bit(qos, retain) & 1 == 1
    }

    fn bit(qos: QoS, retain: bool) -> u8 {
        qos as u8 * 2 + u8::from(retain)
    }
}

/// Whether what is published on `topic` is for `subscriber`. Where the owner of a session is away, and its credentials may
/// grant more than the rules, nobody knows: so it is queued, and asked for when it is sent.
pub(crate) fn is_for(subscriber: &Subscriber, topic: &str) -> bool {
    may_receive(subscriber, topic) || subscriber.may_have_more_rights()
}

/// Whether `subscriber` may be sent what is published on `topic`.
pub(crate) fn may_receive(subscriber: &Subscriber, topic: &str) -> bool {
    subscriber.may_receive(topic)
}

/// Whether a session that `owner` has belongs to somebody else than `user`. What an unnamed client left behind belongs to nobody.
pub(crate) fn belongs_to_another(owner: Option<&str>, user: Option<&str>) -> bool {
    owner.is_some() && owner != user
}
