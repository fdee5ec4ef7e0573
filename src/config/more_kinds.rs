//! Kinds of values with a meaning of their own: addresses, networks, secrets, lists.

use super::kinds::{Found, Kind, quote};
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The IP address and port, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address to listen on.
pub(super) struct Address;

impl Kind<ListenAddress> for Address {
    fn read(&self, found: &Found) -> Option<ListenAddress> {
        let text = found.text()?;
        match text.strip_prefix("unix:") {
            Some("") => None,
            Some(path) => Some(ListenAddress::Unix(path.into())),
            None => text.parse().ok().map(ListenAddress::Ip),
        }
    }

    fn show(&self, value: &ListenAddress) -> String {
        quote(&value.to_string())
    }

    fn expected(&self) -> String {
        "an IP address and a port, as \"127.0.0.1:1883\" or \"[::1]:1883\", or \"unix:/path\"".to_owned()
    }
}

/// An IP address and a port.
pub(super) struct IpAddress;

impl Kind<SocketAddr> for IpAddress {
    fn read(&self, found: &Found) -> Option<SocketAddr> {
        found.text()?.parse().ok()
    }

    fn show(&self, value: &SocketAddr) -> String {
        quote(&value.to_string())
    }

    fn expected(&self) -> String {
        "an IP address and a port, as \"127.0.0.1:9883\"".to_owned()
    }
}

/// A text that is nobody's business: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret, of at least so many bytes.
pub(super) struct Hidden(pub(super) usize);

impl Kind<Secret> for Hidden {
    fn read(&self, found: &Found) -> Option<Secret> {
        found.text().filter(|text| text.len() >= self.0).map(|text| Secret(text.to_owned()))
    }

    fn show(&self, _: &Secret) -> String {
        quote("***")
    }

    fn expected(&self) -> String {
        format!("a secret of at least {} characters", self.0)
    }
}

/// A list of texts that each pass a check; in the environment and behind `--set`, separated by commas.
pub(super) struct Texts {
    pub(super) each: fn(&str) -> bool,
    pub(super) what: &'static str,
}

impl Texts {
    pub(super) fn split(found: &Found) -> Option<Vec<String>> {
        match found {
            Found::List(list) => Some(list.clone()),
            Found::Bare(text) if text.is_empty() => Some(Vec::new()),
            Found::Bare(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            Found::Text(text) => Some(vec![text.clone()]),
            _ => None,
        }
    }
}

impl Kind<Vec<String>> for Texts {
    fn read(&self, found: &Found) -> Option<Vec<String>> {
        Self::split(found).filter(|list| list.iter().all(|text| (self.each)(text)))
    }

    fn show(&self, value: &Vec<String>) -> String {
        let shown: Vec<_> = value.iter().map(|text| quote(text)).collect();
        format!("[{}]", shown.join(", "))
    }

    fn expected(&self) -> String {
        format!("a list of {}", self.what)
    }
}

/// A list of paths.
pub(super) struct Paths;

impl Kind<Vec<PathBuf>> for Paths {
    fn read(&self, found: &Found) -> Option<Vec<PathBuf>> {
        let list = Texts::split(found)?;
        list.iter().all(|path| !path.is_empty()).then(|| list.into_iter().map(PathBuf::from).collect())
    }

    fn show(&self, value: &Vec<PathBuf>) -> String {
        let shown: Vec<_> = value.iter().map(|path| quote(&path.to_string_lossy())).collect();
        format!("[{}]", shown.join(", "))
    }

    fn expected(&self) -> String {
        "a path, or a list of paths".to_owned()
    }
}

/// A list of addresses and networks.
pub(super) struct Networks;

impl Kind<Vec<IpNet>> for Networks {
    fn read(&self, found: &Found) -> Option<Vec<IpNet>> {
        let net = |text: &String| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        Texts::split(found)?.iter().map(net).collect()
    }

    fn show(&self, value: &Vec<IpNet>) -> String {
        let shown: Vec<_> = value.iter().map(|net| quote(&net.to_string())).collect();
        format!("[{}]", shown.join(", "))
    }

    fn expected(&self) -> String {
        "a list of addresses and networks, as [\"10.0.0.1\", \"192.168.0.0/16\"]".to_owned()
    }
}

/// The mode of a file, in octal digits.
pub(super) struct Mode;

impl Kind<u32> for Mode {
    fn read(&self, found: &Found) -> Option<u32> {
        u32::from_str_radix(found.text()?, 8).ok().filter(|mode| *mode <= 0o777)
    }

    fn show(&self, value: &u32) -> String {
        quote(&format!("{value:04o}"))
    }

    fn expected(&self) -> String {
        "a file mode in octal digits, as \"0660\"".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families() {
        let text = |text: &str| Address.read(&Found::Text(text.to_owned()));
        assert_eq!(text("[::1]:1883"), Some(ListenAddress::Ip("[::1]:1883".parse().expect("an address"))));
        assert_eq!(text("unix:/run/x"), Some(ListenAddress::Unix("/run/x".into())));
        assert_eq!((text("unix:"), text("localhost:1883")), (None, None));
    }

    #[test]
    fn lists_come_from_files_and_from_bare_text() {
        let list = Texts { each: |text| !text.is_empty(), what: "texts" };
        let found = Found::List(vec!["a".into(), "b".into()]);
        assert_eq!(list.read(&found), list.read(&Found::Bare("a, b".into())));
        assert_eq!(list.read(&Found::Bare(String::new())), Some(Vec::new()));
        assert_eq!(list.read(&Found::List(vec![String::new()])), None);
        let nets = Networks.read(&Found::Bare("10.0.0.1,fe80::/10".into())).map(|nets| Networks.show(&nets));
        assert_eq!(nets.as_deref(), Some("[\"10.0.0.1/32\", \"fe80::/10\"]"));
        assert_eq!(Networks.read(&Found::Bare("10.0.0.1/33".into())), None);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Hidden(4).read(&Found::Text("canary".into())).expect("long enough");
        assert_eq!((format!("{secret:?}"), Hidden(4).show(&secret)), ("***".to_owned(), "\"***\"".to_owned()));
        assert_eq!(Hidden(16).read(&Found::Text("short".into())), None);
    }
}
