//! What belongs to one thread's turn of its loop: the clients that were written to, and buffers for it.
//!
//! A delivery only appends to the receiver's outbox and notes the receiver here. At the end of the turn everything
//! that was noted is written, one system call per receiver, whichever thread the receiver lives on. When very many
//! were touched in one turn, those of other threads are handed over to be written there.

use super::peer::Peer;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// From this many touched peers on, those of other threads are handed over.
const HAND_OVER_FROM: usize = 32;
/// Buffers kept for reuse, and the largest that is kept.
const POOL_SIZE: usize = 64;
const POOL_BUFFER: usize = 64 * 1024;

/// Where other threads leave the peers of one thread that are to be written.
#[derive(Default)]
pub(crate) struct Inbox {
    handed_over: Mutex<Vec<Arc<Peer>>>,
    flusher: Mutex<Option<Waker>>,
}

impl Inbox {
    fn take_over(&self, peers: Vec<Arc<Peer>>) {
        self.handed_over.lock().extend(peers);
        if let Some(waker) = &*self.flusher.lock() {
            waker.wake_by_ref();
        }
    }
}

#[derive(Default)]
struct Turn {
    touched: Vec<Arc<Peer>>,
    pool: Vec<Vec<u8>>,
    inbox: Option<Arc<Inbox>>,
}

thread_local! {
    static TURN: RefCell<Turn> = RefCell::default();
}

/// A buffer from this thread's pool.
pub(crate) fn buffer() -> Vec<u8> {
    TURN.with(|turn| turn.borrow_mut().pool.pop()).unwrap_or_else(|| Vec::with_capacity(512))
}

/// Gives a buffer back to this thread's pool.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > POOL_BUFFER {
        return;
    }
    buffer.clear();
    TURN.with(|turn| {
        let pool = &mut turn.borrow_mut().pool;
        if pool.len() < POOL_SIZE {
            pool.push(buffer);
        }
    });
}

/// Notes that `peer` has something to be written at the end of this turn. The caller has set its `scheduled` mark.
pub(crate) fn touch(peer: &Arc<Peer>) {
    TURN.with(|turn| {
        let mut turn = turn.borrow_mut();
        turn.touched.push(Arc::clone(peer));
        if turn.touched.len() == 1
            && let Some(inbox) = &turn.inbox
            && let Some(waker) = &*inbox.flusher.lock()
        {
            waker.wake_by_ref();
        }
    });
}

/// Writes what this thread has touched. Threads without a loop call it when they have done a piece of work.
///
/// Each peer is written once: one that is fed as fast as it is written does not keep the thread. It is touched again
/// meanwhile, and so comes in the next turn, or goes to its own thread where this one has no turns.
pub(crate) fn flush() {
    let mut touched = TURN.with(|turn| std::mem::take(&mut turn.borrow_mut().touched));
    if touched.len() > HAND_OVER_FROM {
        touched = hand_over(touched);
    }
    for peer in touched.drain(..) {
        peer.flush();
    }
    let left = TURN.with(|turn| {
        let mut turn = turn.borrow_mut();
        if turn.touched.is_empty() {
            turn.touched = touched;
        } else if turn.inbox.is_none() {
            return std::mem::take(&mut turn.touched);
        }
        Vec::new()
    });
    if !left.is_empty() {
        hand_over(left);
    }
}

/// Hands the peers of other threads over to them; what is left is this thread's own.
fn hand_over(touched: Vec<Arc<Peer>>) -> Vec<Arc<Peer>> {
    let own = TURN.with(|turn| turn.borrow().inbox.clone());
    let is_own = |peer: &Arc<Peer>| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, &peer.inbox));
    let (mine, others): (Vec<_>, Vec<_>) = touched.into_iter().partition(is_own);
    let mut others = others;
    while let Some(inbox) = others.first().map(|peer| Arc::clone(&peer.inbox)) {
        let (theirs, rest) = others.into_iter().partition(|peer: &Arc<Peer>| Arc::ptr_eq(&inbox, &peer.inbox));
        inbox.take_over(theirs);
        others = rest;
    }
    mine
}

/// The task that ends each turn of a loop thread: it is woken by the first touch, and since it then stands behind the
/// tasks that are ready, it runs once all of them have had their turn.
pub(crate) async fn flusher(inbox: Arc<Inbox>) {
    TURN.with(|turn| turn.borrow_mut().inbox = Some(Arc::clone(&inbox)));
    poll_fn(|context| {
        {
            let mut waker = inbox.flusher.lock();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        let handed_over = std::mem::take(&mut *inbox.handed_over.lock());
        for peer in handed_over {
            peer.flush();
        }
        flush();
        Poll::<()>::Pending
    })
    .await;
}
