//! What comes out of the router: who receives a message, and how.

use crate::subscribers::{Subscribers, Subscription};
use nightjar_mqtt::QoS;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// All who receive what one publisher publishes on one topic. Valid until any subscription changes.
#[derive(Clone, Debug)]
pub struct Plan<H> {
    /// The subscribers, each once, ordered by id.
    pub receivers: Vec<Receiver<H>>,
    /// The shared subscriptions; one member of each receives the message [MQTT-4.8.2-4].
    pub groups: Vec<GroupPlan<H>>,
}

/// One subscriber and what its matching subscriptions together ask for.
#[derive(Clone, Debug)]
pub struct Receiver<H> {
    /// The subscriber.
    pub id: u64,
    /// The broker's handle of the subscriber.
    pub handle: H,
    /// The highest quality of service of its matching subscriptions [MQTT-3.3.4-2].
    pub qos: QoS,
    /// Whether any of them wants the retain flag as it was published.
    pub retain_as_published: bool,
    /// The identifiers of all of them [MQTT-3.3.4-4].
    pub identifiers: Identifiers,
}

/// One shared subscription that matches. Two filters under one share name are two of these.
#[derive(Clone, Debug)]
pub struct GroupPlan<H> {
    /// The whole filter, `$share/name/filter`.
    pub share: Arc<str>,
    /// The members, ordered by id; never empty.
    pub members: Arc<[Receiver<H>]>,
    /// Whose turn it is: counts messages, for as long as the group has members.
    pub turn: Arc<AtomicUsize>,
}

/// Subscription identifiers, ascending, each once. Allocates only for more than one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identifiers(Inner);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Inner {
    #[default]
    None,
    One(u32),
    Many(Box<[u32]>),
}

impl Identifiers {
    /// The identifiers.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match &self.0 {
            Inner::None => &[],
            Inner::One(one) => std::slice::from_ref(one),
            Inner::Many(many) => many,
        }
    }

    /// Whether no matching subscription has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Inner::None)
    }

    fn insert(&mut self, identifier: u32) {
        if identifier == 0 {
            return;
        }
        let Err(at) = self.as_slice().binary_search(&identifier) else { return };
        self.0 = match std::mem::take(&mut self.0) {
            Inner::None => Inner::One(identifier),
            Inner::One(one) => Inner::Many([one.min(identifier), one.max(identifier)].into()),
            Inner::Many(many) => {
                let mut many = many.into_vec();
                many.insert(at, identifier);
                Inner::Many(many.into_boxed_slice())
            }
        };
    }
}

impl<H> Plan<H> {
    /// Whether nobody receives the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty() && self.groups.is_empty()
    }
}

impl<H: Clone> Plan<H> {
    /// The plan for a message of `publisher` that all of `matched` subscribed to.
    pub(crate) fn draw(matched: &[&Subscribers<H>], publisher: u64) -> Self {
        // [MQTT-3.8.3-3]: nothing is sent back to the publisher by a subscription with No Local.
        let wanted = |member: &Subscription<H>| !(member.no_local && member.id == publisher);
        let groups = matched.iter().flat_map(|subscribers| subscribers.groups()).collect();
        let most = matched.iter().map(|subscribers| subscribers.plain_len()).sum();
        if let [subscribers] = matched {
            let mut receivers = Vec::with_capacity(most);
            subscribers.each(|member| {
                if wanted(member) {
                    receivers.push(Receiver::of(member));
                }
            });
            return Self { receivers, groups };
        }
        let mut members = Vec::with_capacity(most);
        for subscribers in matched {
            subscribers.each(|member| {
                if wanted(member) {
                    members.push(member);
                }
            });
        }
        // Each filter's members are sorted already; the stable sort merges such runs.
        members.sort_by_key(|member| member.id);
        let receivers = members.chunk_by(|one, other| one.id == other.id).map(Receiver::merged).collect();
        Self { receivers, groups }
    }
}

impl<H: Clone> Receiver<H> {
    pub(crate) fn of(member: &Subscription<H>) -> Self {
        Self {
            id: member.id,
            handle: member.handle.clone(),
            qos: member.qos,
            retain_as_published: member.retain_as_published,
            identifiers: match member.identifier {
                0 => Identifiers::default(),
                identifier => Identifiers(Inner::One(identifier)),
            },
        }
    }

    /// The one copy for a subscriber with several matching subscriptions (at least one).
    fn merged(members: &[&Subscription<H>]) -> Self {
        let mut receiver = Self::of(members[0]);
        for member in &members[1..] {
            receiver.qos = receiver.qos.max(member.qos);
            receiver.retain_as_published |= member.retain_as_published;
            receiver.identifiers.insert(member.identifier);
        }
        receiver
    }
}
