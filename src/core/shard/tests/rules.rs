//! One test for each rule of the shard.
#![allow(clippy::unwrap_used)]

use nightjar_base::{SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS, SubscriptionOptions};
use nightjar_shard::{
    Cursor, DropReason, Due, Effect, Entry, NEVER, Op, Overflow, QueueLimits, Replayed, Shard, Subscription, Tables,
    TablesError, Target, Will,
};
use std::collections::BTreeMap;
use std::sync::Arc;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A shard, its tables, and a running index.
struct Bench {
    shard: Shard,
    tables: Rows,
    index: u64,
}

impl Bench {
    fn new() -> Self {
        Self { shard: Shard::new(ShardId(0)), tables: Rows::new(), index: 0 }
    }

    fn apply(&mut self, op: Op) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.index += 1;
        self.shard.apply(self.index, op, &mut effects);
        effects
    }

    fn checkpoint(&mut self) -> usize {
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

    fn reload(&mut self) {
        self.checkpoint();
        self.shard = Shard::load(ShardId(0), &self.tables).unwrap();
    }

    /// Attaches and returns the session and whether it was present.
    fn attach(&mut self, attach: Attach) -> (SessionId, bool) {
        let Attach { client, clean_start, expiry, epoch, will, limits, now } = attach;
        let effects = self.apply(Op::Attach {
            client_id: client.into(),
            user: None,
            clean_start,
            expiry,
            epoch,
            will,
            limits,
            now: Wall(now),
        });
        match effects.last() {
            Some(Effect::Attached { session, present, .. }) => (*session, *present),
            other => panic!("{other:?}"),
        }
    }

    fn detach(&mut self, session: SessionId, epoch: u64, now: u64) -> Vec<Effect> {
        self.apply(Op::Detach { session, epoch, expiry: None, discard_will: false, now: Wall(now) })
    }

    fn enqueue(&mut self, session: SessionId, payload: &[u8]) -> Vec<Effect> {
        self.apply(enqueue_to(&[session], payload))
    }

    fn entries(&self, session: SessionId, from: u64) -> Vec<Entry> {
        let mut out = Vec::new();
        self.shard.page(&self.tables, session, from, usize::MAX, usize::MAX, &mut out).unwrap();
        out
    }

    fn sequences(&self, session: SessionId) -> Vec<u64> {
        self.entries(session, 0).iter().map(|entry| entry.sequence).collect()
    }

    fn due(&mut self, now: u64) -> Vec<Due> {
        let mut due = Vec::new();
        self.shard.due(Wall(now), &mut due);
        due
    }
}

struct Attach {
    client: &'static str,
    clean_start: bool,
    expiry: u32,
    epoch: u64,
    will: Option<Will>,
    limits: QueueLimits,
    now: u64,
}

impl Default for Attach {
    fn default() -> Self {
        let limits = QueueLimits::UNLIMITED;
        Self { client: "client", clean_start: false, expiry: NEVER, epoch: 1, will: None, limits, now: 0 }
    }
}

fn will(delay: u32) -> Option<Will> {
    Some(Will { message: Arc::new(Message::new("will", &[], b"gone")), delay })
}

fn enqueue_to(sessions: &[SessionId], payload: &[u8]) -> Op {
    let qos = QoS::AtLeastOnce;
    let target = |&session| Target { session, qos, retain: false, identifiers: Vec::new(), share: None };
    let targets = sessions.iter().map(target).collect();
    Op::Enqueue { message: Arc::new(Message::new("a/b", &[], payload)), targets, now: Wall(0) }
}

fn retain(topic: &str, payload: &[u8], expires: Option<u64>) -> Op {
    let mut message = Message::new(topic, &[], payload);
    message.expires = expires.map(Wall);
    Op::Retain { message: Arc::new(message), now: Wall(0) }
}

fn subscribe(session: SessionId, filter: &str, replay: bool) -> Op {
    let options = SubscriptionOptions::default();
    Op::Subscribe { session, subscriptions: vec![Subscription { filter: filter.into(), options, replay }] }
}

#[test]
fn a_session_is_resumed_with_all_it_has() {
    let mut bench = Bench::new();
    let (session, present) = bench.attach(Attach::default());
    assert!(!present);
    bench.apply(subscribe(session, "a/#", false));
    bench.enqueue(session, b"one");
    bench.detach(session, 1, 10);
    bench.reload();
    let (again, present) = bench.attach(Attach { epoch: 2, now: 20, ..Attach::default() });
    assert_eq!((again, present), (session, true));
    assert!(bench.shard.session(session).unwrap().subscription("a/#").is_some());
    assert_eq!(bench.entries(session, 0)[0].message.payload(), b"one");
}

#[test]
fn a_clean_start_ends_the_old_session_and_makes_a_new_one() {
    let mut bench = Bench::new();
    let (old, _) = bench.attach(Attach::default());
    bench.apply(subscribe(old, "a/#", false));
    let client_id: Arc<str> = "client".into();
    let effects = bench.apply(Op::Attach {
        client_id: client_id.clone(),
        user: None,
        clean_start: true,
        expiry: 10,
        epoch: 2,
        will: None,
        limits: QueueLimits::UNLIMITED,
        now: Wall(0),
    });
    let ended = Effect::Ended { session: old, client_id: client_id.clone(), subscriptions: vec!["a/#".into()] };
    let attached = Effect::Attached { session: SessionId(old.0 + 1), client_id, epoch: 2, present: false };
    assert_eq!(effects, [ended, attached]);
}

#[test]
fn session_ids_are_never_reused() {
    let mut bench = Bench::new();
    let (first, _) = bench.attach(Attach::default());
    bench.apply(Op::End { session: first });
    bench.reload();
    let (second, _) = bench.attach(Attach::default());
    assert!(second > first);
}

#[test]
fn an_expired_session_is_not_resumed() {
    let mut bench = Bench::new();
    let (old, _) = bench.attach(Attach { expiry: 5, ..Attach::default() });
    bench.detach(old, 1, 1_000);
    let (new, present) = bench.attach(Attach { expiry: 5, epoch: 2, now: 6_000, ..Attach::default() });
    assert!(!present && new != old);
}

#[test]
fn a_session_without_expiry_is_not_resumed() {
    let mut bench = Bench::new();
    let (old, _) = bench.attach(Attach { expiry: 0, will: will(0), ..Attach::default() });
    let (new, present) = bench.attach(Attach { epoch: 2, ..Attach::default() });
    assert!(!present && new != old);
}

#[test]
fn a_detach_with_another_epoch_does_nothing() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { epoch: 5, ..Attach::default() });
    assert!(bench.detach(session, 4, 0).is_empty());
    assert!(bench.shard.session(session).unwrap().attached());
}

#[test]
fn a_session_without_expiry_and_will_ends_with_its_connection() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { expiry: 100, will: will(0), ..Attach::default() });
    let effects = bench.apply(Op::Detach { session, epoch: 1, expiry: Some(0), discard_will: true, now: Wall(0) });
    assert!(matches!(effects[..], [Effect::Ended { .. }]));
    assert_eq!(bench.shard.session_count(), 0);
}

#[test]
fn a_will_outlives_its_session_until_it_is_done() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { expiry: 0, will: will(30), ..Attach::default() });
    assert!(bench.detach(session, 1, 1_000).is_empty());
    bench.reload();
    let due = bench.due(1_000);
    assert!(matches!(&due[..], [Due::Will { epoch: 1, message, .. }] if message.payload() == b"gone"));
    let effects = bench.apply(Op::WillDone { session, epoch: 1 });
    assert!(matches!(effects[..], [Effect::Ended { .. }]));
}

#[test]
fn a_will_is_due_after_its_delay_but_never_behind_the_sessions_end() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { expiry: 100, will: will(10), ..Attach::default() });
    bench.detach(session, 1, 0);
    assert_eq!(bench.shard.next_deadline(), Some(Wall(10_000)));
    bench.attach(Attach { expiry: 5, will: will(10), epoch: 2, now: 1, ..Attach::default() });
    assert_eq!(bench.shard.next_deadline(), None, "a resumed session's will is dropped");
    bench.detach(session, 2, 0);
    let due = bench.due(5_000);
    assert!(matches!(due[..], [Due::Will { .. }, Due::Expired { .. }]), "{due:?}");
    assert!(bench.due(5_000).is_empty(), "handed out once");
}

#[test]
fn a_will_of_another_epoch_is_not_done() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { will: will(0), ..Attach::default() });
    bench.apply(Op::WillDone { session, epoch: 9 });
    assert!(bench.shard.session(session).unwrap().will().is_some());
    bench.apply(Op::WillDone { session, epoch: 1 });
    assert!(bench.shard.session(session).unwrap().will().is_none());
}

#[test]
fn expire_spares_a_session_that_came_back() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { expiry: 5, ..Attach::default() });
    bench.detach(session, 1, 0);
    assert_eq!(bench.due(5_000).len(), 1);
    bench.attach(Attach { expiry: 5, epoch: 2, now: 4_999, ..Attach::default() });
    assert!(bench.apply(Op::Expire { session, now: Wall(5_000) }).is_empty());
    bench.detach(session, 2, 5_000);
    assert!(bench.apply(Op::Expire { session, now: Wall(9_999) }).is_empty());
    assert_eq!(bench.apply(Op::Expire { session, now: Wall(10_000) }).len(), 1);
}

#[test]
fn entries_are_numbered_and_told() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    let target = Target {
        session,
        qos: QoS::ExactlyOnce,
        retain: true,
        identifiers: vec![3, 4],
        share: Some("$share/g/a".into()),
    };
    let message = Arc::new(Message::new("a", &[], b"x"));
    let effects = bench.apply(Op::Enqueue { message: message.clone(), targets: vec![target], now: Wall(0) });
    let entry = Entry {
        sequence: 1,
        message,
        qos: QoS::ExactlyOnce,
        retain: true,
        identifiers: Some([3, 4].into()),
        share: Some("$share/g/a".into()),
        received: false,
    };
    assert_eq!(effects, [Effect::Queued { session, entry: entry.clone() }]);
    assert_eq!(bench.entries(session, 0), [entry.clone()]);
    bench.reload();
    assert_eq!(bench.entries(session, 0), [entry]);
}

#[test]
fn acknowledged_entries_are_gone_in_any_order() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    (0..5).for_each(|_| drop(bench.enqueue(session, b"x")));
    bench.checkpoint();
    bench.apply(Op::Acknowledge { session, sequences: vec![2, 4, 4, 99] });
    assert_eq!(bench.sequences(session), [1, 3, 5]);
    bench.reload();
    assert_eq!(bench.sequences(session), [1, 3, 5]);
    bench.apply(Op::Acknowledge { session, sequences: vec![1] });
    let head = bench.shard.session(session).unwrap();
    assert_eq!((head.head(), head.queued(), head.next_sequence()), (3, 2, 6));
}

#[test]
fn a_received_entry_keeps_its_place_without_its_message() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    (0..3).for_each(|_| drop(bench.enqueue(session, b"x")));
    let effects = bench.apply(Op::Received { session, sequences: vec![1, 7] });
    assert_eq!(effects, [Effect::Received { session, sequence: 1 }]);
    bench.reload();
    let entries = bench.entries(session, 0);
    let places: Vec<_> = entries.iter().map(|entry| (entry.sequence, entry.received)).collect();
    assert_eq!(places, [(1, true), (2, false), (3, false)]);
    assert_eq!(bench.shard.session(session).unwrap().head(), 1);
    // A second PUBREC gets a second PUBREL.
    assert_eq!(bench.apply(Op::Received { session, sequences: vec![1] }).len(), 1);
    bench.apply(Op::Acknowledge { session, sequences: vec![1] });
    assert_eq!(bench.sequences(session), [2, 3]);
    assert!(bench.apply(Op::Received { session, sequences: vec![1] }).is_empty());
}

#[test]
fn a_client_between_pubrec_and_pubcomp_pins_nothing() {
    let mut bench = Bench::new();
    let limits = QueueLimits { messages: 10, bytes: u64::MAX, policy: Overflow::DropOldest };
    let (session, _) = bench.attach(Attach { limits, ..Attach::default() });
    bench.enqueue(session, b"x");
    bench.apply(Op::Received { session, sequences: vec![1] });
    for _ in 0..20 {
        (0..5_000).for_each(|_| drop(bench.enqueue(session, b"x")));
        bench.checkpoint();
    }
    let head = bench.shard.session(session).unwrap();
    assert_eq!((head.queued(), head.received().collect::<Vec<_>>()), (10, vec![1]));
    assert!(head.queue_memory() < 4096, "{}", head.queue_memory());
    assert!(bench.tables.len() <= 4, "{} rows", bench.tables.len());
}

#[test]
fn a_full_queue_drops_the_oldest_or_the_newest() {
    let mut bench = Bench::new();
    let mut limits = QueueLimits { messages: 2, bytes: u64::MAX, policy: Overflow::DropOldest };
    let (oldest, _) = bench.attach(Attach { client: "oldest", limits, ..Attach::default() });
    limits.policy = Overflow::Refuse;
    let (newest, _) = bench.attach(Attach { client: "newest", limits, ..Attach::default() });
    (0..2).for_each(|_| drop(bench.apply(enqueue_to(&[oldest, newest], b"x"))));
    let effects = bench.apply(enqueue_to(&[oldest, newest], b"x"));
    let reason = DropReason::Messages;
    assert_eq!(effects[0], Effect::Dropped { session: oldest, sequence: Some(1), reason });
    assert!(matches!(&effects[1], Effect::Queued { entry, .. } if entry.sequence == 3));
    assert_eq!(effects[2..], [Effect::Dropped { session: newest, sequence: None, reason }]);
    assert_eq!((bench.sequences(oldest), bench.sequences(newest)), (vec![2, 3], vec![1, 2]));
}

#[test]
fn a_message_that_can_never_fit_drops_nothing_else() {
    let mut bench = Bench::new();
    let limits = QueueLimits { messages: 100, bytes: 300, policy: Overflow::DropOldest };
    let (session, _) = bench.attach(Attach { limits, ..Attach::default() });
    (0..3).for_each(|_| drop(bench.enqueue(session, b"x")));
    let effects = bench.enqueue(session, &[0; 300]);
    assert_eq!(effects, [Effect::Dropped { session, sequence: None, reason: DropReason::Bytes }]);
    assert_eq!(bench.sequences(session), [1, 2, 3]);
    assert_eq!(bench.enqueue(session, &[0; 99]).len(), 3, "68 bytes an entry: two of them go for 166");
}

#[test]
fn a_qos_2_publish_is_remembered_until_its_release() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    bench.apply(Op::InboundReceived { session, packet_id: 7 });
    bench.reload();
    assert!(bench.shard.session(session).unwrap().has_inbound(7));
    let effects = bench.apply(Op::InboundReleased { session, packet_id: 7 });
    assert_eq!(effects, [Effect::InboundReleased { session, packet_id: 7 }]);
    assert!(!bench.shard.session(session).unwrap().has_inbound(7));
}

#[test]
fn a_large_message_of_several_sessions_is_stored_once_and_removed_with_the_last() {
    let mut bench = Bench::new();
    let sessions: Vec<_> = ["a", "b", "c"].map(|client| bench.attach(Attach { client, ..Attach::default() }).0).into();
    bench.checkpoint();
    let before: usize = bench.tables.values().map(Vec::len).sum();
    bench.apply(enqueue_to(&sessions, &[5; 100_000]));
    bench.reload();
    let bytes: usize = bench.tables.values().map(Vec::len).sum();
    assert!(bytes - before < 102_000);
    assert!(bench.tables.values().all(|value| value.len() <= 16 << 10));
    for &session in &sessions {
        assert_eq!(bench.entries(session, 0)[0].message.payload(), [5; 100_000]);
        bench.apply(Op::Acknowledge { session, sequences: vec![1] });
        bench.checkpoint();
    }
    let after: usize = bench.tables.values().map(Vec::len).sum();
    assert!(after <= before, "{after} {before}");
}

#[test]
fn frozen_changes_are_read_above_the_tables() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    bench.enqueue(session, &[1; 20_000]);
    bench.apply(retain("big", &[2; 20_000], None));
    bench.shard.freeze(&bench.tables).unwrap();
    assert!(bench.tables.is_empty());
    assert_eq!(bench.entries(session, 0)[0].message.payload(), [1; 20_000]);
    let mut out = Vec::new();
    assert_eq!(bench.shard.page_from_memory(session, 0, 10, 1 << 20, &mut out), None);
    assert_eq!(bench.shard.retained(&bench.tables, "big").unwrap().unwrap().0.payload(), [2; 20_000]);
    // A freeze before the thaw gives the union, so that nothing of the first is lost.
    bench.enqueue(session, b"small");
    bench.reload();
    assert_eq!(bench.sequences(session), [1, 2]);
}

#[test]
fn an_idle_shard_freezes_to_nothing() {
    let mut bench = Bench::new();
    bench.attach(Attach::default());
    assert!(bench.shard.is_dirty());
    bench.checkpoint();
    assert!(!bench.shard.is_dirty());
    assert_eq!(bench.checkpoint(), 0);
}

#[test]
fn a_page_respects_its_bounds_but_gives_at_least_one() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    (0..6).for_each(|_| drop(bench.enqueue(session, &[0; 2_000])));
    for _ in 0..2 {
        let page = |from, entries, bytes| {
            let mut out = Vec::new();
            let next = bench.shard.page(&bench.tables, session, from, entries, bytes, &mut out).unwrap();
            (out.len(), next)
        };
        assert_eq!(page(0, 2, usize::MAX), (2, 3));
        assert_eq!(page(3, 10, 1), (1, 4));
        assert_eq!(page(3, 10, 5_000), (2, 5));
        assert_eq!(page(5, 10, usize::MAX), (2, 7));
        assert_eq!(page(7, 10, usize::MAX), (0, 7));
        bench.checkpoint();
    }
}

#[test]
fn subscriptions_and_their_replay_survive() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    bench.apply(subscribe(session, "a/#", true));
    bench.apply(subscribe(session, "b", false));
    bench.reload();
    let replayed = |payload: &[u8]| Replayed {
        message: Arc::new(Message::new("a/b", &[], payload)),
        qos: QoS::AtLeastOnce,
        identifiers: vec![],
    };
    let replay = |after: Option<&str>| Op::Replay {
        session,
        filter: "a/#".into(),
        entries: vec![replayed(b"r")],
        after: after.map(Into::into),
    };
    let cursor = |bench: &Bench| bench.shard.session(session).unwrap().subscription("a/#").unwrap().replay.clone();
    assert_eq!(cursor(&bench), Some(Cursor::Start));
    assert!(matches!(&bench.apply(replay(Some("a/b")))[..], [Effect::Queued { entry, .. }] if entry.retain));
    bench.reload();
    assert_eq!(cursor(&bench), Some(Cursor::After("a/b".into())));
    // Subscribing again without a replay does not cut off the one that is owed.
    bench.apply(subscribe(session, "a/#", false));
    assert_eq!(bench.apply(replay(None)).len(), 1);
    assert_eq!(cursor(&bench), None);
    assert!(bench.apply(replay(None)).is_empty(), "finished");
    bench.apply(Op::Unsubscribe { session, filters: vec!["b".into(), "never".into()] });
    bench.reload();
    assert_eq!(bench.shard.session(session).unwrap().subscription_count(), 1);
}

#[test]
fn retained_messages_are_replaced_and_removed() {
    let mut bench = Bench::new();
    bench.apply(retain("a", b"1", None));
    bench.apply(retain("a", b"2", None));
    let payload = |bench: &Bench| {
        bench.shard.retained(&bench.tables, "a").unwrap().map(|(message, index)| (message.payload().to_vec(), index))
    };
    assert_eq!(payload(&bench), Some((b"2".to_vec(), 2)));
    bench.reload();
    assert_eq!(payload(&bench), Some((b"2".to_vec(), 2)));
    bench.apply(Op::Forget { topic: "a".into(), index: 1 });
    assert!(payload(&bench).is_some(), "another one is stored by now");
    bench.apply(retain("a", b"", None));
    bench.reload();
    assert_eq!((payload(&bench), bench.shard.retained_bytes()), (None, 0));
}

#[test]
fn a_retained_message_expires() {
    let mut bench = Bench::new();
    bench.apply(retain("a", b"1", Some(1_000)));
    bench.apply(retain("a", b"2", Some(2_000)));
    bench.reload();
    assert!(bench.due(1_999).is_empty());
    assert_eq!(bench.due(2_000), [Due::Retained { topic: "a".into(), index: 2 }]);
    bench.apply(Op::Forget { topic: "a".into(), index: 2 });
    assert_eq!(bench.shard.retained_count(), 0);
}

#[test]
fn a_wildcard_read_is_a_sequence_of_bounded_pages() {
    let mut bench = Bench::new();
    for at in 0..1_000 {
        bench.apply(retain(&format!("t/{at:03}/x"), &vec![1; if at % 100 == 0 { 2_000 } else { 10 }], None));
        bench.apply(retain(&format!("u/{at:03}"), b"u", None));
    }
    bench.reload();
    let (mut after, mut found, mut pages): (Option<Arc<str>>, Vec<_>, _) = (None, Vec::new(), 0);
    loop {
        after = bench.shard.retained_page(&bench.tables, "t/+/x", after.as_deref(), 64, 10, &mut found).unwrap();
        pages += 1;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (1_000, 101));
    assert!(found.windows(2).all(|pair| pair[0].0.topic() < pair[1].0.topic()));
}

#[test]
fn damage_is_named_by_its_row() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach::default());
    bench.enqueue(session, &[1; 30_000]);
    bench.apply(subscribe(session, "a", false));
    bench.apply(retain("r", b"r", None));
    bench.checkpoint();
    for key in bench.tables.keys() {
        let mut tables = bench.tables.clone();
        let value = tables.get_mut(key).unwrap();
        value.pop();
        let error = Shard::load(ShardId(0), &tables).err();
        assert!(matches!(error, Some(TablesError::Corrupt { .. })), "{key:?}: {error:?}");
    }
    let meta = bench.tables.keys().next().unwrap().clone();
    bench.tables.insert(meta, vec![2]);
    let error = Shard::load(ShardId(0), &bench.tables).unwrap_err();
    assert_eq!(error.to_string(), "row 000000 has format 2, this program knows formats up to 1");
}

/// Tables that cannot be read.
struct Broken;

impl Tables for Broken {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        Err(TablesError::Unavailable("broken".into()))
    }

    fn range(&self, _: &[u8], _: &[u8], _: nightjar_shard::RowVisitor<'_>) -> Result<(), TablesError> {
        Err(TablesError::Unavailable("broken".into()))
    }
}

#[test]
fn a_freeze_that_cannot_read_changes_nothing() {
    let mut bench = Bench::new();
    let sessions: Vec<_> = ["a", "b"].map(|client| bench.attach(Attach { client, ..Attach::default() }).0).into();
    bench.apply(enqueue_to(&sessions, &[5; 5_000]));
    bench.checkpoint();
    for &session in &sessions {
        bench.apply(Op::Acknowledge { session, sequences: vec![1] });
        bench.enqueue(session, b"young");
    }
    assert!(bench.shard.freeze(&Broken).is_err());
    let mut out = Vec::new();
    assert_eq!(bench.shard.page_from_memory(sessions[0], 0, 10, 1 << 20, &mut out), Some(3));
    assert!(bench.shard.is_dirty());
    bench.reload();
    assert_eq!(bench.sequences(sessions[1]), [2]);
    let _ = bench.apply(Op::End { session: sessions[0] });
    let _ = bench.apply(Op::End { session: sessions[1] });
    bench.checkpoint();
    assert_eq!(bench.tables.len(), 1);
}

#[test]
fn ops_for_what_is_not_there_do_nothing() {
    let mut bench = Bench::new();
    let session = SessionId(99);
    for op in [
        Op::End { session },
        Op::WillDone { session, epoch: 1 },
        Op::Acknowledge { session, sequences: vec![1] },
        Op::Received { session, sequences: vec![1] },
        Op::InboundReceived { session, packet_id: 1 },
        Op::InboundReleased { session, packet_id: 1 },
        Op::Unsubscribe { session, filters: vec!["a".into()] },
        subscribe(session, "a", true),
        enqueue_to(&[session], b"x"),
        Op::Forget { topic: "a".into(), index: 1 },
        Op::Expire { session, now: Wall(u64::MAX) },
    ] {
        assert!(bench.apply(op).is_empty());
    }
    assert!(bench.detach(session, 1, 0).is_empty());
    assert_eq!((bench.checkpoint(), bench.shard.applied()), (1, 12));
}
