//! Every setting there is: its name, type, default, bounds and reason, each written once.
//!
//! The struct that the broker reads, the check of what the operator wrote, `docs/configuration.md` and
//! `check-config --effective` all come from the lists below.

use super::kinds::{Count, FilePath, Flag, KeepAlive, Or, OrUnlimited, Size, Span, TopicPrefix, Word};
use super::reader::Reader;
use crate::env::task;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest session expiry interval that a client can name without meaning "for ever" [MQTT5 3.1.2.11.2].
const LONGEST_EXPIRY: Duration = Duration::from_secs(u32::MAX as u64 - 1);
/// The largest remaining length that four bytes can say [MQTT5 1.5.5].
const LARGEST_PACKET: u32 = 268_435_455;

/// How a setting is told to people.
pub(super) struct Described {
    /// `section.key`.
    pub(super) key: String,
    /// What it is and why its default is what it is.
    pub(super) about: String,
    /// What may be written.
    pub(super) expected: String,
    /// The value, as TOML.
    pub(super) value: String,
}

/// One section of the file.
pub(super) trait Section: Default {
    const KEY: &'static str;
    const ABOUT: &'static str;
    const KEYS: &'static [&'static str];
    /// The section as it was configured; what is wrong is left to the reader and stands at its default.
    fn read(reader: &mut Reader) -> Self;
    /// Every setting with the value that it has in `self`.
    fn describe(&self) -> Vec<Described>;
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident = $section:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $kind:expr; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl Section for $name {
            const KEY: &'static str = $section;
            const ABOUT: &'static str = concat!($($about, "\n"),+);
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn read(reader: &mut Reader) -> Self {
                let default = Self::default();
                Self { $( $field: reader.value(concat!($section, ".", stringify!($field)), &$kind, default.$field), )+ }
            }

            fn describe(&self) -> Vec<Described> {
                use $crate::config::kinds::Kind;
                vec![$( {
                    let kind = $kind;
                    Described {
                        key: concat!($section, ".", stringify!($field)).to_owned(),
                        about: concat!($($doc, "\n"),+).to_owned(),
                        expected: Kind::<$type>::expected(&kind),
                        value: Kind::<$type>::show(&kind, &self.$field),
                    }
                } ),+]
            }
        }
    };
}

pub(super) use section;

/// When a change counts as durable, and so may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on the disk: nothing acknowledged is lost, by a crash or by a power cut.
    Sync,
    /// When it has been written; the disk is told every `store.sync_interval`. A power cut costs that much.
    Interval,
    /// At once, and no disk is ever used: a restart costs everything.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DURABILITY.word(self))
    }
}

/// What happens to a message for a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest message in the queue makes room.
    DropOldest,
    /// The new message is not queued for this session.
    DropNewest,
    /// The publisher is told: reason code 0x97 in MQTT 5; no acknowledgement, and a closed connection, before.
    Refuse,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the operator must act on.
    Error,
    /// What the operator should know.
    Warn,
    /// Start, stop, and one line for each connect and disconnect.
    Info,
    /// What each connection does, packet by packet.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const DURABILITY: Word<Durability> =
    Word(&[("sync", Durability::Sync), ("interval", Durability::Interval), ("memory", Durability::Memory)]);
const OVERFLOW: Word<Overflow> =
    Word(&[("drop_oldest", Overflow::DropOldest), ("drop_newest", Overflow::DropNewest), ("refuse", Overflow::Refuse)]);
const LEVEL: Word<Level> = Word(&[
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
]);
const FORMAT: Word<Format> = Word(&[("text", Format::Text), ("json", Format::Json)]);

section! {
    /// The process itself.
    Node = "node" {
        /// Threads that serve connections. "cores" is one for each core that the process may use, which is what
        /// measured best: each has its own event loop and its own listener.
        workers: Option<usize> = None, Or("cores", Count(1..=1024));
        /// The folder of everything that must outlive the process. It is made if it is not there. One process at a
        /// time.
        data: PathBuf = PathBuf::from("./nightjar-data"), FilePath;
        /// How long a stop waits for clients to take their farewell before it closes their connections anyway. Short,
        /// for service managers kill what lingers; nothing acknowledged depends on it.
        shutdown_timeout: Duration = 5 * SECOND, Span(MILLISECOND, HOUR);
    }
}

impl Node {
    /// The number of threads that `workers` comes to on this machine.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(task::cores)
    }
}

section! {
    /// What makes data durable, and what that may cost.
    Store = "store" {
        /// When a message may be acknowledged. "sync": when it is on the disk, so that no crash and no power cut loses
        /// it. "interval": when it is written; a power cut loses up to `sync_interval`. "memory": at once; a restart
        /// loses everything, and no node of a cluster may do that. The weaker two are for those who ask for them.
        durability: Durability = Durability::Sync, DURABILITY;
        /// How often the disk is told to keep what was written, with `durability = "interval"` alone. It is the most
        /// that a power cut can cost.
        sync_interval: Duration = SECOND, Span(MILLISECOND, HOUR);
        /// Into how many parts the durable state is divided. It is fixed when the data folder is made. 16 are enough to
        /// spread over the cores of a node, or later the nodes of a cluster, and cost next to nothing when idle.
        shards: u16 = 16, Count(1..=1024);
        /// The size of one file of the journal. It is allocated ahead, so that a sync need not change the file's size.
        segment_size: u64 = 64 * MIB, Size(64 * KIB..=4 * GIB);
        /// How much journal may wait for a checkpoint before publishers are slowed down. It bounds the time that a
        /// restart takes and the space that the journal takes. At least four segments.
        journal_budget: u64 = 512 * MIB, Size(256 * KIB..=TIB);
        /// How much memory the changes since the last checkpoint may take, all shards together, before the next one
        /// begins, whatever the time.
        checkpoint_size: u64 = 64 * MIB, Size(4 * KIB..=TIB);
        /// How much may wait to be written before publishers are slowed down. It bounds the memory that a disk slower
        /// than its publishers costs.
        pending_size: u64 = 16 * MIB, Size(64 * KIB..=TIB);
        /// How long a change may wait for a checkpoint. What is queued and taken within it never reaches the tree on
        /// the disk, so longer is cheaper, and shorter restarts faster.
        checkpoint_interval: Duration = 10 * SECOND, Span(MILLISECOND, HOUR);
        /// Memory that the tree on the disk may use as its cache. Small, because what is hot is not read from it.
        sled_cache: u64 = 64 * MIB, Size(MIB..=TIB);
        /// Free space below which no checkpoint is begun: the tree on the disk does not recover from a full disk, the
        /// journal does, so it has to be the journal that meets it.
        free_space_floor: u64 = 256 * MIB, Size(0..=TIB);
        /// The size of a file that is given up when the disk is full, so that what is already there can still be
        /// delivered and acknowledged away. "0B" keeps none.
        reserve: u64 = 16 * MIB, Size(0..=TIB);
    }
}

section! {
    /// Sessions and their queues.
    Session = "session" {
        /// How long a session of MQTT 3.1 or 3.1.1 with clean session 0 lives after its connection has ended; those
        /// versions cannot say. Two weeks outlast a holiday; without an end, every device ever seen would stay.
        expiry_v3: Option<Duration> = Some(14 * DAY), Or("unlimited", Span(SECOND, LONGEST_EXPIRY));
        /// The longest session expiry interval that a client of MQTT 5 gets. Who asks for more is told in CONNACK what
        /// it got.
        max_expiry: Option<Duration> = None, Or("unlimited", Span(SECOND, LONGEST_EXPIRY));
        /// The most messages in the queue of one persistent session. They are on the disk: it is the disk that is
        /// protected.
        queue_messages: u64 = 1_000_000, OrUnlimited(u64::MAX, Count(1..=u64::MAX - 1));
        /// The most bytes in the queue of one persistent session.
        queue_bytes: u64 = GIB, OrUnlimited(u64::MAX, Size(KIB..=1024 * TIB));
        /// What happens to a message for a session whose queue is full: "drop_oldest" (whoever returns sees the latest),
        /// "drop_newest" (it sees the beginning), or "refuse" (the publisher is told, and nobody loses unknowingly).
        queue_overflow: Overflow = Overflow::DropOldest, OVERFLOW;
        /// Whether messages of QoS 0 are queued for a persistent session that is away. The specification leaves it
        /// open; who sends at QoS 0 can bear the loss, and a durable queue costs.
        queue_qos0: bool = false, Flag;
        /// The most messages waiting in memory for a connected session that will not outlive its connection.
        transient_queue_messages: usize = 100_000, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// The most bytes waiting in memory for such a session.
        transient_queue_bytes: usize = 64 << 20, OrUnlimited(usize::MAX, Size(1 << 10..=1 << 40));
        /// The most messages of QoS 1 and 2 that are on their way to one client at a time, if it names no smaller
        /// receive maximum. More only fills its socket's buffers; each costs memory until it is acknowledged.
        max_inflight: u16 = 1_000, Count(1..=65_535);
    }
}

section! {
    /// What clients may ask of the protocol.
    Mqtt = "mqtt" {
        /// How many messages of QoS 1 and 2 a client may send before the first is acknowledged (MQTT 5: Receive
        /// Maximum).
        receive_maximum: u16 = 1_000, Count(1..=65_535);
        /// The largest packet that is taken. "unlimited" is what the format can say, 268435455 bytes, and then none is
        /// announced.
        max_packet_size: u32 = 16 << 20, OrUnlimited(LARGEST_PACKET, Size(128..=LARGEST_PACKET));
        /// The largest CONNECT that is taken: who has not said who it is gets little memory.
        max_connect_size: u32 = 128 << 10, Size(128..=LARGEST_PACKET);
        /// How many topic aliases a client may use towards the broker. 0 is none.
        topic_alias_maximum: u16 = 64, Count(0..=65_535);
        /// How many topic aliases the broker uses towards a client that allows them. 0 is none. Each is a topic kept
        /// in memory.
        topic_alias_maximum_out: u16 = 16, Count(0..=65_535);
        /// A keep alive that replaces whatever a client of MQTT 5 asks for. "none" leaves the client its own.
        server_keep_alive: Option<u16> = None, Or("none", KeepAlive);
        /// The longest keep alive. A client of MQTT 5 that asks for a longer one, or for none at all, is told this one.
        /// "unlimited" lets each have its own, none included, as clients are used to.
        max_keep_alive: Option<u16> = None, Or("unlimited", KeepAlive);
        /// The highest QoS that is taken and given.
        max_qos: u8 = 2, Count(0..=2);
        /// Whether messages are retained at all.
        retain_available: bool = true, Flag;
        /// The most levels in a topic or filter. A bound on the work that one topic can make; nothing known to be in
        /// use comes near.
        max_topic_levels: usize = 128, Count(1..=32_768);
        /// The most bytes in a topic or filter. The default is what the format can carry.
        max_topic_length: usize = 65_535, Count(1..=65_535);
        /// The most user properties in one packet: each is two strings in memory.
        max_user_properties: usize = 64, Count(0..=1_000_000);
        /// The most subscriptions of one session.
        max_subscriptions: usize = 10_000, OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
        /// The most bytes in a client identifier. The default is what the format can carry; the 23 of the old
        /// specification are exceeded by many clients.
        max_client_id_length: usize = 65_535, Count(1..=65_535);
        /// Whether a client may leave its identifier to the broker.
        allow_empty_client_id: bool = true, Flag;
        /// Whether MQTT 3.1, which came before the standard, is spoken.
        allow_v31: bool = true, Flag;
        /// What a v5 client that asks for response information is told: topics that begin so are meant for answers to it.
        /// `%c` stands for its client identifier. By default nothing is told: without access rules any topic will do.
        response_information: Option<String> = None, Or("none", TopicPrefix);
    }
}

section! {
    /// The `$SYS` topics.
    Sys = "sys" {
        /// How often they are published. "off" leaves them out.
        interval: Option<Duration> = Some(10 * SECOND), Or("off", Span(100 * MILLISECOND, HOUR));
    }
}

section! {
    /// The log, which goes to the standard error.
    Log = "log" {
        /// How much is logged: "info" has one line for each connect and disconnect, and nothing for a message.
        level: Level = Level::Info, LEVEL;
        /// How a line looks: "text" for people, "json" for programs.
        format: Format = Format::Text, FORMAT;
    }
}
