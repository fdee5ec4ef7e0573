//! Where clients come in: `[listeners.NAME]`, as many as are wanted.

use super::doors::METHODS;
use super::kinds::{Count, Flag, Kind, Or, OrUnlimited, Size, Word};
use super::more_kinds::{Address, ListenAddress, Mode, Networks, Paths, Texts};
use super::reader::Reader;
use super::sections::Described;
use ipnet::IpNet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub(super) const ABOUT: &str = "Where clients come in. As many tables as wanted, each with a name of its own; without \
    any there is one, `main`, with the defaults. Names are of lower-case letters, digits, `-` and `_`; a list, \
    `[[listeners]]`, does as well, and its entries are called 1, 2, 3.";

/// The listener that there is when none is configured.
pub(super) const BUILT_IN: &str = "main";

const NUMBER: OrUnlimited<usize, Count<usize>> = OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));
const RATE: OrUnlimited<u64, Count<u64>> = OrUnlimited(0, Count(1..=1_000_000_000));
const PROTOCOLS: Texts =
    Texts { each: |text| text == "mqtt" || text == "websocket", what: "\"mqtt\" and \"websocket\"" };
const ORIGINS: Texts = Texts { each: |text| text.contains("://"), what: "origins, as \"https://example.org\"" };
const WEB_PATHS: Texts = Texts { each: |text| text.starts_with('/'), what: "paths, as \"/mqtt\"" };

/// What of a client's certificate is its user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nothing.
    None,
    /// The common name.
    CommonName,
    /// The first alternative name.
    AlternativeName,
}

const IDENTITY: Word<Identity> =
    Word(&[("none", Identity::None), ("cn", Identity::CommonName), ("san", Identity::AlternativeName)]);

macro_rules! listener {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $kind:expr; )+) => {
        /// One listener.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Listener {
            /// Its name in the config and in the log.
            pub name: String,
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for Listener {
            fn default() -> Self {
                Self { name: BUILT_IN.to_owned(), $( $field: $default, )+ }
            }
        }

        pub(super) const KEYS: &[&str] = &[$(stringify!($field)),+];

        impl Listener {
            fn take(name: &str, reader: &mut Reader) -> Self {
                let default = Self::default();
                let key = |field: &str| format!("listeners.{name}.{field}");
                Self {
                    name: name.to_owned(),
                    $( $field: reader.value(&key(stringify!($field)), &$kind, default.$field), )+
                }
            }

            /// Every setting with its value.
            pub(super) fn describe(&self) -> Vec<Described> {
                vec![$( {
                    let kind = $kind;
                    Described {
                        key: format!("listeners.{}.{}", self.name, stringify!($field)),
                        about: concat!($($doc, "\n"),+).to_owned(),
                        expected: Kind::<$type>::expected(&kind),
                        value: Kind::<$type>::show(&kind, &self.$field),
                    }
                } ),+]
            }
        }
    };
}

listener! {
    /// The address to listen on, or `unix:` and the path of a Unix socket. The built-in one can be reached from this
    /// machine alone. Port 0 lets the system choose.
    address: ListenAddress = ListenAddress::Ip(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1883)), Address;
    /// Whether clients need not say who they are. Left out, it is true where only this machine can connect and there is
    /// no way to prove who one is, and false otherwise: to open a listener to everyone must be said by name.
    anonymous: bool = true, Flag;
    /// What is spoken: MQTT as it is, MQTT over WebSocket, or both on one port, told apart by the first bytes.
    protocols: Vec<String> = vec!["mqtt".to_owned(), "websocket".to_owned()], PROTOCOLS;
    /// The certificate chain in PEM; with it the listener speaks TLS. A list, with `key` a list of the same length, has
    /// one for each host: clients that name a host get the one for it, others the first. Files that change are read
    /// again by themselves.
    certificate: Vec<PathBuf> = Vec::new(), Paths;
    /// The private key in PEM.
    key: Vec<PathBuf> = Vec::new(), Paths;
    /// The authorities (PEM) whose certificates clients must show.
    client_ca: Vec<PathBuf> = Vec::new(), Paths;
    /// Whether a client must show a certificate, where `client_ca` is set; if not, it may.
    client_certificate_required: bool = true, Flag;
    /// A revocation list (PEM) for clients' certificates.
    crl: Vec<PathBuf> = Vec::new(), Paths;
    /// What of a client's certificate is its user name: "none", the common name ("cn"), or the first alternative name
    /// ("san").
    identity: Identity = Identity::None, IDENTITY;
    /// The pages whose scripts may connect by WebSocket, by their origin. Programs that are no browsers send none and
    /// are not asked.
    origins: Option<Vec<String>> = None, Or("any", ORIGINS);
    /// The paths at which WebSockets are taken. What is behind a `?` does not count.
    paths: Option<Vec<String>> = None, Or("any", WEB_PATHS);
    /// Whether every connection comes by a balancer that tells the client's address first, by the PROXY protocol,
    /// version 1 or 2. Only those in `trusted_proxies` may connect then.
    proxy_protocol: bool = false, Flag;
    /// Balancers that are believed when they tell an address, by the PROXY protocol or, for WebSockets, by
    /// `X-Forwarded-For`.
    trusted_proxies: Vec<IpNet> = Vec::new(), Networks;
    /// The mode of a Unix socket's file.
    unix_mode: u32 = 0o660, Mode;
    /// The ways to prove who one is that count here.
    authentication: Option<Vec<String>> = None, Or("default", METHODS);
    /// The most connections of this listener. Further ones are closed as they come.
    max_connections: usize = 100_000, NUMBER;
    /// New connections a second; a second's worth may come at once. Further ones are closed.
    connection_rate: u64 = 0, RATE;
    /// `mqtt.max_packet_size` for this listener.
    max_packet_size: Option<u32> = None, Or("default", Size(128..=268_435_455));
    /// `session.max_inflight` for this listener.
    max_inflight: Option<u16> = None, Or("default", Count(1..=65_535));
    /// `mqtt.max_subscriptions` for this listener.
    max_subscriptions: Option<usize> = None, Or("default", Count(1..=usize::MAX - 1));
    /// `mqtt.max_topic_levels` for this listener.
    max_topic_levels: Option<usize> = None, Or("default", Count(1..=32_768));
    /// `limits.publish_rate` for this listener.
    publish_rate: Option<u64> = None, Or("default", Count(1..=1_000_000_000));
    /// `limits.publish_bytes` for this listener.
    publish_bytes: Option<u64> = None, Or("default", Size(128..=1 << 40));
    /// Whether clients are held to the letter of the specification where real ones are often a little wrong and nobody
    /// is harmed: a receive maximum overrun by a little, a retry without DUP. Every lenience is counted.
    strict: bool = false, Flag;
}

impl Listener {
    /// The listener as it was configured. `open`: nobody can prove who they are.
    pub(super) fn read(name: &str, reader: &mut Reader) -> Self {
        let key = |field: &str| format!("listeners.{name}.{field}");
        // The built-in listener keeps its address when something else about it is set; any other has none to keep.
        if name != BUILT_IN && !reader.has(&key("address")) {
            reader.mistake(&key("address"), format!("missing: expected {}", Address.expected()));
        }
        Self::take(name, reader)
    }

    /// Whether it says who may come in without a name.
    pub(super) fn settle_anonymous(&mut self, reader: &Reader, authentication: bool) {
        if !reader.has(&format!("listeners.{}.anonymous", self.name)) {
            self.anonymous = self.address.is_local() && !authentication;
        }
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !self.certificate.is_empty()
    }

    /// Whether `protocol` is spoken here.
    #[must_use]
    pub fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|spoken| spoken == protocol)
    }

    /// Whether a certificate can say who a client is.
    #[must_use]
    pub fn names_by_certificate(&self) -> bool {
        self.identity != Identity::None && (!self.client_ca.is_empty() || self.proxy_protocol)
    }

    /// What cannot stand together.
    pub(super) fn check(&self, reader: &mut Reader) {
        let key = |field: &str| format!("listeners.{}.{field}", self.name);
        if self.certificate.len() != self.key.len() {
            let problem = "expected as many keys as certificates, each for the certificate in the same place";
            let field = if self.certificate.is_empty() { "key" } else { "certificate" };
            reader.mistake(&key(field), problem.to_owned());
        }
        for (field, list) in [("client_ca", &self.client_ca), ("crl", &self.crl)] {
            if list.len() > 1 {
                reader.mistake(
                    &key(field),
                    "expected one file; several certificates or lists can stand in it".to_owned(),
                );
            }
        }
        if !self.client_ca.is_empty() && !self.is_tls() {
            reader.mistake(&key("client_ca"), "expected certificate and key to be set as well".to_owned());
        }
        if !self.crl.is_empty() && self.client_ca.is_empty() {
            reader.mistake(&key("crl"), "expected client_ca to be set as well".to_owned());
        }
        if self.identity != Identity::None && self.client_ca.is_empty() && !self.proxy_protocol {
            reader.mistake(&key("identity"), "expected client_ca to be set as well".to_owned());
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() && !matches!(self.address, ListenAddress::Unix(_)) {
            reader.mistake(&key("proxy_protocol"), "expected trusted_proxies to name the balancers".to_owned());
        }
        if self.protocols.is_empty() {
            reader.mistake(&key("protocols"), format!("expected {}, or both", PROTOCOLS.expected()));
        }
    }
}
