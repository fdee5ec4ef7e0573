//! Clients: they speak MQTT 3.1.1, keep their half of the session, and do what chance has them do.
//!
//! Each has its own topics, `t/<number>/<0 or 1>`, and `r/<number>` for what is retained, so that there is one publisher
//! of each. The first client, the witness, subscribes to everything at QoS 2 before trouble begins.

use super::World;
use super::network::{Device, Link};
use super::packet::{Connect, Packet, Publish, Will};
use crate::agenda::{Signal, WORLD};
use crate::history::{Event, hash};
use nightjar_mqtt::QoS;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Packet identifiers that a client uses: few, so that they are soon used again.
const IDENTIFIERS: u16 = 12;
/// Messages that a client has under way.
const WINDOW: usize = 6;
/// How long a client waits for CONNACK, in milliseconds.
const PATIENCE: u64 = 6_000;

/// A message whose exchange is not complete.
struct Outgoing {
    id: u16,
    number: u64,
    topic: Arc<str>,
    qos: QoS,
    retain: bool,
    /// PUBREC was seen.
    is_received: bool,
}

#[derive(Default)]
struct State {
    link: Option<Rc<Link>>,
    /// CONNACK was seen on it.
    is_connected: bool,
    /// An old connection that was left behind, and what was sent on it since.
    ghost: Option<Rc<Link>>,
    ghost_sent: BTreeMap<u16, u64>,
    outgoing: VecDeque<Outgoing>,
    incoming: BTreeSet<u16>,
    last_id: u16,
    subscribing: BTreeMap<u16, (Arc<str>, QoS)>,
    /// What SUBACK was seen for.
    filters: BTreeMap<Arc<str>, QoS>,
}

/// A client.
pub(crate) struct Client {
    world: Rc<World>,
    pub(crate) number: usize,
    id: Arc<str>,
    is_persistent: bool,
    state: RefCell<State>,
    signal: Signal,
    /// When the last answer goes: none overtakes another.
    answers: Cell<u64>,
}

/// Every client has one quality of service for each filter.
fn qos_for(client: usize, filter: &str) -> QoS {
    match hash(format!("{client} {filter}").as_bytes()) >> 20 & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

impl Client {
    /// Brings all clients of a world to life.
    pub(crate) fn all(world: &Rc<World>) {
        for number in 0..world.mood.clients {
            let client = Rc::new(Self {
                world: Rc::clone(world),
                number,
                id: format!("c{number}").into(),
                is_persistent: number == 0 || world.agenda.chance(700),
                state: RefCell::default(),
                signal: Signal::default(),
                answers: Cell::new(0),
            });
            world.clients.borrow_mut().push(Rc::clone(&client));
            world.agenda.spawn(WORLD, client.live());
        }
    }

    /// What it still waits for, if anything.
    pub(crate) fn is_waiting(&self) -> Option<String> {
        let state = self.state.borrow();
        let (number, under_way, asked) = (self.number, state.outgoing.len(), state.subscribing.len());
        let is_done = state.is_connected && under_way == 0 && asked == 0;
        (!is_done).then(|| {
            format!(
                "client {number} waits, {} connected, {under_way} messages, {asked} subscriptions",
                if state.is_connected { "is" } else { "is not" }
            )
        })
    }

    fn is_connected(&self) -> bool {
        self.state.borrow().is_connected
    }

    async fn live(self: Rc<Self>) {
        let agenda = &self.world.agenda;
        agenda.sleep(agenda.between(0, 200)).await;
        let mut first = if self.number == 0 { vec!["t/#", "r/#", "w/#"] } else { Vec::new() };
        loop {
            if !self.is_connected() {
                self.come(!self.is_persistent).await;
            } else if let Some(filter) = first.pop() {
                self.subscribe(filter.into(), QoS::ExactlyOnce);
                agenda.sleep(50).await;
            } else if self.world.is_calm.get() {
                agenda.sleep(200).await;
            } else {
                self.act().await;
                agenda.sleep(agenda.between(0, self.world.mood.haste)).await;
            }
        }
    }

    /// Does something.
    async fn act(self: &Rc<Self>) {
        let (agenda, moves) = (&self.world.agenda, self.world.mood.moves);
        let roll = agenda.between(0, 999 + moves);
        match roll {
            0..600 => {
                for _ in 0..agenda.between(1, 3) {
                    self.publish();
                }
            }
            600..680 if self.number > 0 => self.subscribe(self.any_filter(), QoS::AtMostOnce),
            680..690 if self.number > 0 => self.unsubscribe(),
            690..710 => self.send_again(false),
            710..725 => {
                self.disconnect();
                agenda.sleep(agenda.between(0, 2_500)).await;
            }
            725..728 if self.number > 0 => {
                // The session ends, and another begins.
                self.leave();
                self.come(true).await;
                self.disconnect();
            }
            728..760 => self.ghost_publishes(),
            1_000.. => {
                self.leave();
                agenda.sleep(agenda.between(0, 60)).await;
            }
            _ => agenda.sleep(agenda.between(0, 300)).await,
        }
    }

    fn any_filter(&self) -> Arc<str> {
        let (agenda, clients) = (&self.world.agenda, self.world.mood.clients);
        let other = agenda.place(clients);
        match agenda.between(0, 9) {
            0..3 => "t/#".into(),
            3..5 => format!("t/{other}/+").into(),
            5..7 => format!("t/{other}/{}", agenda.between(0, 1)).into(),
            7..9 => "r/#".into(),
            _ => "w/#".into(),
        }
    }

    /// Reaches some node and sends CONNECT; returns when that was answered, or it has lost its patience.
    async fn come(self: &Rc<Self>, clean: bool) {
        let agenda = &self.world.agenda;
        let node = agenda.place(self.world.disks.len());
        let Some(link) = self.world.connect(self.number, node, Rc::new(Rc::clone(self))) else {
            return agenda.sleep(agenda.between(20, 300)).await;
        };
        let will = agenda.chance(300).then(|| Will {
            topic: format!("w/{}", self.number).into(),
            qos: QoS::ExactlyOnce,
            number: self.world.next_number(),
            delay: if agenda.chance(300) { 1 } else { 0 },
        });
        if clean {
            self.begin_anew();
        }
        {
            let mut state = self.state.borrow_mut();
            (state.link, state.is_connected) = (Some(Rc::clone(&link)), false);
            state.subscribing.clear();
        }
        let will_number = will.as_ref().filter(|will| will.delay == 0).map(|will| will.number);
        let (client, number) = (self.number, link.number);
        self.world.note(Event::Connecting { client, link: number, node, clean, will: will_number });
        let client_id = Arc::clone(&self.id);
        self.world.to_node(&link, Packet::Connect(Connect { client_id, clean, will }));
        let is_answered = || self.is_connected() || !link.is_open();
        if agenda.timeout(PATIENCE, self.signal.until(is_answered)).await.is_none() {
            self.world.note(Event::Refused { client, link: number });
            self.leave_link(&link);
        }
        if !self.is_connected() {
            agenda.sleep(agenda.between(10, 250)).await;
        }
    }

    /// Its session is another: nothing of the one before counts.
    fn begin_anew(&self) {
        let mut state = self.state.borrow_mut();
        for outgoing in std::mem::take(&mut state.outgoing) {
            self.world.note(Event::Abandoned { client: self.number, number: outgoing.number });
        }
        state.incoming.clear();
        state.filters.clear();
    }

    fn send(&self, packet: Packet) {
        let link = self.state.borrow().link.clone();
        if let Some(link) = link {
            self.world.to_node(&link, packet);
        }
    }

    /// Answers, sometimes late, never in another order.
    fn answer(self: &Rc<Self>, link: &Rc<Link>, packet: Packet) {
        let agenda = &self.world.agenda;
        let wish = agenda.now() + if agenda.chance(200) { agenda.between(0, 300) } else { 0 };
        self.answers.set(wish.max(self.answers.get()));
        let (client, link) = (Rc::clone(self), Rc::clone(link));
        agenda.after(self.answers.get() - agenda.now(), move || client.world.to_node(&link, packet));
    }

    /// An identifier that is free.
    fn next_id(state: &mut State) -> u16 {
        loop {
            state.last_id = state.last_id % IDENTIFIERS + 1;
            let id = state.last_id;
            let is_taken =
                state.outgoing.iter().any(|outgoing| outgoing.id == id) || state.subscribing.contains_key(&id);
            if !is_taken {
                return id;
            }
        }
    }

    fn publish(&self) {
        let agenda = &self.world.agenda;
        let outgoing = {
            let state = &mut *self.state.borrow_mut();
            if state.outgoing.len() + state.subscribing.len() >= WINDOW || !state.is_connected {
                return;
            }
            let any = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]
                [agenda.place(5)];
            let retain = agenda.chance(120);
            // Order is of one QoS: a retained message must not be overtaken by one of another.
            let own = if self.number.is_multiple_of(2) { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            let qos = if retain { own } else { any };
            let topic: Arc<str> = if retain {
                format!("r/{}", self.number).into()
            } else {
                format!("t/{}/{}", self.number, agenda.between(0, 1)).into()
            };
            Outgoing {
                id: Self::next_id(state),
                number: self.world.next_number(),
                topic,
                qos,
                retain,
                is_received: false,
            }
        };
        self.send_publish(&outgoing, false);
        if outgoing.qos > QoS::AtMostOnce {
            self.state.borrow_mut().outgoing.push_back(outgoing);
        }
    }

    fn send_publish(&self, outgoing: &Outgoing, dup: bool) {
        let Some(link) = self.state.borrow().link.clone() else { return };
        self.world.to_node(&link, self.noted(&link, outgoing, dup));
    }

    fn noted(&self, link: &Rc<Link>, outgoing: &Outgoing, dup: bool) -> Packet {
        let Outgoing { id, number, ref topic, qos, retain, .. } = *outgoing;
        let (client, link, topic) = (self.number, link.number, Arc::clone(topic));
        self.world.note(Event::Publishing { client, link, number, topic: Arc::clone(&topic), qos, retain, dup });
        Packet::Publish(Publish { topic, qos, retain, dup, id, number })
    }

    /// What is under way is sent again, in order: after CONNACK, or out of impatience as clients of MQTT 3.1 do.
    fn send_again(&self, is_resumed: bool) {
        let Some(link) = self.state.borrow().link.clone() else { return };
        let state = self.state.borrow();
        for outgoing in state.outgoing.iter().filter(|outgoing| is_resumed || !outgoing.is_received) {
            let packet = match outgoing.is_received {
                true => Packet::PubRel(outgoing.id),
                false => self.noted(&link, outgoing, true),
            };
            self.world.to_node(&link, packet);
        }
    }

    fn subscribe(&self, filter: Arc<str>, least: QoS) {
        let (id, link, qos) = {
            let state = &mut *self.state.borrow_mut();
            let Some(link) = state.link.as_ref().map(|link| link.number).filter(|_| state.is_connected) else { return };
            if state.subscribing.len() > 2 {
                return;
            }
            let (id, qos) = (Self::next_id(state), qos_for(self.number, &filter).max(least));
            state.subscribing.insert(id, (Arc::clone(&filter), qos));
            (id, link, qos)
        };
        self.world.note(Event::Subscribing { client: self.number, link, filter: Arc::clone(&filter), qos });
        self.send(Packet::Subscribe { id, filter, qos });
    }

    fn unsubscribe(&self) {
        let (id, filter) = {
            let state = &mut *self.state.borrow_mut();
            let place = self.world.agenda.place(state.filters.len());
            let Some(filter) = state.filters.keys().nth(place).cloned() else { return };
            // One that is under way is not touched: nobody could say which of the two counts.
            if state.subscribing.values().any(|(other, _)| *other == filter) {
                return;
            }
            state.filters.remove(&filter);
            (Self::next_id(state), filter)
        };
        self.world.note(Event::Unsubscribing { client: self.number, filter: Arc::clone(&filter) });
        self.send(Packet::Unsubscribe { id, filter });
    }

    fn disconnect(&self) {
        let Some(link) = self.state.borrow().link.clone() else { return };
        self.world.note(Event::Disconnecting { client: self.number, link: link.number });
        self.world.to_node(&link, Packet::Disconnect);
        self.leave_link(&link);
    }

    /// Leaves without a word: closes the connection, or forgets that it is there.
    fn leave(&self) {
        let Some(link) = self.state.borrow().link.clone() else { return };
        if !self.world.agenda.chance(self.world.mood.ghosts) {
            return self.leave_link(&link);
        }
        let old = {
            let state = &mut *self.state.borrow_mut();
            (state.link, state.is_connected) = (None, false);
            state.ghost_sent.clear();
            state.ghost.replace(link)
        };
        if let Some(old) = old {
            self.world.close_by_client(&old);
        }
    }

    fn leave_link(&self, link: &Rc<Link>) {
        self.world.close_by_client(link);
        self.forget_link(link);
    }

    fn forget_link(&self, link: &Rc<Link>) {
        let state = &mut *self.state.borrow_mut();
        self.world.note(Event::Lost { client: self.number, link: link.number });
        if state.link.as_ref().is_some_and(|own| own.number == link.number) {
            (state.link, state.is_connected) = (None, false);
        }
        if state.ghost.as_ref().is_some_and(|own| own.number == link.number) {
            state.ghost = None;
        }
        self.signal.notify();
    }

    /// Something is published on the connection that was left behind.
    fn ghost_publishes(&self) {
        let Some(link) = self.state.borrow().ghost.clone() else { return };
        let (number, id) =
            (self.world.next_number(), 100 + u16::try_from(self.world.agenda.between(0, 99)).unwrap_or(0));
        self.state.borrow_mut().ghost_sent.insert(id, number);
        let (topic, qos) = (format!("t/{}/g{}", self.number, link.number).into(), QoS::AtLeastOnce);
        let outgoing = Outgoing { id, number, topic, qos, retain: false, is_received: false };
        self.world.to_node(&link, self.noted(&link, &outgoing, false));
    }

    fn accepted(&self, link: &Rc<Link>, present: bool) {
        self.world.note(Event::Connected { client: self.number, link: link.number, present });
        if !present {
            self.begin_anew();
        }
        self.state.borrow_mut().is_connected = true;
        self.send_again(true);
        self.signal.notify();
    }

    /// PUBACK or PUBREC has come; whether for the first time.
    fn acknowledged(&self, id: u16, is_received: bool) -> bool {
        let state = &mut *self.state.borrow_mut();
        let Some(at) = state.outgoing.iter().position(|outgoing| outgoing.id == id) else { return false };
        let outgoing = &mut state.outgoing[at];
        if (outgoing.qos == QoS::ExactlyOnce) != is_received {
            return false;
        }
        let is_first = !std::mem::replace(&mut outgoing.is_received, true);
        if is_first {
            self.world.note(Event::Acknowledged { client: self.number, number: outgoing.number });
        }
        if !is_received {
            state.outgoing.remove(at);
        }
        is_first
    }

    fn completed(&self, id: u16) {
        let state = &mut *self.state.borrow_mut();
        state.outgoing.retain(|outgoing| !(outgoing.id == id && outgoing.is_received));
    }

    fn published(self: &Rc<Self>, link: &Rc<Link>, publish: Publish) {
        let Publish { topic, qos, retain, dup, id, number } = publish;
        let is_new = qos != QoS::ExactlyOnce || self.state.borrow_mut().incoming.insert(id);
        if is_new {
            self.world.note(Event::Received {
                client: self.number,
                link: link.number,
                number,
                topic,
                qos,
                retain,
                dup,
            });
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(link, Packet::PubAck(id)),
            QoS::ExactlyOnce => self.answer(link, Packet::PubRec(id)),
        }
    }

    fn take(self: &Rc<Self>, link: &Rc<Link>, packet: Packet) {
        match packet {
            Packet::ConnAck { accepted: false, .. } => {
                self.world.note(Event::Refused { client: self.number, link: link.number });
                self.leave_link(link);
            }
            Packet::ConnAck { present, .. } => self.accepted(link, present),
            Packet::Publish(publish) => self.published(link, publish),
            Packet::PubAck(id) => drop(self.acknowledged(id, false)),
            // One that comes again is of a PUBLISH that was sent again: PUBREL is on its way.
            Packet::PubRec(id) if !self.acknowledged(id, true) => {}
            // Never late: the identifier may stand for another message soon.
            Packet::PubRec(id) => self.world.to_node(link, Packet::PubRel(id)),
            Packet::PubRel(id) => {
                self.state.borrow_mut().incoming.remove(&id);
                self.answer(link, Packet::PubComp(id));
            }
            Packet::PubComp(id) => self.completed(id),
            Packet::SubAck { id, granted } => {
                let asked = self.state.borrow_mut().subscribing.remove(&id);
                if let Some((filter, qos)) = asked.filter(|_| granted) {
                    self.state.borrow_mut().filters.insert(Arc::clone(&filter), qos);
                    self.world.note(Event::Subscribed { client: self.number, link: link.number, filter, qos });
                }
            }
            _ => {}
        }
    }
}

impl Device for Rc<Client> {
    fn packet(&self, link: &Rc<Link>, packet: Packet) {
        let (is_own, is_ghost) = {
            let state = self.state.borrow();
            let is = |of: &Option<Rc<Link>>| of.as_ref().is_some_and(|of| of.number == link.number);
            (is(&state.link), is(&state.ghost))
        };
        if is_own {
            self.take(link, packet);
        } else if let (true, Packet::PubAck(id)) = (is_ghost, packet) {
            let number = self.state.borrow_mut().ghost_sent.remove(&id);
            if let Some(number) = number {
                self.world.note(Event::Acknowledged { client: self.number, number });
            }
        }
    }

    fn lost(&self, link: &Rc<Link>) {
        self.forget_link(link);
    }
}
