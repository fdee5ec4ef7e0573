//! Several nodes in one process: their disks, their clocks, what they are plugged into, and the time that passes.
//!
//! Time is the runtime's, which stands still while anything has something to do. What has threads of its own, the journals,
//! is waited for at every step: so no disk is slower than the rest by more than a step. Each node has a clock of its own,
//! a little fast or slow.

use super::bugs::Bug;
use super::ledger::Ledger;
use super::site::{Ground, Site};
use super::upkeep;
use crate::cluster::raft::Pace;
use crate::cluster::wire::{Switch, Weather};
use crate::env::clock::Clock;
use crate::env::task;
use crate::store::tests::{Random, SimDisk, SimTables, open};
use crate::store::{Opened, Store, StoreConfig};
use nightjar_base::{HomeId, NodeId, Wall};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a step is.
const STEP: Duration = Duration::from_millis(1);
/// How many milliseconds the journals may take for one, by the machine's clock.
const PATIENCE: u64 = 20_000;

/// What a run is like, by its seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) nodes: usize,
    pub(super) voters: usize,
    pub(super) shards: u16,
    pub(super) clients: usize,
    pub(super) pace: Pace,
    pub(super) most_held: usize,
    pub(super) checkpoint_overlay_bytes: usize,
    /// By how many thousandths clocks are fast or slow, at most.
    pub(super) drift: u64,
}

impl Manner {
    pub(super) fn of(random: &mut Random) -> Self {
        let nodes = 3 + random.below(3) as usize;
        let heartbeat = 50 + 50 * random.below(4);
        Self {
            nodes,
            voters: if nodes == 5 && random.below(2) == 0 { 5 } else { 3 },
            shards: 1 + random.below(3) as u16,
            clients: 3 + random.below(4) as usize,
            pace: Pace {
                heartbeat: Duration::from_millis(heartbeat),
                election: Duration::from_millis(3 * heartbeat + 50 * random.below(3)),
                kept: [0, 5, 50][random.below(3) as usize],
            },
            most_held: [0, 2_000, 1 << 20][random.below(3) as usize],
            checkpoint_overlay_bytes: [2_000, 20_000, 1 << 20][random.below(3) as usize],
            drift: [0, 20, 60][random.below(3) as usize],
        }
    }
}

/// Where a node is, whether it runs or not.
struct Place {
    disk: SimDisk,
    tables: Arc<SimTables>,
    clock: Clock,
    /// Thousandths of a millisecond that the clock goes on by in a millisecond.
    rate: u64,
    id: NodeId,
    running: Option<Running>,
    /// What was there when the cluster had formed.
    early: Option<(SimDisk, Arc<SimTables>)>,
}

struct Running {
    site: Arc<Site>,
    _upkeep: task::Held,
}

/// All of it.
pub(super) struct World {
    pub(super) manner: Manner,
    pub(super) bug: Bug,
    pub(super) switch: Arc<Switch>,
    pub(super) ledger: Arc<Ledger>,
    places: Mutex<Vec<Place>>,
    closing: AtomicBool,
    numbers: AtomicU64,
}

impl World {
    pub(super) fn new(seed: u64, manner: Manner, bug: Bug, random: &mut Random) -> Arc<Self> {
        let place = |number: usize| {
            let disk = SimDisk::new(seed.wrapping_mul(31).wrapping_add(number as u64));
            if bug == Bug::LyingDisk {
                disk.lie();
            }
            let rate = 1_000 - manner.drift + random.below(2 * manner.drift + 1);
            Place {
                tables: Arc::new(SimTables::new(&disk, 0)),
                disk,
                clock: Clock::manual(Wall(1_700_000_000_000 + random.below(100_000))),
                rate,
                id: NodeId(0),
                running: None,
                early: None,
            }
        };
        let places = (0..manner.nodes).map(place).collect();
        Arc::new(Self {
            manner,
            bug,
            switch: Switch::new(seed),
            ledger: Arc::new(Ledger::new(manner.clients)),
            places: Mutex::new(places),
            closing: AtomicBool::new(false),
            numbers: AtomicU64::new(1),
        })
    }

    /// A number that nothing else has, larger than all before.
    pub(super) fn next_epoch(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn next_order(&self) -> u64 {
        self.next_epoch()
    }

    /// Clients are to come to an end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(super) fn count(&self) -> usize {
        self.manner.nodes
    }

    /// The ids of all nodes, whether they run or not.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.places.lock().iter().map(|place| place.id).collect()
    }

    /// The nodes that run.
    pub(super) fn sites(&self) -> Vec<Arc<Site>> {
        let places = self.places.lock();
        places.iter().filter_map(|place| Some(Arc::clone(&place.running.as_ref()?.site))).collect()
    }

    pub(super) fn site(&self, place: usize) -> Option<Arc<Site>> {
        self.places.lock()[place].running.as_ref().map(|running| Arc::clone(&running.site))
    }

    pub(super) fn any_site(&self, random: &mut Random) -> Option<Arc<Site>> {
        let sites = self.sites();
        let at = random.below(sites.len().max(1) as u64) as usize;
        sites.get(at).cloned()
    }

    /// Nobody else that may acknowledge has a connection of this client, which was let in at `site`.
    pub(super) fn see_alone(&self, site: &Arc<Site>, client: usize) {
        for other in self.sites().iter().filter(|other| other.works.id != site.works.id && other.is_alive()) {
            let has = other.connections.lock().get(&client).is_some_and(|connection| connection.is_open());
            if has && other.works.settling.may_acknowledge() {
                let (here, there) = (site.works.id, other.works.id);
                self.ledger.violation(format!("client {client} is let in at {here}, and is served at {there}"));
            }
        }
    }

    fn config(&self, place: &Place) -> StoreConfig {
        let ledger = Arc::clone(&self.ledger);
        let id = place.id;
        StoreConfig {
            shards: self.manner.shards,
            segment_bytes: 64 << 10,
            journal_budget: 256 << 10,
            checkpoint_overlay_bytes: self.manner.checkpoint_overlay_bytes,
            // Only when it is asked for, or needed: this one is counted by the machine's clock.
            checkpoint_interval: Duration::from_secs(3_600),
            free_space_floor: 0,
            reserve_bytes: 4 << 10,
            clock: place.clock.clone(),
            fatal: Arc::new(move |why| ledger.note(|| format!("the store of {id} fails: {why}"))),
            ..StoreConfig::new("simulated")
        }
    }

    fn opened(&self, number: usize) -> Opened {
        let places = self.places.lock();
        let place = &places[number];
        match open(self.config(place), &place.disk, &place.tables) {
            Ok(opened) => opened,
            Err(error) => panic!("the store of node {number} does not open: {error}"),
        }
    }

    /// Starts a node, which may be one that was killed before.
    pub(super) async fn start(self: &Arc<Self>, number: usize) {
        let opened = self.opened(number);
        let id = NodeId(opened.store().node());
        let clock = {
            let mut places = self.places.lock();
            places[number].id = id;
            places[number].clock.clone()
        };
        let home = HomeId((1 << 32) + self.next_epoch());
        self.ledger.note(|| format!("{id} starts as {home}"));
        let ground = Ground {
            opened,
            home,
            clock,
            pace: self.manner.pace,
            most_held: self.manner.most_held,
            ledger: Arc::clone(&self.ledger),
            bug: self.bug,
        };
        let site = Site::start(ground, &self.switch).await;
        let held = task::hold(upkeep::run(Arc::clone(&site)));
        self.places.lock()[number].running = Some(Running { site, _upkeep: held });
    }

    /// Kills a node, and its disk forgets what was not synced, or a part of it.
    pub(super) async fn crash(self: &Arc<Self>, number: usize, random: &mut Random) {
        let (running, disk) = {
            let mut places = self.places.lock();
            (places[number].running.take(), places[number].disk.clone())
        };
        let Some(Running { site, _upkeep: upkeep }) = running else { return };
        self.ledger.note(|| format!("{} is killed", site.works.id));
        site.die();
        drop(upkeep);
        self.switch.leave(site.works.id);
        // It may get a call or two further: in the middle of a write, or of a checkpoint.
        disk.fail_in(1 + random.below(4));
        site.works.stop(&self.switch).await;
        disk.power_cut();
        let disk = self.next_life(number);
        while random.below(4) == 0 {
            // A start that is cut as well.
            disk.fail_in(1 + random.below(12));
            let places = self.places.lock();
            drop(open(self.config(&places[number]), &disk, &places[number].tables));
            drop(places);
            disk.power_cut();
        }
        if self.bug == Bug::Wiped {
            self.wipe(number);
        }
    }

    /// What is left of the process before reaches its disk no more.
    fn next_life(&self, number: usize) -> SimDisk {
        let place = &mut self.places.lock()[number];
        place.disk = place.disk.next_life();
        place.tables = Arc::new(place.tables.next_life(&place.disk));
        place.disk.clone()
    }

    /// What there is now is what a wiped node comes back with.
    pub(super) fn note_early(&self) {
        for place in self.places.lock().iter_mut() {
            let disk = place.disk.image();
            let tables = Arc::new(place.tables.image(&disk));
            place.early = Some((disk, tables));
        }
    }

    fn wipe(&self, number: usize) {
        let mut places = self.places.lock();
        let place = &mut places[number];
        if let Some((disk, tables)) = &place.early {
            place.disk = disk.image();
            place.tables = Arc::new(tables.image(&place.disk));
        }
    }

    /// Somebody sets a node's clock.
    pub(super) fn set_clock(&self, number: usize, to: Wall) {
        self.places.lock()[number].clock.jump(to);
    }

    pub(super) fn clock(&self, number: usize) -> Wall {
        self.places.lock()[number].clock.now()
    }

    /// What happens to all that goes between two nodes, either way or one.
    pub(super) fn set_weather(&self, from: NodeId, to: NodeId, weather: Weather) {
        self.switch.set_weather(from, to, weather);
    }

    /// Nothing is cut, lost or late any more.
    pub(super) fn heal(&self) {
        let ids = self.ids();
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                self.switch.mend(*from, *to);
                self.switch.set_weather(*from, *to, Weather::default());
            }
        }
    }

    fn stores(&self) -> Vec<Store> {
        self.sites().iter().map(|site| site.works.store.clone()).collect()
    }

    /// Lets time pass, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut passed: BTreeMap<usize, u64> = BTreeMap::new();
        loop {
            for _ in 0..4 {
                task::pause().await;
            }
            self.wait_quiet().await;
            for (number, place) in self.places.lock().iter().enumerate() {
                let passed = passed.entry(number).or_default();
                *passed += place.rate;
                place.clock.advance(Duration::from_millis(*passed / 1_000));
                *passed %= 1_000;
            }
            task::sleep(STEP).await;
        }
    }

    async fn wait_quiet(&self) {
        let machine = Clock::machine();
        while !self.stores().iter().all(Store::is_quiet) {
            if machine.tick().0 > PATIENCE {
                return self.ledger.violation("a journal does not come to rest".to_owned());
            }
            std::thread::yield_now();
            task::pause().await;
        }
    }
}
