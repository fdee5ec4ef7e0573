//! Doors: where clients come in, and how.

use super::{Kept, Writer, absolute, table_name};
use crate::import::conf::Group;
use crate::import::toml::quote;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

const PSK: &str =
    "TLS with pre-shared keys is not spoken: give it a certificate (`nightjar cert dev` makes one to try)";
const MOUNT: &str = "no prefix is put before topics: let its clients use whole topics, with access rules for each, and \
    add the listener";
const LOOPBACK: &str = "it listens on this machine alone until its address is that of the interface";

/// Where a listener listens.
struct At {
    port: u16,
    host: Option<String>,
}

impl Writer<'_> {
    pub(super) fn listeners(&mut self) {
        for at in 0..self.conf.listeners.len() {
            self.listener(at);
        }
        if self.conf.listeners.is_empty() {
            self.local();
        }
    }

    /// Where every listener was left out, nightjar's own would come in their place, and let in whom mosquitto did not.
    pub(super) fn closed_local(&mut self) {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883).to_string();
        let tables = self.tables("local", &[address]);
        self.draft.note(format!(
            "no listener could be kept: nightjar listens on this machine alone (listeners.{}), and lets nobody in there \
             without a name",
            tables[0]
        ));
        self.kept.push(Kept { at: None, tables, identity: false, anonymous: false });
    }

    /// Without a listener mosquitto serves its own machine, and lets everyone in there.
    fn local(&mut self) {
        let anonymous = self.conf.flag(&self.conf.global, "allow_anonymous").unwrap_or(true);
        let addresses = self.families(IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), 1883, None);
        let tables = self.tables("local", &addresses);
        self.draft.note(format!(
            "the files define no listener: as mosquitto, nightjar serves this machine alone (listeners.{})",
            tables[0]
        ));
        self.kept.push(Kept { at: None, tables, identity: false, anonymous });
    }

    fn listener(&mut self, at: usize) {
        let group = &self.conf.listeners[at];
        let Some(place) = self.place(group) else { return };
        if let Some(why) = self.obstacle(group) {
            let why = format!("the listener is left out: {why}");
            self.conf.each(group).for_each(|option| self.unsupported(option, why.clone()));
            return;
        }
        let Some(addresses) = self.addresses(group, &place) else { return };
        let addresses: Vec<String> = addresses.into_iter().filter(|address| !self.taken.contains(address)).collect();
        if addresses.is_empty() {
            let why = "the listener is left out: another one has its address";
            return self.conf.each(group).for_each(|option| self.unsupported(option, why));
        }
        self.taken.extend(addresses.iter().cloned());
        let kind = if place.port == 0 {
            "unix"
        } else if self.conf.text(group, "protocol") == Some("websockets") {
            "websockets"
        } else if self.conf.last(group, "certfile").is_some() {
            "tls"
        } else {
            "mqtt"
        };
        let name = if place.port == 0 { kind.to_owned() } else { format!("{kind}-{}", place.port) };
        let tables = self.tables(&name, &addresses);
        let told = tables.iter().zip(&addresses).map(|(table, address)| format!("listeners.{table} at {address}"));
        let told = told.collect::<Vec<_>>().join(" and ");
        for name in ["listener", "port", "bind_address", "socket_domain"] {
            for option in self.conf.all(group, name).collect::<Vec<_>>() {
                self.honoured(option, told.clone());
            }
        }
        let anonymous = self.anonymous(group);
        self.kept.push(Kept { at: Some(at), tables, identity: false, anonymous });
        self.protocol(group);
        self.tls(group);
        if self.conf.flag(group, "use_subject_as_username") == Some(true) {
            self.subject_ports.push(place.port);
        }
        self.proxy(group);
        self.of_listener(group);
    }

    /// The port and the host that its lines name.
    fn place(&mut self, group: &Group) -> Option<At> {
        let Some(at) = self.conf.last(group, "listener") else {
            let port = self.conf.number(group, "port").and_then(|port| u16::try_from(port).ok()).unwrap_or(1883);
            return Some(At { port, host: self.conf.text(group, "bind_address").map(str::to_owned) });
        };
        let mut words = self.option(at).text().split(' ').filter(|word| !word.is_empty());
        let port = words.next().and_then(crate::import::conf::number).and_then(|port| u16::try_from(port).ok());
        let host = words.next().filter(|word| !word.starts_with('#')).map(str::to_owned);
        match port {
            Some(0) if host.is_none() => self.wrong(at, "expected the path of a Unix socket behind port 0"),
            Some(port) => return Some(At { port, host }),
            None => self.wrong(at, "expected a port from 0 to 65535, and perhaps an address"),
        }
        None
    }

    /// Why it cannot be kept, where keeping it without would open what was closed.
    fn obstacle(&mut self, group: &Group) -> Option<&'static str> {
        let conf = self.conf;
        let has = |name| conf.last(group, name).is_some();
        let wants_certificates = conf.flag(group, "require_certificate") == Some(true);
        if conf.text(group, "protocol") == Some("http_api") {
            return Some("the admin door (admin.address) has the API and the dashboard");
        }
        if has("mount_point") {
            return Some(MOUNT);
        }
        if has("psk_hint") || conf.last(group, "psk_file").is_some() {
            return Some(PSK);
        }
        if wants_certificates && !has("cafile") {
            return Some(
                "client_ca is one file: join those of capath in it (cat DIR/*.pem > ca.pem), and add the listener",
            );
        }
        (conf.text(group, "tls_keyform") == Some("engine")).then_some("its key must be in a PEM file")
    }

    fn addresses(&mut self, group: &Group, place: &At) -> Option<Vec<String>> {
        let domain = self.conf.text(group, "socket_domain");
        if let (0, Some(path)) = (place.port, &place.host) {
            return Some(vec![format!("unix:{}", absolute(path).display())]);
        }
        let of = |ip: IpAddr| SocketAddr::new(ip, place.port).to_string();
        let (any_v4, any_v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        // mosquitto binds to the interface, whatever else it is told: a host may have more.
        if let Some(at) = self.conf.last(group, "bind_interface") {
            self.changed(at, LOOPBACK);
            return Some(vec![of(IpAddr::V4(Ipv4Addr::LOCALHOST))]);
        }
        match &place.host {
            None => Some(self.families(any_v4, any_v6, place.port, domain)),
            Some(host) => {
                let found: Vec<IpAddr> = match host.parse() {
                    Ok(ip) => vec![ip],
                    Err(_) => resolve(host, domain),
                };
                if found.is_empty() {
                    let at = self.conf.last(group, "listener").or_else(|| self.conf.last(group, "bind_address"))?;
                    self.wrong(at, format!("expected an address of this machine, found {host:?}, which has none"));
                    return None;
                }
                Some(found.into_iter().map(of).collect())
            }
        }
    }

    /// An address of each family, where this machine has it.
    fn families(&mut self, v4: IpAddr, v6: IpAddr, port: u16, domain: Option<&str>) -> Vec<String> {
        let mut addresses = Vec::new();
        if domain != Some("ipv6") {
            addresses.push(SocketAddr::new(v4, port).to_string());
        }
        if domain == Some("ipv6") || (domain.is_none() && has_ipv6()) {
            addresses.push(SocketAddr::new(v6, port).to_string());
        } else if domain.is_none() {
            self.draft.note("this machine has no IPv6: where it has, add a listener at [::] for each at 0.0.0.0");
        }
        addresses
    }

    /// Makes a table for each address.
    fn tables(&mut self, name: &str, addresses: &[String]) -> Vec<String> {
        let mut taken: Vec<String> = self.kept.iter().flat_map(|kept| kept.tables.clone()).collect();
        let mut tables = Vec::new();
        for address in addresses {
            let suffix = if !tables.is_empty() && address.starts_with('[') { "-v6" } else { "" };
            let table = table_name(&format!("{name}{suffix}"), &taken);
            self.toml.text(&format!("listeners.{table}"), "address", address);
            taken.push(table.clone());
            tables.push(table);
        }
        tables
    }

    /// Sets `key` in every table of the listener at hand, and says so.
    fn all(&mut self, at: Option<usize>, key: &str, value: &str) {
        let tables = self.kept.last().map(|kept| kept.tables.clone()).unwrap_or_default();
        if let (Some(at), Some(table)) = (at, tables.first()) {
            self.honoured(at, format!("listeners.{table}.{key} = {value}"));
        }
        tables.iter().for_each(|table| self.toml.set(&format!("listeners.{table}"), key, value));
    }

    fn protocol(&mut self, group: &Group) {
        let at = self.conf.last(group, "protocol");
        let protocol = if self.conf.text(group, "protocol") == Some("websockets") { "websocket" } else { "mqtt" };
        self.all(at, "protocols", &format!("[\"{protocol}\"]"));
        let origins: Vec<usize> = self.conf.all(group, "websockets_origin").collect();
        if !origins.is_empty() {
            let list: Vec<String> = origins.iter().map(|&at| quote(self.option(at).text())).collect();
            let list = format!("[{}]", list.join(", "));
            origins.into_iter().for_each(|at| self.all(Some(at), "origins", &list));
        }
    }

    fn tls(&mut self, group: &Group) {
        let conf = self.conf;
        let (certificate, key) = (conf.last(group, "certfile"), conf.last(group, "keyfile"));
        if let (Some(at), None) | (None, Some(at)) = (certificate, key) {
            return self.wrong(at, "expected certfile and keyfile, both or neither");
        }
        let asks = ["require_certificate", "use_identity_as_username", "use_subject_as_username"];
        let asks = asks.iter().any(|name| conf.flag(group, name) == Some(true));
        let is_tls = certificate.is_some();
        for (name, key) in
            [("certfile", "certificate"), ("keyfile", "key"), ("cafile", "client_ca"), ("crlfile", "crl")]
        {
            let Some(at) = conf.last(group, name) else { continue };
            let asked = matches!(name, "certfile" | "keyfile") || asks;
            if is_tls && asked {
                let path = quote(&absolute(self.option(at).text()).to_string_lossy());
                self.all(Some(at), key, &path);
            } else {
                self.changed(
                    at,
                    "not needed: no client certificate is asked for; `certificate` must hold the whole chain",
                );
            }
        }
        if let Some(at) = conf.last(group, "capath") {
            self.unsupported(at, "client_ca is one file: join those of the folder in it");
        }
        let asks = asks && is_tls && conf.last(group, "cafile").is_some();
        if asks {
            self.all(None, "client_certificate_required", "true");
        }
        if let Some(at) = conf.last(group, "require_certificate") {
            let text =
                if asks { "client_ca and client_certificate_required" } else { "no client certificate is asked for" };
            self.honoured(at, text);
        }
        self.identity(group, asks || conf.number(group, "enable_proxy_protocol").is_some());
        self.tls_words(group);
    }

    fn identity(&mut self, group: &Group, possible: bool) {
        let conf = self.conf;
        if let Some(at) = conf.last(group, "use_identity_as_username") {
            match conf.flag(group, "use_identity_as_username") {
                Some(true) if possible => {
                    self.all(Some(at), "identity", "\"cn\"");
                    if let Some(kept) = self.kept.last_mut() {
                        kept.identity = true;
                    }
                }
                Some(true) => self.unsupported(at, "a certificate can only name its user where cafile is set"),
                _ => self.honoured(at, "identity is \"none\""),
            }
        }
        self.fixed_flag(
            group,
            "use_subject_as_username",
            false,
            "set identity to \"cn\" or \"san\", and change rules and users to those names",
        );
        self.fixed_flag(
            group,
            "use_username_as_clientid",
            false,
            "let clients send their user names as client identifiers; a session belongs to its user all the same",
        );
    }

    fn tls_words(&mut self, group: &Group) {
        self.fixed_flag(
            group,
            "disable_client_cert_date_checks",
            false,
            "certificates that are out of date are refused: renew them",
        );
        if let Some(at) = self.conf.last(group, "tls_keyform") {
            self.honoured(at, "keys come from PEM files");
        }
        if let Some(at) = self.conf.last(group, "tls_version") {
            match self.option(at).text() {
                "tlsv1.2" => self.honoured(at, "TLS 1.2 and 1.3 are spoken"),
                "tlsv1.3" => self.changed(at, "TLS 1.2 is spoken as well"),
                _ => self.changed(at, "nothing older than TLS 1.2 is spoken"),
            }
        }
    }

    fn proxy(&mut self, group: &Group) {
        if let Some(at) = self.conf.last(group, "enable_proxy_protocol") {
            self.changed(at, "proxy_protocol = true, version 1 or 2; trusted_proxies must name the balancers, now it is this machine alone");
            self.all(None, "proxy_protocol", "true");
            self.all(None, "trusted_proxies", "[\"127.0.0.0/8\", \"::1/128\"]");
        }
        self.fixed_flag(group, "proxy_protocol_v2_require_tls", false, "let the balancer refuse clients without TLS");
    }

    /// The rest of what mosquitto sets for each listener.
    fn of_listener(&mut self, group: &Group) {
        if let Some(at) = self.conf.last(group, "max_connections") {
            let value = match self.conf.number(group, "max_connections") {
                Some(most @ 1..) => most.to_string(),
                _ => "\"unlimited\"".to_owned(),
            };
            self.all(Some(at), "max_connections", &value);
        }
    }
}

/// Whether this machine has IPv6: the system lists its addresses.
fn has_ipv6() -> bool {
    std::fs::read("/proc/net/if_inet6").is_ok_and(|list| !list.is_empty())
}

fn resolve(host: &str, domain: Option<&str>) -> Vec<IpAddr> {
    let wanted = |ip: &IpAddr| match domain {
        Some("ipv4") => ip.is_ipv4(),
        Some(_) => ip.is_ipv6(),
        None => ip.is_ipv4() || has_ipv6(),
    };
    let mut found: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .map(|all| all.map(|address| address.ip()).filter(wanted).collect())
        .unwrap_or_default();
    found.sort();
    found.dedup();
    found
}
