//! Loading: one scan of the group's rows.

use crate::bridges::Bridge;
use crate::codec::{self, BridgeV1, MetaV1, NodeV1, RouteV1};
use crate::control::Control;
use crate::keys::{self, Kind};
use crate::node::{MAX_NODES, Node, NodeSet, Seat, Stage};
use crate::placement::Placement;
use nightjar_base::{NodeId, Tables, TablesError, parts};

impl Control {
    /// The state that the tables hold: one scan.
    ///
    /// # Errors
    /// When the tables cannot be read or are damaged.
    pub fn load(group: u16, tables: &dyn Tables) -> Result<Self, TablesError> {
        let mut control = Self::new(group);
        let (from, to) = keys::bounds(group);
        parts::scan(tables, &from, &to, &mut |base, value, parts| control.restore(base, value, parts))?;
        Ok(control)
    }

    fn restore(&mut self, base: &[u8], value: &[u8], parts: u16) -> Result<(), TablesError> {
        let kind = base.get(2).and_then(|&kind| Kind::from_u8(kind));
        let Some(kind) = kind.filter(|kind| kind.base_length() == base.len()) else {
            return Err(TablesError::corrupt(base, "no row has such a key"));
        };
        match kind {
            Kind::Meta => self.restore_meta(codec::decode(base, value)?),
            Kind::Node => self.restore_node(base, codec::decode(base, value)?, parts)?,
            Kind::Placement => {
                let placement: Placement = codec::decode(base, value)?;
                (self.placement, self.rows.placement_parts) = (placement, parts);
            }
            Kind::Bridges => self.restore_bridges(base, codec::decode(base, value)?, parts)?,
            Kind::Route => self.restore_route(base, codec::decode(base, value)?, parts)?,
        }
        Ok(())
    }

    fn restore_meta(&mut self, meta: MetaV1) {
        (self.applied, self.rows.frozen_applied) = (meta.applied, meta.applied);
        (self.settings, self.protocol) = (meta.settings, meta.protocol);
        self.routes.epoch = meta.routes_epoch;
    }

    fn restore_node(&mut self, base: &[u8], row: NodeV1, parts: u16) -> Result<(), TablesError> {
        let id = NodeId(keys::number(base));
        let stage = match row.stage {
            0 => Stage::Joining,
            1 => Stage::Active,
            2 => Stage::Draining,
            3 => Stage::Gone,
            stage => return Err(TablesError::corrupt(base, format_args!("there is no stage {stage}"))),
        };
        let seat = row.seat.map(Seat);
        if seat.is_some_and(|seat| usize::from(seat.0) >= MAX_NODES || self.node_at(seat).is_some()) {
            return Err(TablesError::corrupt(base, "its seat is another node's"));
        }
        if seat.is_some() == (stage == Stage::Gone) {
            return Err(TablesError::corrupt(base, "every node but one that has gone has a seat"));
        }
        let node = Node {
            id,
            seat,
            stage,
            home: row.home,
            since: row.since,
            name: row.name,
            address: row.address,
            hint: row.hint,
            version: row.version,
            past: row.past,
        };
        self.nodes.insert(id, node);
        self.rows.node_parts.insert(id, parts);
        Ok(())
    }

    fn restore_bridges(&mut self, base: &[u8], rows: Vec<BridgeV1>, parts: u16) -> Result<(), TablesError> {
        for row in rows {
            let bridge = Bridge { wanted: self.set(base, row.wanted)?, owner: row.owner, release: row.release };
            self.bridges.insert(row.name, bridge);
        }
        self.rows.bridges_parts = parts;
        Ok(())
    }

    fn restore_route(&mut self, base: &[u8], row: RouteV1, parts: u16) -> Result<(), TablesError> {
        let nodes = self.set(base, row.nodes)?;
        let mut groups = Vec::with_capacity(row.groups.len());
        for (share, nodes) in row.groups {
            groups.push((share, self.set(base, nodes)?));
        }
        let number = u32::try_from(keys::number(base)).expect("the key of a route ends with 32 bits");
        if !self.routes.restore(number, parts, &row.filter, nodes, groups) {
            return Err(TablesError::corrupt(base, "its filter is none, has another row, or has no nodes"));
        }
        Ok(())
    }

    /// A set of nodes that all exist.
    fn set(&self, base: &[u8], bits: u64) -> Result<NodeSet, TablesError> {
        let set = NodeSet(bits);
        if set.intersection(self.seats()) != set {
            return Err(TablesError::corrupt(base, "it names a node that does not exist"));
        }
        Ok(set)
    }
}
