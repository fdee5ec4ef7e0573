//! The transport over sockets, as a whole.

use super::dial::{DialError, client, dial};
use super::door::Door;
use super::hello::PROTOCOL;
use super::host::{Guests, Host};
use super::line::refused;
use super::link::Link;
use super::ports::{BoxFuture, CallError, LARGEST_PAYLOAD, Lane, Peer, Refusal, Request, Service, Transport};
use super::proto::{self, probe_answer::Outcome};
use super::tls::Security;
use crate::env::net::TcpListener;
use crate::env::task::{self, Task};
use arc_swap::ArcSwap;
use bytes::Bytes;
use nightjar_base::NodeId;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The largest message that either end takes.
pub(super) const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// The bounds of each link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Calls under way on a link, on the side that asks; requests that are handled at a time, on the other. More calls
    /// fail with [`CallError::Full`]; more requests wait.
    pub in_flight: usize,
    /// Bytes of requests that wait to be written to a link; more fail with [`CallError::Full`], save one alone. While as
    /// many bytes of answers wait, no more requests are handled.
    pub queued_bytes: usize,
    /// How long it may take to connect, TLS and hello included; on the beat lane half of it.
    pub dial: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { in_flight: 4096, queued_bytes: 32 * 1024 * 1024, dial: Duration::from_secs(2) }
    }
}

impl Settings {
    pub(super) fn dial(&self, lane: Lane) -> Duration {
        if lane == Lane::Beat { self.dial / 2 } else { self.dial }
    }
}

/// What every part of the wire looks at.
pub(super) struct Shared {
    pub(super) me: Peer,
    pub(super) cluster: watch::Sender<Option<Arc<str>>>,
    pub(super) security: ArcSwap<Security>,
    pub(super) settings: Settings,
    pub(super) service: Arc<dyn Service>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The transport over sockets. All its tasks are on the runtime that it was started in; it may be asked from anywhere.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    peers: RwLock<HashMap<NodeId, Kept>>,
    guests: Arc<Guests>,
    door: Mutex<Option<Door>>,
}

/// The links to one node. They end when this is dropped.
#[derive(Debug)]
struct Kept {
    address: String,
    links: [Arc<Link>; Lane::ALL.len()],
    tasks: [Task<()>; Lane::ALL.len()],
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.tasks.iter().for_each(Task::abort);
        self.links.iter().for_each(|link| link.cut());
    }
}

impl Wire {
    /// Listens to the others, who may probe from now on. Links are made once [`Self::join`] was called.
    ///
    /// Must be called within a runtime. `service` often holds the wire in turn, so [`Self::stop`] ends it.
    #[must_use]
    pub fn start(
        listener: TcpListener,
        me: Peer,
        security: Security,
        settings: Settings,
        service: Arc<dyn Service>,
    ) -> Self {
        let (cluster, security) = (watch::Sender::new(None), ArcSwap::from_pointee(security));
        let shared = Arc::new(Shared { me, cluster, security, settings, service });
        let guests = Arc::new(Guests::default());
        let host = Host::new(Arc::clone(&shared), Arc::clone(&guests));
        let door = Mutex::new(Some(Door::open(listener, Arc::clone(&shared), host)));
        Self { shared, peers: RwLock::default(), guests, door }
    }

    /// From now on this node belongs to the cluster `id`.
    pub fn join(&self, id: Arc<str>) {
        self.shared.cluster.send_replace(Some(id));
    }

    /// Who the others are, and where: `host:port`. Links to nodes that are new or have moved are made, those to nodes
    /// that are gone are cut. This node itself may be among them.
    ///
    /// Must be called within the runtime that the wire was started in.
    pub fn set_peers(&self, nodes: &BTreeMap<NodeId, String>) {
        let mut peers = self.peers.write();
        let stays = |node: &NodeId, kept: &mut Kept| nodes.get(node) == Some(&kept.address);
        let gone: Vec<_> = peers.extract_if(|node, kept| !stays(node, kept)).collect();
        for (node, address) in nodes.iter().filter(|(node, _)| **node != self.shared.me.node) {
            peers.entry(*node).or_insert_with(|| self.dial(*node, address));
        }
        drop(peers);
        drop(gone);
    }

    fn dial(&self, node: NodeId, address: &str) -> Kept {
        let links = Lane::ALL.map(|lane| Link::new(node, lane, address.to_owned(), Arc::clone(&self.shared)));
        let tasks = links.each_ref().map(|link| task::spawn(Arc::clone(link).keep()));
        Kept { address: address.to_owned(), links, tasks }
    }

    /// New connections are secured so from now on; those that are there keep what they have.
    pub fn secure(&self, security: Security) {
        self.shared.security.store(Arc::new(security));
    }

    /// Ends all links of either direction and stops listening. Calls under way fail.
    pub fn stop(&self) {
        let peers = std::mem::take(&mut *self.peers.write());
        let door = self.door.lock().take();
        drop((peers, door));
        self.guests.dismiss();
    }

    fn link(&self, to: NodeId, lane: Lane) -> Result<Arc<Link>, CallError> {
        let peers = self.peers.read();
        let kept = peers.get(&to).ok_or(CallError::Unreachable)?;
        Ok(Arc::clone(&kept.links[lane as usize]))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        request: Request,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        match self.link(to, lane).and_then(|link| link.call(request)) {
            Ok(call) => {
                Box::pin(
                    async move { task::timeout(patience, call.outcome()).await.unwrap_or(Err(CallError::TimedOut)) },
                )
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn tell(&self, to: NodeId, lane: Lane, request: Request) -> Result<(), CallError> {
        self.link(to, lane)?.tell(request)
    }

    fn probe(
        &self,
        address: &str,
        kind: u8,
        payload: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (security, address) = (self.shared.security.load_full(), address.to_owned());
        Box::pin(async move {
            let asked = task::timeout(patience, probe(&address, &security, kind, payload));
            asked.await.unwrap_or(Err(CallError::TimedOut))
        })
    }
}

async fn probe(address: &str, security: &Security, kind: u8, payload: Bytes) -> Result<Bytes, CallError> {
    if payload.len() > LARGEST_PAYLOAD {
        return Err(CallError::TooLarge);
    }
    let unreachable = |error: &dyn fmt::Display| {
        tracing::debug!(address, %error, "a probe had no answer");
        CallError::Unreachable
    };
    let channel = dial(address, Lane::Bulk, security).await.map_err(|error| unreachable(&error))?;
    let question = proto::ProbeQuestion { protocol: PROTOCOL, kind: kind.into(), payload };
    let answer = client(channel).probe(question).await;
    let answer = answer.map_err(|status| unreachable(&DialError::from(status)))?;
    match answer.into_inner().outcome {
        Some(Outcome::Payload(payload)) => Ok(payload),
        Some(Outcome::Refusal(refusal)) => Err(refused(refusal)),
        None => Err(CallError::Refused(Refusal::new(Refusal::NOT_UNDERSTOOD, "an answer without an outcome"))),
    }
}
