//! Asking the admin door over a plain socket: no HTTP library, so that what is on the wire is what is tested.

use crate::support::broker::free_port;
use crate::support::{Broker, PATIENCE, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

pub(crate) const TOKEN: &str = "everything-0123456789";
pub(crate) const READ_TOKEN: &str = "looking-0123456789";

/// A broker whose admin door is open.
pub(crate) struct Door {
    pub(crate) broker: Broker,
    pub(crate) port: u16,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field of the head.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The settings of a cluster that has one node.
pub(crate) fn cluster_of_one() -> [String; 3] {
    let address = format!("127.0.0.1:{}", free_port());
    [format!("cluster.listen={address}"), format!("cluster.nodes={address}"), "cluster.insecure=true".to_owned()]
}

impl Door {
    #[track_caller]
    pub(crate) fn open(settings: &[&str]) -> Self {
        Self::of(settings, Broker::with)
    }

    /// One of a broker with this config file.
    #[track_caller]
    pub(crate) fn configured(config: &str) -> Self {
        Self::of(&[], |settings| Broker::configured_with(config, &[], settings))
    }

    #[track_caller]
    fn of(settings: &[&str], broker: impl FnOnce(&[&str]) -> Broker) -> Self {
        let port = free_port();
        let own = [
            format!("admin.address=127.0.0.1:{port}"),
            format!("admin.token={TOKEN}"),
            format!("admin.read_token={READ_TOKEN}"),
        ];
        let all: Vec<&str> = own.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        Self { broker: broker(&all), port }
    }

    /// Sends these bytes over TCP; the answer is all that comes until the end.
    #[track_caller]
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = wait_for(|| TcpStream::connect(("127.0.0.1", self.port)));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request).expect("send");
        read(stream)
    }

    /// Asks over TCP with these lines in the head.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, head: &[String], body: Option<&Value>) -> Answer {
        let host = if head.iter().any(|line| line.starts_with("Host:")) { "" } else { "Host: localhost\r\n" };
        self.raw(request(method, path, host, head, body).as_bytes())
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[bearer(TOKEN)], None)
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[bearer(TOKEN)], None)
    }

    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(method, path, &[bearer(TOKEN)], Some(body))
    }

    /// Asks over the Unix socket, without any token.
    #[track_caller]
    pub(crate) fn inside(&self, method: &str, path: &str) -> Answer {
        let mut stream = wait_for(|| UnixStream::connect(self.broker.data().join("admin.sock")));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request(method, path, "Host: localhost\r\n", &[], None).as_bytes()).expect("send");
        read(stream)
    }

    /// The items of all pages of a list.
    #[track_caller]
    pub(crate) fn all(&self, path: &str) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut items, mut page) = (Vec::new(), path.to_owned());
        loop {
            let answer = self.get(&page).json();
            items.extend(answer["items"].as_array().expect("a list has items").iter().cloned());
            match answer["next"].as_str() {
                Some(next) => page = format!("{path}{joint}cursor={next}"),
                None => return items,
            }
        }
    }
}

/// The door opens a moment after the listeners.
#[track_caller]
fn wait_for<S>(connect: impl Fn() -> std::io::Result<S>) -> S {
    let mut found = None;
    wait_until("the admin door opens", PATIENCE, || {
        found = connect().ok();
        found.is_some()
    });
    found.expect("the condition held")
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn request(method: &str, path: &str, host: &str, head: &[String], body: Option<&Value>) -> String {
    let body = body.map(Value::to_string).unwrap_or_default();
    let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\n{host}{head}{kind}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[track_caller]
fn read(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    // A door that cuts the connection off may reset it: what came before counts.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { dechunk(&body) } else { body };
    Answer { status, head, body }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}
