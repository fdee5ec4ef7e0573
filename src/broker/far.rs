//! Connections of other nodes: what goes to them, and what comes from them for ours.
//!
//! What is queued reaches them by their own store. What is only ever live is handed on: once for each process, which then
//! sees to its own connections as if the message had been published there.

use super::Broker;
use super::durable::Durable;
use super::ports::{Far, Forwarded, Publication};
use super::publish::is_reserved;
use super::source::Source;
use super::subscriber::Subscriber;
use nightjar_base::{HomeId, SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_router::GroupPlan;
use nightjar_shard::Origin;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// How often a message of a shared subscription is passed on because the member that it was for has left.
const HOPS: u8 = 3;
/// Publications that are remembered lest a live subscriber gets one twice: more than are under way when a node dies.
const REMEMBERED: usize = 65_536;

/// What of one message goes to other processes.
#[derive(Default)]
pub(super) struct Away(Vec<(HomeId, bool, Vec<Arc<str>>)>);

impl Away {
    /// A connection of `home` gets it; by a shared subscription, any member there.
    pub(super) fn add(&mut self, home: HomeId, share: Option<&Arc<str>>) {
        let at = self.0.iter().position(|(of, ..)| *of == home).unwrap_or_else(|| {
            self.0.push((home, false, Vec::new()));
            self.0.len() - 1
        });
        match share {
            Some(share) => self.0[at].2.push(Arc::clone(share)),
            None => self.0[at].1 = true,
        }
    }
}

impl Far {
    /// Who has members of a shared subscription.
    pub(super) fn group(&self, share: &str) -> &[HomeId] {
        let group = self.groups.iter().find(|(of, _)| **of == *share);
        group.map_or(&[], |(_, homes)| homes)
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }
}

/// Publications that live subscribers of this node have had, as far as they may be made again.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    known: HashSet<(Origin, u64)>,
    order: VecDeque<(Origin, u64)>,
}

impl Recent {
    /// Whether live subscribers are to get it: not if it is made again and they had it.
    fn admit(&self, publication: Option<Publication>) -> bool {
        let Some(Publication { origin, digest, again }) = publication else { return true };
        let Remembered { known, order } = &mut *self.0.lock();
        let is_new = known.insert((origin, digest));
        if is_new {
            order.push_back((origin, digest));
            if order.len() > REMEMBERED
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
        is_new || !again
    }
}

/// Another node takes so little that a message for it was dropped.
pub(crate) fn count_dropped() {
    super::stats::add(|s| &s.dropped_slow, 1);
}

/// What tells a message from another one of the same packet identifier: the same on every node (FNV-1a).
pub(crate) fn digest(message: &Message) -> u64 {
    let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let parts = [message.topic_bytes(), &[0], message.properties(), &[u8::from(message.retain)], message.payload()];
    parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, mix)
}

impl Publication {
    /// What a session published as the `token`th of its own.
    pub(crate) fn new(session: (ShardId, SessionId), token: u64, message: &Message, again: bool) -> Self {
        Self { origin: Origin { session, token }, digest: digest(message), again }
    }
}

impl Broker {
    /// Whether this node may acknowledge nothing: others may have been promised what it does not know of.
    #[inline]
    pub(super) fn is_cut_off(&self) -> bool {
        self.others.as_ref().is_some_and(|others| !others.may_acknowledge())
    }

    /// Whether publishers must not be read for the sake of other nodes.
    pub(super) fn is_behind(&self) -> bool {
        self.others.as_ref().is_some_and(|others| others.is_behind())
    }

    /// Who of the others has transient subscribers for `topic`.
    pub(super) fn far(&self, topic: &str) -> Option<Box<Far>> {
        let far = self.others.as_ref()?.far(topic);
        (!far.is_empty()).then(|| Box::new(far))
    }

    /// Chooses who gets what goes to all, and to groups that have no member here; whether anybody does.
    pub(super) fn choose_far(&self, far: &Far, own: &[GroupPlan<Arc<Subscriber>>], away: &mut Away) -> bool {
        far.plain.iter().for_each(|home| away.add(*home, None));
        let elsewhere = far.groups.iter().filter(|(share, _)| !own.iter().any(|group| group.share == *share));
        for (share, homes) in elsewhere {
            let turn = self.far_turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if let Some(home) = homes.get(turn % homes.len().max(1)) {
                away.add(*home, Some(share));
            }
        }
        !away.0.is_empty()
    }

    /// Hands a message on to those of other nodes.
    pub(super) fn send_away(&self, source: &Source<'_>, away: Away, hops: u8) {
        let Some(others) = &self.others else { return };
        if away.0.is_empty() || is_reserved(source.message().topic()) {
            // Each node has values of its own.
            return;
        }
        let mut message = Arc::clone(source.message());
        if message.qos != source.qos {
            Arc::make_mut(&mut message).qos = source.qos;
        }
        for (home, plain, groups) in away.0 {
            let message = Arc::clone(&message);
            others.forward(home, Forwarded { message, plain, groups, hops, origin: source.publication });
        }
    }

    /// Whether the live subscribers of this node are to get a message that may have been made before.
    #[inline]
    pub(super) fn goes_live(&self, source: &Source<'_>) -> bool {
        source.publication.is_none() || self.recent.admit(source.publication)
    }

    /// Gives a message that another node has handed on to the connections of this one.
    pub(crate) fn deliver_forwarded(&self, forwarded: &Forwarded, now: Wall) {
        let Forwarded { message, plain, groups, hops, origin } = forwarded;
        if message.is_expired(now) || !self.recent.admit(*origin) {
            return;
        }
        let mut source = Source::of_message(message, now);
        source.publication = *origin;
        let route = self.route(message.topic(), 0);
        let plan = route.plan();
        if *plain {
            for receiver in &plan.receivers {
                let live = receiver.handle.session.is_none() || source.qos.min(receiver.qos) == QoS::AtMostOnce;
                if live && receiver.handle.peer().is_some() {
                    self.deliver_to(&source, receiver, None, true, &mut Durable::at(now));
                }
            }
        }
        let mut ops = Vec::new();
        for share in groups {
            let mut durable = Durable::at(now);
            let own = plan.groups.iter().find(|group| group.share == *share);
            if own.is_some_and(|group| self.deliver_to_group(&source, group, &[], true, &mut durable)) {
                self.send_away(&source, std::mem::take(&mut durable.away), hops + 1);
                durable.into_ops(&source, now, &mut ops);
            } else if *hops < HOPS
                && let Some(home) = route.far.as_ref().and_then(|far| far.group(share).first())
            {
                // Its last member here has left meanwhile.
                let mut away = Away::default();
                away.add(*home, Some(share));
                self.send_away(&source, away, hops + 1);
            }
        }
        if !ops.is_empty() {
            self.store.submit(&mut ops, None);
        }
    }
}
