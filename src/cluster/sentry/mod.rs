//! Who is there: so that a group whose leader is lost has another at once, though its heartbeats are few.
//!
//! ```text
//! every node ─ BEAT, a few times a second ─► every other: whom I take for lost, what I lead ─► the same of itself
//! most voters of a group take its leader for lost ─► the first of the others stands ─► after a while the next one
//! ```
//! So only the control group has heartbeats by which its leader is missed; a shard's are there for what this does not see,
//! and cost next to nothing. Nothing is proved by any of it: a leader that was given up too early is overruled as by any
//! election.

mod turns;
mod watch;

use super::member::Member;
use super::raft::{Group, Reign};
use super::wire::{CallError, Lane, Refusal, Request, Transport as _};
use crate::env::task;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use nightjar_base::{NodeId, ShardId, Tick, millis};
use nightjar_control::{Node, Stage};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use turns::{Turns, candidates};
use watch::{Watch, Word};

/// Tells a node what this one says of itself, and has it do the same.
pub(super) const BEAT: u8 = 24;

const MALFORMED: u32 = 128;

/// Heartbeats without a word of a node after which it is lost.
const PATIENCE: u32 = 3;

/// What this node knows of the others.
#[derive(Debug)]
pub(super) struct Sentry {
    watch: Mutex<Watch>,
    turns: Mutex<Turns>,
    patience: Duration,
    /// It is not to be waited for until the others are asked.
    news: Notify,
}

impl Sentry {
    /// For node `own`, which asks the others every `heartbeat`.
    pub(super) fn new(own: NodeId, heartbeat: Duration) -> Self {
        let patience = heartbeat * PATIENCE;
        let watch = Mutex::new(Watch::new(own, millis(patience)));
        Self { watch, turns: Mutex::default(), patience, news: Notify::new() }
    }

    /// A link was lost: what is behind it may be as well.
    pub(super) fn alarm(&self) {
        self.news.notify_one();
    }

    /// Whether `node` reaches all that this node does, and more.
    pub(super) fn hears_more(&self, node: NodeId, now: Tick) -> bool {
        self.watch.lock().hears_more(node, now)
    }

    /// Whether `node` is lost, or does not reach all that this node does.
    pub(super) fn is_worse(&self, node: NodeId, now: Tick) -> bool {
        let watch = self.watch.lock();
        watch.lost(now).contains(&node) || watch.misses_more(node, now)
    }

    /// Nodes that this one takes for lost.
    fn lost(&self, now: Tick) -> BTreeSet<NodeId> {
        self.watch.lock().lost(now)
    }
}

/// Asks all others again and again, for ever.
pub(super) async fn run(member: Arc<Member>) {
    let mut beat = task::interval(member.settings.pace.heartbeat);
    let mut lost = BTreeSet::new();
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = member.sentry.news.notified() => {}
        }
        let others: BTreeSet<NodeId> = {
            let control = member.control.lock();
            let there = |node: &&Node| node.home().is_some() && node.stage() != Stage::Gone;
            control.members().filter(there).map(Node::id).collect()
        };
        let others: Vec<NodeId> = {
            let mut watch = member.sentry.watch.lock();
            watch.set_nodes(&others);
            watch.nodes().collect()
        };
        for node in others {
            drop(task::spawn(ask(Arc::clone(&member), node)));
        }
        let now = member.sentry.lost(member.clock.tick());
        if now != lost {
            // The others may see it as well, and are told before they ask.
            member.sentry.news.notify_one();
            lost = now;
        }
        look(&member);
    }
}

async fn ask(member: Arc<Member>, node: NodeId) {
    let Some(running) = member.running.get() else { return };
    let request = Request { group: 0, kind: BEAT, payload: encode(&word(&member)) };
    let answer = running.wire.call(node, Lane::Beat, request, member.sentry.patience).await;
    {
        let mut watch = member.sentry.watch.lock();
        let was_lost = watch.lost(member.clock.tick());
        match answer {
            Ok(answer) => match decode(answer) {
                Some(word) => watch.answered(node, word, member.clock.tick()),
                None => return,
            },
            Err(CallError::Unreachable) => watch.broken(node),
            // It is silent, which shows in time.
            Err(_) => return,
        }
        if watch.lost(member.clock.tick()) != was_lost {
            member.sentry.news.notify_one();
        }
    }
    look(&member);
}

/// Another node tells of itself.
pub(super) fn answer(member: &Arc<Member>, from: NodeId, payload: Bytes) -> Result<Bytes, Refusal> {
    let told = decode(payload).ok_or_else(|| Refusal::new(MALFORMED, "this cannot be understood"))?;
    member.sentry.watch.lock().asked(from, told, member.clock.tick());
    look(member);
    Ok(encode(&word(member)))
}

/// What this node says of itself.
fn word(member: &Member) -> Word {
    let leads = member.running.get().map(|running| running.groups.all().filter(|group| group.leads()));
    let leads = leads.into_iter().flatten().map(|group| group.id()).collect();
    Word { lost: member.sentry.lost(member.clock.tick()), leads }
}

/// Stands where a leader is missing and it is this node's turn.
fn look(member: &Arc<Member>) {
    let Some(running) = member.running.get() else { return };
    for group in running.groups.all() {
        if let Some(reign) = is_turn(member, group) {
            tracing::info!(group = group.id().0, ?reign, "this node stands for the leader, which is missed");
            let group = Arc::clone(group);
            // Tried again in the next turn.
            drop(task::spawn(async move { group.stand(reign).await }));
        }
    }
}

/// The reign that is over, if this node is to end it now.
fn is_turn(member: &Member, group: &Group) -> Option<Reign> {
    let (own, now, id) = (member.node, member.clock.tick(), group.id());
    let (watch, mut turns) = (member.sentry.watch.lock(), member.sentry.turns.lock());
    let reign = group.reign();
    let voters: BTreeSet<NodeId> = group.members().voters.iter().copied().map(NodeId).collect();
    let patience = millis(member.sentry.patience);
    let grace = match reign.leader {
        _ if group.leads() || voters.len() < 2 || !voters.contains(&own) => None,
        Some(leader) if watch.is_over(leader, &voters, now) => Some(0),
        // It may only have begun to lead.
        Some(leader) if leader == own || watch.denies(leader, id, now) => Some(patience),
        Some(_) => None,
        None => Some(patience),
    };
    let Some(grace) = grace else {
        turns.filled(id);
        return None;
    };
    let wished = member.control.lock().placement().of(id).to_vec();
    let next = candidates(&wished, &voters, reign.leader.filter(|leader| *leader != own), &watch.lost(now));
    turns.is_due(id, reign, grace, &next, own, now).then_some(reign)
}

fn encode(word: &Word) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + 8 * word.lost.len() + 2 * word.leads.len());
    out.put_u16_le(u16::try_from(word.lost.len()).unwrap_or(u16::MAX));
    word.lost.iter().take(usize::from(u16::MAX)).for_each(|node| out.put_u64_le(node.0));
    word.leads.iter().for_each(|group| out.put_u16_le(group.0));
    out.freeze()
}

fn decode(mut bytes: Bytes) -> Option<Word> {
    let mut word = Word::default();
    for _ in 0..bytes.try_get_u16_le().ok()? {
        word.lost.insert(NodeId(bytes.try_get_u64_le().ok()?));
    }
    while !bytes.is_empty() {
        word.leads.insert(ShardId(bytes.try_get_u16_le().ok()?));
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_back_and_nothing_else_is() {
        let some = Word { lost: [NodeId(7), NodeId(u64::MAX)].into(), leads: [ShardId(0), ShardId(16)].into() };
        for word in [Word::default(), some] {
            let bytes = encode(&word);
            assert_eq!(decode(bytes.clone()).as_ref(), Some(&word));
            assert_eq!(decode(bytes.slice(..bytes.len() - 1)), None);
        }
    }
}
