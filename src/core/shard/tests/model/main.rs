//! Random ops, freezes, thaws and crashes, compared with a naive model.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod naive;
mod random;

use naive::{Naive, NaiveEntry};
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{Due, Effect, Entry, Op, RetainedMessage, Shard};
use proptest::prelude::*;
use random::Dice;
use std::collections::BTreeMap;
use std::sync::Arc;

const ID: ShardId = ShardId(3);

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A shard with its tables, the ops since the last checkpoint, and the model.
struct Bench {
    dice: Dice,
    shard: Shard,
    tables: Rows,
    /// Changes that are durable (in a checkpoint record) but not in the tables yet.
    unwritten: Arc<Vec<nightjar_shard::Change>>,
    /// Whether they are those of several freezes: one may remove what one before it put.
    union: bool,
    journal: Vec<(u64, Op)>,
    model: Naive,
    index: u64,
    now: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut tables = Rows::new();
        // Rows of the shards beside it, which must never be seen.
        tables.insert(vec![0, 2, 1, 0, 0], vec![99]);
        tables.insert(vec![0, 4], vec![99]);
        Self {
            dice: Dice(seed | 1),
            shard: Shard::new(ID),
            tables,
            unwritten: Arc::default(),
            union: false,
            journal: Vec::new(),
            model: Naive::default(),
            index: 0,
            now: 1_000,
            effects: Vec::new(),
        }
    }

    fn step(&mut self) {
        self.now += self.dice.roll(300);
        match self.dice.roll(60) {
            0 => {
                self.union = !self.unwritten.is_empty();
                self.unwritten = self.shard.freeze(&self.tables).unwrap();
                self.journal.retain(|&(index, _)| index > self.shard.applied());
            }
            1 => self.write(),
            2 if self.dice.one_in(3) => self.crash(),
            3 => self.check_one(),
            _ => self.apply_one(),
        }
    }

    fn apply_one(&mut self) {
        self.index += 1;
        let op = random::op(&mut self.dice, &self.model, Wall(self.now));
        self.model.apply(self.index, &op);
        self.journal.push((self.index, op.clone()));
        self.effects.clear();
        self.shard.apply(self.index, op, &mut self.effects);
    }

    /// The rest of a checkpoint.
    fn write(&mut self) {
        for change in self.unwritten.iter() {
            assert!(change.key.starts_with(&ID.0.to_be_bytes()));
            match &change.value {
                Some(value) => {
                    assert!(value.len() <= 16 * 1024);
                    self.tables.insert(change.key.clone(), value.clone());
                }
                None => {
                    let there = self.tables.remove(&change.key).is_some();
                    assert!(there || self.union, "only rows that are there are removed");
                }
            }
        }
        self.unwritten = Arc::default();
        self.shard.thaw();
    }

    /// The process dies; a checkpoint record that was synced is finished at recovery.
    fn crash(&mut self) {
        self.write();
        self.shard = Shard::load(ID, &self.tables).unwrap();
        for (index, op) in &self.journal {
            assert!(*index > self.shard.applied());
            self.shard.apply(*index, op.clone(), &mut self.effects);
        }
        self.check_all();
        self.check_due();
        // What was handed out is due again after a load.
        let again = Shard::load(ID, &self.tables).unwrap();
        self.shard = again;
        for (index, op) in &self.journal {
            self.shard.apply(*index, op.clone(), &mut self.effects);
        }
    }

    fn check_all(&mut self) {
        assert_eq!(self.shard.session_count(), self.model.sessions.len());
        let ids: Vec<u64> = self.shard.sessions().map(|session| session.id().0).collect();
        assert_eq!(ids, self.model.sessions.keys().copied().collect::<Vec<_>>());
        for id in ids {
            self.check_session(id);
        }
        let queued: u64 = self.model.sessions.values().map(|session| session.queue.len() as u64).sum();
        assert_eq!(self.shard.queued_messages(), queued);
        let bytes: u64 = self.shard.sessions().map(nightjar_shard::Session::queued_bytes).sum();
        assert_eq!(self.shard.queued_bytes(), bytes);
        self.check_retained();
    }

    fn check_one(&mut self) {
        let at = self.dice.roll(self.model.sessions.len() as u64 + 1) as usize;
        if let Some(&id) = self.model.sessions.keys().nth(at) {
            self.check_session(id);
        }
        self.check_retained();
    }

    fn check_session(&mut self, id: u64) {
        let session = self.shard.session(SessionId(id)).unwrap();
        let model = &self.model.sessions[&id];
        assert_eq!(self.shard.session_of(&model.client_id), Some(SessionId(id)));
        assert_eq!(session.client_id(), &model.client_id);
        assert_eq!(session.epoch(), model.epoch);
        assert_eq!((session.attached(), session.home()), (model.attached, model.home));
        assert_eq!(session.expiry(), model.expiry);
        assert_eq!(session.expires(), model.expires);
        assert_eq!(session.sent(), model.sent);
        assert_eq!(session.will(), model.will.as_ref());
        assert_eq!(session.will_due(), model.will_due);
        assert_eq!(session.limits(), &model.limits);
        assert_eq!(session.next_sequence(), model.next);
        assert_eq!(session.received().collect::<Vec<_>>(), model.received.iter().copied().collect::<Vec<_>>());
        assert_eq!(session.inbound(), model.inbound.iter().copied().collect::<Vec<_>>());
        assert_eq!(session.queued(), model.queue.len() as u64);
        let bytes: u64 = model.queue.values().map(naive::weight).sum();
        assert!(session.queued_bytes() >= bytes && session.queued_bytes() <= bytes + bytes / 1000);
        let replays: BTreeMap<_, _> = session
            .subscriptions()
            .map(|(filter, subscribed)| {
                let replay = subscribed.replay.as_ref().map(|cursor| cursor.after().map(Arc::from));
                (filter.clone(), replay)
            })
            .collect();
        assert_eq!(replays, model.subscriptions);
        self.check_queue(id);
    }

    fn check_queue(&mut self, id: u64) {
        let model = &self.model.sessions[&id];
        let session = self.shard.session(SessionId(id)).unwrap();
        let mut wanted: BTreeMap<u64, Option<&NaiveEntry>> =
            model.queue.iter().map(|(&at, one)| (at, Some(one))).collect();
        wanted.extend(model.received.iter().map(|&sequence| (sequence, None)));
        assert_eq!(session.head(), wanted.keys().next().copied().unwrap_or(model.next).min(model.next));
        let mut from = if self.dice.one_in(2) { 0 } else { self.dice.roll(model.next + 1) };
        let wanted: Vec<_> = wanted.split_off(&from).into_iter().collect();
        let (max_entries, max_bytes) = (1 + self.dice.roll(30) as usize, 1 + self.dice.roll(40_000) as usize);
        let mut got = Vec::new();
        while from < model.next {
            let mut out = Vec::new();
            let memory = self.shard.page_from_memory(SessionId(id), from, max_entries, max_bytes, &mut out);
            let mut same = Vec::new();
            let next = self.shard.page(&self.tables, SessionId(id), from, max_entries, max_bytes, &mut same).unwrap();
            assert!(next > from && same.len() <= max_entries);
            if let Some(memory) = memory {
                assert_eq!((memory, &out), (next, &same));
            }
            from = next;
            got.extend(same);
        }
        assert_eq!(got.len(), wanted.len());
        for (entry, (sequence, wanted)) in got.iter().zip(&wanted) {
            assert_eq!(entry.sequence, *sequence);
            assert_entry(entry, *wanted);
        }
    }

    fn check_retained(&mut self) {
        assert_eq!(self.shard.retained_count(), self.model.retained.len());
        let sizes: u64 = self.model.retained.values().map(|(message, _)| message.size() as u64).sum();
        assert_eq!(self.shard.retained_bytes(), sizes);
        for filter in random::FILTERS {
            let mut got = Vec::new();
            let mut after: Option<Arc<str>> = None;
            loop {
                let (scanned, found) = (1 + self.dice.roll(4) as usize, 1 + self.dice.roll(4) as usize);
                let before = got.len();
                let last =
                    self.shard.retained_page(&self.tables, filter, after.as_deref(), scanned, found, &mut got).unwrap();
                assert!(got.len() - before <= found.min(scanned));
                assert!(last.is_none() || last > after);
                after = last;
                if after.is_none() {
                    break;
                }
            }
            let wanted: Vec<(Arc<Message>, u64)> = self
                .model
                .retained
                .iter()
                .filter(|(topic, _)| matches(filter, topic))
                .map(|(_, one)| one.clone())
                .collect();
            assert_eq!(got.len(), wanted.len(), "{filter}");
            for (RetainedMessage { message, since, .. }, (wanted, index)) in got.iter().zip(&wanted) {
                assert_eq!(message, wanted, "{filter}");
                assert!(since <= index, "{filter}: had since {since}, retained at {index}");
            }
        }
    }

    /// Takes what is due out of the shard, all of it.
    fn check_due(&mut self) {
        let mut wanted = Vec::new();
        for (id, session) in &self.model.sessions {
            if let Some(at) = session.will_due {
                wanted.push((at, format!("0 {id}")));
            }
            if let Some(at) = session.expires.filter(|_| session.expiry != 0) {
                wanted.push((at, format!("1 {id}")));
            }
        }
        for (topic, (message, index)) in &self.model.retained {
            if let Some(at) = message.expires {
                wanted.push((at, format!("2 {topic} {index}")));
            }
        }
        wanted.sort();
        let mut got = Vec::new();
        while let Some(at) = self.shard.next_deadline() {
            let mut due = Vec::new();
            self.shard.due(Wall(at.0.saturating_sub(1)), &mut due);
            assert!(due.is_empty());
            self.shard.due(at, &mut due);
            got.extend(due.into_iter().map(|due| match due {
                Due::Will { session, .. } => (at, format!("0 {session}")),
                Due::Expired { session, expires, .. } => (expires, format!("1 {session}")),
                Due::Retained { topic, index } => (at, format!("2 {topic} {index}")),
            }));
        }
        got.sort();
        assert_eq!(got, wanted);
    }
}

fn assert_entry(entry: &Entry, wanted: Option<&NaiveEntry>) {
    assert_eq!(entry.received, wanted.is_none());
    let Some(wanted) = wanted else { return };
    assert_eq!(entry.message, wanted.message);
    assert_eq!((entry.qos, entry.retain, &entry.share), (wanted.qos, wanted.retain, &wanted.share));
    assert_eq!(entry.identifiers.as_deref().unwrap_or_default(), wanted.identifiers);
}

fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.first(), topic.first()) {
            (Some(&"#"), _) | (None, None) => true,
            (Some(want), Some(level)) => (*want == "+" || want == level) && levels(&filter[1..], &topic[1..]),
            _ => false,
        }
    }
    !(topic.starts_with('$') && filter.starts_with(['+', '#']))
        && levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn short_runs_match_the_model(seed in any::<u64>(), steps in 20_usize..120) {
        let mut bench = Bench::new(seed);
        for _ in 0..steps {
            bench.step();
        }
        bench.check_all();
        bench.crash();
        bench.check_all();
    }
}

#[test]
fn a_long_run_matches_the_model() {
    let mut bench = Bench::new(0x5eed);
    for _ in 0..300_000 {
        bench.step();
    }
    bench.crash();
    bench.check_all();
}

/// Nothing is left behind: without sessions and retained messages only the shard's own row remains.
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
    for op in ops {
        bench.index += 1;
        bench.shard.apply(bench.index, op, &mut bench.effects);
    }
    bench.unwritten = bench.shard.freeze(&bench.tables).unwrap();
    bench.write();
    let left = bench.tables.keys().filter(|key| key.starts_with(&ID.0.to_be_bytes())).count();
    assert_eq!(left, 1);
    assert_eq!((bench.shard.queued_messages(), bench.shard.queued_bytes()), (0, 0));
    assert_eq!((bench.shard.retained_count(), bench.shard.retained_bytes()), (0, 0));
    assert_eq!((bench.shard.overlay_bytes(), bench.shard.next_deadline()), (0, None));
}
