//! What clients were told, and when: what the checker holds the cluster to.
//!
//! Events are numbered as they happen, which one thread sees to. What is wrong at the moment at which it happens is noted at
//! once; what can only be seen at the end is for `check`.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Lines of the story that are kept for a failure.
const STORY: usize = 4_000;

/// A publication: who published it, and its number among all of that client's.
pub(super) type Publication = (usize, u64);

/// What is known of a publication.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) topic: usize,
    pub(super) exactly_once: bool,
    pub(super) retain: bool,
    /// When it was first and last routed.
    pub(super) began: u64,
    pub(super) again: u64,
    pub(super) acknowledged: bool,
}

/// What a client has, and was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What it was sent: by sequence.
    pub(super) seen: BTreeMap<u64, Publication>,
    /// Sequences of which PUBREL was sent: durable is that they were received.
    pub(super) received: BTreeSet<u64>,
    /// Sequences that are done with, durably.
    pub(super) done: BTreeSet<u64>,
    /// Topics that it is certainly subscribed to: from when on, and until when.
    pub(super) subscribed: Vec<(usize, u64, Option<u64>)>,
    /// The connection that was let in last.
    pub(super) newest: u64,
}

#[derive(Default)]
struct State {
    now: u64,
    published: BTreeMap<Publication, Published>,
    clients: Vec<Told>,
    violations: Vec<String>,
    story: VecDeque<String>,
    counts: Counts,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) published: u64,
    pub(super) connected: u64,
    pub(super) subscribed: u64,
    pub(super) delivered: u64,
}

/// The ledger of one run.
pub(super) struct Ledger(Mutex<State>);

impl State {
    fn event(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn violation(&mut self, what: String) {
        self.story.push_back(format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// What is done for a client by a connection that another has taken the place of is wrong.
    fn check_newest(&mut self, client: usize, connection: u64, what: &str) {
        let newest = self.clients[client].newest;
        if connection < newest {
            self.violation(format!("client {client}: {what} by connection {connection}, after {newest} was let in"));
        }
    }
}

impl Ledger {
    pub(super) fn new(clients: usize) -> Self {
        let clients = (0..clients).map(|_| Told::default()).collect();
        Self(Mutex::new(State { clients, ..State::default() }))
    }

    /// A line of the story.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let mut state = self.0.lock();
        let line = format!("{:6} {}", state.now, line());
        if state.story.len() == STORY {
            state.story.pop_front();
        }
        state.story.push_back(line);
    }

    pub(super) fn violation(&self, what: String) {
        self.0.lock().violation(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.0.lock().violations.clone()
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.0.lock().story.iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// A publication is routed now, for the first time or again.
    pub(super) fn routed(&self, publication: Publication, topic: usize, exactly_once: bool, retain: bool) {
        let mut state = self.0.lock();
        let now = state.event();
        state.counts.published += 1;
        let fresh = Published { topic, exactly_once, retain, began: now, again: now, acknowledged: false };
        state.published.entry(publication).or_insert(fresh).again = now;
    }

    /// PUBACK or PUBREC of it was sent.
    pub(super) fn acknowledged(&self, publication: Publication, connection: u64) {
        let mut state = self.0.lock();
        state.event();
        state.counts.acknowledged += 1;
        state.check_newest(publication.0, connection, &format!("{publication:?} was acknowledged"));
        if let Some(published) = state.published.get_mut(&publication) {
            published.acknowledged = true;
        }
    }

    /// CONNACK was sent to the `connection`th of all.
    pub(super) fn let_in(&self, client: usize, connection: u64) {
        let mut state = self.0.lock();
        state.event();
        state.counts.connected += 1;
        state.check_newest(client, connection, "was let in");
        let newest = &mut state.clients[client].newest;
        *newest = connection.max(*newest);
    }

    /// SUBACK was sent.
    pub(super) fn subscribed(&self, client: usize, topic: usize, connection: u64) {
        let mut state = self.0.lock();
        let now = state.event();
        state.counts.subscribed += 1;
        state.check_newest(client, connection, "was told of a subscription");
        let known = &mut state.clients[client].subscribed;
        if !known.iter().any(|(of, _, until)| *of == topic && until.is_none()) {
            known.push((topic, now, None));
        }
    }

    /// From now on it may not be subscribed to it.
    pub(super) fn unsubscribes(&self, client: usize, topic: usize) {
        let mut state = self.0.lock();
        let now = state.event();
        for (of, _, until) in &mut state.clients[client].subscribed {
            if *of == topic && until.is_none() {
                *until = Some(now);
            }
        }
    }

    /// PUBLISH was sent to a client.
    pub(super) fn sent(&self, client: usize, sequence: u64, publication: Publication, connection: u64) {
        let mut state = self.0.lock();
        state.event();
        state.counts.delivered += 1;
        state.check_newest(client, connection, "was sent a message");
        let told = &mut state.clients[client];
        let is_over = told.received.contains(&sequence) || told.done.contains(&sequence);
        let before = told.seen.insert(sequence, publication);
        if is_over {
            state.violation(format!("client {client}: {sequence} was sent again, though it was done with"));
        }
        if let Some(before) = before.filter(|before| *before != publication) {
            state.violation(format!("client {client}: {sequence} was {before:?}, and is {publication:?}"));
        }
    }

    /// Entries of its queue are durably received, or done with.
    pub(super) fn over(&self, client: usize, sequences: &[u64], is_done: bool) {
        let mut state = self.0.lock();
        state.event();
        let line =
            format!("{:6} client {client}: {sequences:?} {}", state.now, if is_done { "done" } else { "received" });
        state.story.push_back(line);
        let told = &mut state.clients[client];
        if is_done { told.done.extend(sequences) } else { told.received.extend(sequences) }
    }

    /// For the checker.
    pub(super) fn read<T>(&self, work: impl FnOnce(&BTreeMap<Publication, Published>, &[Told]) -> T) -> T {
        let state = self.0.lock();
        work(&state.published, &state.clients)
    }
}
