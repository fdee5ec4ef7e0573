//! Random ops that meet the state often enough to matter.

use super::naive::{Batch, Naive};
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions};
use nightjar_shard::{ALONE, NEVER, Op, Origin, Overflow, QueueLimits, Replayed, Subscription, Target, Will};
use std::sync::Arc;

/// A small generator of numbers: the same seed, the same run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

const CLIENTS: u64 = 6;
const TOPICS: [&str; 9] = ["a", "a/b", "a/b/c", "a!", "$SYS/x", "b/1/t", "b/2/t", "b/2/u", "/"];
pub const FILTERS: [&str; 9] = ["#", "a/#", "+/b", "a/b", "$SYS/#", "b/+/t", "+", "/+", "b/2/+"];

fn message(dice: &mut Dice) -> Message {
    let topic = TOPICS[dice.roll(TOPICS.len() as u64) as usize];
    // Mostly small; some beyond what is stored inline with several receivers; a few beyond a row's part.
    let length = match dice.roll(40) {
        0 => 13_000 + dice.roll(20_000),
        1..=4 => 1_200,
        5 => 0,
        _ => dice.roll(100),
    };
    let mut payload = vec![0; length as usize];
    payload.iter_mut().take(16).for_each(|byte| *byte = dice.roll(256) as u8);
    let mut message = Message::new(topic, &[9; 3][..dice.roll(4) as usize], &payload);
    if dice.one_in(5) {
        message.expires = Some(Wall(dice.roll(1_000_000)));
    }
    message
}

fn qos(dice: &mut Dice) -> QoS {
    QoS::from_bits(dice.roll(3) as u8).unwrap()
}

fn identifiers(dice: &mut Dice) -> Vec<u32> {
    (0..dice.roll(5).saturating_sub(2)).map(|_| dice.roll(1000) as u32 + 1).collect()
}

fn session(dice: &mut Dice, state: &Naive) -> SessionId {
    let at = dice.roll(state.sessions.len() as u64 + 1) as usize;
    SessionId(state.sessions.keys().nth(at).copied().unwrap_or_else(|| dice.roll(50)))
}

fn sequences(dice: &mut Dice, state: &Naive, session: SessionId) -> Vec<u64> {
    let Some(found) = state.sessions.get(&session.0) else { return vec![1] };
    let open: Vec<u64> = found.queue.keys().chain(&found.received).copied().collect();
    let count = if dice.one_in(4) { dice.roll(20) } else { dice.roll(3) };
    let near = |dice: &mut Dice| {
        let reach = if dice.one_in(10) { open.len() } else { 8.min(open.len()) };
        dice.roll(reach as u64) as usize
    };
    (0..count).map(|_| if open.is_empty() { dice.roll(found.next + 2) } else { open[near(dice)] }).collect()
}

fn limits(dice: &mut Dice) -> QueueLimits {
    let policy = [Overflow::DropOldest, Overflow::DropNewest, Overflow::Refuse][dice.roll(3) as usize];
    match dice.roll(4) {
        0 => QueueLimits { messages: dice.roll(12), bytes: u64::MAX, policy },
        // The model knows weights exactly only where they are: bounds on bytes are small, so large messages never fit.
        1 => QueueLimits { messages: u64::MAX, bytes: dice.roll(1_200), policy },
        _ => QueueLimits::UNLIMITED,
    }
}

/// Mostly of a process that lives: each that dies makes room for another.
fn home(dice: &mut Dice, state: &Naive) -> u64 {
    if dice.one_in(10) {
        return ALONE;
    }
    let born = state.gone.last().map_or(0, |&(index, _)| index).saturating_sub(if dice.one_in(10) { 1 } else { 0 });
    // Spread, so that their order is not that of their births.
    (born * 3 + dice.roll(3) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn origin(dice: &mut Dice) -> Origin {
    Origin { session: (ShardId(dice.roll(2) as u16), SessionId(dice.roll(3))), token: dice.roll(4) }
}

/// Some ops at the time `now`, mostly those that are next for their home.
pub fn batch(dice: &mut Dice, state: &Naive, now: Wall) -> Batch {
    let home = home(dice, state);
    let expected = state.proposed.get(&home).copied().unwrap_or(0) + 1;
    let sequence = if dice.one_in(4) { (expected + dice.roll(4)).saturating_sub(dice.roll(4)) } else { expected };
    let ops = (0..dice.roll(4)).map(|_| op(dice, state, now)).collect();
    Batch { home, sequence, ops }
}

/// An op at the time `now`.
pub fn op(dice: &mut Dice, state: &Naive, now: Wall) -> Op {
    let session = session(dice, state);
    let epoch = state.sessions.get(&session.0).map_or(7, |session| session.epoch);
    match dice.roll(34) {
        0 => Op::AttachFrom {
            home: home(dice, state),
            client_id: format!("client{}", dice.roll(CLIENTS)).into(),
            user: dice.one_in(2).then(|| "user".into()),
            clean_start: dice.one_in(8),
            expiry: [0, 5, 100, NEVER, NEVER, NEVER][dice.roll(6) as usize],
            epoch: dice.roll(1000),
            will: dice
                .one_in(2)
                .then(|| Box::new(Will { message: Arc::new(message(dice)), delay: dice.roll(4) as u32 * 4 })),
            limits: limits(dice),
            now,
        },
        1 => Op::Attach {
            client_id: format!("client{}", dice.roll(CLIENTS)).into(),
            user: dice.one_in(2).then(|| "user".into()),
            clean_start: dice.one_in(8),
            expiry: [0, 5, 100, NEVER, NEVER, NEVER][dice.roll(6) as usize],
            epoch: dice.roll(1000),
            will: dice.one_in(2).then(|| Will { message: Arc::new(message(dice)), delay: dice.roll(4) as u32 * 4 }),
            limits: limits(dice),
            now,
        },
        2 => Op::Detach {
            session,
            epoch: epoch + u64::from(dice.one_in(5)),
            expiry: dice.one_in(4).then(|| dice.roll(20) as u32),
            discard_will: dice.one_in(3),
            sent: dice.roll(50),
            now,
        },
        3 if dice.one_in(3) => Op::DetachHome { home: home(dice, state), now },
        3 if dice.one_in(8) => Op::End { session },
        3 => Op::Expire { session, now },
        4 => Op::WillDone { session, epoch },
        5 => {
            let mut new = || Subscription {
                filter: FILTERS[dice.roll(FILTERS.len() as u64) as usize].into(),
                options: SubscriptionOptions { qos: qos(dice), ..SubscriptionOptions::default() },
                replay: dice.one_in(2),
            };
            Op::Subscribe { session, subscriptions: vec![new(), new()], now }
        }
        6 => Op::Unsubscribe { session, filters: vec![FILTERS[dice.roll(FILTERS.len() as u64) as usize].into()] },
        7..=16 => {
            let count = if dice.one_in(3) { 1 + dice.roll(4) } else { 1 };
            let target = |dice: &mut Dice| Target {
                session: self::session(dice, state),
                qos: qos(dice),
                retain: dice.one_in(4),
                identifiers: identifiers(dice),
                share: dice.one_in(5).then(|| "$share/g/a".into()),
            };
            let targets = (0..count).map(|_| target(dice)).collect();
            Op::Enqueue { message: Arc::new(message(dice)), targets, now }
        }
        17..=21 => Op::Acknowledge { session, sequences: sequences(dice, state, session) },
        22 | 23 => Op::Received { session, sequences: sequences(dice, state, session) },
        24 => Op::InboundReceived { session, packet_id: dice.roll(20) as u16 },
        25 => Op::InboundReleased { session, packet_id: dice.roll(20) as u16 },
        26 | 27 => Op::Retain { message: Arc::new(message(dice)), now },
        28 => {
            let topic = TOPICS[dice.roll(TOPICS.len() as u64) as usize];
            let index = state.retained.get(topic).map_or(1, |&(_, index)| index);
            Op::Forget { topic: topic.into(), index: index + u64::from(dice.one_in(3)) }
        }
        29 | 30 => {
            let target = Target { session, qos: qos(dice), retain: false, identifiers: identifiers(dice), share: None };
            let variants = (0..dice.roll(3).saturating_sub(1)).map(|_| (Arc::new(message(dice)), vec![target.clone()]));
            let variants = variants.collect();
            let (origin, digest, message) = (origin(dice), dice.roll(3), Arc::new(message(dice)));
            Op::EnqueueFrom { origin, digest, message, targets: vec![target], variants, now }
        }
        31 => Op::RetainFrom { origin: origin(dice), digest: dice.roll(3), message: Arc::new(message(dice)), now },
        32 => {
            let tokens = if dice.one_in(3) { vec![] } else { vec![dice.roll(4), dice.roll(4)] };
            Op::ForgetOrigins { session: origin(dice).session, tokens }
        }
        _ => {
            let known = state.sessions.get(&session.0).and_then(|session| session.subscriptions.keys().next());
            let filter = known.cloned().unwrap_or_else(|| "a/#".into());
            let entry = |dice: &mut Dice| Replayed {
                message: Arc::new(message(dice)),
                qos: qos(dice),
                identifiers: identifiers(dice),
            };
            let entries = (0..dice.roll(4)).map(|_| entry(dice)).collect();
            Op::Replay { session, filter, entries, after: dice.one_in(2).then(|| "a/b".into()) }
        }
    }
}
