//! A session and its connection: attached, detached, its will done, ended.

use crate::apply::list;
use crate::deadlines::Deadline;
use crate::effect::{Effect, Holder};
use crate::op::{ALONE, NEVER, QueueLimits, Will};
use crate::queue::Queue;
use crate::session::{Rows, Session};
use crate::shard::Shard;
use nightjar_base::{SessionId, Wall};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a connection brings to its session.
pub(crate) struct Attachment {
    pub(crate) home: u64,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) expiry: u32,
    pub(crate) epoch: u64,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) limits: QueueLimits,
}

impl Shard {
    /// A connection takes the session of its client, which is made if there is none to resume.
    pub(crate) fn attach(
        &mut self,
        client_id: Arc<str>,
        clean_start: bool,
        attachment: Attachment,
        now: Wall,
        effects: &mut Vec<Effect>,
    ) {
        let Attachment { home, user, expiry, epoch, will, limits } = attachment;
        let mut before = None;
        if let Some(&id) = self.by_client.get(&client_id)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            before = session.attached.then(|| Box::new(Holder { home: session.home, epoch: session.epoch }));
            // A session without an expiry interval ends with its connection: there is nothing to resume
            // [MQTT-3.1.2-6 in 3.1.1].
            let resumes = !clean_start && session.expiry != 0 && !session.is_expired(now);
            // Nobody could publish it any more: whoever attaches does so, and attaches again. A node alone publishes it as it
            // detaches.
            if home != ALONE && session.owes_will(resumes, now) {
                return;
            }
            if resumes {
                if let Some(at) = session.will_due.take() {
                    self.deadlines.clear(at, Deadline::Will(id));
                }
                if let Some(at) = session.expires.take() {
                    self.deadlines.clear(at, Deadline::Expiry(id));
                }
                if session.attached && session.home != home {
                    session.all_may_be_sent();
                }
                (session.user, session.expiry, session.home, session.epoch) = (user, expiry, home, epoch);
                (session.will, session.limits, session.attached) = (will, limits, true);
                session.rows.identity_dirty = true;
                list(&mut self.listed, session);
                effects.push(Effect::Attached { session: id, client_id, home, epoch, present: true, before });
                return;
            }
            self.end(id, effects);
        }
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let mut session = Box::new(Session {
            id,
            client_id: client_id.clone(),
            user,
            epoch,
            attached: true,
            home,
            expiry,
            expires: None,
            will,
            will_due: None,
            sent: 0,
            limits,
            subscriptions: BTreeMap::new(),
            queue: Queue::new(),
            inbound: Vec::new(),
            rows: Rows { identity_dirty: true, queue_dirty: true, ..Rows::default() },
        });
        list(&mut self.listed, &mut session);
        self.sessions.insert(id, session);
        self.by_client.insert(client_id.clone(), id);
        effects.push(Effect::Attached { session: id, client_id, home, epoch, present: false, before });
    }

    pub(crate) fn note_sent(&mut self, id: SessionId, epoch: u64, sent: u64) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.attached && session.epoch == epoch) {
            session.sent = session.sent.max(sent);
        }
    }

    pub(crate) fn detach(
        &mut self,
        id: SessionId,
        epoch: u64,
        expiry: Option<u32>,
        discard_will: bool,
        now: Wall,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.attached && session.epoch == epoch)
        else {
            return;
        };
        session.attached = false;
        let home = std::mem::replace(&mut session.home, ALONE);
        if home != ALONE {
            effects.push(Effect::Detached { session: id, client_id: session.client_id.clone(), home, epoch });
        }
        session.expiry = expiry.unwrap_or(session.expiry);
        if discard_will {
            session.will = None;
        }
        if session.expiry == 0 && session.will.is_none() {
            return self.end(id, effects);
        }
        session.expires = (session.expiry != NEVER).then(|| now.plus_seconds(session.expiry.into()));
        // Published after its delay or when the session ends, whichever is first [MQTT-3.1.2-8].
        session.will_due = session.will.as_ref().map(|will| {
            let delayed = now.plus_seconds(will.delay.into());
            session.expires.map_or(delayed, |end| end.min(delayed))
        });
        if let Some(at) = session.will_due {
            self.deadlines.set(at, Deadline::Will(id));
        }
        // Without an expiry interval the session is kept for its will alone, and ends with `WillDone`.
        if let Some(at) = session.expires.filter(|_| session.expiry != 0) {
            self.deadlines.set(at, Deadline::Expiry(id));
        }
        session.rows.identity_dirty = true;
        list(&mut self.listed, session);
    }

    /// The home is gone, and what its connections were sent went with it.
    pub(crate) fn detach_home(&mut self, home: u64, now: Wall, effects: &mut Vec<Effect>) {
        let lost: Vec<(SessionId, u64)> = self.sessions_at(home).map(|session| (session.id, session.epoch)).collect();
        for (id, epoch) in lost {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.all_may_be_sent();
            }
            self.detach(id, epoch, None, false, now, effects);
        }
    }

    pub(crate) fn will_done(&mut self, id: SessionId, epoch: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.epoch == epoch) else { return };
        session.will = None;
        if let Some(at) = session.will_due.take() {
            self.deadlines.clear(at, Deadline::Will(id));
        }
        if session.expiry == 0 && !session.attached {
            return self.end(id, effects);
        }
        session.rows.identity_dirty = true;
        list(&mut self.listed, session);
    }

    pub(crate) fn end(&mut self, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_client.remove(&session.client_id);
        if let Some(at) = session.will_due {
            self.deadlines.clear(at, Deadline::Will(id));
        }
        if let Some(at) = session.expires {
            self.deadlines.clear(at, Deadline::Expiry(id));
        }
        self.totals.messages -= session.queue.len();
        self.totals.bytes -= session.queue.bytes();
        self.totals.young_bytes -= session.queue.tail_bytes();
        self.graves.bury(&session);
        effects.push(Effect::Ended {
            session: id,
            client_id: session.client_id,
            subscriptions: session.subscriptions.into_keys().collect(),
        });
    }
}
