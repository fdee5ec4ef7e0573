//! The time while both connections are there: bytes go through the splice, keep alives are kept, events are seen to.

use super::Plan;
use super::link::Order;
use super::meet::FAR;
use super::meet::state_message;
use super::splice::{Broken, Buffers, Event, Splice, Why};
use super::status::{State, Status};
use super::wire::{Wire, WireError};
use crate::broker::Handle;
use crate::config::Mode;
use crate::env::clock::Clock;
use crate::env::task;
use crate::telemetry::{Repeats, escape};
use nightjar_base::{Tick, millis};
use nightjar_mqtt::{Message, Packet, PacketType, QoS, ReasonCode, SubAck, Unsubscribe, encode};
use nightjar_session::packet_id;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bytes that may wait for one side before the other is not read any more.
const HIGH: usize = 256 * 1024;
/// And at most, when both sides wait for each other.
const MOST: usize = 16 * HIGH;
/// From so many messages under way on, the remote has enough to do while nobody reads its acknowledgements: they are read
/// a while's worth at a time, not one by one, and the thread, which is the bridge's own, is not woken for each meanwhile.
const BUSY: usize = 128;
/// That while, at most and at least: it is as long as it takes for some acknowledgements to gather, and no longer, so that
/// a remote that is fast does not wait for us.
const LONGEST_REST: Duration = Duration::from_micros(1_000);
const SHORTEST_REST: Duration = Duration::from_micros(250);
/// Acknowledgements.
const FEW: usize = 32;
const MANY: usize = 128;
/// For how many milliseconds acknowledgements for this broker may be held back, for others to join them. Nobody waits for
/// them but the window, of which an eighth at most is held.
const HOLD: u64 = 1;
/// How often is looked whether a draining or lazy bridge is done.
const LOOK: u64 = 500;
/// Packet identifiers for the filters of the rules.
const OWN: u64 = 16_384;
/// Lines about messages that were not carried: one in this time, with a count.
const SELDOM: Duration = Duration::from_secs(10);

/// How it ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The connection was lost, or broken off.
    Lost(String),
    /// The remote closed it; whether it said why.
    Closed { why: String, spoken: bool },
    /// There is another order.
    Order,
    /// The first address is there again.
    Home,
    /// Nothing moved for long enough.
    Idle,
    /// Everything is out.
    Drained,
    /// The message that was sent alone has arrived: the others need not wait for each other.
    Cleared,
}

/// What the pump works with.
pub(super) struct Pump {
    pub(super) plan: Plan,
    pub(super) handle: Handle,
    pub(super) clock: Clock,
    pub(super) status: Arc<Status>,
    pub(super) client_id: String,
    pub(super) local: Wire,
    pub(super) remote: Wire,
    pub(super) splice: Splice,
    pub(super) out: Buffers,
    /// Milliseconds; 0 for none.
    pub(super) keep_alive: u64,
    /// The filters that were asked of the remote, by the packet identifiers that asked.
    pub(super) asked: Vec<(u16, Vec<String>)>,
    /// Filters that the remote was asked for no more, since it sent by them.
    pub(super) unsubscribed: u64,
    /// Whether this broker is asked for what is retained, and has not answered.
    pub(super) replays: bool,
    /// The state topic here, if it is told.
    pub(super) state_topic: Option<String>,
    /// Whether one message at a time is sent, since one is suspected.
    pub(super) alone: bool,
    /// Whether there is one that is not to be sent any more.
    pub(super) condemned: bool,
    pub(super) sent_at: Tick,
    pub(super) received_at: Tick,
    pub(super) moved_at: Tick,
    pub(super) pinged: bool,
    pub(super) looked_at: Tick,
    pub(super) quiet: Repeats,
    /// How many messages this broker sends at a time.
    pub(super) window: usize,
    pub(super) gather: Gather,
}

/// What is put off, so that one wake-up does for many messages.
#[derive(Debug)]
pub(super) struct Gather {
    /// The remote was read, and has enough to do.
    rests: bool,
    rest: Duration,
    /// Acknowledgements for this broker are held back until then.
    hold_until: Option<Tick>,
    /// Bytes of acknowledgements that are held back.
    held: usize,
}

/// What woke the pump.
enum Woken {
    Order,
    Home,
    Timer,
    Local(io::Result<()>),
    Remote(io::Result<()>),
    Written(io::Result<()>),
}

/// Bytes of a small message.
const SMALL: usize = 512;
/// Bytes of an acknowledgement.
const ACKNOWLEDGEMENT: usize = 4;

impl Default for Gather {
    fn default() -> Self {
        Self { rests: false, rest: LONGEST_REST, hold_until: None, held: 0 }
    }
}

impl Gather {
    /// The remote was read, and so many acknowledgements had come.
    fn rest(&mut self, acknowledgements: usize) {
        self.rests = true;
        if acknowledgements > MANY {
            self.rest = (self.rest / 2).max(SHORTEST_REST);
        } else if acknowledgements < FEW {
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
    }

    /// Something waits for this broker: acknowledgements, or messages that are not to wait.
    fn note(&mut self, bytes: usize, acknowledges: bool, now: Tick) {
        if acknowledges {
            self.hold_until.get_or_insert_with(|| now.plus_millis(HOLD));
            self.held += bytes;
        } else {
            self.let_go();
            self.held = usize::MAX;
        }
    }

    /// Whether what waits may wait longer, where `enough` bytes may not.
    fn holds(&self, enough: usize, now: Tick) -> bool {
        self.held < enough && self.hold_until.is_some_and(|until| now < until)
    }

    fn let_go(&mut self) {
        (self.hold_until, self.held) = (None, 0);
    }
}

impl Pump {
    pub(super) fn seldom() -> Repeats {
        Repeats::new(SELDOM)
    }

    /// Works until there is an end of it. `home` ends when the first address can be reached again.
    pub(super) async fn run(&mut self, orders: &mut watch::Receiver<Order>, home: impl Future<Output = ()>) -> Ending {
        tokio::pin!(home);
        // What came right behind CONNACK is there already.
        if let Err(ending) = self.take_remote().and_then(|()| self.take_local()) {
            return ending;
        }
        self.see_to_events().await;
        loop {
            if let Err(ending) = self.flush() {
                return ending;
            }
            if std::mem::take(&mut self.gather.rests) {
                std::thread::sleep(self.gather.rest);
            }
            let now = self.clock.tick();
            let holds = self.gather.hold_until.is_some();
            // Both sides may wait for each other to be read: then one of them is, up to a bound.
            let stuck = self.local.waiting() >= HIGH && self.remote.waiting() >= HIGH;
            let woken = {
                let (local, remote) = (&self.local, &self.remote);
                tokio::select! {
                    _ = orders.changed() => Woken::Order,
                    () = &mut home => Woken::Home,
                    () = task::sleep_until(now, self.next_wake(now)) => Woken::Timer,
                    ready = remote.socket.readable(), if local.waiting() < HIGH || (stuck && local.waiting() < MOST) => Woken::Remote(ready),
                    ready = local.socket.readable(), if remote.waiting() < HIGH => Woken::Local(ready),
                    ready = remote.socket.writable(), if remote.wants_write() => Woken::Written(ready),
                    ready = local.socket.writable(), if local.wants_write() && !holds => Woken::Written(ready),
                }
            };
            let result = match woken {
                Woken::Order => return Ending::Order,
                Woken::Home => return Ending::Home,
                Woken::Timer => self.wake(),
                Woken::Remote(Ok(())) => self.read_remote(),
                Woken::Local(Ok(())) => self.read_local(),
                Woken::Written(Ok(())) => Ok(()),
                Woken::Remote(Err(error)) | Woken::Local(Err(error)) | Woken::Written(Err(error)) => Err(lost(&error)),
            };
            if let Err(ending) = result {
                // What has been understood so far is still true: acknowledgements of the remote are passed on.
                self.local.output.append(&mut self.out.local);
                let _ = self.local.flush();
                return ending;
            }
            if !self.splice.events.is_empty() {
                self.see_to_events().await;
            }
        }
    }

    fn read_remote(&mut self) -> Result<(), Ending> {
        match self.remote.read() {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(WireError::Closed) => {
                return Err(Ending::Closed { why: "the remote closed the connection".to_owned(), spoken: false });
            }
            Err(WireError::Io(error)) => return Err(lost(&error)),
            Err(error) => return Err(Ending::Lost(error.to_string())),
        }
        self.received_at = self.clock.tick();
        self.take_remote()?;
        if self.splice.under_way() >= BUSY {
            self.gather.rest(self.out.local.len() / ACKNOWLEDGEMENT);
        }
        Ok(())
    }

    /// Takes what the remote sent.
    fn take_remote(&mut self) -> Result<(), Ending> {
        let now = self.clock.tick();
        self.splice.now = now;
        self.splice.wall = self.clock.now();
        let result = self.splice.take_remote(&self.remote.input, &mut self.out);
        if !self.out.local.is_empty() || !self.out.remote.is_empty() {
            self.moved_at = now;
        }
        if let Some(time) = self.splice.round_trip.take() {
            self.handle.note_round_trip(time);
        }
        self.remote.take(result.map_err(ending)?);
        if self.alone && self.splice.has_acknowledged() { Err(Ending::Cleared) } else { Ok(()) }
    }

    fn read_local(&mut self) -> Result<(), Ending> {
        match self.local.read() {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(Ending::Lost(format!("within this broker: {error}"))),
        }
        self.moved_at = self.clock.tick();
        self.take_local()
    }

    /// Takes what this broker sent.
    fn take_local(&mut self) -> Result<(), Ending> {
        (self.splice.now, self.splice.wall) = (self.clock.tick(), self.clock.now());
        let taken = self.splice.take_local(&self.local.input, &mut self.out).map_err(ending)?;
        self.local.take(taken);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ending> {
        if !self.out.remote.is_empty() {
            self.sent_at = self.clock.tick();
            self.remote.output.append(&mut self.out.remote);
            let each = self.remote.waiting() / self.splice.under_way().max(1);
            self.remote.set_in_segments(each < SMALL);
        }
        if !self.out.local.is_empty() {
            let acknowledges = !std::mem::take(&mut self.splice.brought);
            self.gather.note(self.out.local.len(), acknowledges, self.clock.tick());
            self.local.output.append(&mut self.out.local);
        }
        let enough = self.window / 8 * ACKNOWLEDGEMENT;
        if self.splice.under_way() > 0 && self.gather.holds(enough, self.clock.tick()) {
            return self.remote.flush().map_err(|error| lost(&error));
        }
        self.gather.let_go();
        self.local.flush().map_err(|error| Ending::Lost(format!("within this broker: {error}")))?;
        self.remote.flush().map_err(|error| lost(&error))
    }

    /// When the pump has to wake by itself.
    fn next_wake(&self, now: Tick) -> Tick {
        self.gather.hold_until.map_or(self.next_look(now), |until| until.min(self.next_look(now)))
    }

    fn next_look(&self, now: Tick) -> Tick {
        let look = self.looked_at.plus_millis(LOOK).max(now);
        if self.keep_alive == 0 {
            return look;
        }
        let last = if self.pinged { self.received_at.plus_millis(self.keep_alive / 2) } else { self.sent_at };
        look.min(last.plus_millis(self.keep_alive)).max(now)
    }

    /// A time has come.
    fn wake(&mut self) -> Result<(), Ending> {
        let now = self.clock.tick();
        if self.next_look(now) > now {
            return Ok(());
        }
        self.looked_at = now;
        self.look(now)
    }

    /// What is due by time.
    fn look(&mut self, now: Tick) -> Result<(), Ending> {
        let queue = self.handle.bridge_queue(&self.client_id);
        self.status.look(&queue, now);
        self.status.update(|status| status.under_way = self.splice.under_way());
        if self.keep_alive > 0 {
            // Silence for one and a half keep alives: what we sent meanwhile says nothing about the remote.
            if self.pinged && now.since(self.received_at) >= self.keep_alive + self.keep_alive / 2 {
                return Err(Ending::Lost("the remote does not answer any more".to_owned()));
            }
            let silent = now.since(self.received_at) >= self.keep_alive;
            if !self.pinged && (now.since(self.sent_at) >= self.keep_alive || silent) {
                self.out.remote.extend_from_slice(&[(PacketType::PingReq as u8) << 4, 0]);
                self.pinged = true;
            }
        }
        let empty = queue.messages == 0 && self.splice.under_way() == 0;
        if self.plan.bridge.mode == Mode::Draining && empty {
            return Err(Ending::Drained);
        }
        let idle = millis(self.plan.bridge.idle_timeout);
        if self.plan.bridge.start == crate::config::Start::Lazy && empty && now.since(self.moved_at) >= idle {
            return Err(Ending::Idle);
        }
        Ok(())
    }

    async fn see_to_events(&mut self) {
        for event in std::mem::take(&mut self.splice.events) {
            match event {
                Event::Pong => self.pinged = false,
                Event::RemoteBridge { client_id, there } => {
                    let address = self.remote.socket.peer_ip();
                    self.handle.note_twin(&self.client_id, &client_id, there, address);
                }
                Event::Subscribed(answer) => self.subscribed(&answer).await,
                Event::Unwanted(filter) => self.unsubscribe(filter),
                Event::Replays => {
                    if std::mem::take(&mut self.replays) {
                        self.look_whether_connected().await;
                    }
                }
                Event::NotTaken { topic, why } => {
                    if let Some(held_back) = self.quiet.admit(self.clock.tick()) {
                        let bridge = &self.plan.bridge.name;
                        tracing::warn!(bridge, topic = %escape(&topic), why, held_back, "not taken from the remote");
                    }
                }
                Event::SetAside { packet_id, qos, topic, why, message } => {
                    self.set_aside(&topic, why, message).await;
                    Splice::settle(packet_id, qos, &mut self.out);
                }
            }
        }
    }

    /// Tells that the remote will never take a message, and keeps it as the settings say.
    async fn set_aside(&mut self, topic: &str, why: Why, message: Option<Message>) {
        if let Some(held_back) = self.quiet.admit(self.clock.tick()) {
            let (bridge, why) = (&self.plan.bridge.name, why.in_words());
            tracing::warn!(bridge, topic = %escape(topic), why, held_back, "a message is set aside");
        }
        let (Some(prefix), Some(message)) = (&self.plan.bridge.dead_letter, message) else { return };
        if message.topic().starts_with(prefix.as_str()) {
            // A letter that comes back undeliverable is not wrapped in another.
            return;
        }
        let kept = format!("{prefix}{}", message.topic());
        if kept.len() > 65_535 {
            return;
        }
        let mut letter = Message::new(&kept, message.properties(), message.payload());
        letter.qos = message.qos.max(QoS::AtLeastOnce);
        self.handle.publish(letter).await;
    }

    /// Asks the remote for `filter` no more.
    fn unsubscribe(&mut self, filter: String) {
        let bridge = &self.plan.bridge.name;
        tracing::info!(bridge, filter = %escape(&filter), "the remote sends what no rule brings in any more");
        self.unsubscribed += 1;
        // Behind those of the filters that were asked.
        let place = self.handle.bridge_queue(&self.client_id).head + FAR + OWN + self.unsubscribed;
        let unsubscribe =
            Unsubscribe { packet_id: packet_id(place), user_properties: Vec::new(), filters: vec![filter] };
        encode(&Packet::Unsubscribe(unsubscribe), self.splice.version(), &mut self.out.remote);
    }

    /// What the remote said to our filters.
    async fn subscribed(&mut self, answer: &SubAck) {
        let Some(place) = self.asked.iter().position(|(packet_id, _)| *packet_id == answer.packet_id) else { return };
        let (_, filters) = self.asked.remove(place);
        let refused = filters.iter().zip(&answer.codes).filter(|(_, code)| code.is_error());
        for (filter, code) in refused {
            let bridge = &self.plan.bridge.name;
            tracing::error!(bridge, filter = %escape(filter), reason = ?code, "the remote refuses a filter");
            self.status.update(|status| status.refused_filters.push(filter.clone()));
        }
        self.look_whether_connected().await;
    }

    /// Tells that the bridge is there, if everything is asked and answered: who acts on it can rely on it both ways.
    pub(super) async fn look_whether_connected(&self) {
        if self.replays || !self.asked.is_empty() {
            return;
        }
        let state = if self.plan.bridge.mode == Mode::Draining { State::Draining } else { State::Connected };
        self.status.enter(state, self.clock.now());
        if let Some(topic) = &self.state_topic {
            self.handle.publish(state_message(topic, b"1")).await;
        }
    }
}

/// Whether the remote closed the connection for something that we sent, and not for reasons of its own.
fn blames_a_packet(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::RetainNotSupported
            | ReasonCode::QoSNotSupported
    )
}

/// The connection to the remote failed. A reset is what closing it does while something is unread.
fn lost(error: &io::Error) -> Ending {
    let why = error.to_string();
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ending::Closed { why, spoken: false },
        _ => Ending::Lost(why),
    }
}

fn ending(broken: Broken) -> Ending {
    let why = broken.to_string();
    match broken {
        Broken::RemoteClosed(disconnect) if blames_a_packet(disconnect.reason) => Ending::Closed { why, spoken: true },
        _ => Ending::Lost(why),
    }
}
