//! One connection's task: reads, decodes all that one read brought, acts on it, and gathers what follows.
//!
//! Everything between two waits is synchronous: packets become ops, acknowledgements and deliveries, and at the end of
//! a read the ops are submitted at once and the acknowledgements appended, now or when their ops are durable.

use super::authenticate::Renewal;
use super::farewell::{discard, drain};
use super::limits::Limits;
use super::peer::{Close, Peer};
use super::people::{Share, Throttle};
use super::publish::RouteCache;
use super::replay::Replay;
use super::sending::{self, Pending};
use super::subscribe::settle;
use super::subscriber::Subscriber;
use super::{Broker, feed, stats, trace};
use crate::env::task;
use crate::store::Waiter;
use crate::telemetry::escape;
use nightjar_base::{Position, SessionId, ShardId, Tick, Wall};
use nightjar_mqtt::{DecodeError, ReasonCode, Version, frame};
use nightjar_session::{Inbound, KeepAlive};
use nightjar_shard::{Op, Will};
use std::cell::RefCell;
use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes read at a time, into a buffer that all connections of a thread share.
const READ: usize = 64 * 1024;
/// Reads before other connections get their turn.
const READS_A_TURN: usize = 4;
/// Packets of one read after which its turn is over: a read can hold very many small ones.
const PACKETS_A_TURN: u64 = 1000;
/// How long a publisher of durable messages is not read while the store is behind.
const CONGESTION_PAUSE: Duration = Duration::from_millis(5);
/// How long the last bytes to a client may take once its connection ends.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    pub(super) static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// The connection's durable side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    /// Whether subscriptions and queue are durable; if not, only the will is.
    pub(crate) queue: bool,
}

/// An acknowledgement of this read, and whether it must wait for the ops of this read.
pub(crate) struct Ack {
    pub(crate) durable: bool,
    pub(crate) pending: Pending,
}

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) broker: Arc<Broker>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) subscriber: Arc<Subscriber>,
    pub(crate) durable: Option<Durable>,
    /// The session expiry interval in force, in seconds.
    pub(crate) expiry: u32,
    /// The one that a v5 client asked for at CONNECT.
    pub(crate) connect_expiry: u32,
    pub(crate) inbound: Inbound,
    pub(crate) routes: RouteCache,
    pub(crate) ops: Vec<(ShardId, Op)>,
    pub(crate) acks: Vec<Ack>,
    /// Submitted ahead of this read's ops; its acknowledgements wait for it too.
    pub(crate) waits_for: Option<Position>,
    /// Replays that this read's SUBSCRIBE packets asked for.
    pub(crate) new_replays: Vec<Replay>,
    /// What it published went to the store: it is not read while the store is behind.
    pub(crate) fills_store: bool,
    /// The time of this read.
    pub(crate) now: Wall,
    /// The client has acknowledged something in this read.
    pub(crate) opened: bool,
    pub(crate) partial: Vec<u8>,
    pub(crate) partial_since: Option<Tick>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) keep_alive: KeepAlive,
    /// The slot of this connection's note in the wheel.
    pub(crate) noted: Option<u64>,
    pub(crate) will: Option<Will>,
    /// What it may cost; what CONNACK has promised stays as it was.
    pub(crate) limits: Arc<Limits>,
    pub(crate) throttle: Option<Box<Throttle>>,
    /// Its share of its user's connections.
    pub(crate) share: Option<Box<Share<Arc<str>>>>,
    pub(crate) credentials_expire: Option<Wall>,
    /// What an enhanced authentication goes on with.
    pub(crate) renewal: Option<Box<Renewal>>,
    /// It has subscribed in this read: that is to be known to all nodes before it is acknowledged.
    pub(crate) settles: bool,
    /// QoS 2 messages of earlier connections of which nobody knows whether all shards have them.
    #[allow(clippy::box_collection, reason = "seldom there")]
    pub(crate) unsure: Option<Box<HashSet<u16>>>,
    /// It is a bridge, of our own or of another broker; and whether it said so by the flag of bridges.
    pub(crate) is_link: bool,
    pub(crate) is_flagged: bool,
    /// The last read brought so many packets that others have their turn first.
    pub(crate) many: bool,
    /// It has had its turn, and others have not since.
    pub(crate) had_turn: bool,
    /// All that follows from its end is done.
    pub(crate) left: bool,
    /// Until when it is not read because the store is behind.
    pub(crate) congested: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// How a connection came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// DISCONNECT without will.
    Disconnected,
    /// DISCONNECT 0x04: the will is to be published.
    WithWill,
    /// The stream ended without DISCONNECT.
    Closed,
    Io(io::Error),
    Decode(DecodeError),
    /// The client did what it may not.
    Violation(ReasonCode, &'static str),
    KeepAlive,
    PacketTimeout,
    WriteTimeout,
    Told(Close),
    /// Its code failed.
    Panicked,
}

impl End {
    /// What a v5 client is told [MQTT-4.13.1-1].
    fn reason(&self) -> Option<ReasonCode> {
        match self {
            Self::Disconnected | Self::WithWill | Self::Closed | Self::Io(_) | Self::WriteTimeout => None,
            Self::Decode(error) => Some(error.reason),
            Self::Violation(reason, _) => Some(*reason),
            Self::KeepAlive => Some(ReasonCode::KeepAliveTimeout),
            Self::PacketTimeout => Some(ReasonCode::MaximumConnectTime),
            Self::Told(close) => Some(close.reason()),
            Self::Panicked => Some(ReasonCode::UnspecifiedError),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Disconnected => "client disconnected".into(),
            Self::WithWill => "client disconnected, with will".into(),
            Self::Closed => "closed by the client without DISCONNECT".into(),
            Self::Io(error) => format!("socket: {error}"),
            Self::Decode(error) => error.to_string(),
            Self::Violation(reason, what) => format!("{what} (0x{:02x})", reason.as_u8()),
            Self::KeepAlive => "no packet for one and a half keep alives".into(),
            Self::PacketTimeout => "one packet took too long to arrive".into(),
            Self::WriteTimeout => "the client read nothing for too long".into(),
            Self::Panicked => "a fault in the broker".into(),
            Self::Told(Close::TakenOver) => "another connection took over the client id".into(),
            Self::Told(Close::ShuttingDown) => "the broker stops".into(),
            Self::Told(Close::QueueFull) => "its queue was full".into(),
            Self::Told(Close::TooSlow) => "too much waited to be sent to it".into(),
            Self::Told(Close::TooSmall) => "its maximum packet size is too small for CONNACK".into(),
            Self::Told(Close::StoreFailed) => "its queue cannot be read".into(),
            Self::Told(Close::Revoked) => "its credentials do not stand any more".into(),
            Self::Told(Close::Expired) => "its credentials have expired".into(),
            Self::Told(Close::Kicked) => "disconnected by an operator".into(),
            Self::Told(Close::CutOff) => "this node cannot reach the rest of the cluster".into(),
            Self::Told(Close::Moved) => "this node is being drained".into(),
        }
    }
}

/// Whatever ends the task, a panic or the end of its thread: the connection leaves as it should.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.left {
            let end = if self.broker.is_stopping() { End::Told(Close::ShuttingDown) } else { End::Panicked };
            tracing::warn!(client = %escape(&self.peer.client_id), reason = end.in_words(), "cut off");
            self.leave(&end);
        }
        self.peer.shut();
    }
}

enum Event {
    Readable,
    Timer,
    Closed,
}

impl Connection {
    /// Lives until the connection ends, then does all that follows from its end.
    pub(crate) async fn run(mut self: Box<Self>) {
        let end = self.live().await;
        Box::pin(self.farewell(&end)).await;
        self.leave(&end);
        self.left = true;
        if trace::on() {
            trace::disconnected(self.broker.clock.now(), &self.peer, end.in_words());
        }
        tracing::info!(
            client = %escape(&self.peer.client_id), address = %self.peer.about.door.remote, listener = %self.peer.about.door.at.name,
            version = self.peer.version as u8, reason = %escape(&end.in_words()), "disconnected"
        );
        if self.lingers(&end) {
            // In vain: the client does not close. It had its time.
            let _ = Box::pin(task::timeout(FAREWELL, discard(Arc::clone(&self.peer)))).await;
        }
    }

    /// Whether the client is given the time to read why it is cut off. A socket that is closed with bytes unread, or that
    /// gets more afterwards, is reset, and the reset may take the DISCONNECT from the client.
    fn lingers(&self, end: &End) -> bool {
        matches!(end, End::Violation(..) | End::Decode(_)) && self.peer.version == Version::V5
    }

    async fn live(&mut self) -> End {
        // A reload that came while it was let in may have ended it already.
        let told = self.peer.lock().close;
        if let Some(close) = told.filter(|close| !matches!(close, Close::TakenOver | Close::ShuttingDown)) {
            return End::Told(close);
        }
        // What came behind CONNECT in the same read.
        let rest = std::mem::take(&mut self.partial);
        if let Err(end) = self.take(&rest) {
            return end;
        }
        self.note_deadline();
        loop {
            let result = match poll_fn(|context| self.poll_event(context)).await {
                Event::Readable => self.read().map(|()| self.note_unfinished()),
                Event::Timer => self.check_deadlines(),
                Event::Closed => self.told().and(Err(self.peer.lock().close.map_or(End::Closed, End::Told))),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    /// What the client sent before its next connection took over was sent to be handled.
    fn told(&mut self) -> Result<(), End> {
        let close = self.peer.lock().close;
        if matches!(close, Some(Close::TakenOver | Close::ShuttingDown))
            && let Err(end @ (End::Disconnected | End::WithWill)) = self.read_last()
        {
            return Err(end);
        }
        // How else this read ended says nothing: the connection is over in any case.
        Ok(())
    }

    /// Takes what the socket holds, which the runtime may not have told of yet.
    fn read_last(&mut self) -> Result<(), End> {
        BUFFER.with(|buffer| {
            let buffer = &mut *buffer.borrow_mut();
            let count = self.peer.stream.try_read_unannounced(buffer).map_err(End::Io)?;
            self.take(&buffer[..count])
        })
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let signals = self.peer.poll_signals(context);
        if signals.closed() {
            return Poll::Ready(Event::Closed);
        }
        if signals.timer() {
            return Poll::Ready(Event::Timer);
        }
        if signals.blocked() && self.peer.poll_unblock(context).is_pending() && self.peer.lock().is_slow() {
            // Not even acknowledgements could be sent: the client is not read until it reads.
            return Poll::Pending;
        }
        if self.fills_store && self.congested.is_none() {
            self.fills_store = self.broker.store.congested() || self.broker.is_behind();
            if self.fills_store {
                self.congested = Some(Box::pin(task::sleep(CONGESTION_PAUSE)));
            }
        }
        if let Some(pause) = &mut self.congested {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.congested = None;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let ready = self.peer.stream.poll_read_ready(context).is_ready();
        if ready && !self.had_turn {
            self.had_turn = true;
            return Poll::Ready(Event::Readable);
        }
        if ready {
            // Who sends faster than we read is always readable: it waits behind all who are ready now.
            context.waker().wake_by_ref();
        }
        self.had_turn = false;
        Poll::Pending
    }

    fn read(&mut self) -> Result<(), End> {
        BUFFER.with(|buffer| {
            let buffer = &mut *buffer.borrow_mut();
            for _ in 0..READS_A_TURN {
                match self.peer.read(buffer) {
                    Ok(0) => return Err(End::Closed),
                    Ok(count) => {
                        stats::add(|s| &s.bytes_received, count as u64);
                        self.take(&buffer[..count])?;
                        if count < READ || self.many {
                            return Ok(());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(End::Io(error)),
                }
            }
            Ok(())
        })
    }

    /// What is on its way within a layer is a packet that is on its way.
    fn note_unfinished(&mut self) {
        if self.partial.is_empty() {
            let unfinished = self.peer.stream.is_unfinished();
            if unfinished && self.partial_since.is_none() {
                self.partial_since = Some(self.broker.clock.tick());
                self.note_deadline();
            } else if !unfinished {
                self.partial_since = None;
            }
        }
    }

    /// Takes what one read brought: all whole packets are handled, the rest is kept.
    fn take(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut whole = std::mem::take(&mut self.partial);
        let buffered = !whole.is_empty();
        if buffered {
            whole.extend_from_slice(bytes);
        }
        let input = if buffered { &whole[..] } else { bytes };
        let now = self.broker.clock.tick();
        let (taken, result) = self.handle_all(input);
        self.finish_read();
        let result = result.and_then(|()| self.throttle(now));
        if taken > 0 {
            self.keep_alive.packet(now);
            self.partial_since = None;
        }
        let rest = &input[taken..];
        if !rest.is_empty() {
            if self.partial_since.is_none() {
                self.partial_since = Some(now);
                self.note_deadline();
            }
            if buffered {
                whole.drain(..taken);
                self.partial = whole;
            } else {
                self.partial = rest.to_vec();
            }
        }
        result
    }

    /// Takes up what others have changed: subscriptions, rights, limits.
    #[inline]
    pub(crate) fn see_epoch(&mut self) {
        if self.routes.see_epoch(self.broker.epoch()) {
            self.see_limits();
        }
    }

    fn handle_all(&mut self, input: &[u8]) -> (usize, Result<(), End>) {
        self.see_epoch();
        self.now = self.broker.clock.now();
        let (version, max_packet) = (self.peer.version, self.limits.max_packet);
        let mut taken = 0;
        let mut packets = 0;
        let result = loop {
            match frame::peek(&input[taken..], max_packet, version) {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => {
                    taken += frame.size;
                    packets += 1;
                    if let Err(end) = self.handle(&frame) {
                        break Err(end);
                    }
                }
                Err(error) => break Err(End::Decode(error)),
            }
        };
        stats::add(|s| &s.packets_received, packets);
        self.many = packets > PACKETS_A_TURN;
        (taken, result)
    }

    /// Submits the ops of this read together, lines up its acknowledgements, and uses the room that it made.
    fn finish_read(&mut self) {
        if !self.ops.is_empty() || !self.acks.is_empty() {
            self.submit();
        }
        if std::mem::take(&mut self.opened) {
            self.window_opened();
        }
    }

    fn submit(&mut self) {
        let peer = &self.peer;
        let store = &self.broker.store;
        let settles = std::mem::take(&mut self.settles);
        let waits = settles || self.acks.iter().any(|ack| ack.durable) || !self.new_replays.is_empty();
        let waiter = waits.then(|| Arc::clone(peer) as Arc<dyn Waiter>);
        // Held over the submission, so that it cannot become durable before its acknowledgements are lined up.
        let mut state = peer.lock();
        let position = match waiter {
            waiter if !self.ops.is_empty() => Some(store.submit(&mut self.ops, waiter)),
            Some(waiter) => Some(store.barrier(waiter)),
            None => None,
        };
        self.waits_for = None;
        for ack in self.acks.drain(..) {
            let held = settles && matches!(ack.pending, Pending::Packet(_));
            let position = position.filter(|_| ack.durable || held);
            state.pend(position.map(|position| if held { sending::held(position) } else { position }), ack.pending);
        }
        if let (true, Some(position)) = (settles, position) {
            let replays = std::mem::take(&mut self.new_replays);
            task::spawn(settle(Arc::clone(&self.broker), Arc::clone(peer), position, replays));
        }
        for mut replay in self.new_replays.drain(..) {
            replay.wait_for(position.unwrap_or_default());
            state.replays.push_back(replay);
            self.opened = true;
        }
        if !state.outbox.is_empty() {
            peer.schedule(&mut state);
        }
    }

    /// Sends what may be sent now that the client has acknowledged something.
    pub(crate) fn window_opened(&mut self) {
        let mut state = self.peer.lock();
        if state.has_waiting() && state.pump(self.broker.clock.now()) {
            self.peer.schedule(&mut state);
        }
        if state.wants_feed() {
            drop(state);
            feed::feed(&self.broker, &self.peer);
        }
    }

    /// Tells a v5 client why, and gives the last bytes a chance to leave.
    async fn farewell(&mut self, end: &End) {
        let moved = matches!(end, End::Told(Close::Moved)).then(|| self.broker.farewell_elsewhere());
        {
            let mut state = self.peer.lock();
            if let Some(packet) = moved.filter(|packet| self.peer.version == Version::V5 && state.takes(packet.len())) {
                state.packet(&packet);
            } else if let (Some(reason), Version::V5, true) = (end.reason(), self.peer.version, state.takes(3)) {
                state.packet(&[0xe0, 1, reason.as_u8()]);
            }
            // Nothing follows DISCONNECT [MQTT-3.14.4-1].
            state.closed = true;
        }
        if !matches!(end, End::Io(_) | End::WriteTimeout) {
            // In vain: the client does not read. It is not owed more.
            let _ = task::timeout(FAREWELL, drain(Arc::clone(&self.peer))).await;
        }
        if self.lingers(end) {
            self.peer.stream.finish();
        }
    }
}
