//! The deadlines of one thread's connections, without a timer each.
//!
//! A connection notes when it wants to be looked at. It need not take the note back when its deadline moves: when it
//! is looked at too early, it notes the new deadline. So a packet costs nothing here, and a connection at most one
//! note per keep alive.

use super::peer::Peer;
use crate::env::clock::Clock;
use crate::env::task;
use nightjar_base::Tick;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// How finely deadlines are told apart, in milliseconds.
const GRAIN: u64 = 100;

thread_local! {
    static NOTES: RefCell<BTreeMap<(u64, u64), Arc<Peer>>> = const { RefCell::new(BTreeMap::new()) };
    /// The slot that the task sleeps for.
    static NEXT: Cell<u64> = const { Cell::new(u64::MAX) };
    /// There is one before that.
    static EARLIER: Arc<Notify> = Arc::default();
}

/// Notes that `peer` is to be looked at at `deadline`, up to [`GRAIN`] later. Returns the note's slot.
pub(crate) fn note(peer: &Arc<Peer>, deadline: Tick) -> u64 {
    let slot = deadline.0.div_ceil(GRAIN);
    NOTES.with(|notes| notes.borrow_mut().insert((slot, peer.id), Arc::clone(peer)));
    if slot < NEXT.get() {
        EARLIER.with(|earlier| earlier.notify_one());
    }
    slot
}

/// Takes back the note in `slot`.
pub(crate) fn forget(peer: &Peer, slot: u64) {
    NOTES.with(|notes| notes.borrow_mut().remove(&(slot, peer.id)));
}

/// The task that looks at this thread's connections when their time has come. As long as there is nothing to look at, it
/// sleeps.
pub(crate) async fn turn(clock: Clock) {
    let earlier = EARLIER.with(Arc::clone);
    loop {
        let next = NOTES.with(|notes| notes.borrow().keys().next().map(|(slot, _)| *slot));
        NEXT.set(next.unwrap_or(u64::MAX));
        tokio::select! {
            () = earlier.notified() => continue,
            () = task::sleep_until(clock.tick(), Tick(next.unwrap_or(0) * GRAIN)), if next.is_some() => {}
        }
        let past = clock.tick().0 / GRAIN;
        let due = NOTES.with(|notes| {
            let mut notes = notes.borrow_mut();
            let later = notes.split_off(&(past + 1, 0));
            std::mem::replace(&mut *notes, later)
        });
        for peer in due.into_values() {
            peer.timer();
        }
    }
}
