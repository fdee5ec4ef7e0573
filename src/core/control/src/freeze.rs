//! Freezing: the net result of what was applied, as absolute changes to rows.

use crate::codec::{self, BridgeV1, MetaV1, NodeV1, RouteV1};
use crate::control::Control;
use crate::keys::{self, Kind};
use crate::node::{Node, Stage};
use crate::routes::{Routes, Spot};
use nightjar_base::{Change, NodeId, parts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the next freeze writes beside the routes, and what it finds in the tables.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) nodes: BTreeSet<NodeId>,
    pub(crate) placement: bool,
    pub(crate) bridges: bool,
    /// How many parts there are of each row.
    pub(crate) node_parts: BTreeMap<NodeId, u16>,
    pub(crate) placement_parts: u16,
    pub(crate) bridges_parts: u16,
    /// `applied` of the last freeze.
    pub(crate) frozen_applied: u64,
    /// The changes of freezes that were not thawed, ordered by key.
    frozen: Arc<Vec<Change>>,
}

impl Control {
    /// Whether anything was applied since the last freeze.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.applied != self.rows.frozen_applied
    }

    /// What the next freeze would write, roughly, in bytes.
    #[must_use]
    pub fn overlay_bytes(&self) -> usize {
        (self.rows.nodes.len() + self.routes.dirty.len() + self.routes.graves.len()) * 128
    }

    /// The net absolute changes since the last freeze, ordered by key, the position they stand for among them.
    ///
    /// A freeze before [`thaw`](Self::thaw) gives the union of both.
    pub fn freeze(&mut self) -> Arc<Vec<Change>> {
        if !self.is_dirty() {
            return self.rows.frozen.clone();
        }
        let mut changes = Vec::new();
        let meta = MetaV1 {
            applied: self.applied,
            settings: self.settings,
            protocol: self.protocol,
            routes_epoch: self.routes.epoch,
        };
        parts::put(&mut changes, &keys::single(self.group, Kind::Meta), codec::encode(&meta), 1);
        self.freeze_nodes(&mut changes);
        self.freeze_placement(&mut changes);
        self.freeze_bridges(&mut changes);
        freeze_routes(self.group, &mut self.routes, &mut changes);
        self.rows.frozen_applied = self.applied;

        changes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        debug_assert!(changes.windows(2).all(|pair| pair[0].key < pair[1].key), "one change a row");
        self.rows.frozen = Arc::new(Change::overlay(&self.rows.frozen, changes));
        self.rows.frozen.clone()
    }

    /// The frozen changes are in the tables now.
    pub fn thaw(&mut self) {
        self.rows.frozen = Arc::default();
    }

    fn freeze_nodes(&mut self, changes: &mut Vec<Change>) {
        for id in std::mem::take(&mut self.rows.nodes) {
            let Some(node) = self.nodes.get(&id) else { continue };
            let old = self.rows.node_parts.entry(id).or_default();
            *old = parts::put(changes, &keys::node(self.group, id), codec::encode(&node_row(node)), *old);
        }
    }

    fn freeze_placement(&mut self, changes: &mut Vec<Change>) {
        if std::mem::take(&mut self.rows.placement) {
            let base = keys::single(self.group, Kind::Placement);
            let old = &mut self.rows.placement_parts;
            *old = parts::put(changes, &base, codec::encode(&self.placement), *old);
        }
    }

    /// All in one row: bridges are few.
    fn freeze_bridges(&mut self, changes: &mut Vec<Change>) {
        if std::mem::take(&mut self.rows.bridges) {
            let row = |(name, bridge): (&Arc<str>, &crate::Bridge)| BridgeV1 {
                name: name.clone(),
                wanted: bridge.wanted.0,
                owner: bridge.owner,
                release: bridge.release,
            };
            let bridges: Vec<BridgeV1> = self.bridges.iter().map(row).collect();
            let base = keys::single(self.group, Kind::Bridges);
            let old = &mut self.rows.bridges_parts;
            *old = parts::put(changes, &base, codec::encode(&bridges), *old);
        }
    }
}

fn node_row(node: &Node) -> NodeV1 {
    NodeV1 {
        seat: node.seat.map(|seat| seat.0),
        stage: match node.stage {
            Stage::Joining => 0,
            Stage::Active => 1,
            Stage::Draining => 2,
            Stage::Gone => 3,
        },
        home: node.home,
        since: node.since,
        name: node.name.clone(),
        address: node.address.clone(),
        hint: node.hint.clone(),
        version: node.version,
        past: node.past.clone(),
    }
}

fn freeze_routes(group: u16, routes: &mut Routes, changes: &mut Vec<Change>) {
    for number in std::mem::take(&mut routes.dirty) {
        let row = routes.row(number);
        let (spot, filter) = routes.written(number);
        let value = codec::encode(&route_row(spot, filter));
        spot.row = row;
        spot.parts = parts::put(changes, &keys::route(group, row), value, spot.parts);
    }
    // Their numbers are free only now: a row is changed once in a freeze.
    for (row, count) in std::mem::take(&mut routes.graves) {
        parts::remove(changes, &keys::route(group, row), count);
        routes.free_rows.push(row);
    }
}

fn route_row(spot: &Spot, filter: String) -> RouteV1 {
    let share = |key: &str| {
        let rest = key.strip_prefix("$share/").unwrap_or(key);
        rest.split_once('/').map_or(rest, |(share, _)| share).to_owned()
    };
    let groups = spot.groups().iter().map(|group| (share(&group.key), group.nodes.0)).collect();
    RouteV1 { filter, nodes: spot.nodes.0, groups }
}
