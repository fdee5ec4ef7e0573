//! What of one message has to be durable: the sessions that keep it, by shard, and the ops for them.

use super::bridges::aged;
use super::far::Away;
use super::ports::Publication;
use super::sending::Copy;
use super::source::Source;
use super::subscriber::Subscriber;
use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_shard::{Op, Target};
use std::sync::Arc;

/// The durable deliveries of one message, by shard.
#[derive(Default)]
pub(super) struct Durable {
    /// Whether QoS 0 is kept for those who are away.
    pub(super) queue_qos0: bool,
    /// Live subscribers have had it.
    pub(super) had_live: bool,
    /// What goes to connections of other nodes.
    pub(super) away: Away,
    shards: Vec<(ShardId, Vec<Target>)>,
    /// Who keeps it until then and no longer.
    aged: Vec<(ShardId, Target, Wall)>,
    now: Wall,
}

impl Durable {
    pub(super) fn at(now: Wall) -> Self {
        Self { now, ..Self::default() }
    }

    pub(super) fn add(&mut self, subscriber: &Subscriber, (shard, session): (ShardId, SessionId), copy: Copy<'_>) {
        let Copy { qos, retain, identifiers, share } = copy;
        let target = Target { session, qos, retain, identifiers: identifiers.to_vec(), share: share.cloned() };
        if let Some(too_old) = subscriber.keeping().and_then(|keeping| keeping.too_old(self.now)) {
            self.aged.push((shard, target, too_old));
            return;
        }
        match self.shards.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, targets)) => targets.push(target),
            None => self.shards.push((shard, vec![target])),
        }
    }

    pub(super) fn into_ops(self, source: &Source<'_>, now: Wall, ops: &mut Vec<(ShardId, Op)>) {
        if let Some(publication) = source.publication {
            return self.into_ops_once(publication, source, now, ops);
        }
        for (shard, targets) in self.shards {
            ops.push((shard, Op::Enqueue { message: Arc::clone(source.message()), targets, now }));
        }
        for (shard, target, too_old) in self.aged {
            let message = aged(source.message(), too_old);
            ops.push((shard, Op::Enqueue { message, targets: vec![target], now }));
        }
    }

    /// One op for each shard: a second one of the same publication would be taken for the first.
    fn into_ops_once(self, publication: Publication, source: &Source<'_>, now: Wall, ops: &mut Vec<(ShardId, Op)>) {
        let Publication { origin, digest, .. } = publication;
        let mut shards = self.shards;
        for (shard, ..) in &self.aged {
            if !shards.iter().any(|(of, _)| of == shard) {
                shards.push((*shard, Vec::new()));
            }
        }
        for (shard, targets) in shards {
            let of_shard = self.aged.iter().filter(|(of, ..)| *of == shard);
            let variants =
                of_shard.map(|(_, target, too_old)| (aged(source.message(), *too_old), vec![target.clone()]));
            let variants = variants.collect();
            let message = Arc::clone(source.message());
            ops.push((shard, Op::EnqueueFrom { origin, digest, message, targets, variants, now }));
        }
    }
}
