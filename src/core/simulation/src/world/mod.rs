//! Several nodes and their clients in one thread.

pub(crate) mod attach;
pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod end;
pub(crate) mod engine;
pub(crate) mod far;
pub(crate) mod faults;
pub(crate) mod leave;
pub(crate) mod mood;
pub(crate) mod moves;
pub(crate) mod network;
pub(crate) mod packet;
pub(crate) mod process;
pub(crate) mod publish;
pub(crate) mod raft;
pub(crate) mod sending;
pub(crate) mod settle;
pub(crate) mod subscribe;
pub(crate) mod upkeep;

use crate::agenda::{Agenda, WORLD};
use crate::bugs::Bug;
use crate::history::{Event, History};
use client::Client;
use disk::{Disk, Record};
use mood::Mood;
use network::{Link, Ways};
use nightjar_base::HomeId;
use nightjar_control::Start;
use process::{VERSION, node_id};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub(crate) use process::Process;

/// All there is.
pub(crate) struct World {
    pub(crate) agenda: Rc<Agenda>,
    pub(crate) bug: Option<Bug>,
    pub(crate) shards: u16,
    pub(crate) mood: Mood,
    /// By how many milliseconds a sync is late at most, now and then.
    pub(crate) stall: u64,
    /// By how much the clocks of the nodes are ahead.
    pub(crate) skews: Vec<u64>,
    pub(crate) ways: Ways,
    pub(crate) disks: Vec<Disk>,
    processes: RefCell<Vec<Option<Rc<Process>>>>,
    scopes: Cell<u64>,
    pub(crate) links: Cell<u64>,
    pub(crate) open_links: RefCell<BTreeMap<u64, Rc<Link>>>,
    pub(crate) clients: RefCell<Vec<Rc<Client>>>,
    numbers: Cell<u64>,
    over: RefCell<BTreeSet<HomeId>>,
    history: RefCell<History>,
    /// No faults any more.
    pub(crate) is_calm: Cell<bool>,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Rc<Self> {
        let agenda = Agenda::new(seed);
        let mood = Mood::by(&agenda);
        let (nodes, shards) = (mood.nodes, mood.shards);
        let disks: Vec<Disk> = (0..nodes).map(|_| Disk::new(usize::from(shards) + 1)).collect();
        let ways = Ways::new(nodes);
        ways.delay.set(mood.delay);
        Rc::new(Self {
            bug,
            shards,
            stall: mood.stall,
            skews: (0..nodes).map(|_| agenda.between(0, 100_000)).collect(),
            ways,
            disks,
            processes: RefCell::new((0..nodes).map(|_| None).collect()),
            scopes: Cell::new(WORLD),
            links: Cell::new(0),
            open_links: RefCell::default(),
            clients: RefCell::default(),
            numbers: Cell::new(0),
            over: RefCell::default(),
            history: RefCell::default(),
            is_calm: Cell::new(false),
            mood,
            agenda,
        })
    }

    /// What happens by this seed.
    pub(crate) fn live(seed: u64, bug: Option<Bug>) -> (History, u64) {
        let world = Self::new(seed, bug);
        world.form();
        (0..world.disks.len()).for_each(|node| world.start(node));
        Client::all(&world);
        world.agenda.spawn(WORLD, Rc::clone(&world).trouble());
        world.agenda.run(world.mood.peace);
        world.note(Event::Calm);
        world.is_calm.set(true);
        world.settle_down();
        let steps = world.agenda.steps();
        // Everything holds the world, which holds everything.
        world.agenda.clear();
        world.clients.borrow_mut().clear();
        world.open_links.borrow_mut().clear();
        world.processes.borrow_mut().clear();
        let history = std::mem::take(&mut *world.history.borrow_mut());
        (history, steps)
    }

    /// The nodes have agreed on who they are before the world begins.
    fn form(&self) {
        let start = |node: usize| {
            let (id, home) = (node_id(node), HomeId(2 + 2 * node as u64));
            Start { id, home, name: "n".into(), address: "n".into(), hint: None, version: VERSION }
        };
        let members: Vec<Start> = (0..self.disks.len()).map(start).collect();
        for disk in &self.disks {
            let entry = raft::Entry { term: 0, payload: upkeep::form(self.shards, &members) };
            disk.write(Record::Append { group: usize::from(self.shards), index: 1, entry });
            disk.sync(1);
        }
    }

    /// The process of a node, if it lives.
    pub(crate) fn process(&self, node: usize) -> Option<Rc<Process>> {
        self.processes.borrow()[node].clone()
    }

    /// The same, if it is still that run.
    pub(crate) fn run(&self, node: usize, scope: u64) -> Option<Rc<Process>> {
        self.process(node).filter(|process| process.scope == scope)
    }

    pub(crate) fn start(self: &Rc<Self>, node: usize) {
        if self.process(node).is_some() {
            return;
        }
        self.scopes.set(self.scopes.get() + 1);
        let process = Process::start(self, node, self.scopes.get());
        self.processes.borrow_mut()[node] = Some(process);
    }

    /// The process dies. `left` of a thousand records that were not synced have reached the disk nevertheless.
    pub(crate) fn crash(self: &Rc<Self>, node: usize, left: u64) {
        let Some(process) = self.processes.borrow_mut()[node].take() else { return };
        self.note(Event::Crashed { node });
        self.agenda.end(process.scope);
        let disk = &self.disks[node];
        let count = disk.unsynced() as u64 * left / 1_000;
        disk.crash(usize::try_from(count).unwrap_or(0));
        let links: Vec<Rc<Link>> = {
            let open = self.open_links.borrow();
            open.values().filter(|link| link.node == node && link.scope == process.scope).cloned().collect()
        };
        for link in links {
            let is_told = self.agenda.chance(700);
            self.cut(&link, is_told, true);
            self.open_links.borrow_mut().remove(&link.number);
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    pub(crate) fn note(&self, event: Event) {
        self.history.borrow_mut().note(self.agenda.now(), event);
    }

    /// A run of a node is over, as some node has heard.
    pub(crate) fn note_over(&self, home: HomeId) {
        if self.over.borrow_mut().insert(home) {
            self.note(Event::Over { home: home.0 });
        }
    }
}
