//! Homes: at which process of a cluster the connection of a session is.

use crate::bench::{Attach, Bench, subscribe, will};
use nightjar_base::{SessionId, Wall};
use nightjar_shard::{ALONE, Due, Effect, Holder, Op, Will};
use std::sync::Arc;

const HERE: u64 = 0xaaaa;
const THERE: u64 = 0xbbbb;

/// Who had the client's session before this attach.
fn before(effects: &[Effect]) -> Option<Holder> {
    match effects.last() {
        Some(Effect::Attached { before, .. }) => before.as_deref().copied(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_knows_where_its_connection_is() {
    let mut bench = Bench::new();
    let effects = bench.attached(Attach { home: HERE, epoch: 4, ..Attach::default() });
    assert!(matches!(effects[..], [Effect::Attached { home: HERE, epoch: 4, present: false, before: None, .. }]));
    let session = SessionId(1);
    for _ in 0..2 {
        assert_eq!(bench.shard.session(session).unwrap().home(), HERE);
        assert_eq!(bench.shard.sessions_at(HERE).count(), 1);
        assert_eq!(bench.shard.sessions_at(ALONE).count(), 0);
        bench.reload();
    }
    let client_id = "client".into();
    assert_eq!(bench.detach(session, 4, 0), [Effect::Detached { session, client_id, home: HERE, epoch: 4 }]);
    for _ in 0..2 {
        assert_eq!(bench.shard.session(session).unwrap().home(), ALONE);
        assert_eq!(bench.shard.sessions_at(HERE).count(), 0);
        bench.reload();
    }
}

#[test]
fn whoever_takes_a_session_over_says_from_whom() {
    let mut bench = Bench::new();
    bench.attached(Attach { home: HERE, epoch: 4, ..Attach::default() });
    bench.reload();
    let effects = bench.attached(Attach { home: THERE, epoch: 5, ..Attach::default() });
    assert_eq!(before(&effects), Some(Holder { home: HERE, epoch: 4 }));
    // Also when the session of the old connection is ended by it.
    let effects = bench.attached(Attach { home: HERE, epoch: 6, clean_start: true, ..Attach::default() });
    assert!(matches!(effects[..], [Effect::Ended { .. }, Effect::Attached { present: false, .. }]));
    assert_eq!(before(&effects), Some(Holder { home: THERE, epoch: 5 }));
    bench.detach(SessionId(2), 6, 0);
    assert_eq!(before(&bench.attached(Attach { home: HERE, epoch: 7, ..Attach::default() })), None);
}

#[test]
fn what_another_home_was_sent_is_not_known_here() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { home: HERE, ..Attach::default() });
    bench.enqueue(session, b"one");
    bench.enqueue(session, b"two");
    let sent = |bench: &Bench| bench.shard.session(session).unwrap().sent();
    bench.attach(Attach { home: HERE, epoch: 2, ..Attach::default() });
    assert_eq!(sent(&bench), 0, "the home that had it knows");
    bench.attach(Attach { home: THERE, epoch: 3, ..Attach::default() });
    assert_eq!(sent(&bench), 3);
    bench.reload();
    assert_eq!(sent(&bench), 3);
}

#[test]
fn all_sessions_of_a_home_that_is_gone_lose_their_connections() {
    let mut bench = Bench::new();
    let at = |home, client, expiry, will| Attach { home, client, expiry, will, ..Attach::default() };
    let (willing, _) = bench.attach(at(HERE, "willing", 100, will(10)));
    let (elsewhere, _) = bench.attach(at(THERE, "elsewhere", 100, None));
    let (ending, _) = bench.attach(at(HERE, "ending", 0, None));
    let (absent, _) = bench.attach(at(HERE, "absent", 100, None));
    bench.detach(absent, 1, 500);
    bench.enqueue(willing, b"one");
    bench.reload();
    let detached = |session, client: &str| Effect::Detached { session, client_id: client.into(), home: HERE, epoch: 1 };
    let ended = Effect::Ended { session: ending, client_id: "ending".into(), subscriptions: vec![] };
    let effects = bench.apply(Op::DetachHome { home: HERE, now: Wall(1_000) });
    assert_eq!(effects, [detached(willing, "willing"), detached(ending, "ending"), ended]);
    bench.reload();
    let found = bench.shard.session(willing).unwrap();
    assert_eq!((found.attached(), found.home(), found.sent()), (false, ALONE, 2));
    assert_eq!((found.expires(), found.will_due()), (Some(Wall(101_000)), Some(Wall(11_000))));
    assert!(bench.shard.session(elsewhere).unwrap().attached());
    assert_eq!(bench.shard.session(absent).unwrap().expires(), Some(Wall(100_500)), "its clock runs since it left");
    assert!(matches!(bench.due(11_000)[..], [Due::Will { epoch: 1, .. }]));
    assert!(bench.apply(Op::DetachHome { home: HERE, now: Wall(2_000) }).is_empty());
}

#[test]
fn a_node_alone_has_sessions_of_no_home() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { epoch: 3, ..Attach::default() });
    assert_eq!(bench.shard.session(session).unwrap().home(), ALONE);
    assert_eq!(bench.shard.sessions_at(ALONE).count(), 1);
    // Its first cluster takes it over as any home would.
    let effects = bench.attached(Attach { home: HERE, epoch: 4, ..Attach::default() });
    assert_eq!(before(&effects), Some(Holder { home: ALONE, epoch: 3 }));
    bench.attach(Attach { client: "other", ..Attach::default() });
    assert!(bench.apply(Op::DetachHome { home: ALONE, now: Wall(0) }).is_empty(), "nobody is told");
    assert_eq!(bench.shard.attached_count(), 1);
}

#[test]
fn only_a_replica_tells_of_subscriptions() {
    let mut bench = Bench::new();
    let (session, _) = bench.attach(Attach { home: HERE, ..Attach::default() });
    let unsubscribe = || Op::Unsubscribe { session, filters: vec!["never".into(), "a".into()] };
    assert!(bench.apply(subscribe(session, "a", true)).is_empty());
    assert!(bench.apply(unsubscribe()).is_empty());
    bench.shard.set_replicated(true);
    let filter: Arc<str> = "a".into();
    let subscribed =
        Effect::Subscribed { session, filter: filter.clone(), options: nightjar_mqtt::SubscriptionOptions::default() };
    assert_eq!(bench.apply(subscribe(session, "a", true)), [subscribed]);
    assert_eq!(bench.apply(unsubscribe()), [Effect::Unsubscribed { session, filter }]);
    assert!(bench.apply(subscribe(SessionId(99), "a", false)).is_empty());
}

#[test]
fn a_shard_is_replaced_in_its_place() {
    let (mut bench, mut source) = (Bench::new(), Bench::new());
    bench.shard.set_replicated(true);
    bench.attach(Attach { home: HERE, client: "mine", ..Attach::default() });
    let (session, _) = source.attach(Attach { home: THERE, ..Attach::default() });
    source.enqueue(session, b"one");
    source.checkpoint();
    bench.tables = source.tables.clone();
    bench.shard.reload(&bench.tables).unwrap();
    assert_eq!((bench.shard.session_of("mine"), bench.shard.session_of("client")), (None, Some(session)));
    assert_eq!((bench.shard.applied(), bench.sequences(session)), (2, vec![1]));
    assert_eq!(bench.apply(subscribe(session, "a", false)).len(), 1, "still a replica");
    bench.tables.insert(vec![0, 0, 99], vec![]);
    assert!(bench.shard.reload(&bench.tables).is_err());
    assert_eq!(bench.sequences(session), [1], "nothing has changed");
}

/// The queues of ops and effects hold them by value, and many.
#[test]
fn what_a_cluster_needs_makes_no_op_and_no_effect_larger() {
    assert_eq!((size_of::<Op>(), size_of::<Effect>()), (96, 64));
}

#[test]
fn in_a_cluster_nobody_takes_a_session_over_a_will_that_is_owed() {
    let (owed, later) = (will(0), will(60));
    let attach =
        |epoch, will: &Option<Will>, now| Attach { home: 7, epoch, will: will.clone(), now, ..Attach::default() };
    let mut bench = Bench::new();
    let (session, _) = bench.attach(attach(1, &owed, 0));
    let elsewhere = || Attach { home: 8, ..attach(2, &later, 10) };
    assert_eq!(bench.attached(elsewhere()), [], "the connection is there, and ends with this");
    bench.detach(session, 1, 20);
    // The clock of the other node may be behind.
    assert_eq!(bench.attached(elsewhere()), []);
    assert_eq!(bench.shard.session(session).unwrap().epoch(), 1);
    bench.apply(Op::WillDone { session, epoch: 1 });
    assert_eq!(bench.attach(elsewhere()), (session, true));
    // One with a delay is owed when that is over, or when the session ends; who comes back before that cancels it.
    bench.detach(session, 2, 1_000);
    assert_eq!(bench.attach(attach(3, &later, 60_999)), (session, true));
    bench.detach(session, 3, 70_000);
    assert_eq!(bench.attached(Attach { clean_start: true, ..attach(4, &None, 70_001) }), []);
    assert_eq!(bench.attached(attach(5, &None, 130_000)), []);
    bench.apply(Op::WillDone { session, epoch: 3 });
    assert_eq!(bench.attach(attach(6, &None, 130_001)), (session, true));
    // A node alone has published it before.
    bench.detach(session, 6, 140_000);
    bench.attach(Attach { epoch: 7, will: owed, now: 140_001, ..Attach::default() });
    bench.detach(session, 7, 140_002);
    assert_eq!(bench.attach(Attach { epoch: 8, now: 140_003, ..Attach::default() }), (session, true));
}
