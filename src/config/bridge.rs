//! Bridges to other brokers: `[bridges.NAME]`, as many as are wanted.

use super::kinds::{Count, FilePath, Flag, Found, KeepAlive, Kind, Or, OrUnlimited, Plain, Size, Span, Word};
use super::more_kinds::{Hidden, Secret, Texts};
use super::preset::Preset;
use super::reader::Reader;
use super::remote::{Remote, Remotes};
use super::sections::Described;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const ABOUT: &str = "Bridges to other brokers. As many tables as wanted, each with a name of its own, of \
    lower-case letters, digits, `-` and `_`. See docs/bridges.md.";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest session expiry interval that does not mean "for ever" [MQTT5 3.1.2.11.2].
const LONGEST_EXPIRY: Duration = Duration::from_secs(u32::MAX as u64 - 1);
const LARGEST_PACKET: u32 = 268_435_455;

const RULES: Texts = Texts { each: |line| !line.trim().is_empty(), what: "lines, as \"sensors/# out 1\"" };
const PROTOCOLS: Texts = Texts { each: |name| !name.is_empty() && name.len() < 256, what: "protocol names" };

/// Whether a bridge works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Running,
    /// It is not connected; what is published meanwhile waits.
    Paused,
    /// What waits goes out, and nothing new is taken; then it is not connected any more.
    Draining,
}

/// When a bridge connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once, and again whenever the connection was lost.
    Automatic,
    /// When enough messages wait.
    Lazy,
    /// At once, and never again.
    Once,
}

/// Which MQTT a bridge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 5, and what came before if the remote does not take it.
    Auto,
    /// MQTT 3.1.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// What happens to a message for a bridge whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOverflow {
    /// The oldest message in the queue makes room.
    DropOldest,
    /// The new message is not queued for this bridge.
    DropNewest,
}

const MODE: Word<Mode> = Word(&[("running", Mode::Running), ("paused", Mode::Paused), ("draining", Mode::Draining)]);
const START: Word<Start> = Word(&[("automatic", Start::Automatic), ("lazy", Start::Lazy), ("once", Start::Once)]);
const VERSION: Word<Version> =
    Word(&[("auto", Version::Auto), ("3.1", Version::V31), ("3.1.1", Version::V311), ("5", Version::V5)]);
const OVERFLOW: Word<QueueOverflow> =
    Word(&[("drop_oldest", QueueOverflow::DropOldest), ("drop_newest", QueueOverflow::DropNewest)]);

macro_rules! bridge {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $kind:expr; )+) => {
        /// One bridge.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Bridge {
            /// Its name in the config, in the log and in its state topic.
            pub name: String,
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for Bridge {
            fn default() -> Self {
                Self { name: "NAME".to_owned(), $( $field: $default, )+ }
            }
        }

        pub(super) const KEYS: &[&str] = &[$(stringify!($field)),+];

        impl Bridge {
            fn take(name: &str, reader: &mut Reader, default: Self) -> Self {
                let key = |field: &str| format!("bridges.{name}.{field}");
                Self {
                    name: name.to_owned(),
                    $( $field: reader.value(&key(stringify!($field)), &$kind, default.$field), )+
                }
            }

            /// Whether `found` will do for a setting.
            pub(super) fn takes(field: &str, found: &Found) -> bool {
                let takers: &[(&str, fn(&Found) -> bool)] =
                    &[$((stringify!($field), |found| Kind::<$type>::read(&$kind, found).is_some())),+];
                takers.iter().any(|(known, takes)| *known == field && takes(found))
            }

            /// Every setting with its value.
            pub(super) fn describe(&self) -> Vec<Described> {
                vec![$( {
                    let kind = $kind;
                    Described {
                        key: format!("bridges.{}.{}", self.name, stringify!($field)),
                        about: concat!($($doc, "\n"),+).to_owned(),
                        expected: Kind::<$type>::expected(&kind),
                        value: Kind::<$type>::show(&kind, &self.$field),
                    }
                } ),+]
            }
        }
    };
}

bridge! {
    /// The remote broker: its address as a URL, or several, in the order in which they are tried. `mqtt://` (port 1883),
    /// `mqtts://` (TLS, 8883), `ws://` (WebSocket, 80) and `wss://` (443); WebSockets may have a path, `/mqtt` if none.
    address: Vec<Remote> = Vec::new(), Remotes;
    /// What is carried, one line a rule, as mosquitto has them: `PATTERN [out|in|both [QOS [LOCAL [REMOTE]]]]`. The local
    /// topic is LOCAL and the pattern, the remote one REMOTE and the pattern, without a slash between. `retain=drop` at
    /// the end of a line carries messages without their retain flag.
    topics: Vec<String> = Vec::new(), RULES;
    /// Whether it works: "running", "paused" (what is published waits) or "draining" (what waits goes out, nothing new is
    /// taken).
    mode: Mode = Mode::Running, MODE;
    /// Limits and habits of a service that is often a remote. It sets nothing but the settings below, where they are not
    /// set themselves.
    preset: Preset = Preset::None, super::preset::PRESET;
    /// Whether the next address is tried after each loss. If not, the first is home: it is tried first each time, and a
    /// bridge that is connected to another one returns to it.
    round_robin: bool = false, Flag;
    /// How often a bridge that is connected to another address looks whether the first is there again.
    home_interval: Duration = Duration::from_secs(30), Span(SECOND, DAY);
    /// When it connects: "automatic" (at once, and again after each loss), "lazy" (when `lazy_threshold` messages wait;
    /// it leaves when nothing moved for `idle_timeout`) or "once" (never again after a loss).
    start: Start = Start::Automatic, START;
    /// Messages that must wait before a lazy bridge connects.
    lazy_threshold: u64 = 10, Count(1..=1_000_000_000);
    /// How long nothing moves before a lazy bridge leaves.
    idle_timeout: Duration = Duration::from_secs(60), Span(SECOND, DAY);
    /// The version of MQTT: "5", "3.1.1", "3.1", or "auto", which begins with 5 and takes what the remote takes.
    version: Version = Version::Auto, VERSION;
    /// Its client identifier at the remote. "auto" is the bridge's name, a dot, and a number that belongs to this data
    /// folder, so that two brokers whose bridges have one name do not throw each other out. MQTT 3.1, which is spoken only
    /// if `version` says so, allows at most 23 bytes: "auto" is no longer if the name has at most 14. Many of its servers
    /// take longer ones all the same; one that does not is told in the log and by `ctl bridge show`.
    client_id: Option<String> = None, Or("auto", Plain);
    /// Its user name at the remote.
    username: Option<String> = None, Or("none", Plain);
    /// Its password at the remote.
    password: Option<Secret> = None, Or("none", Hidden(1));
    /// A file with its password or token, which is read at each connection: one that is renewed is taken up.
    password_file: Option<PathBuf> = None, Or("none", FilePath);
    /// The keep alive. A remote that does not answer for one and a half of it is taken for gone.
    keep_alive: u16 = 60, KeepAlive;
    /// How long a connection may take, from the name's resolution to CONNACK.
    connect_timeout: Duration = Duration::from_secs(20), Span(SECOND, HOUR);
    /// Whether the remote is to forget the bridge at each loss: what it would send meanwhile is lost, and what was under
    /// way may arrive twice.
    clean_start: bool = false, Flag;
    /// Whether this broker is to forget the bridge's queue and subscriptions at each loss: what is published while the
    /// remote is away then does not wait for it. A lazy bridge forgets what waited, and begins anew.
    clean_local: bool = false, Flag;
    /// How long a remote that speaks MQTT 5 is to keep the session when the bridge is away.
    session_expiry: Option<Duration> = Some(14 * DAY), Or("unlimited", Span(Duration::ZERO, LONGEST_EXPIRY));
    /// The authorities (PEM) that may have signed the remote's certificate. "system" is those of the system.
    ca: Option<PathBuf> = None, Or("system", FilePath);
    /// The bridge's certificate chain in PEM, for remotes that ask for one.
    certificate: Option<PathBuf> = None, Or("none", FilePath);
    /// Its private key in PEM.
    key: Option<PathBuf> = None, Or("none", FilePath);
    /// The name that the remote's certificate must have, and that is told in the handshake (SNI). "address" is the host
    /// of the address.
    server_name: Option<String> = None, Or("address", Plain);
    /// Protocol names for the handshake (ALPN).
    alpn: Vec<String> = Vec::new(), PROTOCOLS;
    /// Whether a certificate that does not prove who the remote is will do. Then anybody on the way can read and change
    /// everything.
    insecure: bool = false, Flag;
    /// Whether the remote is told before MQTT 5, by a bit of the protocol's level, that this is a bridge: it then sends
    /// nothing back, and retain flags as they were published. A remote that refuses is asked again without.
    bridge_flag: bool = true, Flag;
    /// Whether the bridge's state is published, retained, as `1` or `0`: here on `$SYS/broker/connection/NAME/state`, at
    /// the remote on `$SYS/broker/connection/CLIENT_ID/state`.
    notifications: bool = true, Flag;
    /// Whether it is published here alone.
    notifications_local_only: bool = false, Flag;
    /// Another topic for it, on both sides.
    notification_topic: Option<String> = None, Or("default", Plain);
    /// Whether messages go out with their retain flags.
    outgoing_retain: bool = true, Flag;
    /// The user whose rights hold for the bridge here. "none": it may do everything.
    local_user: Option<String> = None, Or("none", Plain);
    /// The most messages that wait for the remote. They are on the disk.
    queue_messages: Option<u64> = None, Or("default", OrUnlimited(u64::MAX, Count(1..=u64::MAX - 1)));
    /// The most bytes that wait for the remote.
    queue_bytes: Option<u64> = None, Or("default", OrUnlimited(u64::MAX, Size(1 << 10..=1 << 50)));
    /// The age at which what waits is not worth sending any more.
    queue_age: Option<Duration> = None, Or("unlimited", Span(SECOND, LONGEST_EXPIRY));
    /// What happens when that much waits: "drop_oldest" or "drop_newest". Drops are counted and logged.
    queue_overflow: QueueOverflow = QueueOverflow::DropOldest, OVERFLOW;
    /// Whether messages of QoS 0 wait too.
    queue_qos0: bool = false, Flag;
    /// Messages of QoS 1 and 2 that are on their way to the remote at a time, if it names no smaller receive maximum.
    max_inflight: u16 = 1_000, Count(1..=65_535);
    /// Messages of QoS 1 and 2 that a remote that speaks MQTT 5 may have on their way to here.
    receive_maximum: u16 = 1_000, Count(1..=65_535);
    /// The largest packet that is sent to the remote, if it names no smaller one.
    max_packet_size: u32 = LARGEST_PACKET, OrUnlimited(LARGEST_PACKET, Size(128..=LARGEST_PACKET));
    /// The highest QoS that the remote takes; what has a higher one is sent at this one.
    max_qos: u8 = 2, Count(0..=2);
    /// Whether the remote keeps retained messages. If not, retain flags are left out.
    retain_available: bool = true, Flag;
    /// The most levels in a topic that the remote takes.
    max_topic_levels: usize = 65_535, OrUnlimited(65_535, Count(1..=65_534));
    /// The most bytes in a topic that the remote takes.
    max_topic_length: usize = 65_535, OrUnlimited(65_535, Count(1..=65_534));
    /// The most filters in one SUBSCRIBE to the remote.
    max_filters: usize = 100, Count(1..=10_000);
    /// What becomes of messages that the remote will never take (too large, refused): "drop" counts and logs them; a
    /// topic prefix has them published here beneath it as well.
    dead_letter: Option<String> = None, Or("drop", super::kinds::TopicPrefix);
    /// For how long a message is remembered by its topic and content, where the remote cannot tell what is on its way
    /// around a circle of brokers (before MQTT 5, or a broker of another make). It is made use of only when messages were
    /// seen to come by several ways. "off" does without: circles of such brokers then never come to rest. The longest of
    /// all bridges holds for all.
    loop_window: Option<Duration> = Some(Duration::from_secs(10)), Or("off", Span(SECOND, HOUR));
    /// Bridges that a message may pass, counted where they speak MQTT 5. The most of all bridges holds for all.
    max_hops: u8 = 8, Count(1..=255);
    /// How long it waits after a first loss, give or take a part of it at random; twice as long after each further one.
    retry_base: Duration = SECOND, Span(Duration::from_millis(100), HOUR);
    /// The longest wait.
    retry_cap: Duration = Duration::from_secs(60), Span(Duration::from_millis(100), DAY);
    /// How long it must have been connected for the next loss to count as the first.
    retry_reset: Duration = Duration::from_secs(10), Span(SECOND, DAY);
}

impl Bridge {
    /// The bridge as it was configured.
    pub(super) fn read(name: &str, reader: &mut Reader) -> Self {
        let key = |field: &str| format!("bridges.{name}.{field}");
        let preset = reader.value(&key("preset"), &super::preset::PRESET, Preset::None);
        for (field, expected) in [("address", Remotes.expected()), ("topics", RULES.expected())] {
            if !reader.has(&key(field)) {
                reader.mistake(&key(field), format!("missing: expected {expected}"));
            }
        }
        Self::take(name, reader, preset.settings())
    }

    /// What cannot stand together.
    pub(super) fn check(&self, reader: &mut Reader) {
        let key = |field: &str| format!("bridges.{}.{field}", self.name);
        if self.address.is_empty() && reader.has(&key("address")) {
            reader.mistake(&key("address"), format!("expected {}", Remotes.expected()));
        }
        if self.certificate.is_some() != self.key.is_some() {
            let field = if self.certificate.is_some() { "key" } else { "certificate" };
            reader.mistake(&key(field), "expected certificate and key to be set, or neither".to_owned());
        }
        if self.password.is_some() && self.password_file.is_some() {
            reader.mistake(&key("password_file"), "expected one of password and password_file".to_owned());
        }
        if self.retry_base > self.retry_cap {
            reader.mistake(&key("retry_base"), "expected at most the value of retry_cap".to_owned());
        }
        // MQTT before 5 has no password without a user name [MQTT-3.1.2-22].
        let has_password = self.password.is_some() || self.password_file.is_some();
        if has_password && self.username.is_none() && self.version != Version::V5 {
            reader.mistake(&key("username"), "expected a user name with the password, or version = \"5\"".to_owned());
        }
    }
}
