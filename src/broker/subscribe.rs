//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! The route is there first, then the subscription is made durable, then SUBACK goes, then the retained messages: so
//! what is published after the SUBACK was seen is delivered, and a crash in between leaves at worst a stray route.

use super::connection::{Ack, Connection, End};
use super::peer::Peer;
use super::replay::Replay;
use super::sending::Pending;
use super::{Broker, feed, stats};
use nightjar_base::Position;
use nightjar_mqtt::property::AckProperties;
use nightjar_mqtt::{
    Packet, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe, encode, topic,
};
use nightjar_shard::{Op, Subscription};
use std::sync::Arc;

/// Sees to it that all nodes know of what was subscribed at `position`; then SUBACK goes, and the retained messages.
pub(super) async fn settle(broker: Arc<Broker>, peer: Arc<Peer>, position: Position, mut replays: Vec<Replay>) {
    let Some(others) = &broker.others else { return };
    broker.store.wait(position).await;
    others.settled().await;
    // What was retained before any node knew of the subscription is here by now: what is newer comes live.
    let ceilings = Replay::ceilings(&broker);
    if let Some(subscriber) = peer.subscriber.upgrade() {
        let filters = subscriber.filters();
        replays.retain(|replay| filters.contains_key(replay.filter()));
    }
    {
        let mut state = peer.lock();
        if state.is_over() {
            return;
        }
        state.open(position);
        for mut replay in replays {
            replay.asked_at(&ceilings);
            replay.wait_for(position);
            state.replays.push_back(replay);
        }
        if state.release(broker.store.applied()) {
            peer.schedule(&mut state);
        }
    }
    feed::feed(&broker, &peer);
}

/// One filter of a SUBSCRIBE that was granted.
struct Granted {
    filter: Arc<str>,
    options: SubscriptionOptions,
    replay: bool,
}

impl Connection {
    /// SUBSCRIBE: each filter gets its own answer, in order [MQTT-3.9.3-1].
    pub(crate) fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), End> {
        // All are checked before the first is routed: an error ends the connection, and leaves nothing behind.
        let mut answers = Vec::with_capacity(subscribe.filters.len());
        for (filter, options) in &subscribe.filters {
            answers.push(self.check(filter, *options)?);
        }
        let mut codes = Vec::with_capacity(answers.len());
        let mut granted = Vec::with_capacity(answers.len());
        for ((filter, _), answer) in subscribe.filters.iter().zip(answers) {
            match answer.and_then(|options| self.grant(filter, options)) {
                Ok(grant) => {
                    codes.push(ReasonCode::granted(grant.options.qos));
                    granted.push(grant);
                }
                Err(reason) => codes.push(reason),
            }
        }
        self.subscribed(granted);
        let packet = SubAck { packet_id: subscribe.packet_id, properties: AckProperties::default(), codes };
        self.answer(&Packet::SubAck(packet))
    }

    /// Checks one filter: its options as they are granted, or the reason why not.
    fn check(
        &self,
        filter: &str,
        mut options: SubscriptionOptions,
    ) -> Result<Result<SubscriptionOptions, ReasonCode>, End> {
        let Ok(parsed) = topic::parse_filter(filter) else { return Ok(Err(ReasonCode::TopicFilterInvalid)) };
        if parsed.share.is_some() && options.no_local {
            return Err(End::Violation(ReasonCode::ProtocolError, "No Local on a shared subscription [MQTT-3.8.3-4]"));
        }
        if self.broker.is_cut_off() {
            return Ok(Err(ReasonCode::ImplementationSpecificError));
        }
        let limits = &self.limits;
        if filter.len() > limits.max_topic_length || !limits.takes_topic(parsed.filter) {
            return Ok(Err(ReasonCode::TopicFilterInvalid));
        }
        if self.is_flagged && parsed.share.is_none() {
            // What the flag of bridges asks for, since before v5 SUBSCRIBE cannot.
            (options.no_local, options.retain_as_published) = (true, true);
        }
        let rights = self.subscriber.rights();
        match rights.subscribe(parsed.filter, parsed.share.is_some(), options.qos.min(limits.max_qos)) {
            Some(qos) => options.qos = qos,
            None => {
                stats::add(|s| &s.denied_subscribe, 1);
                return Ok(Err(ReasonCode::NotAuthorized));
            }
        }
        Ok(Ok(options))
    }

    /// Routes to one filter.
    fn grant(&mut self, filter: &str, options: SubscriptionOptions) -> Result<Granted, ReasonCode> {
        let known = self.subscriber.filters().get_key_value(filter).map(|(filter, _)| Arc::clone(filter));
        if known.is_none() && self.has_no_room() {
            stats::add(|s| &s.refused_subscriptions, 1);
            return Err(ReasonCode::QuotaExceeded);
        }
        // A shared subscription never gets retained messages (v5 section 4.8.2).
        let replay = !topic::is_shared(filter)
            && match options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => known.is_none(),
                RetainHandling::Never => false,
            };
        let filter: Arc<str> = known.unwrap_or_else(|| filter.into());
        self.broker.add_route(&self.subscriber, &filter, options);
        self.settles |= self.broker.others.is_some();
        self.subscriber.filters().insert(Arc::clone(&filter), options);
        Ok(Granted { filter, options, replay })
    }

    /// Whether one more subscription would be too many.
    fn has_no_room(&self) -> bool {
        let total = self.broker.limits.load().max_subscriptions_total;
        self.subscriber.filters().len() >= self.limits.max_subscriptions
            || (total != usize::MAX && self.broker.router.read().len() >= total)
            || self.broker.pressure.memory()
    }

    /// Records what was granted, and lines up the retained messages.
    fn subscribed(&mut self, granted: Vec<Granted>) {
        let durable = self.durable.filter(|durable| durable.queue);
        // Other nodes may have acknowledged what is not here yet.
        let nothing_retained = self.broker.others.is_none() && self.broker.nothing_retained();
        let mut ceilings = None;
        for grant in granted.iter().filter(|grant| grant.replay) {
            if nothing_retained && !grant.filter.starts_with('$') {
                continue;
            }
            // One that is still going on for the same filter is replaced: this one begins anew.
            self.new_replays.retain(|replay| *replay.filter() != grant.filter);
            self.peer.lock().drop_replays(&grant.filter);
            let mut replay = Replay::new(Arc::clone(&grant.filter), grant.options, durable.is_some());
            replay.asked_at(ceilings.get_or_insert_with(|| Replay::ceilings(&self.broker)));
            self.new_replays.push(replay);
        }
        let now = self.broker.clock.now();
        if let Some(durable) = durable.filter(|_| !granted.is_empty()) {
            let subscriptions = granted
                .into_iter()
                .map(|grant| {
                    let replay = grant.replay && !nothing_retained;
                    Subscription { filter: grant.filter, options: grant.options, replay }
                })
                .collect();
            self.ops.push((durable.shard, Op::Subscribe { session: durable.session, subscriptions, now }));
        } else if !self.new_replays.is_empty() && self.broker.store.submitted() > self.broker.store.applied() {
            // What was retained before the route was there must be among the retained messages.
            self.waits_for = Some(self.broker.store.submitted());
        }
    }

    /// UNSUBSCRIBE: the routes go at once; the answer goes when it is durable.
    pub(crate) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<(), End> {
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        let mut removed = Vec::new();
        for filter in &unsubscribe.filters {
            if topic::parse_filter(filter).is_err() {
                codes.push(ReasonCode::TopicFilterInvalid);
                continue;
            }
            let known = self.subscriber.filters().remove_entry(&**filter);
            if let Some((filter, _)) = known {
                self.broker.remove_route(&self.subscriber, &filter);
                codes.push(ReasonCode::Success);
                removed.push(filter);
            } else {
                codes.push(ReasonCode::NoSubscriptionExisted);
            }
        }
        if !removed.is_empty() {
            self.new_replays.retain(|replay| !removed.contains(replay.filter()));
            let mut state = self.peer.lock();
            removed.iter().for_each(|filter| state.drop_replays(filter));
        }
        if let Some(durable) = self.durable.filter(|durable| durable.queue && !removed.is_empty()) {
            self.ops.push((durable.shard, Op::Unsubscribe { session: durable.session, filters: removed }));
        }
        let packet = UnsubAck { packet_id: unsubscribe.packet_id, properties: AckProperties::default(), codes };
        self.answer(&Packet::UnsubAck(packet))
    }

    /// Lines up an answer behind the ops of this read.
    fn answer(&mut self, packet: &Packet) -> Result<(), End> {
        // While the store is behind, the client is not read: its requests must not gather in memory.
        self.fills_store |= !self.ops.is_empty() || !self.new_replays.is_empty();
        let mut bytes = Vec::new();
        encode(packet, self.peer.version, &mut bytes);
        if !self.peer.lock().takes(bytes.len()) {
            // An answer that the client does not take [MQTT-3.1.2-24], and without which it cannot go on.
            return Err(End::Violation(ReasonCode::PacketTooLarge, "the answer is larger than the client takes"));
        }
        let durable = !self.ops.is_empty() || self.waits_for.is_some();
        self.acks.push(Ack { durable, pending: Pending::Packet(bytes.into_boxed_slice()) });
        Ok(())
    }
}
