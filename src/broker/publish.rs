//! The life of a PUBLISH inside the broker: from a message to all who receive it.
//!
//! For each receiver once: *live* (QoS 0, and transient sessions: straight to their outboxes), *durable* (one `Enqueue`
//! op per shard, naming all its matched sessions) and *retained* (one `Retain` op). The ops are the caller's to submit,
//! together with what else must become durable with them.

use super::access::{self, MayPublish};
use super::bridges::{Keeping, bridge_of};
use super::durable::Durable;
use super::peer::Peer;
use super::ports::{Far, Publication};
use super::sending::{Copy, Readiness, SharedUnderWay};
use super::source::Source;
use super::subscriber::Subscriber;
use super::{Broker, stats};
use crate::store::Store;
use nightjar_base::{HomeId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS, ReasonCode};
use nightjar_policy::Policy;
use nightjar_router::{GroupPlan, Plan, Receiver};
use nightjar_shard::{Op, Overflow};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Topics whose routes one connection remembers, and receivers in all of them; beyond it starts again.
const CACHED_ROUTES: usize = 1024;
const CACHED_RECEIVERS: u32 = 16_384;
/// Bytes of topics that a connection's routes may hold: each is there twice.
const CACHED_TOPICS: u32 = 256 * 1024;
/// Members of a shared group that are asked whether they have room before any connected one is taken.
const MEMBERS_ASKED: usize = 64;

/// A topic and all who receive what is published on it.
pub(crate) struct Route {
    pub(crate) topic: Arc<str>,
    plan: Plan<Arc<Subscriber>>,
    /// Clients may not publish here.
    pub(crate) reserved: bool,
    /// What the publisher that it was drawn for may do here.
    pub(crate) may_publish: MayPublish,
    overflow: Overflow,
    queue_qos0: bool,
    /// Whether no queue may take another message.
    queues_bounded: bool,
    /// Whether a bridge carries what is published here away.
    pub(crate) linked: bool,
    /// Who has transient subscribers on other nodes, if anybody.
    pub(crate) far: Option<Box<Far>>,
}

impl Route {
    /// How many receive what is published here; a shared subscription counts as one.
    pub(crate) fn receivers(&self) -> usize {
        self.plan.receivers.len() + self.plan.groups.len() + self.far.as_ref().map_or(0, |far| far.plain.len())
    }

    pub(super) fn plan(&self) -> &Plan<Arc<Subscriber>> {
        &self.plan
    }

    fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.far.is_none()
    }
}

/// The routes of the topics that one publisher uses, valid as long as no subscription changes.
#[derive(Default)]
pub(crate) struct RouteCache {
    epoch: u64,
    last: Option<Arc<Route>>,
    /// Receivers that all remembered routes hold together.
    receivers: u32,
    /// Bytes of their topics.
    topics: u32,
    routes: HashMap<Box<[u8]>, Arc<Route>, foldhash::fast::RandomState>,
}

impl RouteCache {
    /// Forgets everything if a subscription has changed since `epoch` was last seen; whether one has.
    #[inline]
    pub(crate) fn see_epoch(&mut self, epoch: u64) -> bool {
        let changed = self.epoch != epoch;
        if changed {
            self.epoch = epoch;
            self.clear();
        }
        changed
    }

    /// Whether no subscription has changed since the epoch was last seen.
    pub(crate) fn is_current(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    fn clear(&mut self) {
        self.last = None;
        self.receivers = 0;
        self.topics = 0;
        self.routes.clear();
    }

    /// The remembered route of the topic with these bytes.
    #[inline]
    pub(crate) fn get(&mut self, topic: &[u8]) -> Option<Arc<Route>> {
        if let Some(last) = &self.last
            && last.topic.as_bytes() == topic
        {
            return Some(Arc::clone(last));
        }
        let route = self.routes.get(topic)?;
        self.last = Some(Arc::clone(route));
        Some(Arc::clone(route))
    }

    pub(crate) fn insert(&mut self, route: &Arc<Route>) {
        let small = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let topic = small(route.topic.len());
        if self.routes.len() >= CACHED_ROUTES
            || self.receivers >= CACHED_RECEIVERS
            || self.topics.saturating_add(topic) > CACHED_TOPICS
        {
            self.clear();
        }
        self.topics = self.topics.saturating_add(topic);
        self.receivers = self.receivers.saturating_add(small(route.plan.receivers.len()));
        self.routes.insert(route.topic.as_bytes().into(), Arc::clone(route));
        self.last = Some(Arc::clone(route));
    }
}

/// What came of routing one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is on its way to at least one subscriber.
    Matched,
    /// Nobody subscribed to it.
    NoSubscribers,
    /// A session that must have it is full, and the policy is to refuse.
    Refused,
}

impl Outcome {
    /// The reason code of PUBACK and PUBREC.
    pub(crate) fn reason(self) -> ReasonCode {
        match self {
            Self::Matched => ReasonCode::Success,
            Self::NoSubscribers => ReasonCode::NoMatchingSubscribers,
            Self::Refused => ReasonCode::QuotaExceeded,
        }
    }
}

/// Whether clients may not publish on `topic`. The states of bridges that come here are an exception, as in mosquitto.
pub(crate) fn is_reserved(topic: &str) -> bool {
    (topic == "$SYS" || topic.starts_with("$SYS/")) && bridge_of(topic).is_none()
}

impl Broker {
    /// The route of `topic` for what `publisher` (a subscriber's id, or 0) publishes.
    pub(crate) fn route(&self, topic: &str, publisher: u64) -> Route {
        let mut plan = self.router.read().plan(topic, publisher);
        if !matches!(self.access.load().policy, Policy::Open) {
            keep_permitted(&mut plan, topic);
        }
        self.loops.keep_one_way(&mut plan, publisher);
        let limits = self.limits.load();
        let linked = plan.receivers.iter().any(|receiver| receiver.handle.is_link());
        Route {
            topic: topic.into(),
            plan,
            reserved: is_reserved(topic),
            may_publish: MayPublish::ALL,
            overflow: limits.overflow,
            queue_qos0: limits.queue_qos0,
            queues_bounded: limits.bounds_queues(),
            linked,
            far: self.far(topic),
        }
    }

    /// Routes one message: delivers what goes live, and appends to `ops` what must be durable.
    pub(crate) fn deliver(
        &self,
        source: &Source<'_>,
        route: &Route,
        ops: &mut Vec<(ShardId, Op)>,
        now: Wall,
    ) -> Outcome {
        if route.is_empty() {
            return Outcome::NoSubscribers;
        }
        if source.qos > QoS::AtMostOnce {
            if route.overflow == Overflow::Refuse && self.any_full(&route.plan) {
                stats::add(|s| &s.dropped_queue_full, 1);
                return Outcome::Refused;
            }
            if route.queues_bounded && self.pressure.queues_full(&self.limits.load()) && any_queues(&route.plan) {
                stats::add(|s| &s.refused_quota, 1);
                return Outcome::Refused;
            }
        }
        let mut durable = Durable::at(now);
        (durable.queue_qos0, durable.had_live) = (route.queue_qos0, !self.goes_live(source));
        let many = route.plan.receivers.len() + route.plan.groups.len() > 1;
        for receiver in &route.plan.receivers {
            self.deliver_to(source, receiver, None, many, &mut durable);
        }
        let mut taken = !route.plan.receivers.is_empty();
        for group in &route.plan.groups {
            let far = route.far.as_ref().map_or(&[][..], |far| far.group(&group.share));
            taken |= self.deliver_to_group(source, group, far, many, &mut durable);
        }
        if let Some(far) = &route.far {
            taken |= self.choose_far(far, &route.plan.groups, &mut durable.away);
        }
        self.send_away(source, std::mem::take(&mut durable.away), 0);
        durable.into_ops(source, now, ops);
        if taken { Outcome::Matched } else { Outcome::NoSubscribers }
    }

    /// Delivers to one subscriber; false if it is not there to take it.
    pub(super) fn deliver_to(
        &self,
        source: &Source<'_>,
        receiver: &Receiver<Arc<Subscriber>>,
        share: Option<&Arc<str>>,
        many: bool,
        durable: &mut Durable,
    ) -> bool {
        let qos = source.qos.min(receiver.qos);
        let subscriber = &receiver.handle;
        let identifiers = receiver.identifiers.as_slice();
        let retain = source.retain && receiver.retain_as_published;
        if qos > QoS::AtMostOnce
            && let Some(session) = subscriber.session
        {
            if source.retain
                && let Some(peer) = &*subscriber.peer()
            {
                let mut state = peer.lock();
                state.note_fresh(source.message(), &self.store);
                if state.close.is_some() {
                    drop(state);
                    peer.close_now();
                }
            }
            durable.add(subscriber, session, Copy { qos, retain, identifiers, share });
            return true;
        }
        let peer = subscriber.peer();
        let Some(peer) = &*peer else {
            if let Some(home) = subscriber.elsewhere() {
                durable.away.add(home, share);
                return true;
            }
            // [MQTT-3.1.2-5]: keeping QoS 0 for an absent session is the server's choice.
            let keeps = durable.queue_qos0 || subscriber.keeping().is_some_and(Keeping::keeps_qos0);
            if let (Some(session), true) = (subscriber.session, keeps) {
                durable.add(subscriber, session, Copy { qos, retain, identifiers, share });
                return true;
            }
            return false;
        };
        durable.had_live || deliver_live(peer, source, &Copy { qos, retain, identifiers, share }, many, &self.store)
    }

    /// Delivers to one member of a group [MQTT-4.8.2-4]: one that is connected and has room, else one that is connected,
    /// else one whose session keeps it. Each process of `far` counts as a member that is connected.
    pub(super) fn deliver_to_group(
        &self,
        source: &Source<'_>,
        group: &GroupPlan<Arc<Subscriber>>,
        far: &[HomeId],
        many: bool,
        durable: &mut Durable,
    ) -> bool {
        let members = &group.members;
        let start = group.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(home) = far.get(start % (far.len() + members.len())) {
            durable.away.add(*home, Some(&group.share));
            return true;
        }
        let in_turn = (0..members.len()).map(|offset| &members[(start.wrapping_add(offset)) % members.len()]);
        let mut busy = Vec::new();
        let mut absent = Vec::new();
        for (asked, member) in in_turn.enumerate() {
            match self.offer_to(source, member, &group.share, many, durable) {
                Readiness::Ready => return true,
                Readiness::Absent => absent.push(member),
                Readiness::Busy => busy.push(member),
            }
            if asked >= MEMBERS_ASKED && !busy.is_empty() {
                break;
            }
        }
        if busy.is_empty()
            && let Some(home) = far.first()
        {
            durable.away.add(*home, Some(&group.share));
            return true;
        }
        busy.into_iter().chain(absent).any(|member| self.deliver_to(source, member, Some(&group.share), many, durable))
    }

    /// Delivers to a member of a group if it is ready, and says whether it was.
    fn offer_to(
        &self,
        source: &Source<'_>,
        member: &Receiver<Arc<Subscriber>>,
        share: &Arc<str>,
        many: bool,
        durable: &mut Durable,
    ) -> Readiness {
        let current = member.handle.peer();
        let Some(peer) = &*current else {
            // It is looked at again.
            drop(current);
            let elsewhere = member.handle.elsewhere().is_some();
            let taken = elsewhere && self.deliver_to(source, member, Some(share), many, durable);
            return if taken { Readiness::Ready } else { Readiness::Absent };
        };
        let mut state = peer.lock();
        let readiness = state.readiness();
        if readiness != Readiness::Ready {
            return readiness;
        }
        let qos = source.qos.min(member.qos);
        let retain = source.retain && member.retain_as_published;
        let identifiers = member.identifiers.as_slice();
        if let (Some(session), true) = (member.handle.session, qos > QoS::AtMostOnce) {
            durable.add(&member.handle, session, Copy { qos, retain, identifiers, share: Some(share) });
        } else if !durable.had_live
            && state.deliver(source, &Copy { qos, retain, identifiers, share: Some(share) }, many)
        {
            peer.schedule(&mut state);
        }
        Readiness::Ready
    }

    /// Gives a message of a shared subscription to another member of its group, after one has left.
    pub(crate) fn redistribute(
        &self,
        of_group: &SharedUnderWay,
        leaver: u64,
        publication: Option<Publication>,
        ops: &mut Vec<(ShardId, Op)>,
        now: Wall,
    ) -> bool {
        let SharedUnderWay { message, qos, share } = of_group;
        let mut plan = self.router.read().plan(message.topic(), 0);
        keep_permitted(&mut plan, message.topic());
        let far = self.far(message.topic());
        let far = far.as_ref().map_or(&[][..], |far| far.group(share));
        let mut source = Source::of_message(message, now);
        (source.qos, source.publication) = (*qos, publication);
        let mut durable = Durable::at(now);
        let group = plan.groups.iter().find(|group| group.share == *share).and_then(|group| {
            let others: Arc<[_]> = group.members.iter().filter(|member| member.id != leaver).cloned().collect();
            let others = Some(others).filter(|others| !others.is_empty())?;
            Some(GroupPlan { share: Arc::clone(share), members: others, turn: Arc::clone(&group.turn) })
        });
        let taken = match (group, far.first()) {
            (Some(group), _) => self.deliver_to_group(&source, &group, far, true, &mut durable),
            // All others are at other nodes.
            (None, Some(home)) => {
                durable.away.add(*home, Some(share));
                true
            }
            (None, None) => false,
        };
        self.send_away(&source, std::mem::take(&mut durable.away), 0);
        durable.into_ops(&source, now, ops);
        taken
    }

    /// Whether a message may become its topic's retained one: replacing and removing is always possible.
    pub(crate) fn may_retain(&self, topic: &str, removes: bool) -> bool {
        removes
            || !self.pressure.retained_full(&self.limits.load())
            || self.store.lock(self.store.shard_of(topic)).has_retained(topic)
    }

    /// Appends the op that makes this the topic's retained message, or removes it [MQTT-3.3.1-5], [MQTT-3.3.1-6].
    pub(crate) fn retain(&self, source: &Source<'_>, ops: &mut Vec<(ShardId, Op)>, now: Wall) {
        let message = Arc::clone(source.message());
        let shard = self.store.shard_of(message.topic());
        let op = match source.publication {
            Some(Publication { origin, digest, .. }) => Op::RetainFrom { origin, digest, message, now },
            None => Op::Retain { message, now },
        };
        ops.push((shard, op));
    }

    /// Publishes from inside the broker (wills, the handle): appends all ops, retained first, so that a subscriber that
    /// comes in between misses nothing.
    pub(crate) fn publish_message(&self, message: &Arc<Message>, ops: &mut Vec<(ShardId, Op)>, now: Wall) -> Outcome {
        self.publish_as(message, None, ops, now)
    }

    /// As [`Self::publish_message`], where it may have to be made again.
    pub(crate) fn publish_as(
        &self,
        message: &Arc<Message>,
        publication: Option<Publication>,
        ops: &mut Vec<(ShardId, Op)>,
        now: Wall,
    ) -> Outcome {
        let message = &self.stamped(message);
        let mut source = Source::of_message(message, now);
        source.publication = publication;
        if message.retain {
            let mut retained = Vec::with_capacity(1);
            self.retain(&source, &mut retained, now);
            self.store.submit(&mut retained, None);
        }
        let route = self.route(message.topic(), 0);
        self.deliver(&source, &route, ops, now)
    }

    fn any_full(&self, plan: &Plan<Arc<Subscriber>>) -> bool {
        plan.receivers.iter().filter(|receiver| receiver.qos > QoS::AtMostOnce).any(|receiver| {
            let Some((shard, id)) = receiver.handle.session else { return false };
            let shard = self.store.lock(shard);
            shard.session(id).is_some_and(|session| {
                // A bridge's queue has a policy of its own.
                let limits = session.limits();
                limits.policy == Overflow::Refuse
                    && (session.queued() >= limits.messages || session.queued_bytes() >= limits.bytes)
            })
        })
    }
}

/// Whether anybody would keep the message.
fn any_queues(plan: &Plan<Arc<Subscriber>>) -> bool {
    let keeps = |receiver: &Receiver<Arc<Subscriber>>| receiver.handle.session.is_some();
    plan.receivers.iter().any(keeps) || plan.groups.iter().any(|group| group.members.iter().any(keeps))
}

/// Takes those out who may not be sent what is published on `topic`.
fn keep_permitted(plan: &mut Plan<Arc<Subscriber>>, topic: &str) {
    let permitted = |receiver: &Receiver<Arc<Subscriber>>| access::may_receive(&receiver.handle, topic);
    plan.receivers.retain(|receiver| access::is_for(&receiver.handle, topic));
    for group in &mut plan.groups {
        if !group.members.iter().all(permitted) {
            group.members = group.members.iter().filter(|member| permitted(member)).cloned().collect();
        }
    }
    plan.groups.retain(|group| !group.members.is_empty());
}

/// Appends one copy to a connected client's outbox or queue.
fn deliver_live(peer: &Arc<Peer>, source: &Source<'_>, copy: &Copy<'_>, many: bool, store: &Store) -> bool {
    let mut state = peer.lock();
    if state.is_over() {
        return false;
    }
    let sent = state.deliver(source, copy, many);
    // What was not sent, and does not wait to be, is still for the replay to find.
    if source.retain && (sent || copy.qos > QoS::AtMostOnce) {
        state.note_fresh(source.message(), store);
    }
    if sent {
        peer.schedule(&mut state);
    }
    if state.close.is_some() {
        drop(state);
        peer.close_now();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_routes_hold_few_bytes_however_long_their_topics() {
        let mut cache = RouteCache::default();
        for number in 0..CACHED_ROUTES {
            let route = Route {
                topic: format!("{number}/{}", "t".repeat(60_000)).into(),
                plan: Plan { receivers: Vec::new(), groups: Vec::new() },
                reserved: false,
                may_publish: MayPublish::ALL,
                overflow: Overflow::DropOldest,
                queue_qos0: false,
                queues_bounded: false,
                linked: false,
                far: None,
            };
            cache.insert(&Arc::new(route));
            let held: usize = cache.routes.keys().map(|topic| topic.len()).sum();
            assert!(held <= CACHED_TOPICS as usize, "{held}");
        }
    }
}
