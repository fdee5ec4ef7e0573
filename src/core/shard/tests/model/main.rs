//! Random batches of ops, freezes, thaws and crashes of two replicas, compared with a naive model.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod checks;
mod naive;
mod random;
mod replica;

use naive::{Batch, Naive};
use nightjar_base::{SessionId, Wall};
use nightjar_shard::{ALONE, BatchOutcome, Op};
use proptest::prelude::*;
use random::Dice;
use replica::{ID, Replica};

/// Two replicas of a shard, which apply the same entries and freeze at different times, and the model.
struct Bench {
    dice: Dice,
    replicas: [Replica; 2],
    model: Naive,
    index: u64,
    now: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let replicas = [Replica::new(), Replica::new()];
        Self { dice: Dice(seed | 1), replicas, model: Naive::default(), index: 0, now: 1_000 }
    }

    fn step(&mut self) {
        self.now += self.dice.roll(300);
        let replica = &mut self.replicas[self.dice.roll(2) as usize];
        match self.dice.roll(60) {
            0 | 1 => replica.freeze(),
            2 | 3 => replica.write(),
            4 if self.dice.one_in(3) => replica.crash(&self.model, &mut self.dice),
            5 => replica.check_one(&self.model, &mut self.dice),
            _ => {
                let batch = random::batch(&mut self.dice, &self.model, Wall(self.now));
                self.index += 1;
                let outcome = self.model.apply_batch(self.index, &batch);
                assert_eq!(self.apply(&batch), outcome);
            }
        }
    }

    /// Has both replicas apply it, and say the same.
    fn apply(&mut self, batch: &Batch) -> BatchOutcome {
        let [one, other] = self.replicas.each_mut().map(|replica| replica.apply(self.index, batch));
        assert_eq!(one, other);
        one.0
    }

    fn check_all(&mut self) {
        for replica in &self.replicas {
            replica.check_all(&self.model, &mut self.dice);
        }
    }

    fn finish(mut self) {
        self.check_all();
        for replica in &mut self.replicas {
            replica.crash(&self.model, &mut self.dice);
        }
        self.check_all();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn short_runs_match_the_model(seed in any::<u64>(), steps in 20_usize..120) {
        let mut bench = Bench::new(seed);
        for _ in 0..steps {
            bench.step();
        }
        bench.finish();
    }

    /// What a proposer sends again and again, too early or too late, counts once: the model has no notion of it, and is
    /// given each batch in its turn.
    #[test]
    fn repeated_batches_count_once(seed in any::<u64>(), steps in 20_usize..120) {
        let mut bench = Bench::new(seed);
        let mut proposers = [(7, 0, Vec::new()), (u64::MAX, 0, Vec::new()), (1 << 40, 0, Vec::new())];
        for _ in 0..steps {
            bench.now += bench.dice.roll(300);
            bench.index += 1;
            let (home, applied, made) = &mut proposers[bench.dice.roll(3) as usize];
            if made.len() < *applied + 3 {
                let mut ops = random::batch(&mut bench.dice, &bench.model, Wall(bench.now)).ops;
                ops.retain(|op| !matches!(op, Op::DetachHome { .. }));
                made.push(ops);
            }
            let near = applied.saturating_sub(2);
            let at = near + bench.dice.roll((made.len() - near) as u64) as usize;
            let batch = Batch { home: *home, sequence: at as u64 + 1, ops: made[at].clone() };
            let next = at == *applied;
            if next {
                *applied += 1;
                made[at].iter().for_each(|op| bench.model.apply(bench.index, op));
                bench.model.proposed.insert(*home, batch.sequence);
            }
            prop_assert_eq!(bench.apply(&batch) == BatchOutcome::Applied, next);
            let replica = &mut bench.replicas[bench.dice.roll(2) as usize];
            match bench.dice.roll(20) {
                0 => replica.freeze(),
                1 => replica.write(),
                2 => replica.crash(&bench.model, &mut bench.dice),
                _ => {}
            }
        }
        bench.finish();
    }
}

#[test]
fn a_long_run_matches_the_model() {
    let mut bench = Bench::new(0x5eed);
    for _ in 0..120_000 {
        bench.step();
    }
    assert_eq!(bench.model.gone.len(), 1000, "it is long enough for some to be forgotten");
    bench.finish();
}

/// Nothing is left behind: without sessions and retained messages only the shard's own row remains, and the homes that
/// are gone.
#[test]
fn all_rows_go_with_what_they_hold() {
    let mut bench = Bench::new(77);
    for _ in 0..20_000 {
        bench.step();
    }
    let mut ops: Vec<Op> = bench.model.sessions.keys().map(|&id| Op::End { session: SessionId(id) }).collect();
    ops.extend(
        bench.model.retained.iter().map(|(topic, &(_, index))| Op::Forget { topic: topic.as_str().into(), index }),
    );
    let publishers = bench.model.origins.keys().map(|(origin, _)| origin.session);
    ops.extend(publishers.map(|session| Op::ForgetOrigins { session, tokens: vec![] }));
    ops.extend(bench.model.proposed.keys().map(|&home| Op::DetachHome { home, now: Wall(bench.now) }));
    let homes = bench.model.gone.len() + bench.model.proposed.len();
    bench.index += 1;
    let _ = bench.apply(&Batch { home: ALONE, sequence: 0, ops });
    for replica in &mut bench.replicas {
        replica.freeze();
        replica.write();
        let left = replica.tables.keys().filter(|key| key.starts_with(&ID.0.to_be_bytes())).count();
        assert_eq!(left, 1 + homes.min(1000));
        let shard = &replica.shard;
        assert_eq!((shard.queued_messages(), shard.queued_bytes()), (0, 0));
        assert_eq!((shard.retained_count(), shard.retained_bytes()), (0, 0));
        assert_eq!((shard.proposer_count(), shard.origin_count()), (0, 0));
        assert_eq!((shard.overlay_bytes(), shard.next_deadline()), (0, None));
    }
}
