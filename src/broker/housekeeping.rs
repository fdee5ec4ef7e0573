//! What becomes due without anybody asking: delayed wills, the expiry of sessions and of retained messages.

use super::leave::DueWill;
use super::ports::{Others, Publication};
use super::sending::SharedUnderWay;
use super::{Broker, stats};
use crate::env::task;
use nightjar_base::{ClientId, SessionId, ShardId, Wall};
use nightjar_mqtt::QoS;
use nightjar_shard::{Due, Entry, Op};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How often deadlines are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// Every so many of these periods memory and disk are looked at.
const TURNS_A_LOOK: u64 = 5;
/// And every so many origins of sessions that have ended are looked for: as late as that a node may still be publishing the
/// will of one.
const TURNS_A_SWEEP: u64 = 50;
/// Wills and expiries that are seen to at a time.
const AT_A_TIME: usize = 256;
/// Entries of an expired session's queue that are looked at together.
const PAGE_ENTRIES: usize = 256;
const PAGE_BYTES: usize = 1 << 20;
/// Among the numbers of a session's publications, those that went to another member of a group have this bit.
const REDISTRIBUTED: u64 = 1 << 62;

/// The task that sees to it that what is due happens.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut interval = task::interval(PERIOD);
    let (mut due, mut ended) = (Vec::new(), Ended::default());
    let mut turns: u64 = 0;
    let permits = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        interval.tick().await;
        if turns.is_multiple_of(TURNS_A_LOOK) {
            broker.look_at_marks();
        }
        if turns.is_multiple_of(TURNS_A_SWEEP) {
            broker.forget_origins(&mut ended);
        }
        turns += 1;
        for shard in 0..broker.store.shard_count() {
            let shard = ShardId(shard);
            // Who is not up to date may not know yet who is to have a will.
            let is_ours = |others: &Arc<dyn Others>| others.leads(shard) && others.may_acknowledge();
            if !broker.others.as_ref().is_none_or(is_ours) {
                continue;
            }
            let now = broker.clock.now();
            {
                let mut store = broker.store.lock(shard);
                if store.next_deadline().is_some_and(|deadline| deadline <= now) {
                    store.due(now, &mut due);
                }
            }
            for due in due.drain(..) {
                // Many at a time, so that they share syncs; whoever is due later waits here.
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                let broker = Arc::clone(&broker);
                task::spawn(async move {
                    broker.handle_due(shard, due, now).await;
                    drop(permit);
                });
            }
        }
    }
}

/// By shard: sessions that have ended, of whose publications it remembered something when it was last looked.
type Ended = HashSet<(ShardId, (ShardId, SessionId))>;

impl Broker {
    /// Has forgotten what is remembered of the publications of sessions that had ended by the last time already: it is
    /// nothing to anybody any more. The leader of such a session's shard sees to it.
    fn forget_origins(&self, ended: &mut Ended) {
        let Some(others) = self.others.as_ref().filter(|others| others.may_acknowledge()) else { return };
        let (mut now, mut ops) = (Ended::default(), Vec::new());
        for of in (0..self.store.shard_count()).map(ShardId) {
            let publishers: Vec<_> =
                self.store.lock(of).publishers().filter(|(shard, _)| others.leads(*shard)).collect();
            let is_over = |of: &(ShardId, SessionId)| self.store.lock(of.0).session(of.1).is_none();
            for session in publishers.into_iter().filter(is_over) {
                if ended.contains(&(of, session)) {
                    ops.push((of, Op::ForgetOrigins { session, tokens: Vec::new() }));
                } else {
                    now.insert((of, session));
                }
            }
        }
        *ended = now;
        if !ops.is_empty() {
            self.store.submit(&mut ops, None);
        }
    }

    /// `popped` is when it was due: the clock may have been set back since, and the shard tells of it only once.
    async fn handle_due(&self, shard: ShardId, due: Due, popped: Wall) {
        match due {
            Due::Will { session, client_id, epoch, .. } => {
                self.fire_will(shard, session, &client_id, epoch, popped).await
            }
            Due::Expired { session, client_id, .. } => self.expire(shard, session, &client_id, popped).await,
            Due::Retained { topic, index } => {
                self.store.submit(&mut vec![(shard, Op::Forget { topic, index })], None);
            }
        }
    }

    /// Publishes a delayed will, if its client has not come back meanwhile. The will and the note that it was published
    /// become durable together, so that it is published once, whatever crashes.
    async fn fire_will(&self, shard: ShardId, session: SessionId, client_id: &ClientId, epoch: u64, popped: Wall) {
        let _claim = self.registry.claim(client_id).await;
        let now = self.clock.now().max(popped);
        let will = {
            let store = self.store.lock(shard);
            let is_due = |session: &&nightjar_shard::Session| {
                session.epoch() == epoch && !session.attached() && session.will_due().is_some_and(|due| due <= now)
            };
            let session = store.session(session).filter(is_due);
            session.and_then(|s| Some((Arc::clone(&s.will()?.message), s.user().cloned())))
        };
        let Some((message, user)) = will else { return };
        let due = DueWill { shard, session, epoch, client_id: Arc::clone(client_id), user, message };
        let mut ops = Vec::new();
        self.publish_due_will(&due, &mut ops, now).await;
        ops.push((shard, Op::WillDone { session, epoch }));
        let position = self.store.submit(&mut ops, None);
        self.store.wait(position).await;
    }

    /// Ends an expired session. What its queue holds of shared subscriptions goes to other members first.
    async fn expire(&self, shard: ShardId, session: SessionId, client_id: &ClientId, popped: Wall) {
        let _claim = self.registry.claim(client_id).await;
        let now = self.clock.now().max(popped);
        if !self.store.lock(shard).session(session).is_some_and(|session| session.is_expired(now)) {
            return;
        }
        self.redistribute_queue(shard, session).await;
        let position = self.store.submit(&mut vec![(shard, Op::Expire { session, now })], None);
        self.store.wait(position).await;
        stats::add(|s| &s.sessions_expired, 1);
        tracing::info!(client = %crate::telemetry::escape(client_id), "session expired");
    }

    /// Gives the shared subscriptions' messages of a session that ends to other members, a page at a time: each message
    /// leaves the one queue and enters the other in one submission.
    pub(crate) async fn redistribute_queue(&self, shard: ShardId, session: SessionId) {
        let has_share = |session: &nightjar_shard::Session| {
            session.queued() > 0 && session.subscriptions().any(|(filter, _)| nightjar_mqtt::topic::is_shared(filter))
        };
        if !self.store.lock(shard).session(session).is_some_and(has_share) {
            return;
        }
        let subscriber = self.session(shard, session);
        let (leaver, sent) = subscriber.map_or((0, 0), |subscriber| (subscriber.id, subscriber.sent()));
        // A QoS 2 message that was sent stays with the client that was sent it [MQTT-4.8.2-5].
        let stays = |entry: &&Entry| entry.received || (entry.qos == QoS::ExactlyOnce && entry.sequence < sent);
        let mut from = 0;
        loop {
            let mut page: Vec<Entry> = Vec::new();
            let (read, next) = {
                let store = self.store.lock(shard);
                let next = store.session(session).map_or(0, nightjar_shard::Session::next_sequence);
                (store.page(self.store.tables(), session, from, PAGE_ENTRIES, PAGE_BYTES, &mut page), next)
            };
            let Ok(end) = read else { return };
            let now = self.clock.now();
            let mut ops = Vec::new();
            let mut moved = Vec::new();
            for entry in page.iter().filter(|entry| !stays(entry)) {
                let Some(share) = &entry.share else { continue };
                let publication = self.others.is_some().then(|| {
                    let token = REDISTRIBUTED | entry.sequence;
                    Publication::new((shard, session), token, &entry.message, true)
                });
                let (message, share) = (Arc::clone(&entry.message), Arc::clone(share));
                let of_group = SharedUnderWay { message, qos: entry.qos, share };
                if self.redistribute(&of_group, leaver, publication, &mut ops, now) {
                    moved.push(entry.sequence);
                }
            }
            if self.others.is_some() && !ops.is_empty() {
                // Other shards have it before this one lets go of it; made twice, they know it again.
                let position = self.store.submit(&mut ops, None);
                self.store.wait(position).await;
            }
            if !moved.is_empty() {
                ops.push((shard, Op::Acknowledge { session, sequences: moved }));
                let position = self.store.submit(&mut ops, None);
                self.store.wait(position).await;
            }
            if end >= next || end <= from {
                return;
            }
            from = end;
        }
    }
}
