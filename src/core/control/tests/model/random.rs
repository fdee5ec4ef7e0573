//! Random ops that meet the state often enough to matter.

use nightjar_base::{HomeId, NodeId, Wall};
use nightjar_control::{Control, ControlOp, Node, Placement, Settings, Start};
use std::sync::Arc;

/// A small generator of numbers: the same seed, the same run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.roll(texts.len() as u64) as usize]
    }
}

const LEVELS: [&str; 6] = ["a", "b", "c", "", "$SYS", "long"];
const BRIDGES: [&str; 4] = ["east", "west", "cloud", "lab"];

pub fn topic(dice: &mut Dice) -> String {
    let levels: Vec<&str> = (0..=dice.roll(3)).map(|_| dice.pick(&LEVELS)).collect();
    let topic = levels.join("/");
    if topic.is_empty() { "/".to_owned() } else { topic }
}

fn filter(dice: &mut Dice) -> Arc<str> {
    let mut levels: Vec<&str> =
        (0..=dice.roll(3)).map(|_| if dice.one_in(4) { "+" } else { dice.pick(&LEVELS) }).collect();
    if dice.one_in(4) {
        levels.push("#");
    }
    // Some beyond one part of a row, some that are none.
    let long = "long".repeat(4_000);
    let filter = levels.join("/").replace("long", if dice.one_in(10) { &long } else { "long" });
    match dice.roll(8) {
        0 => format!("$share/g/{filter}").into(),
        1 => format!("$share/h/{filter}").into(),
        2 if dice.one_in(10) => "not/#/a filter".into(),
        _ => filter.into(),
    }
}

fn node(dice: &mut Dice, state: &Control) -> (NodeId, HomeId) {
    // Seldom one that has gone, or none at all.
    let gone = dice.one_in(20);
    let known: Vec<&Node> = if gone { state.nodes().collect() } else { state.members().collect() };
    let at = dice.roll(known.len() as u64 + u64::from(gone)) as usize;
    let Some(node) = known.get(at) else { return (NodeId(dice.roll(9)), HomeId(dice.roll(9))) };
    (node.id(), node.home().filter(|_| !dice.one_in(20)).unwrap_or_else(|| HomeId(dice.roll(9))))
}

fn start(dice: &mut Dice, id: NodeId, home: HomeId, state: &Control) -> Start {
    let text = format!("node{id}-{}", dice.roll(3));
    let version = (state.protocol() + dice.roll(3) as u16).saturating_sub(u16::from(dice.one_in(9)));
    Start {
        id,
        home,
        name: text.as_str().into(),
        address: text.into(),
        hint: dice.one_in(2).then(|| "use me".into()),
        version,
    }
}

fn form(dice: &mut Dice, now: Wall, state: &Control) -> ControlOp {
    let settings = Settings { cluster: 9, shards: 1 + dice.roll(8) as u16, replicas: 3 };
    let members = 1 + dice.roll(4);
    let members = (0..members).map(|n| Start { version: 1, ..start(dice, NodeId(n), HomeId(n), state) }).collect();
    ControlOp::Form { settings, protocol: 1, members, now }
}

/// An op at the time `now`.
pub fn op(dice: &mut Dice, state: &Control, now: Wall) -> ControlOp {
    if state.settings().is_none() || dice.one_in(500) {
        return form(dice, now, state);
    }
    let (id, home) = node(dice, state);
    let many = state.members().count() > 3;
    let fresh = HomeId(dice.roll(u64::MAX));
    match dice.roll(60) {
        0 if state.members().count() < 7 || dice.one_in(20) => {
            let id = if dice.one_in(5) { id } else { NodeId(dice.roll(u64::MAX)) };
            ControlOp::NodeJoined { start: start(dice, id, fresh, state), now }
        }
        1 | 2 => {
            let home = if dice.one_in(3) { home } else { fresh };
            ControlOp::NodeStarted { start: start(dice, id, home, state), now }
        }
        3 | 4 => ControlOp::NodeUp { id, home, now },
        5 => ControlOp::NodeDown { id, home, now },
        6 => ControlOp::NodeDraining { id, now },
        7 if many || dice.one_in(20) => ControlOp::NodeLeft { id, now },
        8 if many || dice.one_in(20) => ControlOp::NodeReplaced { old: id, new: node(dice, state).0, now },
        9 | 10 => ControlOp::PlacementSet { placement: state.plan() },
        11 => ControlOp::PlacementSet { placement: Placement { shards: vec![vec![id]], control: vec![id] } },
        12 => ControlOp::ReplicasSet { replicas: dice.roll(6) as u8 },
        13 => ControlOp::ProtocolRaised { to: state.protocol() + dice.roll(3) as u16 },
        14..=19 => ControlOp::BridgeWanted { name: dice.pick(&BRIDGES).into(), home },
        20 | 21 => ControlOp::BridgeUnwanted { name: dice.pick(&BRIDGES).into(), home },
        22..=24 => {
            let asked = state.bridges().find(|(_, bridge)| bridge.release());
            let name = asked.map_or_else(|| dice.pick(&BRIDGES).into(), |(name, _)| name.clone());
            let owner = state.bridge(&name).and_then(nightjar_control::Bridge::owner);
            ControlOp::BridgeReleased { name, home: owner.map_or(home, |owner| owner.home) }
        }
        25..=27 => {
            let seat = state.node_of(home).and_then(Node::seat);
            let all = seat.map(|seat| state.routes_of(seat)).unwrap_or_default();
            let removed = all.into_iter().filter(|_| dice.one_in(2)).map(Arc::from).collect();
            ControlOp::Routes { home, added: vec![], removed }
        }
        _ => {
            let mut filters = |most| (0..dice.roll(most)).map(|_| filter(dice)).collect();
            ControlOp::Routes { home, added: filters(6), removed: filters(4) }
        }
    }
}
