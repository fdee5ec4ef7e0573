//! Proposing: what was submitted on this node goes to the leaders of its shards, and is done when it is applied here.
//!
//! ```text
//! submitted ─► gathered by shard ─► batch (home, sequence) ─► leader ─► agreed on ─► applied here ─► done, in order
//!                                     └── sent again, in order, when the leader is another or does not answer ──┘
//! ```
//! A shard applies the batches of a home once and in order, whatever is sent twice; so sending again is always safe. No
//! I/O, no clock here: whoever owns this sends what [`Proposer::to_send`] gives and says what came of it.

use crate::store::{Applied, Batch, Store};
use bytes::Bytes;
use nightjar_base::{Position, SessionId, ShardId, Tick};
use nightjar_shard::Op;
use std::collections::VecDeque;

/// Ops, and bytes of them, that are agreed on together.
const BATCH_OPS: usize = 1024;
const BATCH_BYTES: usize = 256 * 1024;
/// Batches of a shard that are under way, if each but the first is worth it.
const UNDER_WAY: usize = 4;
/// From so many ops, or bytes of them, on it does not wait for the one before: fewer gather until that is done, as a batch
/// costs all nodes much the same whatever is in it.
const WORTH_OPS: usize = 128;
const WORTH_BYTES: usize = 32 * 1024;
/// Milliseconds after which a batch that nothing was heard of is sent again.
const PATIENCE: u64 = 1_000;
/// From here on the numbers of a session's publications are those that the broker makes for it.
const OWN_WORK: u64 = 1 << 62;

/// A batch that is not applied yet.
#[derive(Debug)]
struct Waiting {
    sequence: u64,
    entry: Bytes,
    /// The submissions whose last op for this shard it holds.
    submissions: Vec<u64>,
}

/// One shard's batches.
#[derive(Debug, Default)]
struct Lane {
    /// The process that proposes them: one that was declared gone goes on as another.
    home: u64,
    gathered: Vec<Op>,
    gathered_bytes: usize,
    /// How many ops have ever been gathered, and how many of them are in batches.
    taken: u64,
    packed: u64,
    /// The submissions that the gathered ops are of, and up to which op each reaches.
    submissions: VecDeque<(u64, u64)>,
    last: u64,
    waiting: VecDeque<Waiting>,
    /// How many of `waiting` were sent since the last time that all had to be sent again.
    sent: usize,
    /// How often all was to be sent again.
    round: u64,
    /// When the oldest that was sent was, or when something was last applied.
    since: Tick,
}

/// What a node has proposed and not yet seen applied.
#[derive(Debug)]
pub struct Proposer {
    lanes: Vec<Lane>,
    /// Of the submissions from `first` on: how many batches each still waits for.
    open: VecDeque<u32>,
    first: u64,
}

impl Proposer {
    /// For a process whose submissions begin at position 1.
    #[must_use]
    pub fn new(home: u64, shards: u16) -> Self {
        let lanes = (0..shards).map(|_| Lane { home, ..Lane::default() }).collect();
        Self { lanes, open: VecDeque::new(), first: 1 }
    }

    /// Takes up submissions: the number of ops of each, and their ops.
    pub fn take(&mut self, counts: &[usize], ops: &mut VecDeque<(ShardId, Op)>) {
        for &count in counts {
            let submission = self.first + self.open.len() as u64;
            self.open.push_back(0);
            for (shard, op) in ops.drain(..count) {
                let lane = &mut self.lanes[usize::from(shard.0)];
                lane.gathered_bytes += op.weight();
                lane.gathered.push(op);
                lane.taken += 1;
                match lane.submissions.back_mut() {
                    Some((last, end)) if *last == submission => *end = lane.taken,
                    _ => {
                        lane.submissions.push_back((submission, lane.taken));
                        *self.open.back_mut().expect("it was pushed above") += 1;
                    }
                }
            }
        }
    }

    /// Makes batches of what has gathered, as far as there is room, and gives those of `shard` that are to be sent now, in
    /// order.
    pub fn next_batches(&mut self, shard: ShardId, now: Tick) -> Vec<Bytes> {
        let lane = &mut self.lanes[usize::from(shard.0)];
        while lane.may_pack() {
            lane.pack();
        }
        if lane.sent == 0 {
            lane.since = now;
        }
        let fresh = lane.waiting.iter().skip(lane.sent).map(|waiting| waiting.entry.clone()).collect();
        lane.sent = lane.waiting.len();
        fresh
    }

    /// All that was sent for `shard` is to be sent again: it went to somebody who may not have it any more.
    pub fn send_again(&mut self, shard: ShardId) {
        let lane = &mut self.lanes[usize::from(shard.0)];
        lane.sent = 0;
        lane.round += 1;
    }

    /// Counts how often all was to be sent again.
    #[must_use]
    pub fn round(&self, shard: ShardId) -> u64 {
        self.lanes[usize::from(shard.0)].round
    }

    /// What was sent in `round` was refused: the first to hear so has all sent again, or each refusal would, of all.
    pub fn refused(&mut self, shard: ShardId, round: u64) {
        if self.round(shard) == round {
            self.send_again(shard);
        }
    }

    /// The shards of which nothing was heard for too long.
    pub fn overdue(&self, now: Tick) -> impl Iterator<Item = ShardId> {
        let late = move |lane: &Lane| lane.sent > 0 && now.since(lane.since) >= PATIENCE;
        self.lanes.iter().enumerate().filter(move |(_, lane)| late(lane)).map(|(number, _)| shard_id(number))
    }

    /// A batch of a shard was applied here, or not.
    pub fn applied(&mut self, shard: ShardId, batch: Batch, outcome: Applied, now: Tick) {
        let lane = &mut self.lanes[usize::from(shard.0)];
        if batch.home != lane.home {
            return;
        }
        match outcome {
            Applied::Applied | Applied::Repeated => self.done(shard, batch.sequence, now),
            // One before it was lost with a leader.
            Applied::Gap { .. } => lane.sent = 0,
            // Whoever is told so goes on with `begin_again`.
            Applied::Gone => {}
        }
    }

    /// Who proposes for `shard`.
    #[must_use]
    pub fn home(&self, shard: ShardId) -> u64 {
        self.lanes[usize::from(shard.0)].home
    }

    /// The process was declared gone, and goes on as `home`: none of its batches that wait will ever be applied, or if one
    /// is, nobody hears of it. All its connections are over and none of them was acknowledged anything of this, so what they
    /// had submitted is dropped: their clients do it again, here or elsewhere. What the broker itself had to do is proposed
    /// once more; done twice it does no harm.
    pub fn begin_again(&mut self, home: u64) {
        self.lanes.iter_mut().for_each(|lane| lane.begin_again(home));
    }

    /// The state of `shard` was replaced: all batches up to `sequence` are in it.
    pub fn caught_up(&mut self, shard: ShardId, sequence: u64, now: Tick) {
        self.done(shard, sequence, now);
    }

    fn done(&mut self, shard: ShardId, sequence: u64, now: Tick) {
        let lane = &mut self.lanes[usize::from(shard.0)];
        while let Some(waiting) = lane.waiting.pop_front_if(|waiting| waiting.sequence <= sequence) {
            lane.sent = lane.sent.saturating_sub(1);
            lane.since = now;
            for submission in waiting.submissions {
                if let Some(left) = submission.checked_sub(self.first).and_then(|at| self.open.get_mut(at as usize)) {
                    *left -= 1;
                }
            }
        }
    }

    /// Up to which submission everything is applied here.
    pub fn completed(&mut self) -> Position {
        while self.open.pop_front_if(|left| *left == 0).is_some() {
            self.first += 1;
        }
        Position(self.first - 1)
    }

    /// The shards that have something to send, or to make batches of.
    pub fn ready(&self) -> impl Iterator<Item = ShardId> {
        let is_ready = |lane: &Lane| lane.sent < lane.waiting.len() || lane.may_pack();
        self.lanes.iter().enumerate().filter(move |(_, lane)| is_ready(lane)).map(|(number, _)| shard_id(number))
    }
}

/// Whether an op is the broker's own work, which nobody else does, and may be done twice.
fn is_own_work(op: &Op) -> bool {
    match op {
        // Wills and what a member of a group left behind: known again by their origins.
        Op::EnqueueFrom { origin, .. } | Op::RetainFrom { origin, .. } => origin.token >= OWN_WORK,
        Op::Detach { .. } | Op::WillDone { .. } | Op::DetachHome { .. } => true,
        // Not `Received`: the client may have completed the exchange elsewhere by then, and would be taken to wait for PUBREL.
        // Without it the message is sent again under its identifier, which the client knows.
        Op::Expire { .. } | Op::Forget { .. } | Op::Acknowledge { .. } => true,
        Op::ForgetOrigins { tokens, .. } => tokens.is_empty(),
        _ => false,
    }
}

/// An op that does nothing, in the place of one that is dropped: all others keep their places.
fn idle() -> Op {
    Op::Acknowledge { session: SessionId(0), sequences: Vec::new() }
}

impl Lane {
    fn begin_again(&mut self, home: u64) {
        self.home = home;
        let (mut ops, mut submissions) = (Vec::new(), VecDeque::new());
        for waiting in self.waiting.drain(..) {
            ops.extend(Store::decode_batch(&waiting.entry));
            let end = ops.len() as u64;
            submissions.extend(waiting.submissions.into_iter().map(|submission| (submission, end)));
        }
        let (packed, before) = (self.packed, ops.len() as u64);
        submissions.extend(self.submissions.drain(..).map(|(submission, end)| (submission, end - packed + before)));
        ops.append(&mut self.gathered);
        ops.iter_mut().filter(|op| !is_own_work(op)).for_each(|op| *op = idle());
        (self.taken, self.packed, self.last, self.sent) = (ops.len() as u64, 0, 0, 0);
        self.gathered_bytes = ops.iter().map(Op::weight).sum();
        (self.gathered, self.submissions) = (ops, submissions);
    }

    /// Whether there is something to make a batch of, and room for it.
    fn may_pack(&self) -> bool {
        let is_worth_it = || self.gathered.len() >= WORTH_OPS || self.gathered_bytes >= WORTH_BYTES;
        match self.waiting.len() {
            0 => !self.gathered.is_empty(),
            1..UNDER_WAY => is_worth_it(),
            _ => false,
        }
    }

    /// Makes one batch of what has gathered.
    fn pack(&mut self) {
        self.last += 1;
        let batch = Batch { home: self.home, sequence: self.last };
        let mut entry = Vec::new();
        let mut count = self.gathered.len().min(BATCH_OPS);
        Store::encode_batch(batch, &self.gathered[..count], &mut entry);
        if entry.len() > BATCH_BYTES && count > 1 {
            // So many that about as much as is wanted remains, at least one.
            count = (count * BATCH_BYTES / entry.len()).max(1);
            entry.clear();
            Store::encode_batch(batch, &self.gathered[..count], &mut entry);
        }
        self.gathered_bytes -= self.gathered.drain(..count).map(|op| op.weight()).sum::<usize>();
        self.packed += count as u64;
        // One whose ops go with several batches waits for the last of them: the ops of a shard keep their order.
        let mut submissions = Vec::new();
        while let Some((submission, _)) = self.submissions.pop_front_if(|(_, end)| *end <= self.packed) {
            submissions.push(submission);
        }
        self.waiting.push_back(Waiting { sequence: self.last, entry: entry.into(), submissions });
    }
}

fn shard_id(number: usize) -> ShardId {
    ShardId(u16::try_from(number).expect("there are at most 1024 shards"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// So many that they wait for none before them.
    const MANY: [u16; WORTH_OPS] = [0; WORTH_OPS];

    fn op(session: u64) -> Op {
        Op::End { session: SessionId(session) }
    }

    fn submit(proposer: &mut Proposer, submissions: &[&[u16]]) {
        let counts: Vec<usize> = submissions.iter().map(|shards| shards.len()).collect();
        let mut ops =
            submissions.iter().flat_map(|shards| shards.iter().map(|shard| (ShardId(*shard), op(1)))).collect();
        proposer.take(&counts, &mut ops);
    }

    fn apply(proposer: &mut Proposer, shard: u16, sequence: u64) -> u64 {
        proposer.applied(ShardId(shard), Batch { home: 7, sequence }, Applied::Applied, Tick(0));
        proposer.completed().0
    }

    #[test]
    fn of_many_refusals_the_first_has_all_sent_again() {
        let (mut proposer, shard) = (Proposer::new(7, 1), ShardId(0));
        for _ in 0..3 {
            submit(&mut proposer, &[&MANY]);
            assert_eq!(proposer.next_batches(shard, Tick(0)).len(), 1);
        }
        let round = proposer.round(shard);
        proposer.refused(shard, round);
        assert_eq!(proposer.next_batches(shard, Tick(0)).len(), 3);
        proposer.refused(shard, round);
        proposer.refused(shard, round);
        assert!(proposer.next_batches(shard, Tick(0)).is_empty(), "they are under way");
        proposer.refused(shard, proposer.round(shard));
        assert_eq!(proposer.next_batches(shard, Tick(0)).len(), 3);
    }

    #[test]
    fn submissions_are_done_in_order_and_when_all_their_shards_are() {
        let mut proposer = Proposer::new(7, 3);
        submit(&mut proposer, &[&[0, 1], &[], &[2], &[0]]);
        assert_eq!(proposer.ready().count(), 3);
        for shard in 0..3 {
            assert_eq!(proposer.next_batches(ShardId(shard), Tick(0)).len(), 1);
        }
        assert_eq!(apply(&mut proposer, 2, 1), 0);
        assert_eq!(apply(&mut proposer, 0, 1), 0);
        assert_eq!(apply(&mut proposer, 1, 1), 4);
        submit(&mut proposer, &[&[1]]);
        assert_eq!(proposer.completed().0, 4);
        assert_eq!(proposer.next_batches(ShardId(1), Tick(0)).len(), 1);
        assert_eq!(apply(&mut proposer, 1, 2), 5);
    }

    #[test]
    fn only_so_many_batches_are_under_way() {
        let mut proposer = Proposer::new(7, 1);
        let shard = ShardId(0);
        let mut sent = 0;
        for _ in 0..10 {
            submit(&mut proposer, &[&MANY]);
            sent += proposer.next_batches(shard, Tick(0)).len();
        }
        assert_eq!((sent, proposer.ready().count()), (UNDER_WAY, 0));
        assert_eq!(apply(&mut proposer, 0, 1), 1);
        // All that had gathered meanwhile goes together.
        assert_eq!(proposer.next_batches(shard, Tick(0)).len(), 1);
        assert_eq!(apply(&mut proposer, 0, 5), 10);
    }

    #[test]
    fn few_ops_gather_until_the_batch_before_is_done() {
        let (mut proposer, shard) = (Proposer::new(7, 1), ShardId(0));
        submit(&mut proposer, &[&[0]]);
        assert_eq!(proposer.next_batches(shard, Tick(0)).len(), 1);
        submit(&mut proposer, &[&[0; WORTH_OPS - 2]]);
        submit(&mut proposer, &[&[0]]);
        assert_eq!((proposer.ready().count(), proposer.next_batches(shard, Tick(0)).len()), (0, 0));
        assert_eq!(apply(&mut proposer, 0, 1), 1);
        assert_eq!((proposer.ready().count(), proposer.next_batches(shard, Tick(0)).len()), (1, 1));
        let message = std::sync::Arc::new(nightjar_mqtt::Message::new("a", &[], &[0; WORTH_BYTES]));
        let retain = Op::Retain { message, now: nightjar_base::Wall(0) };
        proposer.take(&[1], &mut [(shard, retain)].into());
        assert_eq!(proposer.next_batches(shard, Tick(0)).len(), 1, "many bytes");
        assert_eq!(apply(&mut proposer, 0, 3), 4);
        assert_eq!(proposer.lanes[0].gathered_bytes, 0);
    }

    #[test]
    fn large_batches_are_split_and_their_submission_waits_for_all() {
        let mut proposer = Proposer::new(7, 1);
        submit(&mut proposer, &[&[0; BATCH_OPS + 1]]);
        assert_eq!(proposer.next_batches(ShardId(0), Tick(0)).len(), 1);
        assert_eq!(apply(&mut proposer, 0, 1), 0);
        assert_eq!(proposer.next_batches(ShardId(0), Tick(0)).len(), 1);
        assert_eq!(apply(&mut proposer, 0, 2), 1);
    }

    #[test]
    fn what_was_lost_is_sent_again_in_order() {
        let mut proposer = Proposer::new(7, 1);
        let shard = ShardId(0);
        let mut first = Vec::new();
        for _ in 0..3 {
            submit(&mut proposer, &[&MANY]);
            first.extend(proposer.next_batches(shard, Tick(0)));
        }
        assert_eq!(proposer.overdue(Tick(PATIENCE - 1)).count(), 0);
        assert_eq!(proposer.overdue(Tick(PATIENCE)).collect::<Vec<_>>(), [shard]);
        // The first was agreed on before the leader went, the second was not.
        assert_eq!(apply(&mut proposer, 0, 1), 1);
        proposer.applied(shard, Batch { home: 7, sequence: 3 }, Applied::Gap { expected: 2 }, Tick(5));
        assert_eq!(proposer.next_batches(shard, Tick(5)), first[1..]);
        assert_eq!(apply(&mut proposer, 0, 2), 2);
        // It comes late, by the one way or the other.
        proposer.applied(shard, Batch { home: 7, sequence: 2 }, Applied::Repeated, Tick(6));
        proposer.applied(shard, Batch { home: 8, sequence: 3 }, Applied::Applied, Tick(6));
        assert_eq!(proposer.completed().0, 2);
        assert_eq!(apply(&mut proposer, 0, 3), 3);
    }

    #[test]
    fn what_a_client_had_received_is_not_told_late() {
        let mut proposer = Proposer::new(7, 1);
        let received = Op::Received { session: SessionId(9), sequences: vec![78] };
        let acknowledged = Op::Acknowledge { session: SessionId(9), sequences: vec![77] };
        let ops = [(ShardId(0), received), (ShardId(0), acknowledged.clone())];
        proposer.take(&[2], &mut ops.into());
        assert_eq!(proposer.next_batches(ShardId(0), Tick(0)).len(), 1);
        proposer.begin_again(8);
        let batches = proposer.next_batches(ShardId(0), Tick(1));
        assert_eq!(Store::decode_batch(&batches[0]), [idle(), acknowledged]);
    }

    #[test]
    fn one_that_was_declared_gone_does_its_own_work_again_as_another() {
        let mut proposer = Proposer::new(7, 2);
        let done = || Op::WillDone { session: SessionId(9), epoch: 3 };
        let received = || Op::Received { session: SessionId(9), sequences: vec![1] };
        let all = || [(ShardId(0), received()), (ShardId(0), done()), (ShardId(1), op(2))];
        for number in 0..5 {
            proposer.take(&[2, 1], &mut all().into());
            assert_eq!(proposer.next_batches(ShardId(0), Tick(0)).len(), usize::from(number == 0));
        }
        assert_eq!(apply(&mut proposer, 0, 1), 1);
        assert_eq!(proposer.next_batches(ShardId(0), Tick(0)).len(), 1);
        proposer.take(&[2, 1], &mut all().into());
        proposer.applied(ShardId(0), Batch { home: 7, sequence: 2 }, Applied::Gone, Tick(1));
        proposer.begin_again(8);
        assert_eq!((proposer.home(ShardId(0)), proposer.home(ShardId(1))), (8, 8));
        let batches = proposer.next_batches(ShardId(0), Tick(1));
        assert_eq!(batches.len(), 1, "all together now");
        let ops = Store::decode_batch(&batches[0]);
        assert_eq!(ops.len(), 2 * 5);
        assert!(ops.chunks(2).all(|ops| ops[0] == idle() && ops[1] == done()));
        // What comes late of the old home is nobody's.
        proposer.applied(ShardId(0), Batch { home: 7, sequence: 3 }, Applied::Gone, Tick(1));
        proposer.applied(ShardId(0), Batch { home: 8, sequence: 1 }, Applied::Applied, Tick(1));
        assert_eq!(proposer.completed().0, 1);
        assert_eq!(proposer.next_batches(ShardId(1), Tick(1)).len(), 1);
        proposer.applied(ShardId(1), Batch { home: 8, sequence: 1 }, Applied::Applied, Tick(1));
        assert_eq!(proposer.completed().0, 2 * 6);
    }

    #[test]
    fn a_snapshot_may_hold_what_was_under_way() {
        let mut proposer = Proposer::new(7, 2);
        submit(&mut proposer, &[&[0], &[0, 1]]);
        assert_eq!(proposer.next_batches(ShardId(0), Tick(0)).len(), 1);
        assert_eq!(proposer.next_batches(ShardId(1), Tick(0)).len(), 1);
        proposer.caught_up(ShardId(0), 1, Tick(1));
        assert_eq!(proposer.completed().0, 1);
        assert_eq!(apply(&mut proposer, 1, 1), 2);
    }
}
