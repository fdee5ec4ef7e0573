//! A shard with its tables, and short words for its ops.

use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions};
use nightjar_shard::{ALONE, Due, Effect, Entry, NEVER, Op, QueueLimits, Shard, Subscription, Target, Will};
use std::collections::BTreeMap;
use std::sync::Arc;

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A shard, its tables, and a running index.
pub struct Bench {
    pub shard: Shard,
    pub tables: Rows,
    pub index: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self { shard: Shard::new(ShardId(0)), tables: Rows::new(), index: 0 }
    }

    pub fn apply(&mut self, op: Op) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.index += 1;
        self.shard.apply(self.index, op, &mut effects);
        effects
    }

    pub fn checkpoint(&mut self) -> usize {
        let changes = self.shard.freeze(&self.tables).unwrap();
        for change in changes.iter() {
            match &change.value {
                Some(value) => self.tables.insert(change.key.clone(), value.clone()),
                None => self.tables.remove(&change.key),
            };
        }
        self.shard.thaw();
        changes.len()
    }

    pub fn reload(&mut self) {
        self.checkpoint();
        self.shard = Shard::load(ShardId(0), &self.tables).unwrap();
    }

    /// Attaches and returns the session and whether it was present.
    pub fn attach(&mut self, attach: Attach) -> (SessionId, bool) {
        let effects = self.attached(attach);
        match effects.last() {
            Some(Effect::Attached { session, present, .. }) => (*session, *present),
            other => panic!("{other:?}"),
        }
    }

    /// Attaches and returns the effects.
    pub fn attached(&mut self, attach: Attach) -> Vec<Effect> {
        let Attach { home, client, clean_start, expiry, epoch, will, limits, now } = attach;
        let (client_id, user, now) = (client.into(), None, Wall(now));
        self.apply(if home == ALONE {
            Op::Attach { client_id, user, clean_start, expiry, epoch, will, limits, now }
        } else {
            let will = will.map(Box::new);
            Op::AttachFrom { home, client_id, user, clean_start, expiry, epoch, will, limits, now }
        })
    }

    pub fn detach(&mut self, session: SessionId, epoch: u64, now: u64) -> Vec<Effect> {
        self.apply(Op::Detach { session, epoch, expiry: None, discard_will: false, sent: 0, now: Wall(now) })
    }

    pub fn enqueue(&mut self, session: SessionId, payload: &[u8]) -> Vec<Effect> {
        self.apply(enqueue_to(&[session], payload))
    }

    pub fn entries(&self, session: SessionId, from: u64) -> Vec<Entry> {
        let mut out = Vec::new();
        self.shard.page(&self.tables, session, from, usize::MAX, usize::MAX, &mut out).unwrap();
        out
    }

    pub fn sequences(&self, session: SessionId) -> Vec<u64> {
        self.entries(session, 0).iter().map(|entry| entry.sequence).collect()
    }

    pub fn due(&mut self, now: u64) -> Vec<Due> {
        let mut due = Vec::new();
        self.shard.due(Wall(now), &mut due);
        due
    }
}

pub struct Attach {
    pub home: u64,
    pub client: &'static str,
    pub clean_start: bool,
    pub expiry: u32,
    pub epoch: u64,
    pub will: Option<Will>,
    pub limits: QueueLimits,
    pub now: u64,
}

impl Default for Attach {
    fn default() -> Self {
        let limits = QueueLimits::UNLIMITED;
        Self { home: ALONE, client: "client", clean_start: false, expiry: NEVER, epoch: 1, will: None, limits, now: 0 }
    }
}

pub fn will(delay: u32) -> Option<Will> {
    Some(Will { message: Arc::new(Message::new("will", &[], b"gone")), delay })
}

pub fn enqueue_to(sessions: &[SessionId], payload: &[u8]) -> Op {
    let qos = QoS::AtLeastOnce;
    let target = |&session| Target { session, qos, retain: false, identifiers: Vec::new(), share: None };
    let targets = sessions.iter().map(target).collect();
    Op::Enqueue { message: Arc::new(Message::new("a/b", &[], payload)), targets, now: Wall(0) }
}

pub fn retain(topic: &str, payload: &[u8], expires: Option<u64>) -> Op {
    let mut message = Message::new(topic, &[], payload);
    message.expires = expires.map(Wall);
    Op::Retain { message: Arc::new(message), now: Wall(0) }
}

pub fn subscribe(session: SessionId, filter: &str, replay: bool) -> Op {
    let options = SubscriptionOptions::default();
    Op::Subscribe {
        session,
        subscriptions: vec![Subscription { filter: filter.into(), options, replay }],
        now: Wall(0),
    }
}
