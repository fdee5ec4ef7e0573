//! Batches: each of a home is applied once and in order, however often it comes.

use crate::bench::{Attach, Bench, enqueue_to};
use nightjar_base::Wall;
use nightjar_shard::{ALONE, BatchOutcome, Effect, Op};

const HERE: u64 = 0xaaaa;
const THERE: u64 = 0xbbbb;

fn batch(bench: &mut Bench, home: u64, sequence: u64, ops: Vec<Op>) -> (BatchOutcome, Vec<Effect>) {
    let mut effects = Vec::new();
    bench.index += 1;
    let outcome = bench.shard.apply_batch(bench.index, home, sequence, ops, &mut effects);
    assert_eq!(bench.shard.applied(), bench.index, "whatever became of it");
    (outcome, effects)
}

fn outcome(bench: &mut Bench, home: u64, sequence: u64) -> BatchOutcome {
    batch(bench, home, sequence, vec![]).0
}

fn gone(bench: &mut Bench, home: u64) {
    bench.apply(Op::DetachHome { home, now: Wall(0) });
}

#[test]
fn a_batch_is_applied_once() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    let ops = || vec![enqueue_to(&[session], b"one"), enqueue_to(&[session], b"two")];
    let (first, effects) = batch(&mut bench, HERE, 1, ops());
    assert_eq!((first, effects.len()), (BatchOutcome::Applied, 2));
    for _ in 0..2 {
        assert_eq!(batch(&mut bench, HERE, 1, ops()), (BatchOutcome::Repeated, vec![]));
        assert_eq!(bench.sequences(session), [1, 2]);
        assert_eq!((bench.shard.proposed(HERE), bench.shard.proposer_count()), (1, 1));
        bench.reload();
    }
    // Another home counts for itself.
    assert_eq!(batch(&mut bench, THERE, 1, ops()).0, BatchOutcome::Applied);
    assert_eq!((bench.shard.proposed(THERE), bench.shard.proposer_count()), (1, 2));
    assert_eq!(bench.sequences(session), [1, 2, 3, 4]);
}

#[test]
fn a_batch_waits_for_the_one_before_it() {
    let mut bench = Bench::new();
    assert_eq!(outcome(&mut bench, HERE, 2), BatchOutcome::Gap { expected: 1 });
    assert_eq!(bench.shard.proposer_count(), 0, "only a first batch makes a home known");
    assert_eq!(outcome(&mut bench, HERE, 1), BatchOutcome::Applied);
    let (session, _) = bench.attach(Attach::default());
    let refused = batch(&mut bench, HERE, 3, vec![enqueue_to(&[session], b"one")]);
    assert_eq!(refused, (BatchOutcome::Gap { expected: 2 }, vec![]));
    bench.reload();
    assert_eq!(outcome(&mut bench, HERE, 2), BatchOutcome::Applied);
    assert_eq!(outcome(&mut bench, HERE, 3), BatchOutcome::Applied);
}

#[test]
fn an_entry_without_ops_counts() {
    let mut bench = Bench::new();
    bench.shard.note_index(7);
    assert!(bench.shard.is_dirty());
    bench.reload();
    assert_eq!(bench.shard.applied(), 7);
}

#[test]
fn a_node_alone_repeats_nothing() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    for _ in 0..2 {
        let ops = vec![enqueue_to(&[session], b"one")];
        assert_eq!(batch(&mut bench, ALONE, 1, ops).0, BatchOutcome::Applied);
    }
    assert_eq!((bench.sequences(session).len(), bench.shard.proposer_count()), (2, 0));
}

#[test]
fn nothing_of_a_home_that_is_gone_is_applied() {
    let mut bench = Bench::new();
    assert_eq!(outcome(&mut bench, HERE, 1), BatchOutcome::Applied);
    gone(&mut bench, HERE);
    // It never proposed anything here: what it sent first may still be under way.
    gone(&mut bench, THERE);
    for _ in 0..2 {
        for (home, sequence) in [(HERE, 1), (HERE, 2), (THERE, 1), (THERE, 5)] {
            assert_eq!(outcome(&mut bench, home, sequence), BatchOutcome::Gone);
        }
        assert_eq!((bench.shard.proposed(HERE), bench.shard.proposer_count()), (0, 0));
        bench.reload();
    }
}

#[test]
fn a_home_may_declare_itself_gone() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { home: HERE, ..Attach::default() });
    let ops = vec![Op::DetachHome { home: HERE, now: Wall(0) }, enqueue_to(&[session], b"last")];
    let (taken, effects) = batch(&mut bench, HERE, 1, ops);
    assert_eq!((taken, effects.len()), (BatchOutcome::Applied, 2));
    assert_eq!(outcome(&mut bench, HERE, 2), BatchOutcome::Gone);
}

#[test]
fn who_is_gone_can_be_asked_for_the_last_ones_first() {
    let mut bench = Bench::new();
    assert_eq!(outcome(&mut bench, THERE, 1), BatchOutcome::Applied);
    gone(&mut bench, THERE);
    gone(&mut bench, HERE);
    for _ in 0..2 {
        assert_eq!(bench.shard.buried().collect::<Vec<_>>(), [HERE, THERE]);
        assert!(bench.shard.is_buried(HERE) && bench.shard.is_buried(THERE) && !bench.shard.is_buried(7));
        bench.reload();
    }
}

#[test]
fn a_thousand_homes_that_are_gone_are_remembered() {
    let mut bench = Bench::new();
    assert_eq!(outcome(&mut bench, 5000, 1), BatchOutcome::Applied);
    // The order is that of their deaths, not of their numbers.
    for home in (4001..=5000).rev() {
        gone(&mut bench, home);
        // Saying it again changes nothing.
        gone(&mut bench, home);
    }
    assert_eq!(outcome(&mut bench, 5000, 2), BatchOutcome::Gone);
    bench.reload();
    assert_eq!(bench.tables.len(), 1001);
    gone(&mut bench, 7);
    for _ in 0..2 {
        assert_eq!(outcome(&mut bench, 5000, 2), BatchOutcome::Gap { expected: 1 });
        assert_eq!(outcome(&mut bench, 4999, 1), BatchOutcome::Gone);
        bench.reload();
        assert_eq!(bench.tables.len(), 1001);
    }
}

#[test]
fn proposers_are_counted_until_they_are_frozen() {
    let mut bench = Bench::new();
    assert_eq!(outcome(&mut bench, HERE, 1), BatchOutcome::Applied);
    assert!(bench.shard.overlay_bytes() > 0);
    assert_eq!(bench.checkpoint(), 2, "the shard's row and the home's");
    assert_eq!(bench.shard.overlay_bytes(), 0);
}
