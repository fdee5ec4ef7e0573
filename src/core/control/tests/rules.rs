//! The rules of the control group, one by one.
#![allow(clippy::unwrap_used, missing_docs)]

use nightjar_base::{HomeId, NodeId, TablesError, Wall};
use nightjar_control::{
    Bridge, Control, ControlEffect, ControlOp, GroupRoute, MAX_NODES, Node, Owner, Refusal, Settings, Stage, Start,
};
use std::collections::BTreeMap;

const NOW: Wall = Wall(5);

struct Cluster {
    control: Control,
    index: u64,
}

/// The first home of node n is n; the next ones are told by their hundreds.
fn start(number: u64, home: u64) -> Start {
    let text = format!("node{number}");
    let (name, address) = (text.as_str().into(), format!("{text}:1884").into());
    Start { id: NodeId(number), home: HomeId(home), name, address, hint: None, version: 3 }
}

impl Cluster {
    fn new(nodes: u64) -> Self {
        let mut cluster = Self { control: Control::new(4), index: 0 };
        let settings = Settings { cluster: 1, shards: 4, replicas: 3 };
        let members = (1..=nodes).map(|node| start(node, node)).collect();
        cluster.apply(ControlOp::Form { settings, protocol: 3, members, now: NOW });
        cluster
    }

    fn apply(&mut self, op: ControlOp) -> Vec<ControlEffect> {
        self.index += 1;
        let mut effects = Vec::new();
        self.control.apply(self.index, op, &mut effects);
        effects
    }

    fn refused(&mut self, op: ControlOp) -> Refusal {
        match self.apply(op).as_slice() {
            [ControlEffect::Refused(why)] => *why,
            effects => panic!("{effects:?}"),
        }
    }

    fn node(&self, id: u64) -> &Node {
        self.control.node(NodeId(id)).unwrap()
    }

    fn down(&mut self, id: u64) -> Vec<ControlEffect> {
        let home = self.node(id).home().unwrap();
        self.apply(ControlOp::NodeDown { id: NodeId(id), home, now: NOW })
    }

    fn route(&mut self, home: u64, added: &[&str], removed: &[&str]) -> Vec<ControlEffect> {
        let filters = |filters: &[&str]| filters.iter().map(|&filter| filter.into()).collect();
        self.apply(ControlOp::Routes { home: HomeId(home), added: filters(added), removed: filters(removed) })
    }

    fn nodes_for(&self, topic: &str) -> Vec<u64> {
        self.control.nodes_in(self.control.nodes_for(topic)).map(|node| node.id().0).collect()
    }

    fn want(&mut self, name: &str, home: u64) -> Vec<ControlEffect> {
        self.apply(ControlOp::BridgeWanted { name: name.into(), home: HomeId(home) })
    }

    fn owner(&self, name: &str) -> Option<u64> {
        self.control.bridge(name).and_then(Bridge::owner).map(|owner| owner.node.0)
    }
}

#[test]
fn nothing_is_done_before_the_cluster_forms_and_it_forms_once() {
    let mut cluster = Cluster { control: Control::new(4), index: 0 };
    assert_eq!(cluster.refused(ControlOp::NodeJoined { start: start(1, 1), now: NOW }), Refusal::NotFormed);
    let settings = Settings { cluster: 1, shards: 4, replicas: 3 };
    let form = |members| ControlOp::Form { settings, protocol: 3, members, now: NOW };
    assert_eq!(cluster.refused(form(vec![])), Refusal::BadSettings);
    assert_eq!(cluster.refused(form(vec![start(1, 1), start(1, 2)])), Refusal::BadSettings);
    let old = Start { version: 2, ..start(1, 1) };
    assert_eq!(cluster.refused(form(vec![old])), Refusal::Version { asked: 2, spoken: 3 });
    assert!(cluster.control.settings().is_none() && cluster.control.nodes().next().is_none());
    assert_eq!(cluster.apply(form(vec![start(1, 1)])), [ControlEffect::SettingsChanged, ControlEffect::NodesChanged]);
    assert_eq!(cluster.refused(form(vec![start(2, 2)])), Refusal::AlreadyFormed);
    assert_eq!((cluster.control.settings(), cluster.control.protocol()), (Some(&settings), 3));
}

#[test]
fn a_start_with_a_new_home_ends_the_old_one_with_its_routes() {
    let mut cluster = Cluster::new(2);
    cluster.route(1, &["a/+"], &[]);
    let effects = cluster.apply(ControlOp::NodeStarted { start: start(1, 100), now: Wall(9) });
    let over = ControlEffect::HomeDown { home: HomeId(1), node: NodeId(1) };
    assert_eq!(effects, [over, ControlEffect::RoutesChanged, ControlEffect::NodesChanged]);
    assert_eq!((cluster.node(1).home(), cluster.node(1).since()), (Some(HomeId(100)), Wall(9)));
    assert!(cluster.nodes_for("a/b").is_empty());
    // The same once more is no other home.
    let effects = cluster.apply(ControlOp::NodeStarted { start: start(1, 100), now: NOW });
    assert_eq!(effects, [ControlEffect::NodesChanged]);
}

#[test]
fn a_home_that_is_over_never_comes_back() {
    let mut cluster = Cluster::new(2);
    cluster.down(1);
    assert_eq!(cluster.node(1).home(), None);
    let over = Refusal::DeadHome(HomeId(1));
    assert_eq!(cluster.refused(ControlOp::NodeStarted { start: start(1, 1), now: NOW }), over);
    assert_eq!(cluster.refused(ControlOp::NodeUp { id: NodeId(1), home: HomeId(1), now: NOW }), over);
    assert_eq!(cluster.refused(ControlOp::NodeDown { id: NodeId(1), home: HomeId(1), now: NOW }), over);
    assert_eq!(cluster.route(1, &["a"], &[]), [ControlEffect::Refused(over)]);
    assert_eq!(cluster.refused(ControlOp::NodeJoined { start: start(3, 1), now: NOW }), over);
    let others = Refusal::DeadHome(HomeId(2));
    assert_eq!(cluster.refused(ControlOp::NodeStarted { start: start(1, 2), now: NOW }), others);
    cluster.apply(ControlOp::NodeStarted { start: start(1, 100), now: NOW });
    assert!(cluster.node(1).is_serving());
}

#[test]
fn a_node_that_has_gone_is_refused_for_ever_and_its_seat_is_free() {
    let mut cluster = Cluster::new(2);
    let seat = cluster.node(1).seat();
    cluster.apply(ControlOp::NodeLeft { id: NodeId(1), now: NOW });
    assert_eq!((cluster.node(1).stage(), cluster.node(1).seat()), (Stage::Gone, None));
    let gone = Refusal::GoneNode(NodeId(1));
    assert_eq!(cluster.refused(ControlOp::NodeJoined { start: start(1, 100), now: NOW }), gone);
    assert_eq!(cluster.refused(ControlOp::NodeStarted { start: start(1, 100), now: NOW }), gone);
    cluster.apply(ControlOp::NodeJoined { start: start(3, 3), now: NOW });
    assert_eq!((cluster.node(3).seat(), cluster.node(3).stage()), (seat, Stage::Joining));
    let unknown = Refusal::UnknownNode(NodeId(9));
    assert_eq!(cluster.refused(ControlOp::NodeStarted { start: start(9, 9), now: NOW }), unknown);
    assert_eq!(cluster.refused(ControlOp::NodeLeft { id: NodeId(2), now: NOW }), Refusal::LastNode);
}

#[test]
fn there_are_as_many_nodes_as_seats() {
    let mut cluster = Cluster::new(MAX_NODES as u64);
    assert_eq!(cluster.refused(ControlOp::NodeJoined { start: start(99, 99), now: NOW }), Refusal::Full);
    cluster.route(64, &["a"], &[]);
    assert_eq!(cluster.nodes_for("a"), [64]);
    cluster.apply(ControlOp::NodeLeft { id: NodeId(7), now: NOW });
    assert_eq!(cluster.apply(ControlOp::NodeJoined { start: start(99, 99), now: NOW }), [ControlEffect::NodesChanged]);
}

#[test]
fn the_protocol_is_raised_when_all_speak_the_next_version() {
    let mut cluster = Cluster::new(2);
    let newer = |number, home, version| Start { version, ..start(number, home) };
    let started = |start| ControlOp::NodeStarted { start, now: NOW };
    cluster.apply(started(newer(1, 100, 4)));
    let not_yet = Refusal::Version { asked: 4, spoken: 3 };
    assert_eq!(cluster.control.next_protocol(), None);
    assert_eq!(cluster.refused(ControlOp::ProtocolRaised { to: 4 }), not_yet);
    // Nor does a node become two versions newer at once, nor older.
    assert_eq!(cluster.refused(started(newer(2, 200, 5))), Refusal::Version { asked: 5, spoken: 3 });
    assert_eq!(cluster.refused(started(newer(2, 200, 2))), Refusal::Version { asked: 2, spoken: 3 });
    cluster.apply(started(newer(2, 200, 4)));
    assert_eq!(cluster.control.next_protocol(), Some(4));
    assert_eq!(cluster.apply(ControlOp::ProtocolRaised { to: 4 }), [ControlEffect::SettingsChanged]);
    assert_eq!(cluster.control.protocol(), 4);
    assert_eq!(cluster.refused(started(newer(1, 300, 3))), Refusal::Version { asked: 3, spoken: 4 });
}

#[test]
fn routes_lead_to_nodes_and_those_of_groups_apart() {
    let mut cluster = Cluster::new(3);
    cluster.route(1, &["a/#", "$share/g/a/+", "#"], &[]);
    cluster.route(2, &["a/b", "$share/g/a/+", "$share/h/a/b"], &[]);
    assert_eq!(cluster.nodes_for("a/b"), [1, 2]);
    assert_eq!(cluster.nodes_for("a"), [1]);
    // [MQTT-4.7.2-1]
    assert!(cluster.nodes_for("$SYS/uptime").is_empty());
    let mut groups = Vec::new();
    cluster.control.groups_for("a/b", &mut groups);
    let mut groups: Vec<(&str, usize)> = groups.iter().map(|GroupRoute { key, nodes }| (&**key, nodes.len())).collect();
    groups.sort_unstable();
    assert_eq!(groups, [("$share/g/a/+", 2), ("$share/h/a/b", 1)]);
}

#[test]
fn the_epoch_counts_changes_only() {
    let mut cluster = Cluster::new(2);
    assert_eq!(cluster.route(1, &["a", "b", "not/#/a filter"], &["c"]), [ControlEffect::RoutesChanged]);
    assert_eq!(cluster.control.routes_epoch(), 1);
    assert_eq!(cluster.route(1, &["a"], &["c"]), []);
    assert_eq!(cluster.route(2, &["a"], &[]), [ControlEffect::RoutesChanged]);
    assert_eq!(cluster.route(1, &[], &["a"]), [ControlEffect::RoutesChanged]);
    assert_eq!((cluster.control.routes_epoch(), cluster.nodes_for("a")), (3, vec![2]));
    // What is removed and added by one op is there.
    cluster.route(2, &["a"], &["a"]);
    assert_eq!((cluster.nodes_for("a"), cluster.control.route_count()), (vec![2], 2));
}

#[test]
fn a_bridge_goes_to_the_node_with_the_fewest() {
    let mut cluster = Cluster::new(3);
    let owner = Owner { node: NodeId(2), home: HomeId(2), since: 2 };
    let told = |owner, release| ControlEffect::BridgesChanged { name: "one".into(), owner, release };
    assert_eq!(cluster.want("one", 2), [told(Some(owner), false)]);
    assert_eq!(cluster.want("one", 1), []);
    cluster.want("two", 2);
    assert_eq!(cluster.owner("two"), Some(2));
    cluster.down(2);
    assert_eq!((cluster.owner("one"), cluster.owner("two")), (Some(1), None));
    assert!(cluster.control.bridge("two").is_none(), "nobody wants it");
    cluster.want("three", 1);
    assert_eq!(cluster.want("four", 9), [ControlEffect::Refused(Refusal::DeadHome(HomeId(9)))]);
}

#[test]
fn a_draining_node_gives_a_bridge_up_when_it_has_stopped_it() {
    let mut cluster = Cluster::new(2);
    cluster.want("one", 1);
    let drain = ControlOp::NodeDraining { id: NodeId(1), now: NOW };
    assert_eq!(cluster.apply(drain), [ControlEffect::NodesChanged]);
    assert!(!cluster.control.bridge("one").unwrap().release(), "nobody else could run it");
    cluster.want("one", 2);
    assert!(cluster.control.bridge("one").unwrap().release());
    assert_eq!(cluster.owner("one"), Some(1), "two must never run at once");
    let release = |home| ControlOp::BridgeReleased { name: "one".into(), home: HomeId(home) };
    assert_eq!(cluster.apply(release(2)), [], "only the owner can release it");
    cluster.apply(release(1));
    assert_eq!(cluster.owner("one"), Some(2));
    // Who releases one that nobody else can have gets it anew, and is told.
    let effects = cluster.apply(release(2));
    let owner = Some(Owner { node: NodeId(2), home: HomeId(2), since: cluster.index });
    assert_eq!(effects, [ControlEffect::BridgesChanged { name: "one".into(), owner, release: false }]);
}

#[test]
fn a_bridge_that_its_owner_wants_no_more_ends_when_it_is_released() {
    let mut cluster = Cluster::new(1);
    cluster.want("one", 1);
    cluster.apply(ControlOp::BridgeUnwanted { name: "one".into(), home: HomeId(1) });
    assert!(cluster.control.bridge("one").unwrap().release());
    let effects = cluster.apply(ControlOp::BridgeReleased { name: "one".into(), home: HomeId(1) });
    assert_eq!(effects, [ControlEffect::BridgesChanged { name: "one".into(), owner: None, release: false }]);
    assert!(cluster.control.bridge("one").is_none());
}

fn rows(cluster: &mut Cluster) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let changes = cluster.control.freeze();
    cluster.control.thaw();
    changes.iter().map(|change| (change.key.clone(), change.value.clone().unwrap())).collect()
}

#[test]
fn an_idle_group_freezes_to_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.want("one", 1);
    cluster.route(1, &["a"], &[]);
    assert_eq!(rows(&mut cluster).len(), 1 + 2 + 1 + 1);
    assert!(cluster.control.freeze().is_empty());
    // Only what has changed is written.
    cluster.route(1, &["b"], &[]);
    assert_eq!(rows(&mut cluster).len(), 1 + 1);
}

#[test]
fn damage_and_newer_formats_are_refused() {
    let mut cluster = Cluster::new(2);
    cluster.want("one", 1);
    cluster.route(1, &["a/+", "$share/g/b"], &[]);
    cluster.apply(ControlOp::PlacementSet { placement: cluster.control.plan() });
    let good = rows(&mut cluster);
    assert!(Control::load(4, &good).is_ok());
    for key in good.keys() {
        let mut newer = good.clone();
        newer.get_mut(key).unwrap()[0] = 2;
        assert!(matches!(Control::load(4, &newer), Err(TablesError::Newer { found: 2, known: 1, .. })));
        let mut long = good.clone();
        long.get_mut(key).unwrap().push(0);
        assert!(matches!(Control::load(4, &long), Err(TablesError::Corrupt { .. })));
        let mut empty = good.clone();
        empty.get_mut(key).unwrap().clear();
        assert!(matches!(Control::load(4, &empty), Err(TablesError::Corrupt { .. })));
    }
    let mut nobody = good.clone();
    nobody.retain(|key, _| key[2] != 1);
    assert!(
        matches!(Control::load(4, &nobody), Err(TablesError::Corrupt { .. })),
        "routes to nodes that are not there"
    );
    let mut twice = good.clone();
    let (_, route) = good.iter().find(|(key, _)| key[2] == 4).unwrap();
    twice.insert(vec![0, 4, 4, 0, 0, 0, 9, 0, 0], route.clone());
    assert!(matches!(Control::load(4, &twice), Err(TablesError::Corrupt { .. })));
    let mut stranger = good;
    stranger.insert(vec![0, 4, 9, 0, 0], vec![1]);
    assert!(matches!(Control::load(4, &stranger), Err(TablesError::Corrupt { .. })));
}
