//! Origins: what is published again under one is taken once.

use crate::bench::{Attach, Bench};
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{Op, Origin, Target};
use std::sync::Arc;

const PUBLISHER: (ShardId, SessionId) = (ShardId(9), SessionId(7));

fn origin(token: u64) -> Origin {
    Origin { session: PUBLISHER, token }
}

fn target(session: SessionId) -> Target {
    Target { session, qos: QoS::ExactlyOnce, retain: false, identifiers: Vec::new(), share: None }
}

fn enqueue(origin: Origin, digest: u64, session: SessionId) -> Op {
    let message = Arc::new(Message::new("a", &[], &digest.to_be_bytes()));
    Op::EnqueueFrom { origin, digest, message, targets: vec![target(session)], variants: Box::default(), now: Wall(0) }
}

fn retain(origin: Origin, digest: u64) -> Op {
    let message = Arc::new(Message::new("a", &[], &digest.to_be_bytes()));
    Op::RetainFrom { origin, digest, message, now: Wall(0) }
}

fn forget(tokens: &[u64]) -> Op {
    Op::ForgetOrigins { session: PUBLISHER, tokens: tokens.into() }
}

#[test]
fn a_publication_is_taken_once() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    assert_eq!(bench.apply(enqueue(origin(1), 5, session)).len(), 1);
    for _ in 0..2 {
        assert!(bench.apply(enqueue(origin(1), 5, session)).is_empty());
        assert_eq!((bench.sequences(session), bench.shard.origin_count()), (vec![1], 1));
        bench.reload();
    }
    // Neither another token nor another session is the same publication.
    assert_eq!(bench.apply(enqueue(origin(2), 5, session)).len(), 1);
    let other = Origin { session: (ShardId(8), SessionId(7)), token: 1 };
    assert_eq!(bench.apply(enqueue(other, 5, session)).len(), 1);
    assert_eq!(bench.shard.publishers().collect::<Vec<_>>(), [other.session, PUBLISHER]);
    assert_eq!(bench.shard.origin_count(), 3);
}

#[test]
fn another_message_under_a_known_origin_is_taken() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    for digest in [5, 6, 5] {
        assert_eq!(bench.apply(enqueue(origin(1), digest, session)).len(), 1);
        assert!(bench.apply(enqueue(origin(1), digest, session)).is_empty());
        assert_eq!(bench.shard.origin_count(), 1, "it takes the place of the one before");
        bench.reload();
    }
}

#[test]
fn all_forms_of_a_publication_are_taken_together() {
    let mut bench = Bench::new();
    let (one, _) = bench.attach(Attach { client: "one", ..Attach::default() });
    let (other, _) = bench.attach(Attach { client: "other", ..Attach::default() });
    let message = |expires| {
        let mut message = Message::new("a", &[], b"x");
        message.expires = expires;
        Arc::new(message)
    };
    let op = Op::EnqueueFrom {
        origin: origin(1),
        digest: 5,
        message: message(None),
        targets: vec![target(one)],
        variants: [(message(Some(Wall(9))), vec![target(other)])].into(),
        now: Wall(0),
    };
    assert_eq!(bench.apply(op.clone()).len(), 2);
    assert!(bench.apply(op).is_empty());
    assert_eq!(bench.entries(one, 0)[0].message.expires, None);
    assert_eq!(bench.entries(other, 0)[0].message.expires, Some(Wall(9)));
}

#[test]
fn what_is_retained_is_noted_apart_from_what_is_queued() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    let index = |bench: &Bench| bench.shard.retained(&bench.tables, "a").unwrap().map(|(_, index)| index);
    bench.apply(enqueue(origin(1), 5, session));
    bench.apply(retain(origin(1), 5));
    let first = Some(bench.index);
    for _ in 0..2 {
        bench.apply(retain(origin(1), 5));
        assert_eq!((index(&bench), bench.shard.origin_count()), (first, 2));
        bench.reload();
    }
    bench.apply(retain(origin(1), 6));
    assert_eq!(index(&bench), Some(bench.index));
    assert!(bench.apply(enqueue(origin(1), 5, session)).is_empty());
}

#[test]
fn what_is_complete_is_forgotten() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    for token in 1..=4 {
        bench.apply(enqueue(origin(token), 5, session));
        bench.apply(retain(origin(token), 5));
    }
    bench.reload();
    bench.apply(forget(&[1, 3, 99]));
    for _ in 0..2 {
        assert_eq!((bench.shard.origin_count(), bench.shard.has_publisher(PUBLISHER)), (4, true));
        assert!(bench.apply(enqueue(origin(2), 5, session)).is_empty());
        bench.reload();
    }
    assert_eq!(bench.apply(enqueue(origin(1), 5, session)).len(), 1, "the packet identifier is used again");
    bench.apply(forget(&[]));
    bench.apply(forget(&[]));
    for _ in 0..2 {
        assert_eq!((bench.shard.origin_count(), bench.shard.has_publisher(PUBLISHER)), (0, false));
        assert_eq!(bench.tables.keys().filter(|key| key[2] == 8).count(), usize::from(bench.shard.is_dirty()));
        bench.reload();
    }
}

#[test]
fn a_publication_that_is_complete_before_the_next_freeze_writes_nothing() {
    let mut bench = Bench::new();
    bench.checkpoint();
    for token in 0..100 {
        bench.apply(retain(origin(token), token));
        bench.apply(forget(&[token]));
    }
    assert!(bench.shard.overlay_bytes() > 0);
    assert_eq!(bench.checkpoint(), 2, "the shard's row and the retained message's");
    assert_eq!(bench.shard.overlay_bytes(), 0);
}

#[test]
fn as_many_as_a_session_can_have_under_way_survive() {
    let mut bench = Bench::new();
    for token in 0..0xffff {
        bench.apply(retain(origin(token), 5));
    }
    bench.reload();
    assert!(bench.tables.values().all(|value| value.len() <= 12 << 10));
    assert_eq!(bench.shard.origin_count(), 0xffff);
    bench.apply(forget(&(1..0xffff).collect::<Vec<_>>()));
    bench.reload();
    assert_eq!((bench.shard.origin_count(), bench.tables.len()), (1, 3));
}
