//! What the shard costs, in nanoseconds and bytes; one figure a line.
// A measurement reads the clock.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{NEVER, Op, QueueLimits, Shard, Target};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn attach(shard: &mut Shard, clients: u64) {
    let mut effects = Vec::new();
    for client in 0..clients {
        let op = Op::Attach {
            client_id: format!("client-{client}").into(),
            user: None,
            clean_start: false,
            expiry: NEVER,
            epoch: client,
            will: None,
            limits: QueueLimits::UNLIMITED,
            now: Wall(0),
        };
        shard.apply(1, op, &mut effects);
    }
}

fn enqueue(session: u64, payload: usize) -> Op {
    let mut message = Message::new("factory/line-7/temperature", &[], &vec![7; payload]);
    message.qos = QoS::AtLeastOnce;
    let session = SessionId(session);
    let target = Target { session, qos: QoS::AtLeastOnce, retain: false, identifiers: Vec::new(), share: None };
    Op::Enqueue { message: Arc::new(message), targets: vec![target], now: Wall(0) }
}

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

fn report(what: &str, count: u64, start: Instant) {
    println!("{what:<52} {:>9.1} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

/// Entries that are acknowledged before the next freeze; the ops are made beforehand.
fn enqueue_and_acknowledge(sessions: u64) {
    const COUNT: u64 = 1_000_000;
    const WINDOW: u64 = 64;
    let mut shard = Shard::new(ShardId(0));
    attach(&mut shard, sessions);
    let mut effects = Vec::with_capacity(1024);
    let mut spent = std::time::Duration::ZERO;
    let mut index = 1;
    for round in 0..COUNT / (WINDOW * sessions) {
        let ops: Vec<Op> = (0..WINDOW * sessions).map(|at| enqueue(at % sessions + 1, 16)).collect();
        let acknowledge = |session| Op::Acknowledge {
            session: SessionId(session),
            sequences: (round * WINDOW + 1..=(round + 1) * WINDOW).collect(),
        };
        let acknowledgements: Vec<Op> = (1..=sessions).map(acknowledge).collect();
        let start = Instant::now();
        index += 1;
        for op in ops.into_iter().chain(acknowledgements) {
            shard.apply(index, op, &mut effects);
            if effects.len() > 1000 {
                effects.clear();
            }
        }
        spent += start.elapsed();
    }
    assert_eq!(shard.queued_messages(), 0);
    let count = COUNT / (WINDOW * sessions) * WINDOW * sessions;
    println!("enqueue + acknowledge, {sessions:<6} sessions {:>32.1} ns", spent.as_nanos() as f64 / count as f64);
}

fn backlog() {
    const COUNT: u64 = 1_000_000;
    let mut shard = Shard::new(ShardId(0));
    let mut tables = Rows::new();
    attach(&mut shard, 1);
    let mut effects = Vec::new();
    let start = Instant::now();
    let mut rows = 0;
    for index in 1..=COUNT {
        shard.apply(index, enqueue(1, 100), &mut effects);
        effects.clear();
        if index.is_multiple_of(100_000) {
            rows += checkpoint(&mut shard, &mut tables);
        }
    }
    report("backlog of 1,000,000: make, enqueue, freeze", COUNT, start);
    let memory = shard.session(SessionId(1)).unwrap().queue_memory();
    println!("  rows written {rows}, memory held {memory} B");

    let start = Instant::now();
    let mut shard = Shard::load(ShardId(0), &tables).unwrap();
    report("load, per entry", COUNT, start);

    let start = Instant::now();
    let (mut from, mut out, mut read) = (1, Vec::new(), 0);
    while read < COUNT {
        from = shard.page(&tables, SessionId(1), from, 200, 1 << 20, &mut out).unwrap();
        read += out.len() as u64;
        out.clear();
    }
    report("read by pages of 200, per entry", COUNT, start);

    let start = Instant::now();
    for from in (1..=COUNT).step_by(20) {
        shard.apply(
            COUNT + from,
            Op::Acknowledge { session: SessionId(1), sequences: (from..from + 20).collect() },
            &mut effects,
        );
    }
    report("acknowledge of old entries", COUNT, start);
    let start = Instant::now();
    checkpoint(&mut shard, &mut tables);
    report("freeze that removes them, per entry", COUNT, start);
    println!("  rows left {}", tables.len());
}

fn retained() {
    const COUNT: u64 = 100_000;
    let mut shard = Shard::new(ShardId(0));
    let mut tables = Rows::new();
    let mut effects = Vec::new();
    let retain = |at: u64| {
        let topic = format!("house/{}/room/{at}", at.wrapping_mul(7919) % 1000);
        Op::Retain { message: Arc::new(Message::new(&topic, &[], &[7; 32])), now: Wall(0) }
    };
    for what in ["retain, a new topic", "retain, again"] {
        let ops: Vec<Op> = (0..COUNT).map(retain).collect();
        let start = Instant::now();
        for op in ops {
            shard.apply(1, op, &mut effects);
        }
        report(what, COUNT, start);
    }
    let start = Instant::now();
    checkpoint(&mut shard, &mut tables);
    report("freeze, per topic", COUNT, start);
    for filter in ["#", "house/+/room/+", "house/7/#", "+/7/+/77007"] {
        let start = Instant::now();
        let (mut after, mut found): (Option<Arc<str>>, usize) = (None, 0);
        let mut out = Vec::new();
        loop {
            after = shard.retained_page(&tables, filter, after.as_deref(), 2000, 1000, &mut out).unwrap();
            found += out.len();
            out.clear();
            if after.is_none() {
                break;
            }
        }
        report(&format!("read {filter}: {found} found, per topic held"), COUNT, start);
    }
}

fn main() {
    enqueue_and_acknowledge(1);
    enqueue_and_acknowledge(100);
    enqueue_and_acknowledge(10_000);
    backlog();
    retained();
}
