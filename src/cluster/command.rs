//! What operators tell a cluster. All of it goes through the control group; what that made of it is looked up afterwards,
//! since it may have heard of something else first.
//!
//! ```text
//! drain ─► active becomes draining: it gives up what it has ─► leave ─► gone
//!              ◄──────────── resume ──────────┘
//! replace ─► a node that is down is gone, and another one has its places
//! ```

use super::member::{First, Member, Running};
use super::status::{Seen, Status, is_drained, stage};
use crate::env::task;
use nightjar_base::NodeId;
use nightjar_control::{Control, ControlOp, Node, Stage};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a node that was told whom to ask has until the operator hears how it went.
const JOINING: u64 = 20_000;
const AGAIN: Duration = Duration::from_millis(100);

/// Something that an operator wants. Nodes are named by id, name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// This node, which waits, is to join the cluster of the node at `host:port`.
    Join(String),
    /// This node, which waits, is to be the first of a cluster.
    Form,
    /// A node gives up all that it has.
    Drain(String),
    /// A node that is being drained is to stay after all.
    Resume(String),
    /// A node that was drained, or is down, is gone for good.
    Leave(String),
    /// A node that is down is gone for good, and another one has its places.
    Replace {
        /// Who is gone.
        old: String,
        /// Who has its places: unless given, the fresh node that comes to its address.
        new: Option<String>,
    },
}

/// Why a command was not done. Everything is as it was, except where it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is none yet.
    #[error(
        "this node belongs to no cluster yet: if it waits to be told, `nightjar ctl cluster join` or `form` tells it"
    )]
    NotFormed,
    /// It is one already.
    #[error("this node belongs to the cluster {0} already")]
    Belongs(String),
    /// Nobody needs to tell it.
    #[error("this node knows from its configuration whom to ask (cluster.nodes or cluster.dns)")]
    Configured,
    /// That is no address.
    #[error("{0:?}: expected a host and a port, as 10.0.0.1:7883")]
    Address(String),
    /// The cluster did not let it join. It goes on asking.
    #[error("{0}; this node goes on asking")]
    NotLetIn(String),
    /// Nothing was heard. It goes on asking.
    #[error("{0} does not answer as a node of a cluster; this node goes on asking")]
    Silent(String),
    /// There is no such node.
    #[error("no node has the id, name or address {0:?}")]
    Unknown(String),
    /// There are several.
    #[error("several nodes have the name {0:?}: say which by its id or address")]
    Ambiguous(String),
    /// It has gone before.
    #[error("node {0} has left the cluster or was replaced")]
    Gone(NodeId),
    /// It is at another stage.
    #[error("node {0} is {1}")]
    Stage(NodeId, &'static str),
    /// It must be there for that.
    #[error("node {0} is down: it has to be started first")]
    Down(NodeId),
    /// It must not be there for that.
    #[error("node {0} is up: only a node that is down can be replaced; `drain` and `leave` take out one that is up")]
    Up(NodeId),
    /// Nobody else could take over.
    #[error("node {0} is the last active one that is up")]
    Last(NodeId),
    /// It still has something.
    #[error("node {0} is not drained: {1}")]
    NotDrained(NodeId, String),
    /// Too many others are down.
    #[error("without node {0}, group {1} would have no majority: start the other nodes first")]
    Majority(NodeId, u16),
    /// Old and new are one.
    #[error("node {0} cannot replace itself")]
    Itself(NodeId),
    /// There is no majority, or it is very slow. It may yet be done.
    #[error("the cluster cannot agree on it now: it may still be done; `nightjar ctl cluster status` tells")]
    NoAgreement,
    /// Something else came first.
    #[error("the cluster has not done it: something else has changed meanwhile; `nightjar ctl cluster status` tells")]
    Overtaken,
}

/// What this node was told, until it starts anew.
#[derive(Debug, Default)]
pub(super) struct Orders(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    first: Option<FirstTold>,
    waiting_for: Option<String>,
    /// Why it was not let in the last time.
    refused: Option<String>,
    /// Whose places fresh nodes at their addresses may have.
    replaceable: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
enum FirstTold {
    Join(String),
    Form,
}

impl Orders {
    /// For a node whose configuration does not say: whom it is to ask, and how many first members there must be.
    pub(super) fn first_members(&self) -> (Vec<String>, usize) {
        match &self.0.lock().first {
            None => (Vec::new(), 0),
            Some(FirstTold::Join(address)) => (vec![address.clone()], 0),
            Some(FirstTold::Form) => (Vec::new(), 1),
        }
    }

    /// What such a node waits for.
    pub(super) fn question(&self) -> String {
        match &self.0.lock().first {
            Some(FirstTold::Join(address)) => format!("waiting for {address} to answer as a node of a cluster"),
            _ => "waiting to be told which cluster to join (nightjar ctl cluster join, or form)".to_owned(),
        }
    }

    pub(super) fn note_waiting(&self, what: &str) {
        self.0.lock().waiting_for = Some(what.to_owned());
    }

    pub(super) fn note_refused(&self, why: &str) {
        self.0.lock().refused = Some(why.to_owned());
    }

    pub(super) fn waiting_for(&self) -> Option<String> {
        self.0.lock().waiting_for.clone()
    }

    /// Whether a fresh node may take the place of `node`.
    pub(super) fn is_replaceable(&self, node: NodeId) -> bool {
        self.0.lock().replaceable.contains(&node)
    }

    pub(super) fn note_replaced(&self, node: NodeId) {
        self.0.lock().replaceable.remove(&node);
    }
}

/// Whether `text` is a host and a port.
fn is_address(text: &str) -> bool {
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    text.rsplit_once(':').is_some_and(|(host, of)| !host.is_empty() && !host.contains(char::is_whitespace) && port(of))
}

/// The node that is meant by its id, name or address.
fn find<'a>(control: &'a Control, text: &str) -> Result<&'a Node, Refused> {
    let by_id = control.nodes().find(|node| node.id().to_string() == text);
    if let Some(node) = by_id {
        return if node.stage() == Stage::Gone { Err(Refused::Gone(node.id())) } else { Ok(node) };
    }
    let mut all = control.members().filter(|node| **node.name() == *text || **node.address() == *text);
    match (all.next(), all.next()) {
        (Some(node), None) => Ok(node),
        (Some(_), Some(_)) => Err(Refused::Ambiguous(text.to_owned())),
        _ => Err(Refused::Unknown(text.to_owned())),
    }
}

/// Whether `node` may be drained.
fn may_drain(control: &Control, node: &Node) -> Result<(), Refused> {
    if node.stage() == Stage::Joining {
        return Err(Refused::Stage(node.id(), stage(node.stage())));
    }
    let others = control.members().any(|other| other.id() != node.id() && other.is_serving());
    if others { Ok(()) } else { Err(Refused::Last(node.id())) }
}

/// Whether `node` may leave.
fn may_leave(control: &Control, node: &Node, groups: &[Seen]) -> Result<(), Refused> {
    let id = node.id();
    if !control.members().any(|other| other.id() != id && other.is_serving()) {
        return Err(Refused::Last(id));
    }
    if node.home().is_some() && !is_drained(node, groups) {
        let needing = groups.iter().filter(|group| group.needs(id)).count();
        let why = match node.stage() {
            Stage::Draining => format!("groups that it leads or votes for: {needing}"),
            _ => format!("`nightjar ctl cluster drain {id}` comes first"),
        };
        return Err(Refused::NotDrained(id, why));
    }
    let is_up = |voter: &&u64| **voter != id.0 && control.node(NodeId(**voter)).is_some_and(|of| of.home().is_some());
    for group in groups.iter().filter(|group| group.members.voters.contains(&id.0)) {
        let voters = &group.members.voters;
        if voters.iter().filter(is_up).count() * 2 <= voters.len() {
            return Err(Refused::Majority(id, group.id.0));
        }
    }
    Ok(())
}

/// Whether `old` may be replaced, by `new` if that is known.
fn may_replace(old: &Node, new: Option<&Node>) -> Result<(), Refused> {
    if old.home().is_some() {
        return Err(Refused::Up(old.id()));
    }
    match new {
        Some(new) if new.id() == old.id() => Err(Refused::Itself(old.id())),
        Some(new) if new.home().is_none() => Err(Refused::Down(new.id())),
        Some(new) if new.stage() == Stage::Draining => Err(Refused::Stage(new.id(), stage(new.stage()))),
        _ => Ok(()),
    }
}

impl Member {
    /// Does what an operator wants; how the cluster is then.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn command(&self, command: Command) -> Result<Status, Refused> {
        match command {
            Command::Join(address) => self.join(address).await?,
            Command::Form => self.form().await?,
            Command::Drain(node) => self.drain(&node).await?,
            Command::Resume(node) => self.resume(&node).await?,
            Command::Leave(node) => self.leave(&node).await?,
            Command::Replace { old, new } => self.replace(&old, new.as_deref()).await?,
        }
        Ok(self.status())
    }

    fn formed(&self) -> Result<&Running, Refused> {
        let running = self.running.get().ok_or(Refused::NotFormed)?;
        if self.control.lock().settings().is_some() { Ok(running) } else { Err(Refused::NotFormed) }
    }

    /// Has the cluster agree on `op`; `done` tells from the control group's state whether that did what was wanted.
    async fn agree_on(&self, op: &ControlOp, done: impl Fn(&Control) -> bool) -> Result<(), Refused> {
        if !self.agree(op).await {
            return Err(Refused::NoAgreement);
        }
        if done(&self.control.lock()) { Ok(()) } else { Err(Refused::Overtaken) }
    }

    /// Tells this node, which waits, what to do.
    fn tell(&self, first: FirstTold) -> Result<(), Refused> {
        if let Some(identity) = &*self.identity.lock() {
            return Err(Refused::Belongs(identity.name()));
        }
        if self.settings.first != First::Unknown {
            return Err(Refused::Configured);
        }
        let mut orders = self.orders.0.lock();
        (orders.first, orders.refused) = (Some(first), None);
        Ok(())
    }

    async fn join(&self, address: String) -> Result<(), Refused> {
        if !is_address(&address) {
            return Err(Refused::Address(address));
        }
        self.tell(FirstTold::Join(address.clone()))?;
        let begin = self.clock.tick();
        while self.clock.tick().since(begin) < JOINING {
            if self.identity.lock().is_some() {
                return Ok(());
            }
            let refused = self.orders.0.lock().refused.clone();
            if let Some(why) = refused {
                return Err(Refused::NotLetIn(why));
            }
            task::sleep(AGAIN).await;
        }
        Err(Refused::Silent(address))
    }

    async fn form(&self) -> Result<(), Refused> {
        self.tell(FirstTold::Form)?;
        let begin = self.clock.tick();
        while self.clock.tick().since(begin) < JOINING {
            if self.control.lock().settings().is_some() {
                return Ok(());
            }
            task::sleep(AGAIN).await;
        }
        Err(Refused::NoAgreement)
    }

    async fn drain(&self, node: &str) -> Result<(), Refused> {
        self.formed()?;
        let id = {
            let control = self.control.lock();
            let node = find(&control, node)?;
            may_drain(&control, node)?;
            node.id()
        };
        let op = ControlOp::NodeDraining { id, now: self.clock.now() };
        self.agree_on(&op, |control| control.node(id).is_some_and(|node| node.stage() == Stage::Draining)).await
    }

    async fn resume(&self, node: &str) -> Result<(), Refused> {
        self.formed()?;
        let (id, home) = {
            let control = self.control.lock();
            let node = find(&control, node)?;
            if node.stage() == Stage::Joining {
                return Err(Refused::Stage(node.id(), stage(node.stage())));
            }
            (node.id(), node.home().ok_or(Refused::Down(node.id()))?)
        };
        let op = ControlOp::NodeUp { id, home, now: self.clock.now() };
        self.agree_on(&op, |control| control.node(id).is_some_and(|node| node.stage() == Stage::Active)).await
    }

    async fn leave(&self, node: &str) -> Result<(), Refused> {
        let groups = Seen::all(self.formed()?);
        let id = {
            let control = self.control.lock();
            let node = find(&control, node)?;
            may_leave(&control, node, &groups)?;
            node.id()
        };
        let op = ControlOp::NodeLeft { id, now: self.clock.now() };
        self.agree_on(&op, |control| control.node(id).is_some_and(|node| node.stage() == Stage::Gone)).await
    }

    async fn replace(&self, old: &str, new: Option<&str>) -> Result<(), Refused> {
        self.formed()?;
        let (old, new) = {
            let control = self.control.lock();
            let old = find(&control, old)?;
            let new = new.map(|new| find(&control, new)).transpose()?;
            may_replace(old, new)?;
            (old.id(), new.map(Node::id))
        };
        match new {
            Some(new) => self.take_place(old, new).await,
            None => {
                self.orders.0.lock().replaceable.insert(old);
                Ok(())
            }
        }
    }

    /// `new` has the places of `old`, which is gone for good. It votes for nothing until it has caught up: see `upkeep`.
    pub(super) async fn take_place(&self, old: NodeId, new: NodeId) -> Result<(), Refused> {
        let op = ControlOp::NodeReplaced { old, new, now: self.clock.now() };
        self.agree_on(&op, |control| control.node(old).is_some_and(|node| node.stage() == Stage::Gone)).await?;
        self.orders.note_replaced(old);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::{apply, formed, group};
    use super::*;
    use nightjar_base::{HomeId, Wall};

    fn down(control: &mut Control, id: u64) {
        apply(control, ControlOp::NodeDown { id: NodeId(id), home: HomeId(id), now: Wall(0) });
    }

    fn node<'a>(control: &'a Control, name: &str) -> &'a Node {
        find(control, name).expect("it is there")
    }

    #[test]
    fn nodes_are_found_by_id_name_or_address() {
        let mut control = formed(3);
        for text in ["n2", "n2:1", &NodeId(2).to_string()] {
            assert_eq!(node(&control, text).id(), NodeId(2));
        }
        assert_eq!(find(&control, "n9"), Err(Refused::Unknown("n9".to_owned())));
        apply(&mut control, ControlOp::NodeLeft { id: NodeId(2), now: Wall(0) });
        assert_eq!(find(&control, "n2"), Err(Refused::Unknown("n2".to_owned())));
        assert_eq!(find(&control, &NodeId(2).to_string()), Err(Refused::Gone(NodeId(2))));
    }

    #[test]
    fn the_last_one_that_serves_stays() {
        let mut control = formed(2);
        assert_eq!(may_drain(&control, node(&control, "n1")), Ok(()));
        down(&mut control, 2);
        assert_eq!(may_drain(&control, node(&control, "n1")), Err(Refused::Last(NodeId(1))));
        assert_eq!(may_leave(&control, node(&control, "n1"), &[]), Err(Refused::Last(NodeId(1))));
    }

    #[test]
    fn a_node_leaves_when_it_is_drained_or_down_and_a_majority_stays() {
        let mut control = formed(3);
        let groups = [group(0, &[1, 2, 3]), group(1, &[1]), group(2, &[1])];
        let refused = may_leave(&control, node(&control, "n3"), &groups);
        assert!(matches!(refused, Err(Refused::NotDrained(..))), "{refused:?}");
        apply(&mut control, ControlOp::NodeDraining { id: NodeId(3), now: Wall(0) });
        let refused = may_leave(&control, node(&control, "n3"), &groups);
        assert!(refused.is_err_and(|refused| refused.to_string().ends_with("votes for: 1")));
        assert_eq!(may_leave(&control, node(&control, "n3"), &groups[1..]), Ok(()));
        down(&mut control, 3);
        assert_eq!(may_leave(&control, node(&control, "n3"), &groups), Ok(()));
        down(&mut control, 2);
        let lost = [group(0, &[1, 2, 3])];
        let mut four = formed(4);
        [2, 3].into_iter().for_each(|id| down(&mut four, id));
        assert_eq!(may_leave(&four, node(&four, "n3"), &lost), Err(Refused::Majority(NodeId(3), 0)));
    }

    #[test]
    fn only_a_node_that_is_down_is_replaced_by_one_that_is_up() {
        let mut control = formed(3);
        let replace = |control: &Control, old: &str, new: Option<&str>| {
            may_replace(node(control, old), new.map(|new| node(control, new)))
        };
        assert_eq!(replace(&control, "n1", None), Err(Refused::Up(NodeId(1))));
        down(&mut control, 1);
        assert_eq!(replace(&control, "n1", None), Ok(()));
        assert_eq!(replace(&control, "n1", Some("n1")), Err(Refused::Itself(NodeId(1))));
        assert_eq!(replace(&control, "n1", Some("n2")), Ok(()));
        down(&mut control, 2);
        assert_eq!(replace(&control, "n1", Some("n2")), Err(Refused::Down(NodeId(2))));
    }

    #[test]
    fn a_node_that_waits_asks_whom_it_was_told() {
        let orders = Orders::default();
        assert_eq!(orders.first_members(), (vec![], 0));
        orders.0.lock().first = Some(FirstTold::Join("a:1".to_owned()));
        assert_eq!(orders.first_members(), (vec!["a:1".to_owned()], 0));
        assert!(orders.question().contains("a:1"));
        orders.0.lock().first = Some(FirstTold::Form);
        assert_eq!(orders.first_members(), (vec![], 1));
        for (text, good) in [("a:1", true), ("[::1]:7883", true), ("a", false), (":1", false), ("a:0", false)] {
            assert_eq!(is_address(text), good, "{text}");
        }
    }
}
