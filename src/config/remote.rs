//! The address of a remote broker.

use super::kinds::{Found, Kind, quote};
use super::more_kinds::Texts;
use std::fmt;

/// How the bytes to a remote are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Whether in TLS.
    pub tls: bool,
    /// Whether in WebSocket frames.
    pub websocket: bool,
}

/// Every scheme with its name and port; the first name of each is the one that is shown.
const SCHEMES: &[(&str, u16, Scheme)] = &[
    ("mqtt", 1883, Scheme { tls: false, websocket: false }),
    ("mqtts", 8883, Scheme { tls: true, websocket: false }),
    ("ws", 80, Scheme { tls: false, websocket: true }),
    ("wss", 443, Scheme { tls: true, websocket: true }),
    ("tcp", 1883, Scheme { tls: false, websocket: false }),
    ("ssl", 8883, Scheme { tls: true, websocket: false }),
    ("tls", 8883, Scheme { tls: true, websocket: false }),
];

/// The path of a WebSocket where the address names none: what most brokers expect.
const PATH: &str = "/mqtt";

/// Where a remote broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// How its bytes are wrapped.
    pub scheme: Scheme,
    /// Its name or IP address, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path of the WebSocket; empty without.
    pub path: String,
}

impl Remote {
    /// The host and the port, as they are dialled.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once("://")?;
        let (_, port, scheme) = SCHEMES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if rest.is_empty() { *port } else { rest.strip_prefix(':')?.parse().ok()? })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (authority, *port),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) || port == 0 {
            return None;
        }
        let path = match path {
            "" if scheme.websocket => PATH,
            "/" if !scheme.websocket => "",
            path => path,
        };
        let fits = path.chars().all(|c| c.is_ascii_graphic()) && (scheme.websocket || path.is_empty());
        fits.then(|| Self { scheme: *scheme, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SCHEMES.iter().find(|(.., scheme)| *scheme == self.scheme).map_or("mqtt", |(name, ..)| name);
        write!(f, "{name}://{}{}", self.authority(), self.path)
    }
}

/// One or several addresses.
pub(super) struct Remotes;

impl Kind<Vec<Remote>> for Remotes {
    fn read(&self, found: &Found) -> Option<Vec<Remote>> {
        Texts::split(found)?.iter().map(|text| Remote::parse(text)).collect()
    }

    fn show(&self, value: &Vec<Remote>) -> String {
        let shown: Vec<_> = value.iter().map(|remote| quote(&remote.to_string())).collect();
        format!("[{}]", shown.join(", "))
    }

    fn expected(&self) -> String {
        "an address, or a list of addresses, as \"mqtt://hub.example\", \"mqtts://10.0.0.1:8883\" or \
         \"wss://hub.example/mqtt\""
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_scheme() {
        for (text, shown) in [
            ("mqtt://hub", Some("mqtt://hub:1883")),
            ("MQTTS://hub:9", Some("mqtts://hub:9")),
            ("ssl://10.0.0.1", Some("mqtts://10.0.0.1:8883")),
            ("ws://hub", Some("ws://hub:80/mqtt")),
            ("wss://[::1]:8443/a?b=c", Some("wss://[::1]:8443/a?b=c")),
            ("mqtt://hub/", Some("mqtt://hub:1883")),
            ("mqtt://hub/a", None),
            ("hub:1883", None),
            ("mqtt://", None),
            ("mqtt://hub:0", None),
            ("mqtt://hub:70000", None),
            ("mqtt://user:word@hub", None),
            ("mqtt://[::1", None),
            ("mqtt://::1", None),
            ("http://hub", None),
            ("mqtt://a b", None),
        ] {
            assert_eq!(Remote::parse(text).map(|remote| remote.to_string()).as_deref(), shown, "{text}");
        }
    }
}
