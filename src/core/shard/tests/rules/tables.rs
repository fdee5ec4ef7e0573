//! What is written to the tables, and what happens when they fail.

use crate::bench::{Attach, Bench, enqueue_to, retain, subscribe};
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{BatchOutcome, Op, Origin, RowVisitor, Shard, Tables, TablesError};
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn a_large_message_of_several_sessions_is_stored_once_and_removed_with_the_last() {
    let mut bench = Bench::new();
    let sessions: Vec<_> = ["a", "b", "c"].map(|client| bench.attach(Attach { client, ..Attach::default() }).0).into();
    bench.checkpoint();
    let before: usize = bench.tables.values().map(Vec::len).sum();
    bench.apply(enqueue_to(&sessions, &[5; 100_000]));
    bench.reload();
    let bytes: usize = bench.tables.values().map(Vec::len).sum();
    assert!(bytes - before < 102_000);
    assert!(bench.tables.values().all(|value| value.len() <= 16 << 10));
    for &session in &sessions {
        assert_eq!(bench.entries(session, 0)[0].message.payload(), [5; 100_000]);
        bench.apply(Op::Acknowledge { session, sequences: vec![1] });
        bench.checkpoint();
    }
    let after: usize = bench.tables.values().map(Vec::len).sum();
    assert!(after <= before, "{after} {before}");
}

#[test]
fn frozen_changes_are_read_above_the_tables() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    bench.enqueue(session, &[1; 20_000]);
    bench.apply(retain("big", &[2; 20_000], None));
    bench.shard.freeze(&bench.tables).unwrap();
    assert!(bench.tables.is_empty());
    assert_eq!(bench.entries(session, 0)[0].message.payload(), [1; 20_000]);
    let mut out = Vec::new();
    assert_eq!(bench.shard.page_from_memory(session, 0, 10, 1 << 20, &mut out), None);
    assert_eq!(bench.shard.retained(&bench.tables, "big").unwrap().unwrap().0.payload(), [2; 20_000]);
    // A freeze before the thaw gives the union, so that nothing of the first is lost.
    bench.enqueue(session, b"small");
    bench.reload();
    assert_eq!(bench.sequences(session), [1, 2]);
}

#[test]
fn an_idle_shard_freezes_to_nothing() {
    let mut bench = Bench::new();
    bench.attach(Attach::default());
    assert!(bench.shard.is_dirty());
    bench.checkpoint();
    assert!(!bench.shard.is_dirty());
    assert_eq!(bench.checkpoint(), 0);
}

#[test]
fn damage_is_named_by_its_row() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    bench.enqueue(session, &[1; 30_000]);
    bench.apply(subscribe(session, "a", false));
    bench.apply(retain("r", b"r", None));
    // The rows of a cluster: an identity with a home, a proposer, an origin.
    bench.attach(Attach { home: 9, client: "far", ..Attach::default() });
    bench.index += 1;
    let origin = Origin { session: (ShardId(1), session), token: 1 };
    let ops = [Op::RetainFrom { origin, digest: 1, message: Arc::new(Message::new("r", &[], b"r")), now: Wall(0) }];
    assert_eq!(bench.shard.apply_batch(bench.index, 9, 1, ops, &mut Vec::new()), BatchOutcome::Applied);
    bench.checkpoint();
    let kinds: BTreeSet<u8> = bench.tables.keys().map(|key| key[2]).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 6, 7, 8]);
    for key in bench.tables.keys() {
        let mut tables = bench.tables.clone();
        let value = tables.get_mut(key).unwrap();
        value.pop();
        let error = Shard::load(ShardId(0), &tables).err();
        assert!(matches!(error, Some(TablesError::Corrupt { .. })), "{key:?}: {error:?}");
    }
    for (row, format, known) in [(0, 2, 1), (1, 3, 2), (2, 3, 2)] {
        let key = bench.tables.keys().nth(row).unwrap().clone();
        let mut tables = bench.tables.clone();
        tables.insert(key, vec![format]);
        let error = Shard::load(ShardId(0), &tables).unwrap_err();
        let says = format!("has format {format}, this program knows formats up to {known}");
        assert!(error.to_string().ends_with(&says), "{error}");
    }
}

/// Tables that cannot be read.
struct Broken;

impl Tables for Broken {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        Err(TablesError::Unavailable("broken".into()))
    }

    fn range(&self, _: &[u8], _: &[u8], _: RowVisitor<'_>) -> Result<(), TablesError> {
        Err(TablesError::Unavailable("broken".into()))
    }
}

#[test]
fn a_freeze_that_cannot_read_changes_nothing() {
    let mut bench = Bench::new();
    let sessions: Vec<_> = ["a", "b"].map(|client| bench.attach(Attach { client, ..Attach::default() }).0).into();
    bench.apply(enqueue_to(&sessions, &[5; 5_000]));
    bench.checkpoint();
    for &session in &sessions {
        bench.apply(Op::Acknowledge { session, sequences: vec![1] });
        bench.enqueue(session, b"young");
    }
    assert!(bench.shard.freeze(&Broken).is_err());
    let mut out = Vec::new();
    assert_eq!(bench.shard.page_from_memory(sessions[0], 0, 10, 1 << 20, &mut out), Some(3));
    assert!(bench.shard.is_dirty());
    bench.reload();
    assert_eq!(bench.sequences(sessions[1]), [2]);
    let _ = bench.apply(Op::End { session: sessions[0] });
    let _ = bench.apply(Op::End { session: sessions[1] });
    bench.checkpoint();
    assert_eq!(bench.tables.len(), 1);
}

#[test]
fn ops_for_what_is_not_there_do_nothing() {
    let mut bench = Bench::new();
    let session = SessionId(99);
    for op in [
        Op::End { session },
        Op::WillDone { session, epoch: 1 },
        Op::Acknowledge { session, sequences: vec![1] },
        Op::Received { session, sequences: vec![1] },
        Op::InboundReceived { session, packet_id: 1 },
        Op::InboundReleased { session, packet_id: 1 },
        Op::Unsubscribe { session, filters: vec!["a".into()] },
        subscribe(session, "a", true),
        enqueue_to(&[session], b"x"),
        Op::Forget { topic: "a".into(), index: 1 },
        Op::Expire { session, now: Wall(u64::MAX) },
    ] {
        assert!(bench.apply(op).is_empty());
    }
    assert!(bench.detach(session, 1, 0).is_empty());
    assert_eq!((bench.checkpoint(), bench.shard.applied()), (1, 12));
}
