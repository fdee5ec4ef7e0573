//! What is loaded is there when the store is opened again.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::import::db::tests::Writer;
use crate::import::work::Rules;
use nightjar_mqtt::QoS;
use nightjar_session::packet_id;
use nightjar_shard::{Entry as Queued, NEVER, Overflow};
use std::path::Path;

const NOW: Wall = Wall(1_000_000_000);
const ENDS: i64 = 1_000_500;
const LIMITS: QueueLimits = QueueLimits { messages: 3, bytes: 1 << 20, policy: Overflow::DropNewest };

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        shards: 3,
        segment_bytes: 64 << 10,
        journal_budget: 512 << 10,
        free_space_floor: 0,
        reserve_bytes: 16 << 10,
        ..StoreConfig::new(folder)
    }
}

struct Loaded {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Loaded {
    fn of(writer: &Writer, limits: QueueLimits) -> Self {
        let rules = Rules { now: NOW, expiration: None, proves_users: true };
        let work = Work::of(writer.database(), &rules).unwrap();
        let folder = tempfile::tempdir().unwrap();
        load(config(folder.path()), &work, limits, NOW).unwrap();
        let store = Store::open(config(folder.path())).unwrap().store().clone();
        Self { store, _folder: folder }
    }

    fn queue(&self, client: &str) -> Vec<Queued> {
        let shard = self.store.lock(self.store.shard_of(client));
        let id = shard.session_of(client).unwrap();
        let (mut from, mut all) = (0, Vec::new());
        loop {
            let before = all.len();
            from = shard.page(self.store.tables(), id, from, 1000, 1 << 20, &mut all).unwrap();
            if all.len() == before {
                return all;
            }
        }
    }
}

#[test]
fn a_session_is_as_it_was() {
    let mut writer = Writer::new(6);
    writer.client("c", "ann", 1_000, ENDS);
    writer.client("quiet", "", u32::MAX, 0);
    for number in 1..=4 {
        writer.message_until(number, &format!("t/{number}"), b"text", (2, false, ENDS), b"\x26\0\x01k\0\x01v");
    }
    for (number, id, how) in
        [(1, 30_000, [2, 5, 1, 1]), (2, 30_001, [2, 9, 0, 1]), (3, 30_005, [1, 3, 0x11, 1]), (4, 30_006, [1, 11, 0, 1])]
    {
        writer.client_message("c", number, id, how, 5);
    }
    writer.client_message("c", 1, 4_242, [2, 7, 0, 0], 0);
    writer.subscription("c", "t/#", 2, 0x0c, 5);
    writer.retained(4);
    let loaded = Loaded::of(&writer, LIMITS);
    let queue = loaded.queue("c");
    let found: Vec<_> = queue.iter().map(|of| (packet_id(of.sequence), of.qos, of.retain, of.received)).collect();
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    // The client's own message does not come back to it: its subscription has No Local.
    let expected = [
        (30_000, two, false, false),
        (30_001, two, false, true),
        (30_005, one, true, false),
        (30_006, one, false, false),
    ];
    assert_eq!(found, expected);
    assert_eq!((queue[0].message.topic(), queue[0].message.payload()), ("t/1", &b"text"[..]));
    assert_eq!(
        (queue[0].message.properties(), queue[0].message.expires),
        (&b"\x26\0\x01k\0\x01v"[..], Some(Wall(1_000_500_000)))
    );
    assert_eq!(queue[0].identifiers.as_deref(), Some(&[5][..]));
    {
        let shard = loaded.store.lock(loaded.store.shard_of("c"));
        let session = shard.session(shard.session_of("c").unwrap()).unwrap();
        assert_eq!(
            (session.user().map(|user| &**user), session.attached(), session.expiry()),
            (Some("ann"), false, 1_000)
        );
        assert_eq!(
            (session.expires(), session.inbound(), session.limits()),
            (Some(Wall(1_000_500_000)), &[4_242][..], &LIMITS)
        );
        assert_eq!(packet_id(session.sent()), 30_006, "what was sent before carries DUP");
        let options = session.subscription("t/#").unwrap().options;
        assert!(options.no_local && options.retain_as_published && options.identifier == Some(5));
    }
    let shard = loaded.store.lock(loaded.store.shard_of("quiet"));
    let session = shard.session(shard.session_of("quiet").unwrap()).unwrap();
    assert_eq!((session.user(), session.expiry(), session.expires(), session.next_sequence()), (None, NEVER, None, 1));
    drop(shard);
    let shard = loaded.store.lock(loaded.store.shard_of("t/4"));
    let (message, _) = shard.retained(loaded.store.tables(), "t/4").unwrap().unwrap();
    assert!(message.retain && message.payload() == b"text");
}

#[test]
fn many_sessions_get_one_message_each_in_its_order() {
    let mut writer = Writer::new(5);
    let clients: Vec<String> = (0..50).map(|number| format!("client-{number}")).collect();
    for number in 1..=40_u64 {
        writer.message(
            number,
            "t",
            &[b'x'; 2_000],
            (1, false),
            &number.to_string().bytes().fold(vec![3, 0, 2], |mut block, digit| {
                block.push(digit);
                if block.len() == 4 && number < 10 {
                    block.push(b' ');
                }
                block
            }),
        );
    }
    for id in &clients {
        writer.client(id, "", u32::MAX, 0);
        // One of them has its messages in another order, as after replays of retained ones.
        for number in 1..=40_u64 {
            let number = if id == "client-7" { 41 - number } else { number };
            writer.client_message(id, number, 0, [1, 11, 0, 1], 0);
        }
    }
    let loaded = Loaded::of(&writer, QueueLimits { messages: 40, ..LIMITS });
    for id in &clients {
        let queue = loaded.queue(id);
        let numbers: Vec<u64> = queue
            .iter()
            .map(|of| String::from_utf8_lossy(&of.message.properties()[3..]).trim().parse().unwrap())
            .collect();
        let expected: Vec<u64> = if id == "client-7" { (1..=40).rev().collect() } else { (1..=40).collect() };
        assert_eq!(numbers, expected, "{id}");
    }
}

#[test]
fn an_empty_database_makes_an_empty_store() {
    let loaded = Loaded::of(&Writer::new(6), LIMITS);
    let sessions: usize =
        (0..loaded.store.shard_count()).map(|shard| loaded.store.lock(ShardId(shard)).session_count()).sum();
    assert_eq!(sessions, 0);
}
