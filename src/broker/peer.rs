//! One connected client as the rest of the broker sees it: its socket to write to, its outbox, its sending state.
//!
//! Whoever has something for the client locks the state, appends to the outbox and touches the peer; the thread whose
//! turn it is writes (see [`super::turn`]). The connection's own task reads, and writes when the socket was full.

use super::feed::Feeder;
use super::listener::Door;
use super::outbox::Outbox;
use super::sending::State;
use super::subscriber::Subscriber;
use super::turn::{self, Inbox};
use crate::auth::Identity;
use crate::transport::{Socket, TlsInfo};
use nightjar_base::{ClientId, Position, Wall};
use nightjar_mqtt::{ReasonCode, Version};
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// The task is to look at why it was closed.
const CLOSED: u8 = 1;
/// The task is to wait until the socket takes bytes again.
const BLOCKED: u8 = 2;
/// A deadline may have passed.
const TIMER: u8 = 4;

/// Writes in one flush before the rest is left to the next turn.
const WRITES_A_FLUSH: usize = 3;

/// A connected client.
pub(crate) struct Peer {
    /// The subscriber's number in the router, unique in this process.
    pub(crate) id: u64,
    pub(crate) client_id: ClientId,
    pub(crate) version: Version,
    pub(crate) about: About,
    pub(crate) stream: Socket,
    /// The thread that the connection lives on.
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) feeder: Arc<Feeder>,
    pub(crate) subscriber: Weak<Subscriber>,
    state: Mutex<State>,
    /// PUBLISH packets received on this connection; written by its own task alone.
    received: AtomicU64,
    signals: AtomicU8,
    waker: Mutex<Option<Waker>>,
    gone: AtomicBool,
    gone_notify: Notify,
}

/// What is known of a connection besides its session: how it came in, and who is at the other end.
pub(crate) struct About {
    pub(crate) door: Door,
    /// What TLS found out.
    pub(crate) tls: Option<Box<TlsInfo>>,
    /// Who authenticated, and how.
    pub(crate) identity: Arc<Identity>,
    /// The keep alive in force, in seconds.
    pub(crate) keep_alive: u16,
    pub(crate) clean_start: bool,
    /// Whether there was a session to go on with.
    pub(crate) present: bool,
    /// The session expiry interval granted at CONNECT, in seconds.
    pub(crate) expiry: u32,
    /// The number under which the session is attached; 0 where there is nothing durable.
    pub(crate) epoch: u64,
    pub(crate) since: Wall,
}

/// Why the broker ends a connection, from outside the connection's own task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Another connection uses the client identifier [MQTT-3.1.4-3].
    TakenOver,
    /// The broker stops.
    ShuttingDown,
    /// The receiver's queue overflowed and its policy says so.
    QueueFull,
    /// More waits to be sent to it than one connection may hold.
    TooSlow,
    /// The client takes only packets that are smaller than what it must be sent.
    TooSmall,
    /// What is due to the client cannot be read from the store.
    StoreFailed,
    /// Its credentials do not stand any more.
    Revoked,
    /// Its credentials have expired.
    Expired,
    /// An operator wants it gone.
    Kicked,
    /// This node has lost touch with the cluster, and what waits for it cannot be acknowledged.
    CutOff,
    /// This node is being emptied: the client is to use another one.
    Moved,
}

impl Close {
    /// The reason code that a v5 client is told.
    pub(crate) fn reason(self) -> ReasonCode {
        match self {
            Self::TakenOver => ReasonCode::SessionTakenOver,
            Self::ShuttingDown => ReasonCode::ServerShuttingDown,
            Self::QueueFull | Self::TooSlow => ReasonCode::QuotaExceeded,
            Self::TooSmall => ReasonCode::PacketTooLarge,
            Self::StoreFailed => ReasonCode::UnspecifiedError,
            Self::Revoked => ReasonCode::NotAuthorized,
            Self::Expired => ReasonCode::MaximumConnectTime,
            Self::Kicked => ReasonCode::AdministrativeAction,
            Self::CutOff => ReasonCode::ServerBusy,
            Self::Moved => ReasonCode::UseAnotherServer,
        }
    }
}

impl Peer {
    #[allow(clippy::too_many_arguments, reason = "the parts of a peer meet here, once")]
    pub(crate) fn new(
        id: u64,
        client_id: ClientId,
        version: Version,
        about: About,
        stream: Socket,
        inbox: Arc<Inbox>,
        feeder: Arc<Feeder>,
        subscriber: &Arc<Subscriber>,
        state: State,
    ) -> Self {
        Self {
            id,
            client_id,
            version,
            about,
            stream,
            inbox,
            feeder,
            subscriber: Arc::downgrade(subscriber),
            state: Mutex::new(state),
            received: AtomicU64::new(0),
            signals: AtomicU8::new(0),
            waker: Mutex::new(None),
            gone: AtomicBool::new(false),
            gone_notify: Notify::new(),
        }
    }

    /// The sending state. Never held over a system call or an `await`.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Counts one PUBLISH of the client. Called by the connection's task alone: no locked instruction is needed.
    #[inline]
    pub(crate) fn count_received(&self) {
        self.received.store(self.received.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// PUBLISH packets received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Sees to it that what was appended under `state` is written at the end of this thread's turn.
    #[inline]
    pub(crate) fn schedule(self: &Arc<Self>, state: &mut State) {
        if !state.scheduled {
            state.scheduled = true;
            turn::touch(self);
        }
    }

    /// Asks the connection's task to close, once.
    pub(crate) fn close(&self, close: Close) {
        self.state.lock().close.get_or_insert(close);
        self.signal(CLOSED);
    }

    /// The state asks for the end itself: wakes the task that sees to it.
    pub(crate) fn close_now(&self) {
        self.signal(CLOSED);
    }

    /// A deadline of this connection may have passed: its task is to look.
    pub(crate) fn timer(&self) {
        self.signal(TIMER);
    }

    fn signal(&self, signal: u8) {
        self.signals.fetch_or(signal, Ordering::AcqRel);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Called by the connection's task alone: what it was woken for. `Pending` leaves its waker behind.
    pub(crate) fn poll_signals(&self, context: &Context<'_>) -> Signals {
        {
            let mut waker = self.waker.lock();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        Signals(self.signals.fetch_and(BLOCKED, Ordering::AcqRel))
    }

    /// Waits until a socket that was full takes bytes, and writes what waits. Called by the connection's task alone.
    pub(crate) fn poll_unblock(self: &Arc<Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.stream.poll_write_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => {
                    self.signals.fetch_and(!BLOCKED, Ordering::AcqRel);
                    let mut state = self.state.lock();
                    state.blocked = false;
                    if ready.is_err() {
                        state.broken = true;
                        return Poll::Ready(());
                    }
                    drop(state);
                    self.flush();
                    if !self.state.lock().blocked {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Writes what waits in the outbox, as far as the socket takes it.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.scheduled = false;
        if state.writing || state.blocked || state.broken {
            return;
        }
        for _ in 0..WRITES_A_FLUSH {
            // What a layer took and could not write yet goes first, if it is all that waits.
            if state.outbox.is_empty() && !self.stream.holds_back() {
                break;
            }
            let mut batch = std::mem::take(&mut state.outbox);
            state.writing = true;
            drop(state);
            let result = self.write(&mut batch);
            state = self.state.lock();
            state.writing = false;
            match result {
                Ok(()) => batch.recycle(),
                Err(error) => {
                    batch.compact();
                    let later = std::mem::replace(&mut state.outbox, batch);
                    state.outbox.append(later);
                    let signals = if state.is_overfull() {
                        state.close.get_or_insert(Close::TooSlow);
                        BLOCKED | CLOSED
                    } else {
                        BLOCKED
                    };
                    if error.kind() == io::ErrorKind::WouldBlock {
                        state.blocked = true;
                        state.blocked_since = None;
                    } else {
                        state.broken = true;
                    }
                    drop(state);
                    self.signal(signals);
                    return;
                }
            }
        }
        if !state.outbox.is_empty() {
            self.schedule(&mut state);
        } else if state.wants_feed() {
            super::feed::request(self, &mut state);
        }
    }

    fn write(&self, batch: &mut Outbox) -> io::Result<()> {
        while !batch.is_empty() {
            let count = match batch.plain() {
                Some(bytes) => self.stream.try_write(bytes)?,
                None => self.stream.try_write_vectored(&batch.slices())?,
            };
            super::stats::add(|s| &s.bytes_sent, count as u64);
            batch.advance(count);
        }
        self.stream.try_flush()
    }

    /// Reads what has come into `buffer`; `Ok(0)` is the end of the stream.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }

    /// The connection is over and its task has done all that follows from it.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.gone_notify.notify_waiters();
    }

    /// Closes the socket now, even if somebody else still holds the peer.
    pub(crate) fn shut(self: &Arc<Self>) {
        if Arc::strong_count(self) > 1 {
            self.stream.shutdown();
        }
    }

    /// Waits until [`Self::set_gone`] was called.
    pub(crate) async fn wait_gone(&self) {
        loop {
            let notified = self.gone_notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.gone.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }
}

/// What a connection's task was woken for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals(u8);

impl Signals {
    pub(crate) fn closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn blocked(self) -> bool {
        self.0 & BLOCKED != 0
    }

    pub(crate) fn timer(self) -> bool {
        self.0 & TIMER != 0
    }
}

impl crate::store::Waiter for Peer {
    /// What waited for `position` is durable: the acknowledgements go out.
    fn durable(self: Arc<Self>, position: Position) {
        let mut state = self.lock();
        if state.release(position) {
            self.schedule(&mut state);
        }
        if state.wants_feed() {
            super::feed::request(&self, &mut state);
        }
    }
}
