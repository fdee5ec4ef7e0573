//! The transport within one process: nodes that are plugged into a switch reach each other without sockets, unless it is
//! told otherwise. For tests and simulations: what happens follows from the seed, and time is the runtime's, which a test
//! may pause.

use super::ports::{BoxFuture, CallError, LARGEST_PAYLOAD, Lane, Peer, Refusal, Request, Service, Transport};
use crate::env::task::{self, Sleep};
use bytes::Bytes;
use nightjar_base::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that are on their way in one direction of one lane.
const MOST_ON_THE_WAY: usize = 4096;

/// What happens to what goes in one direction; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// The shortest and the longest time that a request or an answer takes. Requests do not overtake each other on a
    /// lane; answers do.
    pub delay: (Duration, Duration),
    /// How probable it is that a request or an answer is lost without a word, from 0 to 1.
    pub loss: f64,
    /// How probable it is that what was told arrives twice.
    pub twice: f64,
}

/// What nodes are plugged into.
#[derive(Debug)]
pub struct Switch {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seats: BTreeMap<NodeId, Seat>,
    /// Directions that were cut.
    cut: BTreeSet<(NodeId, NodeId)>,
    weather: BTreeMap<(NodeId, NodeId), Weather>,
    /// The links that are up.
    paths: BTreeMap<(NodeId, NodeId, Lane), Path>,
    random: u64,
}

#[derive(Clone)]
struct Seat {
    peer: Peer,
    service: Arc<dyn Service>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.peer).finish()
    }
}

/// One direction of one lane. It is down when this is dropped.
#[derive(Debug)]
struct Path {
    queue: mpsc::Sender<Parcel>,
    /// Its receivers notice when the path is gone.
    alive: watch::Sender<()>,
}

/// A request on its way.
#[derive(Debug)]
struct Parcel {
    request: Request,
    arrives: std::pin::Pin<Box<Sleep>>,
    twice: bool,
    asker: oneshot::Sender<Result<Bytes, CallError>>,
}

/// A request that was sent.
struct Sent {
    answer: oneshot::Receiver<Result<Bytes, CallError>>,
    alive: watch::Receiver<()>,
}

impl State {
    /// A number from 0 to below 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn weather(&self, from: NodeId, to: NodeId) -> Weather {
        self.weather.get(&(from, to)).copied().unwrap_or_default()
    }

    /// How long the next thing takes in this direction; `None` if it is lost.
    fn fate(&mut self, from: NodeId, to: NodeId) -> Option<Duration> {
        let weather = self.weather(from, to);
        let (shortest, longest) = weather.delay;
        // Both are always drawn, so that a change of the weather does not change what comes later by itself.
        let (lost, share) = (self.chance() < weather.loss, self.chance());
        (!lost).then(|| shortest + longest.saturating_sub(shortest).mul_f64(share))
    }
}

impl Switch {
    /// A switch without any node. What it does by chance follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        let state = State {
            seats: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: BTreeMap::new(),
            paths: BTreeMap::new(),
            random: seed,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Plugs a node in; one that is in already is unplugged first. Must be called within a runtime.
    pub fn join(self: &Arc<Self>, peer: Peer, service: Arc<dyn Service>) -> Port {
        let node = peer.node;
        self.leave(node);
        let others: Vec<NodeId> = {
            let mut state = self.state.lock();
            state.seats.insert(node, Seat { peer, service });
            state.seats.keys().copied().filter(|other| *other != node).collect()
        };
        for other in others {
            self.connect(node, other);
            self.connect(other, node);
        }
        Port { switch: Arc::clone(self), node }
    }

    /// Unplugs a node, as when its process is killed: all links from and to it are lost.
    pub fn leave(&self, node: NodeId) {
        let (others, seat) = {
            let state = self.state.lock();
            (
                state.seats.keys().copied().filter(|other| *other != node).collect::<Vec<_>>(),
                state.seats.get(&node).cloned(),
            )
        };
        if seat.is_some() {
            for other in others {
                self.disconnect(node, other);
                self.disconnect(other, node);
            }
            self.state.lock().seats.remove(&node);
        }
    }

    /// Cuts the links that `from` asks `to` over: what is under way fails, and so does what comes.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.insert((from, to));
        self.disconnect(from, to);
    }

    /// Mends what was cut. Must be called within a runtime.
    pub fn mend(self: &Arc<Self>, from: NodeId, to: NodeId) {
        self.state.lock().cut.remove(&(from, to));
        self.connect(from, to);
    }

    /// What happens from now on to what goes from `from` to `to`: requests of the one, answers to the other.
    pub fn set_weather(&self, from: NodeId, to: NodeId, weather: Weather) {
        self.state.lock().weather.insert((from, to), weather);
    }

    fn connect(self: &Arc<Self>, from: NodeId, to: NodeId) {
        for lane in Lane::ALL {
            let (asker, peer) = {
                let mut state = self.state.lock();
                let (Some(asker), Some(answerer)) = (state.seats.get(&from), state.seats.get(&to)) else { return };
                let (asker, answerer) = (asker.clone(), answerer.clone());
                if state.cut.contains(&(from, to)) || state.paths.contains_key(&(from, to, lane)) {
                    return;
                }
                let (queue, parcels) = mpsc::channel(MOST_ON_THE_WAY);
                let alive = watch::Sender::new(());
                let peer = answerer.peer.clone();
                let (switch, alive_too) = (Arc::downgrade(self), alive.subscribe());
                let courier = Courier { switch, from: asker.peer.clone(), to: answerer, lane };
                task::spawn(courier.work(parcels, alive_too));
                state.paths.insert((from, to, lane), Path { queue, alive });
                (asker, peer)
            };
            asker.service.connected(&peer, lane);
        }
    }

    /// Puts a request on its way; its answer comes, or never does.
    fn send(&self, from: NodeId, to: NodeId, lane: Lane, request: Request, told: bool) -> Result<Sent, CallError> {
        if request.payload.len() > LARGEST_PAYLOAD {
            return Err(CallError::TooLarge);
        }
        let mut state = self.state.lock();
        let fate = state.fate(from, to);
        let twice = state.chance() < state.weather(from, to).twice && told;
        let path = state.paths.get(&(from, to, lane)).ok_or(CallError::Unreachable)?;
        let (asker, answer) = oneshot::channel();
        if let Some(delay) = fate {
            let parcel = Parcel { request, arrives: Box::pin(task::timer(delay)), twice, asker };
            path.queue.try_send(parcel).map_err(|_| CallError::Full)?;
        }
        Ok(Sent { answer, alive: path.alive.subscribe() })
    }

    fn disconnect(&self, from: NodeId, to: NodeId) {
        for lane in Lane::ALL {
            let (seat, peer) = {
                let mut state = self.state.lock();
                if state.paths.remove(&(from, to, lane)).is_none() {
                    continue;
                }
                let peer = state.seats.get(&to).map(|seat| seat.peer.clone());
                (state.seats.get(&from).cloned(), peer)
            };
            if let (Some(seat), Some(peer)) = (seat, peer) {
                seat.service.lost(&peer, lane);
            }
        }
    }
}

/// Carries the requests of one direction of one lane, one after the other.
struct Courier {
    switch: Weak<Switch>,
    from: Peer,
    to: Seat,
    lane: Lane,
}

impl Courier {
    async fn work(self, parcels: mpsc::Receiver<Parcel>, mut alive: watch::Receiver<()>) {
        tokio::select! {
            biased;
            _ = alive.changed() => {}
            () = self.carry(parcels) => {}
        }
    }

    async fn carry(&self, mut parcels: mpsc::Receiver<Parcel>) {
        while let Some(Parcel { request, arrives, twice, asker }) = parcels.recv().await {
            arrives.await;
            if twice {
                task::spawn(self.to.service.handle(&self.from, self.lane, request.clone()));
            }
            let work = self.to.service.handle(&self.from, self.lane, request);
            let (switch, from, to) = (Weak::clone(&self.switch), self.from.node, self.to.peer.node);
            task::spawn(async move {
                let outcome = work.await;
                let fate = switch.upgrade().and_then(|switch| switch.state.lock().fate(to, from));
                if let Some(delay) = fate {
                    task::sleep(delay).await;
                    let _ = asker.send(answered(outcome));
                }
            });
        }
    }
}

fn answered(outcome: Result<Bytes, Refusal>) -> Result<Bytes, CallError> {
    match outcome {
        Ok(payload) if payload.len() > LARGEST_PAYLOAD => Err(CallError::TooLarge),
        outcome => outcome.map_err(CallError::Refused),
    }
}

/// A node's place at the switch: its way to the others.
#[derive(Clone, Debug)]
pub struct Port {
    switch: Arc<Switch>,
    node: NodeId,
}

impl Transport for Port {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        request: Request,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let sent = self.switch.send(self.node, to, lane, request, false);
        Box::pin(async move {
            let Sent { answer, mut alive } = sent?;
            tokio::select! {
                biased;
                outcome = task::timeout(patience, patient(answer)) => outcome.unwrap_or(Err(CallError::TimedOut)),
                _ = alive.changed() => Err(CallError::Unreachable),
            }
        })
    }

    fn tell(&self, to: NodeId, lane: Lane, request: Request) -> Result<(), CallError> {
        self.switch.send(self.node, to, lane, request, true).map(drop)
    }

    /// Addresses are the names of the nodes. Probes need no link, and no weather touches them.
    fn probe(
        &self,
        address: &str,
        kind: u8,
        payload: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let seat = {
            let state = self.switch.state.lock();
            let seat = state.seats.values().find(|seat| &*seat.peer.name == address);
            seat.filter(|seat| !state.cut.contains(&(self.node, seat.peer.node))).cloned()
        };
        Box::pin(async move {
            let work = seat.ok_or(CallError::Unreachable)?.service.probe(kind, payload);
            task::timeout(patience, work).await.map_or(Err(CallError::TimedOut), answered)
        })
    }
}

/// Waits for an answer; for one that was lost, for ever.
async fn patient(answer: oneshot::Receiver<Result<Bytes, CallError>>) -> Result<Bytes, CallError> {
    match answer.await {
        Ok(outcome) => outcome,
        Err(_) => std::future::pending().await,
    }
}
