//! Where clients come in: `[listeners.NAME]`, as many as are wanted.

use super::kinds::{Address, Count, Flag, Kind, OrUnlimited};
use super::reader::Reader;
use super::sections::Described;
use std::net::{Ipv4Addr, SocketAddr};

pub(super) const KEYS: &[&str] = &["address", "anonymous", "max_connections", "strict"];
pub(super) const ABOUT: &str = "Where clients come in. As many tables as wanted, each with a name of its own; without \
    any there is one, `main`, with the defaults. Names are of lower-case letters, digits, `-` and `_`; a list, \
    `[[listeners]]`, does as well, and its entries are called 1, 2, 3.";

/// The listener that there is when none is configured.
pub(super) const BUILT_IN: &str = "main";

const MAX_CONNECTIONS: OrUnlimited<usize, Count<usize>> = OrUnlimited(usize::MAX, Count(1..=usize::MAX - 1));

/// One listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name in the config and in the log.
    pub name: String,
    /// The address that it listens on. The default can be reached from this machine alone.
    pub address: SocketAddr,
    /// Whether clients need not say who they are. It must be asked for by name, except on a loopback address.
    pub anonymous: bool,
    /// The most connections of this listener.
    pub max_connections: usize,
    /// Whether clients are held to the letter where real ones are often a little wrong.
    pub strict: bool,
}

impl Default for Listener {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        Self { name: BUILT_IN.to_owned(), address, anonymous: true, max_connections: 100_000, strict: false }
    }
}

impl Listener {
    /// The listener as it was configured.
    pub(super) fn read(name: &str, reader: &mut Reader) -> Self {
        let key = |field: &str| format!("listeners.{name}.{field}");
        let default = Self { name: name.to_owned(), ..Self::default() };
        // The built-in listener keeps its address when something else about it is set; any other has none to keep.
        if name != BUILT_IN && !reader.has(&key("address")) {
            reader.mistake(&key("address"), format!("missing: expected {}", Address.expected()));
        }
        let address = reader.value(&key("address"), &Address, default.address);
        Self {
            address,
            anonymous: reader.value(&key("anonymous"), &Flag, address.ip().is_loopback()),
            max_connections: reader.value(&key("max_connections"), &MAX_CONNECTIONS, default.max_connections),
            strict: reader.value(&key("strict"), &Flag, default.strict),
            ..default
        }
    }

    /// Every setting with its value.
    pub(super) fn describe(&self) -> Vec<Described> {
        let described = |field: &str, about: &str, expected: String, value: String| Described {
            key: format!("listeners.{}.{field}", self.name),
            about: about.to_owned(),
            expected,
            value,
        };
        vec![
            described(
                "address",
                "The address to listen on. The built-in one can be reached from this machine alone. Port 0 lets the \
                 system choose.",
                Address.expected(),
                Address.show(&self.address),
            ),
            described(
                "anonymous",
                "Whether clients need not say who they are. Left out, it is true on a loopback address and false on \
                 any other; and since nobody could come in, such a listener is refused as long as there is no \
                 authentication: to open it to everyone must be said by name.",
                Flag.expected(),
                Flag.show(&self.anonymous),
            ),
            described(
                "max_connections",
                "The most connections of this listener. Further ones are closed as they come.",
                MAX_CONNECTIONS.expected(),
                MAX_CONNECTIONS.show(&self.max_connections),
            ),
            described(
                "strict",
                "Whether clients are held to the letter of the specification where real ones are often a little wrong \
                 and nobody is harmed: a receive maximum overrun by a little, a retry without DUP. Every lenience is \
                 counted.",
                Flag.expected(),
                Flag.show(&self.strict),
            ),
        ]
    }
}
