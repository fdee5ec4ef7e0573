//! The network: between nodes, and between clients and nodes.
//!
//! What nodes say to each other may be late, lost, doubled or overtaken, and a direction between two of them may carry
//! nothing. A client's connection is a stream: in order and whole until it is cut, and either end may not notice the cut.

use super::World;
use super::packet::Packet;
use crate::agenda::Slot;
use std::cell::Cell;
use std::rc::Rc;

/// How late a node notices that a client is silent, which is its keep alive, in milliseconds.
const KEEP_ALIVE: (u64, u64) = (2_500, 5_000);
/// How late a client notices that a node is silent, in milliseconds.
const PING: (u64, u64) = (1_000, 2_500);

/// What the ways between nodes do to what is sent.
pub(crate) struct Ways {
    /// `blocked[from][to]`.
    blocked: Vec<Vec<Cell<bool>>>,
    /// Milliseconds on top, for each direction.
    slow: Vec<Vec<Cell<u64>>>,
    /// Of a thousand messages so many are lost, and so many come twice.
    pub(crate) loss: Cell<u64>,
    pub(crate) twice: Cell<u64>,
    /// Most milliseconds that a message usually takes.
    pub(crate) delay: Cell<u64>,
}

impl Ways {
    pub(crate) fn new(nodes: usize) -> Self {
        let table = |_| (0..nodes).map(|_| Cell::new(false)).collect();
        let slow = |_| (0..nodes).map(|_| Cell::new(0)).collect();
        Self {
            blocked: (0..nodes).map(table).collect(),
            slow: (0..nodes).map(slow).collect(),
            loss: Cell::new(0),
            twice: Cell::new(0),
            delay: Cell::new(3),
        }
    }

    pub(crate) fn block(&self, from: usize, to: usize, is_blocked: bool) {
        self.blocked[from][to].set(is_blocked);
    }

    pub(crate) fn slow(&self, from: usize, to: usize, by: u64) {
        self.slow[from][to].set(by);
    }

    /// Everything gets through again.
    pub(crate) fn heal(&self) {
        self.blocked.iter().flatten().for_each(|blocked| blocked.set(false));
        self.slow.iter().flatten().for_each(|slow| slow.set(0));
        self.loss.set(0);
        self.twice.set(0);
    }
}

impl World {
    /// Carries something from one node to another: `deliver` is called as often as it comes.
    pub(crate) fn carry(self: &Rc<Self>, from: usize, to: usize, deliver: impl Fn(&Rc<Self>) + 'static) {
        let deliver = Rc::new(deliver);
        for _ in 0..=u64::from(self.agenda.chance(self.ways.twice.get())) {
            if self.ways.blocked[from][to].get() || self.agenda.chance(self.ways.loss.get()) {
                continue;
            }
            let stall = if self.agenda.chance(5) { 200 } else { 0 };
            let delay = self.agenda.between(0, self.ways.delay.get() + stall) + self.ways.slow[from][to].get();
            let (world, deliver) = (Rc::clone(self), Rc::clone(&deliver));
            self.agenda.after(delay, move || {
                if !world.ways.blocked[from][to].get() {
                    deliver(&world);
                }
            });
        }
    }

    /// Asks another node something. `ask` is called there, with a way to give the answer; nothing comes of it if that
    /// takes too long.
    pub(crate) async fn call<T: Clone + 'static>(
        self: &Rc<Self>,
        from: usize,
        to: usize,
        patience: u64,
        ask: impl Fn(&Rc<Self>, Box<dyn FnOnce(T)>) + 'static,
    ) -> Option<T> {
        let slot = Slot::new();
        let answers = Rc::clone(&slot);
        self.carry(from, to, move |world| {
            let (back, slot) = (Rc::clone(world), Rc::clone(&answers));
            let answer = move |answer: T| {
                let slot = Rc::clone(&slot);
                back.carry(to, from, move |_| slot.put(answer.clone()));
            };
            ask(world, Box::new(answer));
        });
        self.agenda.timeout(patience, slot.take()).await
    }
}

/// Who is at the client's end of a connection.
pub(crate) trait Device {
    fn packet(&self, link: &Rc<Link>, packet: Packet);
    fn lost(&self, link: &Rc<Link>);
}

/// One connection of a client with a node.
pub(crate) struct Link {
    pub(crate) number: u64,
    /// Whose: the number of its client identifier.
    pub(crate) client: usize,
    pub(crate) node: usize,
    /// The run of the node's process.
    pub(crate) scope: u64,
    /// Bytes get through.
    is_whole: Cell<bool>,
    is_open_for_client: Cell<bool>,
    is_open_for_node: Cell<bool>,
    /// When what was last sent arrives: nothing overtakes it.
    at_node: Cell<u64>,
    at_client: Cell<u64>,
    device: Rc<dyn Device>,
}

impl Link {
    /// Whether the client takes it for open.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open_for_client.get()
    }

    pub(crate) fn is_open_for_node(&self) -> bool {
        self.is_open_for_node.get()
    }
}

fn arrival(world: &World, last: &Cell<u64>) -> u64 {
    let stall = if world.agenda.chance(20) { 150 } else { 0 };
    let at = (world.agenda.now() + world.agenda.between(0, 4 + stall)).max(last.get());
    last.set(at);
    at - world.agenda.now()
}

impl World {
    /// A client reaches a node, whose process must live.
    pub(crate) fn connect(self: &Rc<Self>, client: usize, node: usize, device: Rc<dyn Device>) -> Option<Rc<Link>> {
        let scope = self.process(node)?.scope;
        self.links.set(self.links.get() + 1);
        let link = Rc::new(Link {
            number: self.links.get(),
            client,
            node,
            scope,
            is_whole: Cell::new(true),
            is_open_for_client: Cell::new(true),
            is_open_for_node: Cell::new(true),
            at_node: Cell::new(0),
            at_client: Cell::new(0),
            device,
        });
        self.open_links.borrow_mut().insert(link.number, Rc::clone(&link));
        Some(link)
    }

    /// The client sends.
    pub(crate) fn to_node(self: &Rc<Self>, link: &Rc<Link>, packet: Packet) {
        if !link.is_open_for_client.get() || !link.is_whole.get() {
            return;
        }
        let (world, link) = (Rc::clone(self), Rc::clone(link));
        self.agenda.after(arrival(self, &link.at_node), move || {
            if link.is_whole.get()
                && let Some(process) = world.run(link.node, link.scope)
            {
                process.arrived(&link, packet);
            }
        });
    }

    /// The node sends.
    pub(crate) fn to_client(self: &Rc<Self>, link: &Rc<Link>, packet: Packet) {
        if !link.is_open_for_node.get() || !link.is_whole.get() {
            return;
        }
        let link = Rc::clone(link);
        self.agenda.after(arrival(self, &link.at_client), move || {
            if link.is_whole.get() && link.is_open_for_client.get() {
                link.device.packet(&link, packet);
            }
        });
    }

    /// The client closes; what it sent before arrives.
    pub(crate) fn close_by_client(self: &Rc<Self>, link: &Rc<Link>) {
        link.is_open_for_client.set(false);
        let (world, link) = (Rc::clone(self), Rc::clone(link));
        self.agenda.after(arrival(self, &link.at_node), move || world.end_at_node(&link));
    }

    /// The node closes; what it sent before arrives.
    pub(crate) fn close_by_node(self: &Rc<Self>, link: &Rc<Link>) {
        link.is_open_for_node.set(false);
        let link = Rc::clone(link);
        let world = Rc::clone(self);
        self.agenda.after(arrival(self, &link.at_client), move || world.end_at_client(&link));
    }

    /// Nothing gets through any more. An end that is not told finds out by itself.
    pub(crate) fn cut(self: &Rc<Self>, link: &Rc<Link>, tell_client: bool, tell_node: bool) {
        link.is_whole.set(false);
        let late = |told, (low, high)| if told { self.agenda.between(0, 5) } else { self.agenda.between(low, high) };
        let (world, of) = (Rc::clone(self), Rc::clone(link));
        self.agenda.after(late(tell_client, PING), move || world.end_at_client(&of));
        let (world, of) = (Rc::clone(self), Rc::clone(link));
        self.agenda.after(late(tell_node, KEEP_ALIVE), move || world.end_at_node(&of));
    }

    fn end_at_client(self: &Rc<Self>, link: &Rc<Link>) {
        if link.is_open_for_client.replace(false) {
            link.device.lost(link);
        }
    }

    fn end_at_node(self: &Rc<Self>, link: &Rc<Link>) {
        if link.is_open_for_node.replace(false)
            && let Some(process) = self.run(link.node, link.scope)
        {
            process.lost(link);
        }
    }
}
