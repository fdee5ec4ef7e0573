//! Queues: order, acknowledgement, PUBREC, limits, pages.

use crate::bench::{Attach, Bench, enqueue_to};
use nightjar_base::Wall;
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{DropReason, Effect, Entry, Op, Overflow, QueueLimits, Target};
use std::sync::Arc;

#[test]
fn entries_are_numbered_and_told() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    let target = Target {
        session,
        qos: QoS::ExactlyOnce,
        retain: true,
        identifiers: vec![3, 4],
        share: Some("$share/g/a".into()),
    };
    let message = Arc::new(Message::new("a", &[], b"x"));
    let effects = bench.apply(Op::Enqueue { message: message.clone(), targets: vec![target], now: Wall(0) });
    let entry = Entry {
        sequence: 1,
        message,
        qos: QoS::ExactlyOnce,
        retain: true,
        identifiers: Some([3, 4].into()),
        share: Some("$share/g/a".into()),
        received: false,
    };
    assert_eq!(effects, [Effect::Queued { session, entry: entry.clone() }]);
    assert_eq!(bench.entries(session, 0), std::slice::from_ref(&entry));
    bench.reload();
    assert_eq!(bench.entries(session, 0), [entry]);
}

#[test]
fn acknowledged_entries_are_gone_in_any_order() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    (0..5).for_each(|_| drop(bench.enqueue(session, b"x")));
    bench.checkpoint();
    bench.apply(Op::Acknowledge { session, sequences: vec![2, 4, 4, 99] });
    assert_eq!(bench.sequences(session), [1, 3, 5]);
    bench.reload();
    assert_eq!(bench.sequences(session), [1, 3, 5]);
    bench.apply(Op::Acknowledge { session, sequences: vec![1] });
    let head = bench.shard.session(session).unwrap();
    assert_eq!((head.head(), head.queued(), head.next_sequence()), (3, 2, 6));
}

#[test]
fn a_received_entry_keeps_its_place_without_its_message() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    (0..3).for_each(|_| drop(bench.enqueue(session, b"x")));
    let effects = bench.apply(Op::Received { session, sequences: vec![1, 7] });
    assert_eq!(effects, [Effect::Received { session, sequence: 1 }]);
    bench.reload();
    let entries = bench.entries(session, 0);
    let places: Vec<_> = entries.iter().map(|entry| (entry.sequence, entry.received)).collect();
    assert_eq!(places, [(1, true), (2, false), (3, false)]);
    assert_eq!(bench.shard.session(session).unwrap().head(), 1);
    // A second PUBREC gets a second PUBREL.
    assert_eq!(bench.apply(Op::Received { session, sequences: vec![1] }).len(), 1);
    bench.apply(Op::Acknowledge { session, sequences: vec![1] });
    assert_eq!(bench.sequences(session), [2, 3]);
    assert!(bench.apply(Op::Received { session, sequences: vec![9] }).is_empty());
}

#[test]
fn an_entry_that_overflow_took_under_way_is_received_all_the_same() {
    let mut bench = Bench::new();
    let limits = QueueLimits { messages: 1, bytes: u64::MAX, policy: Overflow::DropOldest };
    let (session, _) = bench.attach(Attach { limits, ..Attach::default() });
    (0..2).for_each(|_| drop(bench.enqueue(session, b"x")));
    assert_eq!(bench.sequences(session), [2]);
    // The client has it and waits for PUBREL, also after a crash.
    let effects = bench.apply(Op::Received { session, sequences: vec![1] });
    assert_eq!(effects, [Effect::Received { session, sequence: 1 }]);
    bench.reload();
    let received: Vec<_> = bench.shard.session(session).unwrap().received().collect();
    assert_eq!(received, [1]);
}

#[test]
fn a_client_between_pubrec_and_pubcomp_pins_nothing() {
    let mut bench = Bench::new();
    let limits = QueueLimits { messages: 10, bytes: u64::MAX, policy: Overflow::DropOldest };
    let (session, _) = bench.attach(Attach { limits, ..Attach::default() });
    bench.enqueue(session, b"x");
    bench.apply(Op::Received { session, sequences: vec![1] });
    for _ in 0..20 {
        (0..5_000).for_each(|_| drop(bench.enqueue(session, b"x")));
        bench.checkpoint();
    }
    let head = bench.shard.session(session).unwrap();
    assert_eq!((head.queued(), head.received().collect::<Vec<_>>()), (10, vec![1]));
    assert!(head.queue_memory() < 4096, "{}", head.queue_memory());
    assert!(bench.tables.len() <= 4, "{} rows", bench.tables.len());
}

#[test]
fn a_full_queue_drops_the_oldest_or_the_newest() {
    let mut bench = Bench::new();
    let mut limits = QueueLimits { messages: 2, bytes: u64::MAX, policy: Overflow::DropOldest };
    let (oldest, _) = bench.attach(Attach { client: "oldest", limits, ..Attach::default() });
    limits.policy = Overflow::DropNewest;
    let (newest, _) = bench.attach(Attach { client: "newest", limits, ..Attach::default() });
    (0..2).for_each(|_| drop(bench.apply(enqueue_to(&[oldest, newest], b"x"))));
    let effects = bench.apply(enqueue_to(&[oldest, newest], b"x"));
    let reason = DropReason::Messages;
    assert_eq!(effects[0], Effect::Dropped { session: oldest, sequence: Some(1), reason });
    assert!(matches!(&effects[1], Effect::Queued { entry, .. } if entry.sequence == 3));
    assert_eq!(effects[2..], [Effect::Dropped { session: newest, sequence: None, reason }]);
    assert_eq!((bench.sequences(oldest), bench.sequences(newest)), (vec![2, 3], vec![1, 2]));
}

#[test]
fn a_message_that_can_never_fit_drops_nothing_else() {
    let mut bench = Bench::new();
    let limits = QueueLimits { messages: 100, bytes: 300, policy: Overflow::DropOldest };
    let (session, _) = bench.attach(Attach { limits, ..Attach::default() });
    (0..3).for_each(|_| drop(bench.enqueue(session, b"x")));
    let effects = bench.enqueue(session, &[0; 300]);
    assert_eq!(effects, [Effect::Dropped { session, sequence: None, reason: DropReason::Bytes }]);
    assert_eq!(bench.sequences(session), [1, 2, 3]);
    assert_eq!(bench.enqueue(session, &[0; 99]).len(), 3, "68 bytes an entry: two of them go for 166");
}

#[test]
fn a_page_respects_its_bounds_but_gives_at_least_one() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    (0..6).for_each(|_| drop(bench.enqueue(session, &[0; 2_000])));
    for _ in 0..2 {
        let page = |from, entries, bytes| {
            let mut out = Vec::new();
            let next = bench.shard.page(&bench.tables, session, from, entries, bytes, &mut out).unwrap();
            (out.len(), next)
        };
        assert_eq!(page(0, 2, usize::MAX), (2, 3));
        assert_eq!(page(3, 10, 1), (1, 4));
        assert_eq!(page(3, 10, 5_000), (2, 5));
        assert_eq!(page(5, 10, usize::MAX), (2, 7));
        assert_eq!(page(7, 10, usize::MAX), (0, 7));
        bench.checkpoint();
    }
}

#[test]
fn what_was_accepted_before_the_queue_was_full_is_kept_where_others_are_refused() {
    let mut bench = Bench::new();
    let limits = QueueLimits { messages: 2, bytes: u64::MAX, policy: Overflow::Refuse };
    let (session, _) = bench.attach(Attach { limits, ..Attach::default() });
    (0..3).for_each(|_| drop(bench.enqueue(session, b"x")));
    assert_eq!(bench.sequences(session), [1, 2, 3]);
}
