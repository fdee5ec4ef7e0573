//! A replica compared with the model.

use super::naive::{Naive, NaiveEntry, NaiveSession, weight};
use super::random::{Dice, FILTERS};
use super::replica::Replica;
use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::{Due, Entry, RetainedMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Replica {
    pub fn check_all(&self, model: &Naive, dice: &mut Dice) {
        assert_eq!(self.shard.session_count(), model.sessions.len());
        let ids: Vec<u64> = self.shard.sessions().map(|session| session.id().0).collect();
        assert_eq!(ids, model.sessions.keys().copied().collect::<Vec<_>>());
        for id in ids {
            self.check_session(id, &model.sessions[&id], dice);
        }
        let queued: u64 = model.sessions.values().map(|session| session.queue.len() as u64).sum();
        assert_eq!(self.shard.queued_messages(), queued);
        let bytes: u64 = self.shard.sessions().map(nightjar_shard::Session::queued_bytes).sum();
        assert_eq!(self.shard.queued_bytes(), bytes);
        self.check_retained(model, dice);
        assert_eq!(self.shard.proposer_count(), model.proposed.len());
        for (&home, &last) in &model.proposed {
            assert_eq!(self.shard.proposed(home), last);
        }
        assert_eq!(self.shard.origin_count(), model.origins.len());
        let publishers: BTreeSet<_> = model.origins.keys().map(|(origin, _)| origin.session).collect();
        assert!(self.shard.publishers().eq(publishers));
    }

    pub fn check_one(&self, model: &Naive, dice: &mut Dice) {
        let at = dice.roll(model.sessions.len() as u64 + 1) as usize;
        if let Some(&id) = model.sessions.keys().nth(at) {
            self.check_session(id, &model.sessions[&id], dice);
        }
        self.check_retained(model, dice);
    }

    fn check_session(&self, id: u64, model: &NaiveSession, dice: &mut Dice) {
        let session = self.shard.session(SessionId(id)).unwrap();
        assert_eq!(self.shard.session_of(&model.client_id), Some(SessionId(id)));
        assert_eq!(session.client_id(), &model.client_id);
        assert_eq!(session.epoch(), model.epoch);
        assert_eq!((session.attached(), session.home()), (model.attached, model.home));
        assert_eq!(session.expiry(), model.expiry);
        assert_eq!(session.expires(), model.expires);
        assert_eq!(session.sent(), model.sent);
        assert_eq!(session.will(), model.will.as_ref());
        assert_eq!(session.will_due(), model.will_due);
        assert_eq!(session.limits(), &model.limits);
        assert_eq!(session.next_sequence(), model.next);
        assert_eq!(session.received().collect::<Vec<_>>(), model.received.iter().copied().collect::<Vec<_>>());
        assert_eq!(session.inbound(), model.inbound.iter().copied().collect::<Vec<_>>());
        assert_eq!(session.queued(), model.queue.len() as u64);
        let bytes: u64 = model.queue.values().map(weight).sum();
        assert!(session.queued_bytes() >= bytes && session.queued_bytes() <= bytes + bytes / 1000);
        let replays: BTreeMap<_, _> = session
            .subscriptions()
            .map(|(filter, subscribed)| {
                let replay = subscribed.replay.as_ref().map(|cursor| cursor.after().map(Arc::from));
                (filter.clone(), replay)
            })
            .collect();
        assert_eq!(replays, model.subscriptions);
        self.check_queue(id, model, dice);
    }

    fn check_queue(&self, id: u64, model: &NaiveSession, dice: &mut Dice) {
        let session = self.shard.session(SessionId(id)).unwrap();
        let mut wanted: BTreeMap<u64, Option<&NaiveEntry>> =
            model.queue.iter().map(|(&at, one)| (at, Some(one))).collect();
        wanted.extend(model.received.iter().map(|&sequence| (sequence, None)));
        assert_eq!(session.head(), wanted.keys().next().copied().unwrap_or(model.next).min(model.next));
        let mut from = if dice.one_in(2) { 0 } else { dice.roll(model.next + 1) };
        let wanted: Vec<_> = wanted.split_off(&from).into_iter().collect();
        let (max_entries, max_bytes) = (1 + dice.roll(30) as usize, 1 + dice.roll(40_000) as usize);
        let mut got = Vec::new();
        while from < model.next {
            let mut out = Vec::new();
            let memory = self.shard.page_from_memory(SessionId(id), from, max_entries, max_bytes, &mut out);
            let mut same = Vec::new();
            let next = self.shard.page(&self.tables, SessionId(id), from, max_entries, max_bytes, &mut same).unwrap();
            assert!(next > from && same.len() <= max_entries);
            if let Some(memory) = memory {
                assert_eq!((memory, &out), (next, &same));
            }
            from = next;
            got.extend(same);
        }
        assert_eq!(got.len(), wanted.len());
        for (entry, (sequence, wanted)) in got.iter().zip(&wanted) {
            assert_eq!(entry.sequence, *sequence);
            assert_entry(entry, *wanted);
        }
    }

    fn check_retained(&self, model: &Naive, dice: &mut Dice) {
        assert_eq!(self.shard.retained_count(), model.retained.len());
        let sizes: u64 = model.retained.values().map(|(message, _)| message.size() as u64).sum();
        assert_eq!(self.shard.retained_bytes(), sizes);
        for filter in FILTERS {
            let mut got = Vec::new();
            let mut after: Option<Arc<str>> = None;
            loop {
                let (scanned, found) = (1 + dice.roll(4) as usize, 1 + dice.roll(4) as usize);
                let before = got.len();
                let last =
                    self.shard.retained_page(&self.tables, filter, after.as_deref(), scanned, found, &mut got).unwrap();
                assert!(got.len() - before <= found.min(scanned));
                assert!(last.is_none() || last > after);
                after = last;
                if after.is_none() {
                    break;
                }
            }
            let wanted: Vec<(Arc<Message>, u64)> =
                model.retained.iter().filter(|(topic, _)| matches(filter, topic)).map(|(_, one)| one.clone()).collect();
            assert_eq!(got.len(), wanted.len(), "{filter}");
            for (RetainedMessage { message, since, .. }, (wanted, index)) in got.iter().zip(&wanted) {
                assert_eq!(message, wanted, "{filter}");
                assert!(since <= index, "{filter}: had since {since}, retained at {index}");
            }
        }
    }

    /// Takes what is due out of the shard, all of it.
    pub fn check_due(&mut self, model: &Naive) {
        let mut wanted = Vec::new();
        for (id, session) in &model.sessions {
            if let Some(at) = session.will_due {
                wanted.push((at, format!("0 {id}")));
            }
            if let Some(at) = session.expires.filter(|_| session.expiry != 0) {
                wanted.push((at, format!("1 {id}")));
            }
        }
        for (topic, (message, index)) in &model.retained {
            if let Some(at) = message.expires {
                wanted.push((at, format!("2 {topic} {index}")));
            }
        }
        wanted.sort();
        let mut got = Vec::new();
        while let Some(at) = self.shard.next_deadline() {
            let mut due = Vec::new();
            self.shard.due(Wall(at.0.saturating_sub(1)), &mut due);
            assert!(due.is_empty());
            self.shard.due(at, &mut due);
            got.extend(due.into_iter().map(|due| match due {
                Due::Will { session, .. } => (at, format!("0 {session}")),
                Due::Expired { session, expires, .. } => (expires, format!("1 {session}")),
                Due::Retained { topic, index } => (at, format!("2 {topic} {index}")),
            }));
        }
        got.sort();
        assert_eq!(got, wanted);
    }
}

fn assert_entry(entry: &Entry, wanted: Option<&NaiveEntry>) {
    assert_eq!(entry.received, wanted.is_none());
    let Some(wanted) = wanted else { return };
    assert_eq!(entry.message, wanted.message);
    assert_eq!((entry.qos, entry.retain, &entry.share), (wanted.qos, wanted.retain, &wanted.share));
    assert_eq!(entry.identifiers.as_deref().unwrap_or_default(), wanted.identifiers);
}

fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.first(), topic.first()) {
            (Some(&"#"), _) | (None, None) => true,
            (Some(want), Some(level)) => (*want == "+" || want == level) && levels(&filter[1..], &topic[1..]),
            _ => false,
        }
    }
    !(topic.starts_with('$') && filter.starts_with(['+', '#']))
        && levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}
