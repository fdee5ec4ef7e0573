//! Sessions: attach, detach, wills, subscriptions, inbound identifiers.

use crate::bench::{Attach, Bench, subscribe, will};
use nightjar_base::{SessionId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::{ALONE, Cursor, Due, Effect, Holder, Op, QueueLimits, Replayed};
use std::sync::Arc;

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
    let before = Some(Box::new(Holder { home: ALONE, epoch: 1 }));
    let session = SessionId(old.0 + 1);
    let attached = Effect::Attached { session, client_id, home: ALONE, epoch: 2, present: false, before };
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
    let effects =
        bench.apply(Op::Detach { session, epoch: 1, expiry: Some(0), discard_will: true, sent: 0, now: Wall(0) });
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
