//! Feeding a connection from its session's queue when it is behind, and from the retained messages.
//!
//! What lies in memory is read on the connection's own thread. What has to come from the store is read by the *feeder*,
//! a thread of its own, so that no loop ever waits for a disk. A connection is fed by one of them at a time: `feeding`
//! is set under its lock meanwhile, and whatever is applied in between only marks it as lagging.

use super::peer::Peer;
use super::replay::Step;
use super::sending::{Fed, State};
use super::{Broker, turn};
use nightjar_base::{SessionId, ShardId};
use nightjar_shard::{Entry, Op};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries and bytes read at a time.
const PAGE_ENTRIES: usize = 256;
const PAGE_BYTES: usize = 256 * 1024;

/// The connections that wait for the feeder: at most one place for each.
#[derive(Default)]
pub(crate) struct Feeder {
    queue: Mutex<(VecDeque<Arc<Peer>>, bool)>,
    wake: Condvar,
}

impl Feeder {
    fn push(&self, peer: &Arc<Peer>) {
        self.queue.lock().0.push_back(Arc::clone(peer));
        self.wake.notify_one();
    }

    /// The next connection; `None` when the broker stops.
    fn next(&self) -> Option<Arc<Peer>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.1 {
                return None;
            }
            if let Some(peer) = queue.0.pop_front() {
                return Some(peer);
            }
            self.wake.wait(&mut queue);
        }
    }

    /// Lets the feeder's thread end.
    pub(crate) fn stop(&self) {
        self.queue.lock().1 = true;
        self.wake.notify_all();
    }
}

/// Puts `peer` before the feeder, unless somebody feeds it already.
pub(crate) fn request(peer: &Arc<Peer>, state: &mut State) {
    if !state.feeding {
        state.feeding = true;
        peer.feeder.push(peer);
    }
}

/// Feeds `peer` from memory, as far as its window allows; leaves the rest to the feeder.
pub(crate) fn feed(broker: &Broker, peer: &Arc<Peer>) {
    loop {
        let mut state = peer.lock();
        if state.is_over() || state.feeding {
            return;
        }
        let Some((shard, session)) = state.session.filter(|_| state.lagging && state.has_room()) else {
            if state.wants_feed() {
                request(peer, &mut state);
            }
            return;
        };
        let (from, most) = begin(&mut state);
        drop(state);
        let mut page = Vec::new();
        let read = {
            let shard = broker.store.lock(shard);
            let end = shard.page_from_memory(session, from, most, PAGE_BYTES, &mut page);
            end.map(|end| (end, shard.session(session).map_or(end, nightjar_shard::Session::next_sequence)))
        };
        let Some((end, next)) = read else {
            let mut state = peer.lock();
            state.lagging = true;
            state.feeding = false;
            request(peer, &mut state);
            return;
        };
        send_page(broker, peer, (shard, session), &page, end, next);
    }
}

/// From here on others only mark the connection as lagging. Returns the sequence to go on from, and for how many
/// entries there is room.
fn begin(state: &mut State) -> (u64, usize) {
    state.lagging = false;
    state.feeding = true;
    (state.out.next(), state.out.room().min(PAGE_ENTRIES))
}

/// Sends what was read of the queue. `end` is the sequence behind the page, `next` the one behind the queue.
fn send_page(
    broker: &Broker,
    peer: &Arc<Peer>,
    (shard, session): (ShardId, SessionId),
    page: &[Entry],
    end: u64,
    next: u64,
) {
    let now = broker.clock.now();
    let mut done = Vec::new();
    let mut state = peer.lock();
    let mut whole = true;
    for entry in page {
        match state.feed(entry, now) {
            Fed::Sent => {}
            Fed::Done => done.push(entry.sequence),
            Fed::Later => {
                whole = false;
                break;
            }
        }
    }
    if whole {
        state.out.skip_to(end);
    }
    state.lagging |= !whole || end < next;
    state.feeding = false;
    if !state.outbox.is_empty() {
        peer.schedule(&mut state);
    }
    drop(state);
    if !done.is_empty() {
        broker.store.submit(&mut vec![(shard, Op::Acknowledge { session, sequences: done })], None);
    }
}

/// The feeder's thread.
pub(crate) fn run(broker: &Broker) {
    super::stats::enter(broker.board.join());
    while let Some(peer) = broker.feeder.next() {
        step(broker, &peer);
        turn::flush();
        let mut state = peer.lock();
        let waits = |state: &State| {
            let applied = broker.store.applied();
            !state.lagging && !state.has_waiting() && !state.replays.iter().any(|replay| replay.is_ready(applied))
        };
        if state.wants_feed() && !waits(&state) {
            request(&peer, &mut state);
        }
    }
}

/// One step for one connection: a page of its queue, or of its retained messages.
fn step(broker: &Broker, peer: &Arc<Peer>) {
    let mut state = peer.lock();
    if state.is_over() {
        state.feeding = false;
        state.replays.clear();
        return;
    }
    if state.has_waiting() && state.pump(broker.clock.now()) {
        peer.schedule(&mut state);
    }
    if let Some(session) = state.session.filter(|_| state.lagging && state.has_room()) {
        let (from, most) = begin(&mut state);
        drop(state);
        return read_page(broker, peer, session, from, most);
    }
    let Some(mut replay) = state.replays.pop_front() else {
        state.feeding = false;
        return;
    };
    state.stepping = Some(Arc::clone(replay.filter()));
    drop(state);
    let step = replay.step(broker, peer);
    let mut state = peer.lock();
    state.feeding = false;
    let replaced = state.stepping.take().is_none();
    match step {
        _ if state.is_over() || replaced => {}
        Step::Finished => {}
        Step::More => state.replays.push_front(replay),
        // Others may have their turn while this one waits.
        Step::Wait => state.replays.push_back(replay),
    }
    state.end_replays();
}

/// A page of the queue, from the store.
fn read_page(broker: &Broker, peer: &Arc<Peer>, (shard, session): (ShardId, SessionId), from: u64, most: usize) {
    let mut page = Vec::new();
    let (end, next) = {
        let shard = broker.store.lock(shard);
        let end = shard.page(broker.store.tables(), session, from, most, PAGE_BYTES, &mut page);
        (end, shard.session(session).map_or(0, nightjar_shard::Session::next_sequence))
    };
    match end {
        Ok(end) => send_page(broker, peer, (shard, session), &page, end, next),
        Err(error) => {
            // Never pass over what cannot be read: the session stays as it is, its client is told to come again.
            tracing::error!(%error, client = %crate::telemetry::escape(&peer.client_id), "a queue cannot be read");
            peer.lock().feeding = false;
            peer.close(super::peer::Close::StoreFailed);
        }
    }
}
