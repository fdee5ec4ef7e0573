//! What a database comes to: places, identifiers, expiry, and what is given away.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::import::db::tests::Writer;

/// Seconds since 1970 at which everything happens here.
const NOW: u64 = 1_000_000;
const ENDS: i64 = 1_000_500;

const RULES: Rules = Rules { now: Wall(NOW * 1000), expiration: None, proves_users: true };

const SENT_1: [u8; 4] = [1, 3, 1, 1];
const SENT_2: [u8; 4] = [2, 5, 1, 1];
const RELEASED: [u8; 4] = [2, 9, 1, 1];
const QUEUED_1: [u8; 4] = [1, 11, 0, 1];
const FROM: [u8; 4] = [2, 7, 0, 0];

fn writer(clients: &[&str]) -> Writer {
    let mut writer = Writer::new(6);
    for number in 1..=9_u64 {
        writer.message(number, &format!("t/{number}"), b"x", (2, false), &[]);
    }
    clients.iter().for_each(|id| writer.client(id, "ann", 1_000, ENDS));
    writer
}

fn work(writer: &Writer) -> Work {
    Work::of(writer.database(), &RULES).unwrap()
}

fn sequences(session: &Session) -> Vec<u64> {
    session.entries.iter().map(|entry| entry.sequence).collect()
}

#[test]
fn what_is_under_way_keeps_its_packet_identifiers() {
    let mut writer = writer(&["c"]);
    for (number, packet_id, state) in
        [(1, 5, SENT_2), (2, 6, RELEASED), (3, 9, SENT_1), (4, 10, QUEUED_1), (5, 12, QUEUED_1)]
    {
        writer.client_message("c", number, packet_id, state, 0);
    }
    let work = work(&writer);
    let session = &work.sessions[0];
    assert_eq!(sequences(session), [5, 6, 9, 10, 11]);
    assert_eq!(session.sent, 10, "what was sent before carries DUP");
    assert_eq!(
        session.entries.iter().map(|entry| entry.received).collect::<Vec<_>>(),
        [false, true, false, false, false]
    );
    let counts = work.counts;
    assert_eq!((counts.in_flight, counts.to_release, counts.queued, counts.renumbered), (2, 1, 2, 0));
    assert_eq!(counts.longest_queue, 4);
}

#[test]
fn identifiers_go_around() {
    let mut writer = writer(&["c"]);
    for (number, packet_id) in [(1, 65_534), (2, 65_535), (3, 1), (4, 3)] {
        writer.client_message("c", number, packet_id, SENT_2, 0);
    }
    let work = work(&writer);
    assert_eq!(sequences(&work.sessions[0]), [65_534, 65_535, 65_536, 65_538]);
    assert_eq!(work.counts.renumbered, 0);
}

#[test]
fn what_is_left_empty_is_in_proportion_to_the_messages() {
    let empty = |work: &Work| -> u64 {
        let last = |session: &Session| session.entries.last().map_or(0, |last| last.sequence);
        work.sessions.iter().map(|session| last(session) - session.entries.len() as u64).sum()
    };
    // Many sessions that each want nearly all identifiers passed over, and one that wants it again and again.
    for (sessions, messages, qos_1) in [(200_u64, 1_u64, false), (1, 200, false), (200, 1, true), (1, 200, true)] {
        let ids: Vec<String> = (0..sessions).map(|number| format!("c{number}")).collect();
        let mut writer = writer(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        for id in &ids {
            for number in 0..messages {
                let packet_id = u16::try_from((number + 1) * 59_000 % 65_535).unwrap();
                writer.client_message(id, 1, packet_id, if qos_1 { SENT_1 } else { SENT_2 }, 0);
            }
        }
        let work = work(&writer);
        let most = if qos_1 { 0 } else { PLACES } + 65_535 + 256 * 200;
        assert!(empty(&work) <= most, "{} of {most}", empty(&work));
        assert!(empty(&work) > 58_000, "the first have theirs");
        assert!(work.counts.renumbered > 100 && (work.counts.renumbered_qos2 > 100) != qos_1);
        assert_eq!(work.counts.in_flight, 200);
    }
}

#[test]
fn identifiers_that_do_not_run_in_order_are_given_up() {
    let mut writer = writer(&["c"]);
    for (number, packet_id) in [(1, 9), (2, 8), (3, 11)] {
        writer.client_message("c", number, packet_id, SENT_2, 0);
    }
    writer.client_message("c", 4, 0, SENT_1, 0);
    let work = work(&writer);
    assert_eq!(sequences(&work.sessions[0]), [9, 10, 11, 12]);
    assert_eq!((work.counts.renumbered, work.counts.renumbered_qos2), (2, 1));
}

#[test]
fn sessions_end_when_they_would_have() {
    let expiry = |expiry: u32, ends: i64, longest: Option<u64>| {
        let mut writer = Writer::new(5);
        writer.client("c", "", expiry, ends);
        let rules = Rules { expiration: longest, ..RULES };
        let work = Work::of(writer.database(), &rules).unwrap();
        work.sessions.first().map(|session| (session.expiry, session.detached.0 / 1000))
    };
    assert_eq!(expiry(1_000, ENDS, None), Some((1_000, NOW - 500)));
    assert_eq!(expiry(1_000, NOW.cast_signed(), None), None);
    assert_eq!(expiry(u32::MAX, 0, None), Some((u32::MAX, NOW)));
    assert_eq!(expiry(u32::MAX, ENDS, Some(1_000)), Some((1_000, NOW - 500)));
    assert_eq!(expiry(u32::MAX, 0, Some(1_000)), Some((1_000, NOW)));
    assert_eq!(expiry(0, 0, None), None);
    assert_eq!(expiry(100, i64::MAX, None), Some((100, NOW)));
    assert_eq!(expiry(100, -5, None), Some((100, NOW)));
}

#[test]
fn a_session_belongs_to_its_user_where_users_prove_who_they_are() {
    let writer = writer(&["c"]);
    assert_eq!(work(&writer).sessions[0].user.as_deref(), Some("ann"));
    let unproved = Work::of(writer.database(), &Rules { proves_users: false, ..RULES }).unwrap();
    assert_eq!(unproved.sessions[0].user, None);
}

#[test]
fn what_has_expired_is_left_out_but_not_its_release() {
    let mut writer = writer(&["c"]);
    writer.message_until(20, "old", b"x", (2, true, NOW.cast_signed() - 1), &[]);
    writer.client_message("c", 20, 1, SENT_2, 0);
    writer.client_message("c", 20, 2, RELEASED, 0);
    writer.client_message("c", 99, 3, RELEASED, 0);
    writer.client_message("c", 99, 4, QUEUED_1, 0);
    writer.retained(20);
    writer.retained(99);
    let work = work(&writer);
    assert_eq!(sequences(&work.sessions[0]), [2, 3]);
    assert_eq!((work.counts.expired_messages, work.counts.to_release, work.retained.len()), (4, 2, 0));
}

#[test]
fn an_unreleased_message_is_given_away_once_and_remembered() {
    let mut writer = writer(&["source", "one", "two", "none"]);
    writer.message(30, "a/b", b"kept", (2, true), &[]);
    writer.message(31, "a/b", b"", (2, true), &[]);
    writer.retained(1);
    writer.client_message("one", 2, 7, QUEUED_1, 0);
    writer.client_message("source", 30, 77, FROM, 0);
    // Not acknowledged: it comes again.
    writer.client_message("source", 31, 78, [2, 11, 0, 0], 0);
    writer.subscription("source", "a/#", 2, 0x04, 0);
    writer.subscription("one", "a/+", 1, 0, 3);
    writer.subscription("one", "a/#", 2, 0x08, 2);
    writer.subscription("two", "#", 1, 0, 0);
    writer.subscription("none", "a/b", 0, 0, 0);
    let work = work(&writer);
    let [source, one, two, none] = &work.sessions[..] else { panic!("{work:?}") };
    assert_eq!(source.inbound, [77]);
    assert!(source.entries.is_empty() && none.entries.is_empty());
    let last = one.entries.last().unwrap();
    assert_eq!((last.sequence, last.qos, last.retain, &last.identifiers[..]), (2, QoS::ExactlyOnce, true, &[2, 3][..]));
    assert_eq!((two.entries[0].sequence, two.entries[0].qos, two.entries[0].retain), (1, QoS::AtLeastOnce, false));
    assert_eq!(work.retained.iter().map(|message| message.topic()).collect::<Vec<_>>(), ["a/b", "t/1"]);
    assert!(work.retained.iter().all(|message| message.retain));
    assert_eq!((work.counts.from_clients, work.counts.unacknowledged, work.counts.queued), (1, 1, 3));
}
