//! Power cuts at every kind of moment: what is there afterwards is the state after some submission that is not older
//! than the newest acknowledged one, whole.

use super::disk::{Random, SimDisk, SimTables};
use super::*;
use std::collections::{BTreeMap, VecDeque};

const TOPICS: [&str; 6] = ["a", "b/c", "d", "e/f/g", "h", "i/j"];
const CLIENTS: [&str; 3] = ["one", "two", "three"];

/// The state as a reader of the promise would keep it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    retained: BTreeMap<&'static str, Vec<u8>>,
    queues: BTreeMap<&'static str, VecDeque<(u64, Vec<u8>)>>,
    next: BTreeMap<&'static str, u64>,
}

struct Run {
    disk: SimDisk,
    tables: Arc<SimTables>,
    durability: Durability,
    random: Random,
    model: Model,
    sessions: BTreeMap<&'static str, (ShardId, SessionId)>,
    written: u64,
}

impl Run {
    fn new(seed: u64, durability: Durability, moods: u64) -> Self {
        let disk = SimDisk::new(seed);
        let tables = Arc::new(SimTables::new(&disk, moods));
        let (model, sessions) = (Model::default(), BTreeMap::new());
        let mut run = Self { disk, tables, durability, random: Random(seed), model, sessions, written: 0 };
        let store = run.open().start(Box::new(Ear::default())).unwrap();
        done(&store, CLIENTS.iter().map(|client| attach(&store, client)).collect());
        for client in CLIENTS {
            let shard = store.shard_of(client);
            let guard = store.lock(shard);
            let session = guard.session_of(client).unwrap();
            run.model.next.insert(client, guard.session(session).unwrap().next_sequence());
            run.model.queues.insert(client, VecDeque::new());
            run.sessions.insert(client, (shard, session));
        }
        store.stop();
        run
    }

    fn open(&self) -> Opened {
        loop {
            match open(small(self.durability), &self.disk, &self.tables) {
                Ok(opened) => return opened,
                // Tables that cannot be read right now say so; whoever starts the broker starts it again.
                Err(error) if error.to_string().contains("a bad mood") => {}
                Err(error) => panic!("does not open: {error}"),
            }
        }
    }

    fn observed(&self, store: &Store) -> Model {
        let mut model = Model { next: self.model.next.clone(), ..Model::default() };
        for topic in TOPICS {
            if let Some(payload) = retained(store, topic) {
                model.retained.insert(topic, payload);
            }
        }
        for (client, &(shard, session)) in &self.sessions {
            model.queues.insert(client, queue(store, shard, session).into());
            let next = store.lock(shard).session(session).unwrap().next_sequence();
            model.next.insert(client, next);
        }
        model
    }

    /// One submission: up to five changes over all shards, each marked with its number.
    fn step(&mut self, store: &Store) -> Vec<(ShardId, Op)> {
        self.written += 1;
        let size = if self.random.below(20) == 0 { 3000 } else { 30 };
        let mark = format!("{:0size$}", self.written, size = size).into_bytes();
        let mut ops = Vec::new();
        for _ in 0..1 + self.random.below(5) {
            match self.random.below(3) {
                0 => {
                    let topic = TOPICS[self.random.below(TOPICS.len() as u64) as usize];
                    self.model.retained.insert(topic, mark.clone());
                    ops.push(retain(store, topic, &mark));
                }
                1 => {
                    let client = CLIENTS[self.random.below(CLIENTS.len() as u64) as usize];
                    let (shard, session) = self.sessions[client];
                    let next = self.model.next.get_mut(client).unwrap();
                    self.model.queues.get_mut(client).unwrap().push_back((*next, mark.clone()));
                    *next += 1;
                    ops.push(enqueue(shard, session, &mark));
                }
                _ => {
                    let client = CLIENTS[self.random.below(CLIENTS.len() as u64) as usize];
                    let (shard, session) = self.sessions[client];
                    let queue = self.model.queues.get_mut(client).unwrap();
                    let most = self.random.below(4) as usize;
                    let sequences = queue.drain(..most.min(queue.len())).map(|entry| entry.0).collect();
                    ops.push((shard, Op::Acknowledge { session, sequences }));
                }
            }
        }
        ops
    }

    /// Works until the power goes off or `steps` are done, cuts it, opens again (the power may go off in that too) and
    /// compares.
    fn round(&mut self, steps: u64, calls: u64) {
        let store = self.open().start(Box::new(Ear::default())).unwrap();
        assert_eq!(self.observed(&store), self.model);
        self.disk.fail_in(calls);
        let acknowledged = Arc::new(Newest::default());
        let mut history = vec![self.model.clone()];
        for _ in 0..steps {
            let mut ops = self.step(&store);
            history.push(self.model.clone());
            store.submit(&mut ops, Some(Arc::clone(&acknowledged) as _));
            if self.random.below(8) == 0 {
                std::thread::sleep(Duration::from_micros(self.random.below(400)));
            }
            if matches!(store.health(), super::super::Health::Failed { .. }) {
                break;
            }
        }
        self.disk.fail_in(1 + self.random.below(3));
        store.stop();
        let acknowledged = usize::try_from(acknowledged.0.lock().0).unwrap();
        self.disk.power_cut();
        while self.random.below(3) == 0 {
            self.disk.fail_in(1 + self.random.below(12));
            drop(open(small(self.durability), &self.disk, &self.tables));
            self.disk.power_cut();
        }
        let store = self.open().store().clone();
        let found = self.observed(&store);
        let newest = history.iter().rposition(|model| *model == found);
        let Some(newest) = newest else {
            panic!("the state is that after no submission.\nfound: {found:?}\nexpected: {:?}", self.model);
        };
        if self.durability == Durability::Sync {
            assert!(newest >= acknowledged, "acknowledged up to {acknowledged}, but there up to {newest}");
        }
        self.model = found;
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    for seed in 0..40 {
        let mut run = Run::new(seed, Durability::Sync, 0);
        for _ in 0..8 {
            let (steps, calls) = (1 + run.random.below(120), 1 + run.random.below(150));
            run.round(steps, calls);
        }
    }
}

#[test]
fn a_power_cut_at_each_of_the_first_calls_is_survived() {
    for calls in 1..80 {
        let mut run = Run::new(1000 + calls, Durability::Sync, 0);
        run.round(40, calls);
        run.round(40, calls);
    }
}

#[test]
fn tables_that_fail_now_and_then_lose_nothing() {
    for seed in 0..4 {
        let mut run = Run::new(2000 + seed, Durability::Sync, 40);
        for _ in 0..4 {
            run.round(100, 150);
        }
    }
}

#[test]
fn with_an_interval_a_power_cut_leaves_an_older_state_that_was_whole() {
    for seed in 0..25 {
        let mut run = Run::new(3000 + seed, Durability::Interval(Duration::from_millis(2)), 0);
        for _ in 0..6 {
            let (steps, calls) = (1 + run.random.below(120), 1 + run.random.below(200));
            run.round(steps, calls);
        }
    }
}

#[test]
fn the_first_start_can_be_cut_at_every_call() {
    for calls in 1..60 {
        let disk = SimDisk::new(calls);
        let tables = Arc::new(SimTables::new(&disk, 0));
        disk.fail_in(calls);
        if let Ok(opened) = open(small(Durability::Sync), &disk, &tables) {
            opened.start(Box::new(Ear::default())).unwrap().stop();
        }
        disk.power_cut();
        let store = open(small(Durability::Sync), &disk, &tables).unwrap().start(Box::new(Ear::default())).unwrap();
        done(&store, vec![retain(&store, "t", b"1")]);
        store.stop();
    }
}

#[test]
fn a_clean_stop_leaves_everything_in_the_tables() {
    let mut run = Run::new(7, Durability::Sync, 0);
    let store = run.open().start(Box::new(Ear::default())).unwrap();
    for _ in 0..300 {
        let ops = run.step(&store);
        submit(&store, ops);
    }
    store.stop();
    let opened = run.open();
    assert_eq!(run.observed(opened.store()), run.model);
    assert!(opened.store().core.overlay.load(std::sync::atomic::Ordering::Relaxed) < 20_000);
}
