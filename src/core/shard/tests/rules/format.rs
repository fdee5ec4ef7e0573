//! The bytes of the ops and rows of a node alone: a folder that was written once is read, and written, for ever.

use crate::bench::{Rows, enqueue_to, retain, subscribe, will};
use bincode::Options;
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_shard::{NEVER, Op, Overflow, QueueLimits, Shard};

/// Ops that leave a row of every kind behind but one (a message that several queues share, which is large).
fn ops() -> Vec<Op> {
    let attach = |client: &str, epoch, expiry| Op::Attach {
        client_id: client.into(),
        user: Some("user".into()),
        clean_start: false,
        expiry,
        epoch,
        will: will(7),
        limits: QueueLimits { messages: 3, bytes: 4_000, policy: Overflow::DropOldest },
        now: Wall(1),
    };
    let (one, other) = (SessionId(1), SessionId(2));
    vec![
        attach("one", 5, NEVER),
        attach("other", 6, 60),
        subscribe(one, "a/+", true),
        enqueue_to(&[one, other], b"first"),
        enqueue_to(&[one], b"second"),
        Op::Received { session: one, sequences: vec![1] },
        Op::InboundReceived { session: other, packet_id: 9 },
        retain("kept", b"value", Some(99)),
        Op::Detach { session: other, epoch: 6, expiry: None, discard_will: false, sent: 2, now: Wall(3) },
        Op::Expire { session: other, now: Wall(4) },
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The rows that [`ops`] leave behind, `key value` each.
fn rows() -> Vec<String> {
    let (mut shard, mut effects) = (Shard::new(ShardId(2)), Vec::new());
    for (index, op) in (1..).zip(ops()) {
        shard.apply(index, op, &mut effects);
    }
    let changes = shard.freeze(&Rows::new()).unwrap();
    changes.iter().map(|change| format!("{} {}", hex(&change.key), hex(change.value.as_ref().unwrap()))).collect()
}

const ROWS: &str = include_str!("v1-rows.txt");
const OPS: &str = include_str!("v1-ops.txt");

#[test]
fn ops_are_what_they_were() {
    let options = || bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes();
    let bytes: Vec<String> = ops().iter().map(|op| hex(&options().serialize(op).unwrap())).collect();
    assert_eq!(bytes, OPS.lines().collect::<Vec<_>>());
    for (bytes, op) in OPS.lines().zip(ops()) {
        assert_eq!(options().deserialize::<Op>(&unhex(bytes)).unwrap(), op);
    }
}

#[test]
fn rows_are_what_they_were() {
    assert_eq!(rows(), ROWS.lines().collect::<Vec<_>>());
}

#[test]
fn rows_of_an_older_program_are_read() {
    let rows = ROWS.lines().map(|row| row.split_once(' ').unwrap());
    let tables: Rows = rows.map(|(key, value)| (unhex(key), unhex(value))).collect();
    let shard = Shard::load(ShardId(2), &tables).unwrap();
    let one = shard.session(shard.session_of("one").unwrap()).unwrap();
    assert_eq!((one.epoch(), one.attached(), one.queued()), (5, true, 1));
    assert_eq!((one.received().collect::<Vec<_>>(), one.subscription_count()), (vec![1], 1));
    let other = shard.session(shard.session_of("other").unwrap()).unwrap();
    assert_eq!((other.attached(), other.sent(), other.inbound()), (false, 2, &[9][..]));
    assert_eq!((other.expires(), other.will_due()), (Some(Wall(60_003)), Some(Wall(7_003))));
    assert!(shard.has_retained("kept"));
}
