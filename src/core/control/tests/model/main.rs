//! Random ops on replicas that freeze, load and fall behind as they like, compared with each other and with plain sets
//! of routes.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod random;

use nightjar_base::{Change, HomeId, NodeId, Wall};
use nightjar_control::{Bridge, Control, ControlEffect, ControlOp, GroupRoute, Node, Owner, Placement, Settings};
use nightjar_mqtt::topic;
use proptest::prelude::*;
use random::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const GROUP: u16 = 16;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// All that can be read of a state.
#[derive(Debug, PartialEq)]
struct View {
    applied: u64,
    settings: Option<Settings>,
    protocol: u16,
    nodes: Vec<Node>,
    placement: Placement,
    plan: Placement,
    bridges: Vec<(Arc<str>, Bridge)>,
    epoch: u64,
    routes: BTreeMap<HomeId, Vec<String>>,
    filters: usize,
}

fn view(control: &Control) -> View {
    let routes = |node: &Node| Some((node.home()?, control.routes_of(node.seat()?)));
    View {
        applied: control.applied(),
        settings: control.settings().copied(),
        protocol: control.protocol(),
        nodes: control.nodes().cloned().collect(),
        placement: control.placement().clone(),
        plan: control.plan(),
        bridges: control.bridges().map(|(name, bridge)| (name.clone(), *bridge)).collect(),
        epoch: control.routes_epoch(),
        routes: control.nodes().filter_map(routes).collect(),
        filters: control.route_count(),
    }
}

/// A replica with its tables and the ops since its last checkpoint.
struct Replica {
    control: Control,
    tables: Rows,
    unwritten: Arc<Vec<Change>>,
    union: bool,
    journal: Vec<(u64, ControlOp)>,
}

impl Replica {
    fn new() -> Self {
        let mut tables = Rows::new();
        // Rows of the groups beside it, which must never be seen.
        tables.insert(vec![0, 15, 1, 0, 0], vec![99]);
        tables.insert(vec![0, 17], vec![99]);
        Self { control: Control::new(GROUP), tables, unwritten: Arc::default(), union: false, journal: Vec::new() }
    }

    fn apply(&mut self, index: u64, op: ControlOp) -> Vec<ControlEffect> {
        let mut effects = Vec::new();
        self.journal.push((index, op.clone()));
        self.control.apply(index, op, &mut effects);
        effects
    }

    fn freeze(&mut self) {
        self.union = !self.unwritten.is_empty();
        self.unwritten = self.control.freeze();
        self.journal.clear();
    }

    /// The rest of a checkpoint.
    fn write(&mut self) {
        for change in self.unwritten.iter() {
            assert!(change.key.starts_with(&GROUP.to_be_bytes()));
            match &change.value {
                Some(value) => {
                    assert!(value.len() <= 16 * 1024);
                    self.tables.insert(change.key.clone(), value.clone());
                }
                None => {
                    let there = self.tables.remove(&change.key).is_some();
                    assert!(there || self.union, "only rows that are there are removed");
                }
            }
        }
        self.unwritten = Arc::default();
        self.control.thaw();
    }

    /// The process dies; a checkpoint record that was synced is finished at recovery.
    fn crash(&mut self) {
        self.write();
        self.control = Control::load(GROUP, &self.tables).unwrap();
        for (index, op) in &self.journal {
            self.control.apply(*index, op.clone(), &mut Vec::new());
        }
    }
}

struct Bench {
    dice: Dice,
    replicas: [Replica; 3],
    index: u64,
    now: u64,
    /// Filters of each home that is not over.
    routes: BTreeMap<HomeId, BTreeSet<Arc<str>>>,
    owners: BTreeMap<Arc<str>, Owner>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let replicas = std::array::from_fn(|_| Replica::new());
        Self { dice: Dice(seed | 1), replicas, index: 0, now: 0, routes: BTreeMap::new(), owners: BTreeMap::new() }
    }

    fn step(&mut self) {
        // The first replica never freezes.
        let which = 1 + self.dice.roll(2) as usize;
        match self.dice.roll(40) {
            0 => self.replicas[which].freeze(),
            1 => self.replicas[which].write(),
            2 if self.dice.one_in(3) => self.replicas[which].crash(),
            3 => self.check_topics(),
            _ => self.apply(),
        }
    }

    fn apply(&mut self) {
        self.index += 1;
        self.now += self.dice.roll(300);
        let op = random::op(&mut self.dice, &self.replicas[0].control, Wall(self.now));
        assert_eq!(ControlOp::decode(&op.encode().unwrap()).as_ref(), Ok(&op));
        let epoch = self.replicas[0].control.routes_epoch();
        let effects = self.replicas[0].apply(self.index, op.clone());
        for other in &mut self.replicas[1..] {
            assert_eq!(other.apply(self.index, op.clone()), effects);
        }
        let changed = effects.contains(&ControlEffect::RoutesChanged);
        assert_eq!(self.replicas[0].control.routes_epoch() > epoch, changed);
        self.note_routes(&op, &effects);
        self.note_bridges(&op, &effects);
    }

    fn note_routes(&mut self, op: &ControlOp, effects: &[ControlEffect]) {
        for effect in effects {
            if let ControlEffect::HomeDown { home, .. } = effect {
                self.routes.remove(home);
            }
        }
        let ControlOp::Routes { home, added, removed } = op else { return };
        if self.replicas[0].control.node_of(*home).is_none() {
            return;
        }
        let filters = self.routes.entry(*home).or_default();
        filters.retain(|filter| !removed.contains(filter));
        filters.extend(added.iter().filter(|filter| topic::parse_filter(filter).is_ok()).cloned());
    }

    /// An owner is followed by another only when its home is over or it has released the bridge.
    fn note_bridges(&mut self, op: &ControlOp, effects: &[ControlEffect]) {
        for effect in effects {
            let ControlEffect::BridgesChanged { name, owner, .. } = effect else { continue };
            if let Some(old) = self.owners.get(name).filter(|old| Some(**old) != *owner) {
                let over = ControlEffect::HomeDown { home: old.home, node: old.node };
                let released = ControlOp::BridgeReleased { name: name.clone(), home: old.home };
                assert!(effects.contains(&over) || *op == released, "{old:?} lost {name} by {op:?}");
            }
            match owner {
                Some(owner) => drop(self.owners.insert(name.clone(), *owner)),
                None => drop(self.owners.remove(name)),
            }
        }
        let control = &self.replicas[0].control;
        let owned = control.bridges().filter_map(|(name, bridge)| Some((name.clone(), bridge.owner()?)));
        assert_eq!(owned.collect::<BTreeMap<_, _>>(), self.owners);
        for (name, bridge) in control.bridges() {
            let able = control.nodes_in(bridge.wanted()).any(Node::is_serving);
            assert!(!able || bridge.owner().is_some(), "{name} could run");
        }
    }

    fn check_topics(&mut self) {
        let control = &self.replicas[self.dice.roll(3) as usize].control;
        for _ in 0..5 {
            let topic = random::topic(&mut self.dice);
            let mut nodes = BTreeSet::new();
            let mut groups: BTreeMap<Arc<str>, BTreeSet<NodeId>> = BTreeMap::new();
            for (home, filters) in &self.routes {
                let id = control.node_of(*home).unwrap().id();
                for text in filters {
                    let filter = topic::parse_filter(text).unwrap();
                    if !topic::matches(filter.filter, &topic) {
                    } else if filter.share.is_some() {
                        groups.entry(text.clone()).or_default().insert(id);
                    } else {
                        nodes.insert(id);
                    }
                }
            }
            let ids = |set| control.nodes_in(set).map(Node::id).collect::<BTreeSet<_>>();
            assert_eq!(ids(control.nodes_for(&topic)), nodes, "{topic}");
            let mut found = Vec::new();
            control.groups_for(&topic, &mut found);
            let count = found.len();
            let found: BTreeMap<_, _> = found.into_iter().map(|GroupRoute { key, nodes }| (key, ids(nodes))).collect();
            assert_eq!((found.len(), found), (count, groups), "{topic}");
        }
    }

    fn check_all(&mut self) {
        self.check_topics();
        let first = view(&self.replicas[0].control);
        for other in &self.replicas[1..] {
            assert_eq!(view(&other.control), first);
        }
        for (home, filters) in &first.routes {
            let wanted: Vec<String> = self.routes.get(home).into_iter().flatten().map(ToString::to_string).collect();
            assert_eq!(*filters, wanted);
        }
        assert!(self.routes.keys().all(|home| first.routes.contains_key(home)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn short_runs_agree(seed in any::<u64>(), steps in 20_usize..200) {
        let mut bench = Bench::new(seed);
        for _ in 0..steps {
            bench.step();
        }
        bench.check_all();
        bench.replicas[1].crash();
        bench.replicas[2].crash();
        bench.check_all();
    }
}

#[test]
fn a_long_run_agrees() {
    let mut bench = Bench::new(0x5eed);
    for _ in 0..30_000 {
        bench.step();
    }
    bench.replicas[1].crash();
    bench.check_all();
}

/// Nothing is left behind: when all homes are over, no row of a route is left.
#[test]
fn all_rows_go_with_what_they_hold() {
    let mut bench = Bench::new(77);
    for _ in 0..3_000 {
        bench.step();
    }
    let homes: Vec<(NodeId, HomeId)> =
        bench.replicas[0].control.nodes().filter_map(|node| Some((node.id(), node.home()?))).collect();
    let replica = &mut bench.replicas[1];
    for (id, home) in homes {
        bench.index += 1;
        replica.apply(bench.index, ControlOp::NodeDown { id, home, now: Wall(0) });
    }
    replica.freeze();
    replica.write();
    let routes = replica.tables.keys().filter(|key| key.starts_with(&[0, 16, 4])).count();
    assert_eq!((routes, replica.control.route_count(), replica.control.overlay_bytes()), (0, 0, 0));
    let known: BTreeMap<_, _> = replica.control.nodes().map(|node| (node.id(), node.home())).collect();
    assert!(known.values().all(Option::is_none));
}
