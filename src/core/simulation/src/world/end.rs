//! The end of a world: it is waited for until everything has come where it belongs, and looked at.

use super::{Process, World};
use crate::history::{Event, hash};
use nightjar_shard::Shard;
use std::fmt::Write as _;
use std::rc::Rc;

/// How long everything may take to settle, in milliseconds.
const PATIENCE: u64 = 30_000;
const LOOK: u64 = 250;
/// So often in a row nothing must be left to do.
const CALM: usize = 8;

impl World {
    /// Lets the world go on until nothing is left to do, then notes what the nodes hold.
    pub(crate) fn settle_down(self: &Rc<Self>) {
        let (end, mut quiet) = (self.agenda.now() + PATIENCE, 0);
        let mut last = None;
        while quiet < CALM {
            if self.agenda.now() >= end {
                self.note(Event::Stuck(last.unwrap_or_default()));
                self.describe_all();
                break;
            }
            self.agenda.run(self.agenda.now() + LOOK);
            last = self.unfinished();
            quiet = if last.is_none() { quiet + 1 } else { 0 };
        }
        for node in 0..self.disks.len() {
            if let Some(process) = self.process(node) {
                self.note_state(&process);
            }
        }
    }

    /// For people: where everybody stands.
    fn describe_all(&self) {
        for process in (0..self.disks.len()).filter_map(|node| self.process(node)) {
            for (group, of) in process.groups.borrow().iter().enumerate() {
                self.note(Event::Fault(format!("node {} in group {group} {}", process.node, of.describe())));
            }
            for (link, peer) in &process.broker.borrow().peers {
                let (next, under_way, session) = (peer.out.next(), peer.out.under_way(), peer.durable.session);
                let head = process.shards.borrow()[usize::from(peer.durable.shard.0)]
                    .session(session)
                    .map(|of| (of.head(), of.next_sequence(), of.received().collect::<Vec<_>>()));
                let (lags, waits) = (peer.lagging, peer.pending.front().map(|(at, _)| *at));
                let what = format!(
                    "node {} link {link} of {}: next {next}, {under_way} under way, queue {head:?}, lags {lags}, waits for {waits:?}",
                    process.node, peer.client_id
                );
                self.note(Event::Fault(what));
            }
            let (node, serves) = (process.node, process.may_acknowledge());
            self.note(Event::Fault(format!("node {node} may acknowledge: {serves}")));
        }
    }

    /// What is not done yet.
    fn unfinished(&self) -> Option<String> {
        let clients = self.clients.borrow();
        let mut found: Vec<String> = clients.iter().filter_map(|client| client.is_waiting()).collect();
        for node in 0..self.disks.len() {
            match self.process(node) {
                Some(process) => self.is_behind(&process, &mut found),
                None => found.push(format!("node {node} is down")),
            }
        }
        (!found.is_empty()).then(|| found.join("; "))
    }

    fn is_behind(&self, process: &Process, found: &mut Vec<String>) {
        let (node, done, all) = (process.node, process.completed.get(), process.submitted.get());
        if done < all {
            found.push(format!("node {node} waits for {} of its submissions", all - done));
        }
        let broker = process.broker.borrow();
        let is_under_way = |peer: &&super::broker::Peer| peer.out.under_way() > 0 || !peer.waiting.is_empty();
        let sending = broker.peers.values().filter(is_under_way);
        found.extend(sending.map(|peer| format!("node {node} still sends to {}", peer.client_id)));
        for (group, shard) in process.shards.borrow().iter().enumerate() {
            let is_waiting = |session: &&nightjar_shard::Session| {
                session.attached() && (session.queued() > 0 || session.received().next().is_some())
            };
            let waiting = shard.sessions().filter(is_waiting);
            found.extend(
                waiting.map(|session| format!("the queue of {} is not empty at node {node}", session.client_id())),
            );
            let leader = (0..self.disks.len()).filter_map(|node| self.process(node)).find(|of| of.leads(group));
            if leader.is_none_or(|leader| leader.groups.borrow()[group].applied != shard.applied()) {
                found.push(format!("node {node} is behind in shard {group}"));
            }
        }
    }

    fn note_state(&self, process: &Process) {
        for (number, shard) in (0..).zip(process.shards.borrow().iter()) {
            let (node, index) = (process.node, shard.applied());
            self.note(Event::Standing {
                node,
                shard: number,
                index,
                digest: digest(process, usize::from(number), shard),
            });
            let mut found = Vec::new();
            let looked = process.disk().look(usize::from(number), |kept| {
                shard.retained_page(&kept.rows, "#", None, 10_000, 10_000, &mut found)
            });
            looked.expect("rows in memory can be read");
            for retained in found {
                let (topic, number) = (retained.message.topic().into(), super::publish::number_of(&retained.message));
                self.note(Event::Kept { node, topic, number });
            }
        }
    }
}

/// A hash of all that can be seen of a shard.
fn digest(process: &Process, group: usize, shard: &Shard) -> u64 {
    let mut text = String::new();
    for session in shard.sessions() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{} {} {} {} {} {:?} {:?} {} {}|",
            session.id(),
            session.client_id(),
            session.epoch(),
            session.attached(),
            session.home(),
            session.inbound(),
            session.received().collect::<Vec<_>>(),
            session.head(),
            session.next_sequence(),
        );
        session.subscriptions().for_each(|(filter, of)| {
            let _ = write!(text, "{filter} {:?}|", of.options);
        });
        let mut page = Vec::new();
        let read = process
            .disk()
            .look(group, |kept| shard.page(&kept.rows, session.id(), 0, usize::MAX, usize::MAX, &mut page).map(|_| ()));
        read.expect("rows in memory can be read");
        page.iter().for_each(|entry| {
            let _ = write!(text, "{} {} {:?}|", entry.sequence, super::publish::number_of(&entry.message), entry.qos);
        });
    }
    let _ = write!(text, "{} {} {}", shard.origin_count(), shard.retained_count(), shard.queued_messages());
    hash(text.as_bytes())
}
