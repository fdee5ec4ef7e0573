//! A small writer of databases, from the description of their format, and the reader against it.
#![allow(clippy::unwrap_used)]

use super::read::Failure;
use super::*;
use nightjar_mqtt::RetainHandling;
use proptest::prelude::*;

/// Writes a database, chunk by chunk.
pub(crate) struct Writer {
    version: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(version: u32) -> Self {
        let mut bytes = b"\0\xb5\0mosquitto db".to_vec();
        bytes.extend([0; 4]);
        bytes.extend(version.to_be_bytes());
        let mut writer = Self { version, bytes };
        let mut chunk = 77_u64.to_le_bytes().to_vec();
        chunk.extend([1, 8, 0, 0, 0, 0, 0, 0]);
        writer.chunk(1, &chunk);
        writer
    }

    pub(crate) fn chunk(&mut self, kind: u32, content: &[u8]) {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        self.bytes.extend(content);
    }

    /// A message; `properties` without their length.
    pub(crate) fn message(
        &mut self,
        number: u64,
        topic: &str,
        payload: &[u8],
        (qos, retain): (u8, bool),
        properties: &[u8],
    ) {
        self.message_until(number, topic, payload, (qos, retain, 0), properties);
    }

    /// A message that expires.
    pub(crate) fn message_until(
        &mut self,
        number: u64,
        topic: &str,
        payload: &[u8],
        (qos, retain, expires): (u8, bool, i64),
        properties: &[u8],
    ) {
        let (source, user) = ("source", "ann");
        let mut chunk = number.to_le_bytes().to_vec();
        chunk.extend(expires.to_le_bytes());
        chunk.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        for length in [1, source.len(), user.len(), topic.len(), 1883] {
            chunk.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        chunk.extend([qos, u8::from(retain)]);
        for part in [source.as_bytes(), user.as_bytes(), topic.as_bytes(), payload] {
            chunk.extend(part);
        }
        if !properties.is_empty() {
            chunk.push(u8::try_from(properties.len()).unwrap());
            chunk.extend(properties);
        }
        self.chunk(2, &chunk);
    }

    pub(crate) fn client(&mut self, id: &str, user: &str, expiry: u32, ends: i64) {
        let mut chunk = ends.to_le_bytes().to_vec();
        chunk.extend(expiry.to_be_bytes());
        chunk.extend(9_u16.to_be_bytes());
        chunk.extend(u16::try_from(id.len()).unwrap().to_be_bytes());
        if self.version == 6 {
            chunk.extend(1883_u16.to_be_bytes());
            chunk.extend(u16::try_from(user.len()).unwrap().to_be_bytes());
            chunk.extend([0; 4]);
        }
        chunk.extend(id.as_bytes());
        if self.version == 6 {
            chunk.extend(user.as_bytes());
        }
        self.chunk(6, &chunk);
    }

    /// A message for (direction 1) or from (0) a client; `flags` are retain times 16, and DUP.
    pub(crate) fn client_message(
        &mut self,
        id: &str,
        number: u64,
        packet_id: u16,
        [qos, state, flags, direction]: [u8; 4],
        identifier: u8,
    ) {
        let mut chunk = number.to_le_bytes().to_vec();
        chunk.extend(packet_id.to_be_bytes());
        chunk.extend(u16::try_from(id.len()).unwrap().to_be_bytes());
        chunk.extend([qos, state, flags, direction]);
        chunk.extend(id.as_bytes());
        if identifier != 0 {
            chunk.extend([2, 0x0b, identifier]);
        }
        self.chunk(3, &chunk);
    }

    pub(crate) fn subscription(&mut self, id: &str, filter: &str, qos: u8, options: u8, identifier: u32) {
        let mut chunk = identifier.to_be_bytes().to_vec();
        chunk.extend(u16::try_from(id.len()).unwrap().to_be_bytes());
        chunk.extend(u16::try_from(filter.len()).unwrap().to_be_bytes());
        chunk.extend([qos, options, 0, 0]);
        chunk.extend(id.as_bytes());
        chunk.extend(filter.as_bytes());
        self.chunk(5, &chunk);
    }

    pub(crate) fn retained(&mut self, number: u64) {
        self.chunk(4, &number.to_le_bytes());
    }

    pub(crate) fn database(&self) -> Database {
        read_bytes(&self.bytes).unwrap()
    }
}

fn read_bytes(bytes: &[u8]) -> Result<Database, Damage> {
    read(&mut &bytes[..], bytes.len() as u64).map_err(|failure| match failure {
        Failure::Damaged(damage) => damage,
        Failure::Io(error) => panic!("{error}"),
    })
}

/// One of everything.
fn everything(version: u32) -> Writer {
    let mut writer = Writer::new(version);
    writer.message(1, "a/b", b"one", (1, false), &[]);
    // Content type, user property, message expiry: the last one is not passed on.
    writer.message_until(2, "a/c", b"", (2, true, 2_000), b"\x03\0\x01t\x26\0\x01k\0\x01v\x02\0\0\0\x09");
    writer.client("ann-1", "ann", 3_600, 5_000);
    writer.client_message("ann-1", 1, 7, [1, 3, 0x11, 1], 5);
    writer.client_message("ann-1", 2, 8, [2, 9, 0, 1], 0);
    writer.client_message("ann-1", 1, 9, [1, 11, 0, 1], 0);
    writer.client_message("ann-1", 2, 4, [2, 7, 0, 0], 0);
    writer.client("bob", "", u32::MAX, 0);
    writer.client_message("nobody", 1, 1, [1, 11, 0, 1], 0);
    writer.subscription("ann-1", "a/#", 2, 0x2c, 5);
    writer.subscription("bob", "$SYS/broker/#", 0, 0x10, 0);
    writer.subscription("nobody", "x", 0, 0, 0);
    writer.retained(2);
    writer
}

#[test]
fn both_formats_are_read() {
    for version in [5, 6] {
        let database = everything(version).database();
        assert_eq!((database.version, database.complete, database.orphans), (version, true, 2));
        assert_eq!(database.retained, [2]);
        let message = &database.messages[&2];
        assert_eq!((message.topic(), message.qos, message.retain), ("a/c", QoS::ExactlyOnce, true));
        assert_eq!(message.properties(), b"\x03\0\x01t\x26\0\x01k\0\x01v");
        assert_eq!(message.expires.map(|at| at.0), Some(2_000_000));
        assert_eq!(database.messages[&1].payload(), b"one");
        let [ann, bob] = &database.clients[..] else { panic!("{:?}", database.clients) };
        let user = (version == 6).then_some("ann");
        assert_eq!((&*ann.id, ann.user.as_deref(), ann.expiry, ann.expiry_time), ("ann-1", user, 3_600, 5_000));
        assert_eq!((&*bob.id, bob.user.as_deref(), bob.expiry), ("bob", None, u32::MAX));
        let states: Vec<_> =
            ann.outgoing.iter().map(|of| (of.packet_id, of.state, of.retain, of.dup, of.identifier)).collect();
        let expected = [
            (7, State::Sent, true, true, Some(5)),
            (8, State::Released, false, false, None),
            (9, State::Queued, false, false, None),
        ];
        assert_eq!(states, expected);
        assert_eq!((ann.incoming[0].packet_id, ann.incoming[0].state), (4, State::AwaitsRelease));
        let (filter, options) = &ann.subscriptions[0];
        assert_eq!((filter.as_str(), options.qos, options.identifier), ("a/#", QoS::ExactlyOnce, Some(5)));
        assert!(options.no_local && options.retain_as_published && options.retain_handling == RetainHandling::Never);
        assert_eq!(bob.subscriptions[0].1.retain_handling, RetainHandling::IfNew);
    }
}

#[test]
fn machines_that_pad_less_are_read_too() {
    let mut bytes = Writer::new(6).bytes[..23].to_vec();
    let mut chunk = |kind: u8, content: &[u8]| {
        bytes.extend([0, 0, 0, kind, 0, 0, 0, u8::try_from(content.len()).unwrap()]);
        bytes.extend(content);
    };
    chunk(1, b"\x05\0\0\0\0\0\0\0\0\x08\0\0");
    chunk(6, b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\x01\0\0\0\x01cu");
    let database = read_bytes(&bytes).unwrap();
    assert_eq!(
        (&*database.clients[0].id, database.clients[0].user.as_deref(), database.complete),
        ("c", Some("u"), false)
    );
}

#[test]
fn a_truncated_database_is_refused_wherever_it_ends() {
    for version in [5, 6] {
        let bytes = everything(version).bytes;
        let mut whole = 0;
        for length in 0..bytes.len() {
            match read_bytes(&bytes[..length]) {
                // Between two chunks nothing shows that more was to come.
                Ok(_) => whole += 1,
                Err(damage) => assert!(damage.offset <= length as u64, "{length}: {damage:?}"),
            }
        }
        assert_eq!(whole, 13, "as many as there are chunks");
    }
}

#[test]
fn damage_is_told_with_its_offset() {
    let refused = |bytes: &[u8]| read_bytes(bytes).map(drop).unwrap_err();
    let good = everything(6).bytes;
    let at = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(refused(&at(5, b'x')).offset, 0);
    assert!(refused(&at(22, 4)).what.contains("found 4: start and stop mosquitto 2"), "an older format");
    assert_eq!(refused(&at(22, 7)), Damage { offset: 19, what: "expected format 5 or 6, found 7".to_owned() });
    assert_eq!(refused(&at(26, 9)), Damage { offset: 31, what: "expected a chunk of kind 1 to 6, found 9".to_owned() });
    // The length of the first chunk, as large as can be.
    let damage = refused(&at(27, 0xff));
    assert!(damage.offset == 31 && damage.what.contains("expected 4278190096 bytes"), "{damage:?}");
    assert!(refused(&at(40, 4)).what.contains("expected numbers of 8 bytes"));
    let wrong = |build: &dyn Fn(&mut Writer), what: &str| {
        let mut writer = Writer::new(6);
        writer.client("c", "", 1, 1);
        writer.message(1, "a", b"", (0, false), &[]);
        build(&mut writer);
        let damage = refused(&writer.bytes);
        assert!(damage.what.contains(what), "{what}: {damage:?}");
    };
    wrong(&|writer| writer.message(2, "a/+", b"", (0, false), &[]), "wildcard in a topic name");
    wrong(&|writer| writer.message(2, "", b"", (0, false), &[]), "empty topic name");
    wrong(&|writer| writer.message(2, "a", b"", (3, false), &[]), "expected QoS 0, 1 or 2, found 3");
    wrong(&|writer| writer.message(1, "a", b"", (0, false), &[]), "message number 1 is there twice");
    wrong(&|writer| writer.message(2, "a", b"", (0, false), &[0x7f]), "properties: ");
    wrong(&|writer| writer.client("c", "", 1, 1), "client \"c\" is there twice");
    wrong(&|writer| writer.client_message("c", 1, 1, [1, 12, 0, 1], 0), "expected a state from 1 to 11");
    wrong(&|writer| writer.client_message("c", 1, 1, [1, 7, 0, 1], 0), "expected a state");
    wrong(&|writer| writer.client_message("c", 1, 1, [1, 11, 0, 2], 0), "expected direction 0 or 1");
    wrong(&|writer| writer.subscription("c", "a/#/b", 0, 0, 0), "# is not the last level");
    wrong(&|writer| writer.subscription("c", "a", 0, 0, u32::MAX), "subscription identifier");
    wrong(&|writer| writer.chunk(4, &[0; 9]), "expected its chunk to end");
    wrong(
        &|writer| writer.chunk(6, b"\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\xff\xff\0\0\0\0\0\0\0\0c"),
        "expected 65535 bytes",
    );
}

proptest! {
    /// Whatever the bytes: an answer, and no more memory than they have.
    #[test]
    fn any_bytes_are_taken_or_refused(version in 5..7_u32, tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = Writer::new(version).bytes;
        bytes.extend(tail);
        let _ = read_bytes(&bytes);
    }

    /// Chunks that look right from outside, with anything in them.
    #[test]
    fn any_chunk_is_taken_or_refused(
        version in 5..7_u32,
        chunks in proptest::collection::vec((1..7_u32, proptest::collection::vec(any::<u8>(), 0..80)), 0..8),
    ) {
        let mut writer = Writer::new(version);
        chunks.iter().for_each(|(kind, content)| writer.chunk(*kind, content));
        if let Err(damage) = read_bytes(&writer.bytes) {
            prop_assert!(damage.offset <= writer.bytes.len() as u64);
        }
    }

    /// A good database with a few bytes changed, and the work that comes of it.
    #[test]
    fn a_database_with_changed_bytes_is_taken_or_refused(
        version in 5..7_u32,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = everything(version).bytes;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(database) = read_bytes(&bytes) {
            let rules = crate::import::work::Rules { now: nightjar_base::Wall(1_000_000), expiration: None, proves_users: true };
            let _ = crate::import::work::Work::of(database, &rules).unwrap();
        }
    }
}
