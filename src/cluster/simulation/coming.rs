//! CONNECT at a site of a cluster: the steps that `broker/attach.rs` and `broker/moves.rs` take, up to CONNACK.

use super::asking;
use super::bugs::Bug;
use super::site::{Connection, EVICT, Site, client_id};
use super::world::World;
use crate::broker::bury_everywhere;
use crate::cluster::wire::Request;
use crate::env::task;
use bytes::{BufMut as _, BytesMut};
use nightjar_base::{HomeId, NodeId, ShardId};
use nightjar_control::Node;
use nightjar_shard::{Holder, NEVER, Op, Origin, QueueLimits};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// Looks at who has the session before it is given up.
const TRIES: usize = 4;
const AGAIN: Duration = Duration::from_millis(50);
/// How long the other nodes have to agree.
const AGREEING: Duration = Duration::from_secs(2);
/// How long they have to end a connection.
const EVICTING: Duration = Duration::from_secs(5);

/// Lets a client in; nothing if it cannot be, now.
pub(super) async fn come_in(world: &Arc<World>, site: &Arc<Site>, client: usize) -> Option<Arc<Connection>> {
    let claim = site.claim(client);
    let _claim = claim.lock().await;
    let old = site.connections.lock().get(&client).cloned();
    if let Some(old) = old {
        site.close(&old);
    }
    let (id, store) = (client_id(client), &site.works.store);
    let shard = store.shard_of(&id);
    make_ours(site, shard, client).await?;
    let epoch = world.next_epoch();
    site.expect(epoch);
    let attach = Op::AttachFrom {
        home: site.home().0,
        client_id: Arc::clone(&id),
        user: None,
        clean_start: false,
        expiry: NEVER,
        epoch,
        will: None,
        limits: QueueLimits::UNLIMITED,
        now: site.clock.now(),
    };
    let position = store.submit(&mut vec![(shard, attach)], None);
    if task::timeout(AGREEING, store.wait(position)).await.is_err() {
        task::spawn(leave_when_attached(Arc::clone(site), shard, client, epoch, position));
        return None;
    }
    if !end_before(site, epoch, shard, client).await {
        task::spawn(leave_when_attached(Arc::clone(site), shard, client, epoch, position));
        return None;
    }
    let connection = {
        let state = store.lock(shard);
        let session = state.client(&id).filter(|session| session.epoch() == epoch)?;
        let place = (shard, session.id());
        let inbound = session.inbound().iter().copied();
        let noted = |id: &u16| state.has_origin(Origin { session: place, token: u64::from(*id) });
        let unsure = inbound.clone().filter(noted).collect();
        Connection {
            client,
            shard,
            session: session.id(),
            epoch,
            order: world.next_order(),
            open: AtomicBool::new(true),
            pending: AtomicU64::new(0),
            inbound: Mutex::new(inbound.collect()),
            unsure: Mutex::new(unsure),
            cursor: AtomicU64::new(session.head()),
        }
    };
    if !site.is_alive() {
        return None;
    }
    let connection = Arc::new(connection);
    site.connections.lock().insert(client, Arc::clone(&connection));
    world.see_alone(site, client);
    site.ledger.let_in(client, connection.order);
    site.ledger.note(|| format!("client {client} is in at {} as {}", site.works.id, connection.order));
    Some(connection)
}

/// Who had the session until now is gone; whether that is so.
async fn end_before(site: &Arc<Site>, epoch: u64, shard: ShardId, client: usize) -> bool {
    let Some(came) = site.came(epoch) else {
        // The shard came as a whole, which does not say who that was.
        let settled = task::timeout(EVICTING, async {
            while site.works.settling.settled().await.is_err() {
                task::sleep(AGAIN).await;
            }
        });
        return settled.await.is_ok();
    };
    match came.before.filter(|before| before.home != site.home().0) {
        Some(before) => evict(site, before, shard, client).await.is_some(),
        None => true,
    }
}

/// Sees to it that no other node has a connection of this client, as of now.
async fn make_ours(site: &Arc<Site>, shard: ShardId, client: usize) -> Option<()> {
    for _ in 0..TRIES {
        let known = site.works.control.lock().node(site.works.id).and_then(Node::home);
        if known != Some(site.home()) {
            return None;
        }
        let latest = task::timeout(asking::PATIENCE, site.works.settling.latest(shard));
        if !site.may_acknowledge() || latest.await != Ok(true) {
            return None;
        }
        let holder = {
            let (state, own) = (site.works.store.lock(shard), site.home().0);
            let session = state.client(&client_id(client)).filter(|of| of.attached() && of.home() != own);
            session.map(|session| Holder { home: session.home(), epoch: session.epoch() })
        };
        let Some(holder) = holder else {
            if site.bug != Bug::LateBurial {
                bury_everywhere(&site.works.store, shard, site.clock.now());
            }
            return Some(());
        };
        evict(site, holder, shard, client).await?;
    }
    None
}

/// A connection at another home is over, and nothing of it can come any more.
async fn evict(site: &Arc<Site>, holder: Holder, shard: ShardId, client: usize) -> Option<()> {
    if site.bug == Bug::NoEviction {
        return Some(());
    }
    let evicted = task::timeout(EVICTING, async {
        loop {
            let node = site.works.control.lock().node_of(HomeId(holder.home)).map(Node::id);
            let Some(node) = node else {
                return bury(site, HomeId(holder.home)).await;
            };
            if ask_eviction(site, node, holder, client).await {
                return site.works.settling.latest(shard).await;
            }
            task::sleep(AGAIN).await;
        }
    });
    (evicted.await == Ok(true)).then_some(())
}

async fn ask_eviction(site: &Arc<Site>, node: NodeId, holder: Holder, client: usize) -> bool {
    let mut payload = BytesMut::new();
    for number in [holder.home, holder.epoch, client as u64] {
        payload.put_u64_le(number);
    }
    let request = Request { group: 0, kind: EVICT, payload: payload.freeze() };
    asking::done(&site.works, node, request).await
}

async fn bury(site: &Site, home: HomeId) -> bool {
    let (store, now) = (&site.works.store, site.clock.now());
    let shards = (0..store.shard_count()).map(ShardId);
    let mut ops = shards.map(|shard| (shard, Op::DetachHome { home: home.0, now })).collect();
    let buried = store.submit(&mut ops, None);
    task::timeout(asking::PATIENCE, store.wait(buried)).await.is_ok()
}

/// The client was sent away: if its session is attached after all, nobody has it.
async fn leave_when_attached(
    site: Arc<Site>,
    shard: ShardId,
    client: usize,
    epoch: u64,
    position: nightjar_base::Position,
) {
    site.works.store.wait(position).await;
    // Nobody waits for it any more.
    let _ = site.came(epoch);
    let session = {
        let state = site.works.store.lock(shard);
        state.client(&client_id(client)).filter(|session| session.epoch() == epoch).map(nightjar_shard::Session::id)
    };
    if let Some(session) = session {
        let now = site.clock.now();
        let detach = Op::Detach { session, epoch, expiry: None, discard_will: true, sent: 0, now };
        site.works.store.submit(&mut vec![(shard, detach)], None);
    }
}
