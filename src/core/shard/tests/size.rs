//! What the shard holds in memory, and that a long queue comes back in order.
#![allow(clippy::unwrap_used)]

use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{NEVER, Op, QueueLimits, Shard, Target};
use std::collections::BTreeMap;
use std::sync::Arc;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

const SESSION: SessionId = SessionId(1);

fn checkpoint(shard: &mut Shard, tables: &mut Rows) -> usize {
    let changes = shard.freeze(tables).unwrap();
    for change in changes.iter() {
        match &change.value {
            Some(value) => tables.insert(change.key.clone(), value.clone()),
            None => tables.remove(&change.key),
        };
    }
    shard.thaw();
    changes.len()
}

fn attached() -> Shard {
    let mut shard = Shard::new(ShardId(0));
    let op = Op::Attach {
        client_id: "client".into(),
        user: None,
        clean_start: false,
        expiry: NEVER,
        epoch: 1,
        will: None,
        limits: QueueLimits::UNLIMITED,
        now: Wall(0),
    };
    shard.apply(1, op, &mut Vec::new());
    shard
}

fn enqueue(number: u64) -> Op {
    let message = Arc::new(Message::new("a/topic", &[], &number.to_be_bytes()));
    let qos = QoS::AtLeastOnce;
    let target = Target { session: SESSION, qos, retain: false, identifiers: Vec::new(), share: None };
    Op::Enqueue { message, targets: vec![target], now: Wall(0) }
}

#[test]
fn a_million_entries_leave_memory_and_come_back_in_order() {
    const COUNT: u64 = 1_000_000;
    let (mut shard, mut tables, mut effects) = (attached(), Rows::new(), Vec::new());
    for number in 1..=COUNT {
        shard.apply(number + 1, enqueue(number), &mut effects);
        effects.clear();
        if number.is_multiple_of(300_000) {
            checkpoint(&mut shard, &mut tables);
        }
    }
    assert!(shard.overlay_bytes() > 7_000_000);
    checkpoint(&mut shard, &mut tables);
    assert_eq!(shard.overlay_bytes(), 0);
    let held = shard.session(SESSION).unwrap().queue_memory();
    assert!(held < 40 << 20, "{held} bytes");
    assert_eq!(shard.queued_messages(), COUNT);

    let mut shard = Shard::load(ShardId(0), &tables).unwrap();
    let (mut from, mut wanted, mut page) = (0, 1, Vec::new());
    let mut index = shard.applied();
    while wanted <= COUNT {
        from = shard.page(&tables, SESSION, from, 500, 64 << 10, &mut page).unwrap();
        let sequences = page.iter().map(|entry| entry.sequence).collect();
        for entry in page.drain(..) {
            assert_eq!((entry.sequence, entry.message.payload()), (wanted, &wanted.to_be_bytes()[..]));
            wanted += 1;
        }
        index += 1;
        shard.apply(index, Op::Acknowledge { session: SESSION, sequences }, &mut effects);
        if index.is_multiple_of(300) {
            checkpoint(&mut shard, &mut tables);
        }
    }
    checkpoint(&mut shard, &mut tables);
    assert_eq!((shard.queued_messages(), shard.queued_bytes()), (0, 0));
    assert_eq!(tables.len(), 3, "the shard's row and two of the session");
    assert!(shard.session(SESSION).unwrap().queue_memory() < 64 << 10);
}

#[test]
fn a_queue_that_was_consumed_between_two_freezes_costs_only_its_counters() {
    let (mut shard, mut tables, mut effects) = (attached(), Rows::new(), Vec::new());
    checkpoint(&mut shard, &mut tables);
    for number in 1..=1000 {
        shard.apply(number + 1, enqueue(number), &mut effects);
        shard.apply(number + 1, Op::Acknowledge { session: SESSION, sequences: vec![number] }, &mut effects);
    }
    assert_eq!(checkpoint(&mut shard, &mut tables), 2, "the shard's row and the session's counters");
}
