//! The end of a connection: its will, its session, its routes.

use super::connection::{Connection, Durable, End};
use super::peer::Close;
use super::ports::Publication;
use super::{Broker, stats, turn};
use nightjar_base::{ClientId, SessionId, ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{ALONE, Op, Will};
use std::sync::Arc;

/// A will whose time has come.
pub(crate) struct DueWill {
    pub(crate) shard: ShardId,
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    pub(crate) client_id: ClientId,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) message: Arc<Message>,
}

/// Among the numbers of a session's publications, wills have this bit; with it, what is left of their epoch.
pub(crate) const WILL: u64 = 1 << 63;

/// A will's expiry interval, kept in the place of a deadline until the will is published.
pub(crate) fn interval_as_expiry(seconds: u32) -> Wall {
    Wall::default().plus_seconds(seconds.into())
}

/// The will's message as it is published at `now`: its expiry interval begins to count.
fn as_published(will: &Arc<Message>, now: Wall) -> Arc<Message> {
    let Some(interval) = will.expires else { return Arc::clone(will) };
    let mut message = Message::clone(will);
    message.expires = Some(Wall(now.0.saturating_add(interval.0)));
    Arc::new(message)
}

impl Connection {
    /// Does all that follows from the end of the connection. Nothing here waits: on a node alone the order of submissions is
    /// enough, since whoever attaches next submits after this. For a cluster see [`Broker::submit_in_turn`].
    pub(crate) fn leave(&mut self, end: &End) {
        self.forget_note();
        stats::add(|s| &s.disconnections, 1);
        if self.is_link {
            let own = self.peer.about.door.at.settings().bridge;
            self.broker.loops.left(&self.peer.client_id, self.subscriber.id, own);
            self.broker.routes_changed();
        }
        let (shared, sent) = {
            let mut state = self.peer.lock();
            (state.finish(), state.out.sent())
        };
        self.subscriber.disconnected(&self.peer, sent);
        if self.subscriber.session.is_some() && !self.subscriber.rights().is_open() {
            self.broker.routes_changed();
        }
        // Its session may have ended, or have come as a whole, while it was subscribing.
        let is_kept = |of: Durable| {
            let kept = self.broker.session(of.shard, of.session);
            of.queue && kept.is_some_and(|kept| kept.id == self.subscriber.id)
        };
        if !self.durable.is_some_and(is_kept) {
            let filters = std::mem::take(&mut *self.subscriber.filters());
            for filter in filters.keys() {
                self.broker.remove_route(&self.subscriber, filter);
            }
        }
        let now = self.broker.clock.now();
        let mut ops = std::mem::take(&mut self.ops);
        for message in shared {
            self.broker.redistribute(&message, self.subscriber.id, None, &mut ops, now);
        }
        let mut last = Vec::new();
        if let Some(durable) = self.durable {
            self.detach(durable, end, sent, &mut last, now);
        }
        self.broker.submit_in_turn(ops, last);
        self.broker.registry.disconnected(&self.peer);
        self.peer.set_gone();
    }

    /// Detaches the session; the will goes with it: dropped, published now, or left to its delay.
    fn detach(&mut self, durable: Durable, end: &End, sent: u64, ops: &mut Vec<(ShardId, Op)>, now: Wall) {
        let mut discard_will = matches!(end, End::Disconnected);
        // In a cluster whoever leads its shard sees to it, as if this node had died.
        if let Some(will) = self.will.take()
            && self.broker.others.is_none()
            && self.publishes_now(&will, end)
        {
            let message = &will.message;
            // The right may have been revoked since CONNECT.
            if self.subscriber.rights().publish(message.topic(), message.qos, message.retain) {
                self.broker.publish_will(message, None, ops, now);
            } else {
                stats::add(|s| &s.denied_publish, 1);
            }
            discard_will = true;
        }
        let Durable { shard, session, epoch, .. } = durable;
        ops.push((shard, Op::Detach { session, epoch, expiry: Some(self.expiry), discard_will, sent, now }));
    }

    /// Whether the will is published with the end of the connection [MQTT-3.1.2-8].
    fn publishes_now(&self, will: &Will, end: &End) -> bool {
        match end {
            End::Disconnected => false,
            // Its subscribers are leaving too: they get it when the broker is back.
            End::Told(Close::ShuttingDown) => false,
            // [MQTT-3.1.3-9]: at the end of the delay or of the session, whichever is first.
            _ => will.delay == 0 || self.expiry == 0,
        }
    }
}

impl Broker {
    /// Submits `ops`, and then `last`, which says that a connection is over.
    ///
    /// In a cluster each shard has a leader of its own, and what goes to one may be held up while another has agreed. A
    /// client whose session has no connection is let in at any node without asking this one; what it had published here
    /// would come behind what it publishes there, or once more when nobody remembers its origin. So the session keeps its
    /// connection until all that was submitted here is applied.
    fn submit_in_turn(&self, mut ops: Vec<(ShardId, Op)>, mut last: Vec<(ShardId, Op)>) {
        let is_settled = self.others.is_none() || (ops.is_empty() && self.store.applied() >= self.store.submitted());
        if is_settled || last.is_empty() {
            ops.append(&mut last);
        }
        if !ops.is_empty() {
            self.store.submit(&mut ops, None);
        }
        if !last.is_empty() {
            self.store.submit_in_turn(last);
        }
    }

    /// Publishes a will. Where no more may be retained it reaches those who are subscribed alone.
    pub(crate) fn publish_will(
        &self,
        will: &Arc<Message>,
        publication: Option<Publication>,
        ops: &mut Vec<(ShardId, Op)>,
        now: Wall,
    ) {
        let mut message = as_published(will, now);
        if message.retain && !self.may_retain(message.topic(), message.payload().is_empty()) {
            stats::add(|s| &s.refused_quota, 1);
            Arc::make_mut(&mut message).retain = false;
        }
        self.publish_as(&message, publication, ops, now);
    }

    /// Publishes the will of a connection that is over: what is to be submitted with the note that it is done is in `ops`.
    /// In a cluster that note comes when all shards have the will, which know it again if it comes twice.
    pub(crate) async fn publish_due_will(&self, due: &DueWill, ops: &mut Vec<(ShardId, Op)>, now: Wall) {
        let DueWill { shard, session, epoch, client_id, user, message } = due;
        if !self.will_is_allowed(client_id, user.as_deref(), message) {
            return;
        }
        if self.others.is_none() {
            return self.publish_will(message, None, ops, now);
        }
        let publication = Publication::new((*shard, *session), WILL | epoch >> 1, message, true);
        let mut published = Vec::new();
        self.publish_will(message, Some(publication), &mut published, now);
        turn::flush();
        let position = self.store.submit(&mut published, None);
        self.store.wait(position).await;
    }

    /// Settles what an earlier connection left behind before its session is resumed or ended: a will that is due is
    /// published, and so is one whose session ends now [MQTT-3.1.3-9]; other members of its groups get what the queue
    /// of an ending session holds of shared subscriptions.
    pub(super) async fn settle(&self, shard: ShardId, session: SessionId, resumes: bool, ops: &mut Vec<(ShardId, Op)>) {
        if !resumes {
            self.redistribute_queue(shard, session).await;
        }
        let now = self.clock.now();
        let due = {
            let store = self.store.lock(shard);
            let fires = |session: &&nightjar_shard::Session| !session.attached() && session.owes_will(resumes, now);
            let session = store.session(session).filter(fires);
            session.and_then(|session| {
                let message = Arc::clone(&session.will()?.message);
                let (epoch, client_id) = (session.epoch(), Arc::clone(session.client_id()));
                let (session, user) = (session.id(), session.user().cloned());
                Some(DueWill { shard, session, epoch, client_id, user, message })
            })
        };
        if let Some(due) = due {
            self.publish_due_will(&due, ops, now).await;
            ops.push((shard, Op::WillDone { session, epoch: due.epoch }));
        }
    }

    /// The first sequence of a session's queue that was certainly never sent. A crash did not leave behind what was
    /// sent: what fits a window may have been.
    pub(crate) fn may_be_sent(&self, session: &nightjar_shard::Session) -> u64 {
        let window = if session.attached() { u64::from(self.limits.load().max_inflight) } else { 0 };
        session.sent().max(session.next_sequence().min(session.head() + window))
    }

    /// What follows from a crash or a stop: connections that are no more are detached, their wills become due.
    /// Called once, before anything listens.
    pub async fn detach_all(&self) {
        let mut last = None;
        for shard in 0..self.store.shard_count() {
            let shard = ShardId(shard);
            let now = self.clock.now();
            let detach = |session: &nightjar_shard::Session| {
                let sent = self.may_be_sent(session);
                let (session, epoch) = (session.id(), session.epoch());
                (shard, Op::Detach { session, epoch, expiry: None, discard_will: false, sent, now })
            };
            // In a cluster others may have connections.
            let attached = |session: &&nightjar_shard::Session| session.attached() && session.home() == ALONE;
            let mut ops: Vec<_> = self.store.lock(shard).sessions().filter(attached).map(detach).collect();
            if !ops.is_empty() {
                last = Some(self.store.submit(&mut ops, None));
            }
        }
        if let Some(position) = last {
            self.store.wait(position).await;
        }
    }
}
