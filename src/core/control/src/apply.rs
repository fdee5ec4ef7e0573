//! Applying ops. Nothing here depends on when a freeze happened.

use crate::control::Control;
use crate::effect::{ControlEffect, Refusal};
use crate::node::{MAX_NODES, Node, Stage};
use crate::op::{ControlOp, Settings, Start};
use crate::placement::Placement;
use nightjar_base::{HomeId, NodeId, Wall};
use std::collections::BTreeSet;
use std::sync::Arc;

type Done = Result<(), Refusal>;

impl Control {
    /// Applies one op of the batch `index`; the ops of one batch share it, and nothing may be frozen between them.
    ///
    /// Never fails: an op that cannot be done changes nothing, and [`ControlEffect::Refused`] says why.
    pub fn apply(&mut self, index: u64, op: ControlOp, effects: &mut Vec<ControlEffect>) {
        self.applied = index;
        // Routes are by far the most frequent, and cannot touch a bridge.
        let bridges = (!matches!(op, ControlOp::Routes { .. })).then(|| self.bridges.clone());
        if let Err(refusal) = self.change(op, effects) {
            effects.push(ControlEffect::Refused(refusal));
        }
        if let Some(before) = bridges {
            self.settle_bridges();
            self.tell_bridges(&before, effects);
        }
    }

    fn routes(
        &mut self,
        home: HomeId,
        added: &[Arc<str>],
        removed: &[Arc<str>],
        effects: &mut Vec<ControlEffect>,
    ) -> Done {
        let seat = self.node_of(home).and_then(Node::seat).ok_or(Refusal::DeadHome(home))?;
        if self.routes.change(seat, added, removed) {
            effects.push(ControlEffect::RoutesChanged);
        }
        Ok(())
    }

    fn change(&mut self, op: ControlOp, effects: &mut Vec<ControlEffect>) -> Done {
        if self.settings.is_none() && !matches!(op, ControlOp::Form { .. }) {
            return Err(Refusal::NotFormed);
        }
        match op {
            ControlOp::Form { settings, protocol, members, now } => {
                self.form(settings, protocol, &members, now, effects)
            }
            ControlOp::ReplicasSet { replicas } => self.replicas_set(replicas, effects),
            ControlOp::ProtocolRaised { to } => self.protocol_raised(to, effects),
            ControlOp::NodeJoined { start, now } => self.joined(&start, now, effects),
            ControlOp::NodeStarted { start, now } => self.started(&start, now, effects),
            ControlOp::NodeUp { id, home, now } => self.up(id, home, now, effects),
            ControlOp::NodeDown { id, home, now } => self.down(id, home, now, effects),
            ControlOp::NodeDraining { id, now } => self.set_stage(id, Stage::Draining, now, effects),
            ControlOp::NodeLeft { id, now } => self.left(id, now, effects),
            ControlOp::NodeReplaced { old, new, now } => self.replaced(old, new, now, effects),
            ControlOp::PlacementSet { placement } => self.placement_set(placement, effects),
            ControlOp::BridgeWanted { name, home } => self.bridge_wanted(name, home),
            ControlOp::BridgeUnwanted { name, home } => {
                self.bridge_unwanted(&name, home);
                Ok(())
            }
            ControlOp::BridgeReleased { name, home } => {
                self.bridge_released(&name, home);
                Ok(())
            }
            ControlOp::Routes { home, added, removed } => self.routes(home, &added, &removed, effects),
        }
    }

    fn form(
        &mut self,
        settings: Settings,
        protocol: u16,
        members: &[Start],
        now: Wall,
        effects: &mut Vec<ControlEffect>,
    ) -> Done {
        if self.settings.is_some() {
            return Err(Refusal::AlreadyFormed);
        }
        if members.len() > MAX_NODES {
            return Err(Refusal::Full);
        }
        let ids: BTreeSet<NodeId> = members.iter().map(|member| member.id).collect();
        let homes: BTreeSet<HomeId> = members.iter().map(|member| member.home).collect();
        let distinct = !ids.is_empty() && ids.len() == members.len() && homes.len() == members.len();
        if !distinct || settings.shards == 0 || settings.replicas == 0 {
            return Err(Refusal::BadSettings);
        }
        for member in members {
            speaks(member.version, protocol)?;
        }
        (self.settings, self.protocol) = (Some(settings), protocol);
        for member in members {
            self.admit(member, Stage::Active, now)?;
        }
        effects.extend([ControlEffect::SettingsChanged, ControlEffect::NodesChanged]);
        Ok(())
    }

    fn replicas_set(&mut self, replicas: u8, effects: &mut Vec<ControlEffect>) -> Done {
        let Some(settings) = self.settings.as_mut().filter(|_| replicas > 0) else { return Err(Refusal::BadSettings) };
        if std::mem::replace(&mut settings.replicas, replicas) != replicas {
            effects.push(ControlEffect::SettingsChanged);
        }
        Ok(())
    }

    fn protocol_raised(&mut self, to: u16, effects: &mut Vec<ControlEffect>) -> Done {
        if to == self.protocol {
            return Ok(());
        }
        if self.next_protocol() != Some(to) {
            return Err(Refusal::Version { asked: to, spoken: self.protocol });
        }
        self.protocol = to;
        effects.push(ControlEffect::SettingsChanged);
        Ok(())
    }

    /// Takes in a node that was not known.
    fn admit(&mut self, start: &Start, stage: Stage, now: Wall) -> Done {
        let seat = self.seats().vacant().ok_or(Refusal::Full)?;
        let node = Node {
            id: start.id,
            seat: Some(seat),
            stage,
            home: Some(start.home),
            since: now,
            name: start.name.clone(),
            address: start.address.clone(),
            hint: start.hint.clone(),
            version: start.version,
            past: Vec::new(),
        };
        self.nodes.insert(start.id, node);
        self.rows.nodes.insert(start.id);
        Ok(())
    }

    fn joined(&mut self, start: &Start, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        // Proposed twice, when a leader went after the first time.
        if self.nodes.contains_key(&start.id) {
            return self.started(start, now, effects);
        }
        speaks(start.version, self.protocol)?;
        if self.is_spent(start.home) {
            return Err(Refusal::DeadHome(start.home));
        }
        self.admit(start, Stage::Joining, now)?;
        effects.push(ControlEffect::NodesChanged);
        Ok(())
    }

    fn started(&mut self, start: &Start, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        let present = self.member(start.id)?.home;
        speaks(start.version, self.protocol)?;
        if present != Some(start.home) {
            if self.is_spent(start.home) {
                return Err(Refusal::DeadHome(start.home));
            }
            self.end_home(start.id, effects);
        }
        let node = self.member(start.id)?;
        if present != Some(start.home) {
            node.home = Some(start.home);
            node.since = now;
        }
        node.name = start.name.clone();
        node.address = start.address.clone();
        node.hint = start.hint.clone();
        node.version = start.version;
        self.rows.nodes.insert(start.id);
        effects.push(ControlEffect::NodesChanged);
        Ok(())
    }

    fn up(&mut self, id: NodeId, home: HomeId, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        if self.member(id)?.home != Some(home) {
            return Err(Refusal::DeadHome(home));
        }
        self.set_stage(id, Stage::Active, now, effects)
    }

    fn down(&mut self, id: NodeId, home: HomeId, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        let node = self.member(id)?;
        if node.home != Some(home) {
            return Err(Refusal::DeadHome(home));
        }
        node.since = now;
        self.end_home(id, effects);
        effects.push(ControlEffect::NodesChanged);
        Ok(())
    }

    fn set_stage(&mut self, id: NodeId, stage: Stage, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        let node = self.member(id)?;
        if node.stage != stage {
            (node.stage, node.since) = (stage, now);
            self.rows.nodes.insert(id);
            effects.push(ControlEffect::NodesChanged);
        }
        Ok(())
    }

    fn left(&mut self, id: NodeId, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        self.member(id)?;
        if !self.members().any(|node| node.id != id && node.stage == Stage::Active) {
            return Err(Refusal::LastNode);
        }
        self.go(id, now, effects);
        Ok(())
    }

    fn replaced(&mut self, old: NodeId, new: NodeId, now: Wall, effects: &mut Vec<ControlEffect>) -> Done {
        self.member(old)?;
        self.member(new)?;
        if old == new {
            return Err(Refusal::Itself);
        }
        self.set_stage(new, Stage::Active, now, effects)?;
        self.go(old, now, effects);
        if self.placement.replace(old, new) {
            self.rows.placement = true;
            effects.push(ControlEffect::PlacementChanged);
        }
        Ok(())
    }

    fn placement_set(&mut self, placement: Placement, effects: &mut Vec<ControlEffect>) -> Done {
        let shards = self.settings.map_or(0, |settings| usize::from(settings.shards));
        let member = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.stage != Stage::Gone);
        let distinct = |ids: &[NodeId]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
        let good = |ids: &Vec<NodeId>| !ids.is_empty() && distinct(ids) && ids.iter().all(member);
        if placement.shards.len() != shards || !placement.shards.iter().all(good) || !good(&placement.control) {
            return Err(Refusal::BadPlacement);
        }
        if self.placement != placement {
            self.placement = placement;
            self.rows.placement = true;
            effects.push(ControlEffect::PlacementChanged);
        }
        Ok(())
    }

    /// The node, unless it has gone.
    fn member(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        let node = self.nodes.get_mut(&id).ok_or(Refusal::UnknownNode(id))?;
        if node.stage == Stage::Gone { Err(Refusal::GoneNode(id)) } else { Ok(node) }
    }

    /// Whether a home is, or lately was, anybody's.
    fn is_spent(&self, home: HomeId) -> bool {
        self.nodes.values().any(|node| node.home == Some(home) || node.past.contains(&home))
    }

    fn go(&mut self, id: NodeId, now: Wall, effects: &mut Vec<ControlEffect>) {
        self.end_home(id, effects);
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.stage, node.since, node.seat) = (Stage::Gone, now, None);
        }
        self.rows.nodes.insert(id);
        effects.push(ControlEffect::NodesChanged);
    }

    /// Ends a node's home, if it has one, with all that lived in it.
    fn end_home(&mut self, id: NodeId, effects: &mut Vec<ControlEffect>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (Some(seat), Some(home)) = (node.seat, node.end_home()) else { return };
        self.rows.nodes.insert(id);
        effects.push(ControlEffect::HomeDown { home, node: id });
        if self.routes.clear(seat) {
            effects.push(ControlEffect::RoutesChanged);
        }
        self.bridges_lose(home, seat);
    }
}

/// Whether a program of this version speaks what is spoken: its own version, or the one before.
fn speaks(version: u16, spoken: u16) -> Done {
    if version == spoken || version.checked_sub(1) == Some(spoken) {
        return Ok(());
    }
    Err(Refusal::Version { asked: version, spoken })
}
