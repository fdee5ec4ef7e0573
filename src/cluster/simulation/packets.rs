//! What a client's packets come to at a site: the ops that `broker/packets.rs` and `broker/subscribe.rs` submit, and the
//! acknowledgements when they are applied.

use super::bugs::Bug;
use super::client::{Flight, Life, topic};
use super::site::{Connection, Site};
use crate::env::task;
use crate::store::Waiter;
use nightjar_base::{Position, SessionId, ShardId};
use nightjar_mqtt::{Message, QoS, RetainHandling, SubscriptionOptions};
use nightjar_shard::{Op, Origin, Subscription, Target};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of a queue that are under way to a client.
const WINDOW: usize = 8;

type Then = Box<dyn FnOnce(&Arc<Site>, &Arc<Connection>) + Send>;

/// An acknowledgement that waits.
struct Ack {
    site: Arc<Site>,
    connection: Arc<Connection>,
    then: Mutex<Option<Then>>,
}

impl Waiter for Ack {
    fn durable(self: Arc<Self>, _: Position) {
        self.connection.pending.fetch_sub(1, Ordering::SeqCst);
        let then = self.then.lock().take();
        if let Some(then) = then.filter(|_| self.connection.is_open() && self.site.is_alive()) {
            then(&self.site, &self.connection);
        }
    }
}

/// Submits `ops`, and does `then` when they are applied, if the connection is still there.
fn submit(
    site: &Arc<Site>,
    connection: &Arc<Connection>,
    mut ops: Vec<(ShardId, Op)>,
    then: impl FnOnce(&Arc<Site>, &Arc<Connection>) + Send + 'static,
) {
    connection.pending.fetch_add(1, Ordering::SeqCst);
    let then = Mutex::new(Some(Box::new(then) as Then));
    let ack = Arc::new(Ack { site: Arc::clone(site), connection: Arc::clone(connection), then });
    site.works.store.submit(&mut ops, Some(ack));
}

fn targets(sessions: &[SessionId], qos: QoS) -> Vec<Target> {
    let target =
        |session: &SessionId| Target { session: *session, qos, retain: false, identifiers: Vec::new(), share: None };
    sessions.iter().map(target).collect()
}

/// PUBLISH at QoS 1. Whoever is not acknowledged goes on with another number.
pub(super) fn publish_once_or_more(site: &Arc<Site>, connection: &Arc<Connection>, number: u64, to: usize) {
    let publication = (connection.client, number);
    if !site.may_acknowledge() {
        return site.close(connection);
    }
    site.ledger.routed(publication, to, false, false);
    site.ledger.note(|| format!("{publication:?} at QoS 1 by {}", connection.order));
    let message = Arc::new(message(publication, to));
    let now = site.clock.now();
    let enqueue = |(shard, sessions): (ShardId, Vec<SessionId>)| {
        let targets = targets(&sessions, QoS::AtLeastOnce);
        (shard, Op::Enqueue { message: Arc::clone(&message), targets, now })
    };
    let ops: Vec<_> = site.matching(to).into_iter().map(enqueue).collect();
    if ops.is_empty() {
        // Nothing to wait for.
        return site.ledger.acknowledged(publication, connection.order);
    }
    submit(site, connection, ops, move |site, connection| site.ledger.acknowledged(publication, connection.order));
}

fn message(publication: (usize, u64), to: usize) -> Message {
    Message::new(&topic(to), &[], format!("{} {}", publication.0, publication.1).as_bytes())
}

/// PUBLISH at QoS 2, again if it is not certain that all of it was taken.
pub(super) fn publish_exactly_once(
    site: &Arc<Site>,
    connection: &Arc<Connection>,
    life: &Arc<Mutex<Life>>,
    flight: &Flight,
) {
    let Flight { packet_id, number, topic: to, retain, .. } = *flight;
    let publication = (connection.client, number);
    if !site.may_acknowledge() {
        return site.close(connection);
    }
    let is_known = !connection.inbound.lock().insert(packet_id);
    let is_unsure = connection.unsure.lock().remove(&packet_id);
    let life = Arc::clone(life);
    let received = move |site: &Arc<Site>, connection: &Arc<Connection>| {
        site.ledger.acknowledged(publication, connection.order);
        life.lock().received(packet_id, number);
    };
    if is_known && !is_unsure {
        return submit(site, connection, Vec::new(), received);
    }
    site.ledger.routed(publication, to, true, retain);
    site.ledger.note(|| format!("{publication:?} at QoS 2 by {}", connection.order));
    let (message, now) = (Arc::new(message(publication, to)), site.clock.now());
    let origin = Origin { session: (connection.shard, connection.session), token: packet_id.into() };
    // Of another message under the same identifier it differs.
    let digest = number + 1;
    if retain {
        let op = Op::RetainFrom { origin, digest, message: Arc::clone(&message), now };
        let shard = site.works.store.shard_of(message.topic());
        site.works.store.submit(&mut vec![(shard, op)], None);
    }
    let enqueue = |(shard, sessions): (ShardId, Vec<SessionId>)| {
        let (message, targets, variants) = (Arc::clone(&message), targets(&sessions, QoS::ExactlyOnce), Box::default());
        let op = match site.bug {
            Bug::NoOrigins => Op::Enqueue { message, targets, now },
            _ => Op::EnqueueFrom { origin, digest, message, targets, variants, now },
        };
        (shard, op)
    };
    let mut ops: Vec<_> = site.matching(to).into_iter().map(enqueue).collect();
    if !ops.iter().any(|(shard, _)| *shard == connection.shard) {
        let (message, variants) = (Arc::new(Message::new("", &[], &[])), Box::default());
        let note = Op::EnqueueFrom { origin, digest: 0, message, targets: Vec::new(), variants, now };
        ops.push((connection.shard, note));
    }
    ops.push((connection.shard, Op::InboundReceived { session: connection.session, packet_id }));
    submit(site, connection, ops, received);
}

/// PUBREL.
pub(super) fn release(site: &Arc<Site>, connection: &Arc<Connection>, life: &Arc<Mutex<Life>>, packet_id: u16) {
    let is_known = connection.inbound.lock().remove(&packet_id);
    let is_unsure = connection.unsure.lock().remove(&packet_id) || !is_known;
    let (session, store) = ((connection.shard, connection.session), &site.works.store);
    let mut ops = Vec::new();
    for shard in (0..store.shard_count()).map(ShardId) {
        if is_unsure || store.lock(shard).has_publisher(session) {
            ops.push((shard, Op::ForgetOrigins { session, tokens: vec![packet_id.into()] }));
        }
    }
    if is_known {
        ops.push((connection.shard, Op::InboundReleased { session: connection.session, packet_id }));
    }
    let life = Arc::clone(life);
    submit(site, connection, ops, move |_, _| life.lock().completed(packet_id));
}

/// SUBSCRIBE: SUBACK when it is durable, and settled everywhere.
pub(super) fn subscribe(site: &Arc<Site>, connection: &Arc<Connection>, life: &Arc<Mutex<Life>>, to: usize) {
    if !site.may_acknowledge() {
        return site.close(connection);
    }
    life.lock().subscribing.insert(to);
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Never,
        identifier: None,
    };
    let subscriptions = vec![Subscription { filter: topic(to), options, replay: false }];
    let op = Op::Subscribe { session: connection.session, subscriptions, now: site.clock.now() };
    let life = Arc::clone(life);
    submit(site, connection, vec![(connection.shard, op)], move |site, connection| {
        let (site, connection) = (Arc::clone(site), Arc::clone(connection));
        connection.pending.fetch_add(1, Ordering::SeqCst);
        task::spawn(async move {
            while site.bug != Bug::NoSettling && site.works.settling.settled().await.is_err() {
                task::sleep(std::time::Duration::from_millis(50)).await;
            }
            connection.pending.fetch_sub(1, Ordering::SeqCst);
            if connection.is_open() && site.is_alive() {
                site.ledger.subscribed(connection.client, to, connection.order);
                life.lock().subscribed(to);
            }
        });
    });
}

/// UNSUBSCRIBE.
pub(super) fn unsubscribe(site: &Arc<Site>, connection: &Arc<Connection>, to: usize) {
    site.ledger.unsubscribes(connection.client, to);
    let op = Op::Unsubscribe { session: connection.session, filters: vec![topic(to)] };
    site.works.store.submit(&mut vec![(connection.shard, op)], None);
}

/// Sends what waits in the client's queue, which acknowledges it.
pub(super) fn receive(site: &Arc<Site>, connection: &Arc<Connection>) {
    let (client, session, shard) = (connection.client, connection.session, connection.shard);
    let from = connection.cursor.load(Ordering::SeqCst);
    let mut page = Vec::new();
    {
        let state = site.works.store.lock(shard);
        let next = state.page(site.works.store.tables(), session, from, WINDOW, 1 << 20, &mut page);
        match next {
            Ok(next) => connection.cursor.store(next, Ordering::SeqCst),
            Err(error) => return site.ledger.violation(format!("client {client}: its queue cannot be read: {error}")),
        }
    }
    let (mut once, mut exactly, mut released) = (Vec::new(), Vec::new(), Vec::new());
    for entry in page {
        if entry.received {
            released.push(entry.sequence);
            continue;
        }
        if site.works.settling.may_acknowledge() {
            let publication = Site::publication(entry.message.payload());
            site.ledger.sent(client, entry.sequence, publication, connection.order);
        } else {
            // Others may have been sent it since.
            connection.cursor.store(entry.sequence, Ordering::SeqCst);
            break;
        }
        if entry.qos == QoS::ExactlyOnce { exactly.push(entry.sequence) } else { once.push(entry.sequence) }
    }
    once.append(&mut released);
    acknowledge(site, connection, once);
    if !exactly.is_empty() {
        let op = Op::Received { session, sequences: exactly.clone() };
        submit(site, connection, vec![(shard, op)], move |site, connection| {
            site.ledger.over(client, &exactly, false);
            acknowledge(site, connection, exactly);
        });
    }
}

fn acknowledge(site: &Arc<Site>, connection: &Arc<Connection>, sequences: Vec<u64>) {
    if sequences.is_empty() {
        return;
    }
    let (client, op) =
        (connection.client, Op::Acknowledge { session: connection.session, sequences: sequences.clone() });
    submit(site, connection, vec![(connection.shard, op)], move |site, _| site.ledger.over(client, &sequences, true));
}
