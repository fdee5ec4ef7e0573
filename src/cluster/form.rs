//! How a node comes to its cluster: by itself, in whatever order nodes are started.
//!
//! ```text
//! folder says which ──────────────────────────────────────────────────┐
//! somebody listed belongs to one ─► ask to join ─────────────────────┤
//! all listed are there, fresh, and see the same ─► one of them founds ┴─► groups run ─► announced, up ─► clients
//! ```
//! One node founds alone and the others join it, so there is one way in. The founder is the one with data, else the one
//! with the lowest id: nobody else founds as long as all see the same.

use super::drain;
use super::engine::{Desk, Engine};
use super::identity::Identity;
use super::member::{Desktop, First, Member, Running, VERSION};
use super::raft::{Groups, Parts, founding};
use super::sentry;
use super::settle::Settling;
use super::upkeep;
use super::wire::{CallError, Refusal, Security, Settings, Transport, Wire};
use crate::broker::Others as _;
use crate::env::{net, task};
use crate::store::{Opened, Replication};
use bincode::Options;
use bytes::Bytes;
use futures_util::future::join_all;
use nightjar_base::NodeId;
use nightjar_control::{self as control, ControlOp, Node, Stage};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Asks a node what it is and what it sees.
const LOOK: u8 = 1;
/// Asks a node to have this one join its cluster.
const JOIN: u8 = 2;

/// How long a node has to say what it sees, and to have another join.
const LOOKING: Duration = Duration::from_secs(2);
const JOINING: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is looked whether this node is in touch: a lease and this is less than clients may be kept waiting.
const TOUCH: Duration = Duration::from_millis(400);
/// Bytes of all logs together that are held in memory.
const MOST_HELD: usize = 64 << 20;
/// Connections of other nodes that may wait to be accepted.
const BACKLOG: i32 = 128;
/// The most bytes of anything that is said here.
const MOST: u64 = 64 << 10;

const REFUSED: u32 = 112;
const MALFORMED: u32 = 113;

/// What a node says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    node: u64,
    has_state: bool,
    cluster: Option<u128>,
    /// The first members, if it sees all of them.
    knows: Vec<u64>,
}

/// What a node that wants to join brings.
#[derive(Debug, Serialize, Deserialize)]
struct Joining {
    start: control::Start,
    shards: u16,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Joined {
    cluster: u128,
    nodes: Vec<(u64, String)>,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(MOST)
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    options().serialize(value).expect("a few names of bounded length are below the limit").into()
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Refusal> {
    options().deserialize(bytes).map_err(|error| Refusal::new(MALFORMED, error.to_string()))
}

/// Lives as a member: forms or finds the cluster, and keeps its place there.
pub(super) async fn live(member: Arc<Member>, opened: Opened) -> io::Result<()> {
    let listener = net::bind(member.settings.listen, false, BACKLOG)?;
    let (me, security) = (member.me(), member.settings.security.clone());
    let service = Arc::new(Desktop(Arc::clone(&member)));
    let wire = Arc::new(Wire::start(listener, me, security, Settings::default(), service));
    tracing::info!(address = %member.settings.listen, node = %member.node, "open to other nodes");
    let known = member.identity.lock().clone();
    let identity = match known {
        Some(identity) => identity,
        None => find_cluster(&member, &wire).await?,
    };
    let _tasks = begin(&member, wire, opened, &identity).await?;
    come_in(&member, &identity).await?;
    serve(&member).await
}

/// Finds out which cluster this node belongs to, or makes it one.
async fn find_cluster(member: &Arc<Member>, wire: &Wire) -> io::Result<Identity> {
    let mut told = String::new();
    let mut tell = |what: String| {
        if told != what {
            tracing::info!("{what}");
            member.orders.note_waiting(&what);
            told = what;
        }
    };
    loop {
        let (addresses, expected) = first_members(member).await;
        let asked = addresses.iter().map(|address| look(member, wire, address));
        let seen: Vec<(&String, Seen)> = join_all(asked).await.into_iter().flatten().collect();
        let others: Vec<&(&String, Seen)> = seen.iter().filter(|(_, seen)| seen.node != member.node.0).collect();
        let mut refused = None;
        // Each in turn: an operator may have told only one of them to let this node in.
        for (address, _) in others.iter().filter(|(_, seen)| seen.cluster.is_some()) {
            match join(member, wire, address).await {
                Ok(identity) => return remember(member, identity),
                Err(why) => refused = Some(format!("{address} does not let this node join: {why}")),
            }
        }
        if let Some(why) = refused {
            member.orders.note_refused(&why);
            tell(why);
        } else if others.len() + 1 >= expected && expected > 0 {
            if let Some(identity) = found(member, &others)? {
                return remember(member, identity);
            }
        } else {
            member.seen.lock().clear();
            match expected {
                0 => tell(member.orders.question()),
                _ => tell(format!("waiting for the first members: {} of {expected} are there", others.len() + 1)),
            }
        }
        task::sleep(AGAIN).await;
    }
}

/// Where the first members are, and how many there must be.
async fn first_members(member: &Member) -> (Vec<String>, usize) {
    match &member.settings.first {
        First::Named(nodes) => {
            let others = nodes.iter().filter(|address| ***address != *member.settings.address);
            (others.cloned().collect(), nodes.len())
        }
        First::Found { name, count } => {
            // Not known yet, most likely: it is asked for again.
            let addresses = net::resolve(name).await.unwrap_or_default();
            (addresses.iter().map(ToString::to_string).collect(), *count)
        }
        First::Unknown => member.orders.first_members(),
    }
}

async fn look<'a>(member: &Member, wire: &Wire, address: &'a String) -> Option<(&'a String, Seen)> {
    let mine = encode(&seen(member));
    let answer = wire.probe(address, LOOK, mine, LOOKING).await.ok()?;
    decode(&answer).ok().map(|seen| (address, seen))
}

fn seen(member: &Member) -> Seen {
    let cluster = member.identity.lock().as_ref().map(|identity| identity.cluster);
    // One that has not come in yet lets nobody else in.
    let cluster = cluster.filter(|_| member.control.lock().settings().is_some());
    let knows = member.seen.lock().iter().map(|node| node.0).collect();
    Seen { node: member.node.0, has_state: member.has_state, cluster, knows }
}

/// All first members are there: a cluster of this node, if it is the one to found it and all agree.
fn found(member: &Member, others: &[&(&String, Seen)]) -> io::Result<Option<Identity>> {
    let mut all: Vec<u64> = others.iter().map(|(_, seen)| seen.node).chain([member.node.0]).collect();
    all.sort_unstable();
    all.dedup();
    *member.seen.lock() = all.iter().copied().map(NodeId).collect();
    let mut with_state: Vec<u64> =
        others.iter().filter(|(_, seen)| seen.has_state).map(|(_, seen)| seen.node).collect();
    with_state.extend(member.has_state.then_some(member.node.0));
    if with_state.len() > 1 && member.has_state {
        return Err(io::Error::other(
            "several of the first members have sessions or messages of a node alone: only one may, the others need \
             empty data folders",
        ));
    }
    let founder = with_state.first().or(all.first()).copied();
    let agreed = others.iter().all(|(_, seen)| seen.knows == all);
    if founder != Some(member.node.0) || !agreed {
        return Ok(None);
    }
    tracing::info!(members = all.len(), "founding the cluster");
    let cluster = Identity::invent();
    let nodes = BTreeMap::from([(member.node, member.settings.address.to_string())]);
    Ok(Some(Identity { cluster, founder: true, nodes }))
}

async fn join(member: &Member, wire: &Wire, address: &str) -> Result<Identity, String> {
    if member.has_state {
        return Err("it has sessions or messages of a node alone, which only the first of a cluster keeps".to_owned());
    }
    let joining = Joining { start: member.start(), shards: member.store.shard_count() };
    let answer = wire.probe(address, JOIN, encode(&joining), JOINING).await;
    let answer = answer.map_err(|error| match error {
        CallError::Refused(refusal) => refusal.text,
        error => error.to_string(),
    })?;
    let Joined { cluster, nodes } = decode(&answer).map_err(|refusal| refusal.text)?;
    let mut nodes: BTreeMap<NodeId, String> = nodes.into_iter().map(|(node, at)| (NodeId(node), at)).collect();
    nodes.insert(member.node, member.settings.address.to_string());
    Ok(Identity { cluster, founder: false, nodes })
}

fn remember(member: &Member, identity: Identity) -> io::Result<Identity> {
    identity.write(&member.settings.folder)?;
    *member.identity.lock() = Some(identity.clone());
    Ok(identity)
}

/// Answers a node that may not belong to the cluster yet.
pub(super) async fn answer(member: Arc<Member>, kind: u8, payload: Bytes) -> Result<Bytes, Refusal> {
    match kind {
        LOOK => {
            let _: Seen = decode(&payload)?;
            Ok(encode(&seen(&member)))
        }
        JOIN => {
            let joining: Joining = decode(&payload)?;
            let joined = let_join(&member, joining).await;
            joined.map(|joined| encode(&joined)).map_err(|why| Refusal::new(REFUSED, why))
        }
        _ => Err(Refusal::new(MALFORMED, "no such question")),
    }
}

async fn let_join(member: &Member, Joining { start, shards }: Joining) -> Result<Joined, String> {
    let identity = member.identity.lock().clone().ok_or("this node belongs to no cluster yet")?;
    let replaced = {
        let control = member.control.lock();
        let settings = control.settings().ok_or("this node is only starting")?;
        if settings.shards != shards {
            return Err(format!(
                "the cluster has {} shards, and its data folder was made for {shards}",
                settings.shards
            ));
        }
        let there = |node: &&Node| node.id() != start.id && *node.address() == start.address;
        let before = control.members().find(there);
        let may_have = |node: &&Node| node.home().is_none() && member.orders.is_replaceable(node.id());
        if let Some(node) = before.filter(|node| !may_have(node)) {
            let (id, name) = (node.id(), node.name());
            return Err(format!(
                "{} is the address of node {id} ({name}): if that is gone for good, say so (nightjar ctl cluster replace)",
                start.address
            ));
        }
        before.map(Node::id)
    };
    let (id, home) = (start.id, start.home);
    let now = member.clock.now();
    if !member.agree(&ControlOp::NodeJoined { start, now }).await {
        return Err("the cluster cannot agree on it now".to_owned());
    }
    if let Some(old) = replaced {
        member.take_place(old, id).await.map_err(|refused| refused.to_string())?;
    }
    let control = member.control.lock();
    match control.node(id) {
        Some(node) if node.home() == Some(home) => {
            let nodes = control.members().map(|node| (node.id().0, node.address().to_string())).collect();
            Ok(Joined { cluster: identity.cluster, nodes })
        }
        Some(_) => Err("it has left the cluster or was replaced: an empty data folder makes a new node".to_owned()),
        None => Err("the cluster refused it: too many nodes, or a version that it does not speak".to_owned()),
    }
}

/// Starts the groups.
async fn begin(
    member: &Arc<Member>,
    wire: Arc<Wire>,
    opened: Opened,
    identity: &Identity,
) -> io::Result<Vec<task::Held>> {
    let (node, shards) = (member.node, member.store.shard_count());
    let Some(broker) = member.broker() else { return Err(io::Error::other("a member without a broker")) };
    let wake = Arc::new(Notify::new());
    let waker = Arc::clone(&wake);
    let founds = identity.founder && opened.has_state();
    let replication = Replication {
        control: Arc::clone(&member.control) as _,
        submitted: Box::new(move || waker.notify_one()),
        most_held: MOST_HELD,
        founding: founds.then(|| founding(node)),
    };
    let started = opened.start_replicated(broker.sink(), replication);
    let (store, applier, proposals) = started.map_err(io::Error::other)?;
    let (control, ear, clock) = (Arc::clone(&member.control), Arc::clone(member) as _, member.clock.clone());
    let desk = Desk::new(member.home(), shards, proposals, control, ear, wake, clock);
    let transport = Arc::clone(&wire) as Arc<dyn Transport>;
    let parts = Parts {
        store: store.clone(),
        applier: Arc::new(Mutex::new(applier)),
        agreed: Arc::clone(&desk) as _,
        transport: Arc::clone(&transport),
        pace: member.settings.pace,
        shards: member.settings.pace.slow(),
    };
    let groups = Arc::new(Groups::start(parts).await.map_err(io::Error::other)?);
    let engine = Engine::new(node, Arc::clone(&desk), Arc::clone(&groups), Arc::clone(&transport));
    let settling = Settling::new(node, store, Arc::clone(&groups), transport, member.clock.clone(), Arc::clone(&desk));
    let mut tasks = vec![task::hold(Arc::clone(&engine).run()), task::hold(Arc::clone(&settling).run())];
    wire.join(identity.name().into());
    wire.set_peers(&identity.nodes);
    let running = Running { wire, groups, engine, settling, desk };
    if member.running.set(running).is_err() {
        return Err(io::Error::other("a member begins once"));
    }
    tasks.push(task::hold(sentry::run(Arc::clone(member))));
    Ok(tasks)
}

/// Makes the cluster, if this node is to; then lets all others know that this run of it is there.
async fn come_in(member: &Arc<Member>, identity: &Identity) -> io::Result<()> {
    let Some(running) = member.running.get() else { return Ok(()) };
    if identity.founder && member.control.lock().settings().is_none() {
        let alone = [member.node].into();
        for group in running.groups.all() {
            group.found(&alone).await.map_err(io::Error::other)?;
        }
    }
    let mut told = false;
    loop {
        let (formed, known) = {
            let control = member.control.lock();
            let known = control.node(member.node).map(|node| (node.stage(), node.home()));
            (control.settings().is_some(), known)
        };
        let (start, now) = (member.start(), member.clock.now());
        let op = match known {
            Some((Stage::Gone, _)) => {
                return Err(io::Error::other(
                    "this node has left the cluster or was replaced: an empty data folder makes a new node",
                ));
            }
            Some((_, home)) if home == Some(start.home) => return Ok(()),
            Some(_) => ControlOp::NodeStarted { start, now },
            None if formed || !identity.founder => {
                // Its own store does not say yet that it has joined.
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("waiting for the cluster's state");
                }
                task::sleep(AGAIN).await;
                continue;
            }
            None => {
                let (cluster, shards) = (identity.cluster, member.store.shard_count());
                let settings = control::Settings { cluster, shards, replicas: member.settings.replicas };
                ControlOp::Form { settings, protocol: VERSION, members: vec![start], now }
            }
        };
        member.agree(&op).await;
    }
}

impl Member {
    /// New connections to other nodes, and of them, are secured so from now on. Whether they are secured at all does not
    /// change while a node runs.
    pub fn secure(&self, security: Security) {
        if let (Some(running), Security::Tls(_), Security::Tls(_)) =
            (self.running.get(), &self.settings.security, &security)
        {
            running.wire.secure(security);
        }
    }
}

/// Serves clients as long as this node is in touch with the others.
async fn serve(member: &Arc<Member>) -> io::Result<()> {
    let _tasks = [
        task::hold(Arc::clone(member).tell_routes()),
        task::hold(upkeep::run(Arc::clone(member))),
        task::hold(drain::run(Arc::clone(member))),
    ];
    let (mut was_ready, mut look) = (false, task::interval(TOUCH));
    loop {
        let stage = member.control.lock().node(member.node).map(Node::stage);
        let active = stage.is_some_and(|stage| stage != Stage::Joining);
        let in_touch = active && member.may_acknowledge();
        if in_touch && !was_ready {
            tracing::info!("in touch with the cluster");
            if let Some(broker) = member.broker() {
                // What a node alone had left behind.
                broker.detach_all().await;
            }
        }
        if was_ready && !in_touch {
            tracing::warn!("out of touch with the cluster: nothing can be acknowledged");
        }
        was_ready = in_touch;
        member.ready.send_replace(in_touch && stage != Some(Stage::Draining));
        if !in_touch && let Some(broker) = member.broker() {
            broker.cut_off(false);
        }
        if member.control.lock().node(member.node).is_some_and(|node| node.stage() == Stage::Gone) {
            return Err(io::Error::other("this node has left the cluster, or was replaced"));
        }
        look.tick().await;
    }
}
