//! The WebSocket handshake (RFC 6455 section 4.2), and readable answers to HTTP that is none.

use super::arrive::WebSocket;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The most bytes of a request's head.
pub(super) const MOST_HEAD: usize = 8 * 1024;
/// The most header fields.
const MOST_FIELDS: usize = 64;

/// Subprotocols that MQTT goes by, the best first: the standard's own, that of 3.1, and those that some brokers made up.
const SUBPROTOCOLS: [&str; 5] = ["mqtt", "mqttv3.1", "mqtt-v5", "mqtt-v3.1.1", "mqtt-v3"];

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// More is to come.
    Partial,
    /// An upgrade: the answer, how long the request is, and the address that a proxy tells in front of it.
    Upgrade { answer: String, length: usize, forwarded: Option<IpAddr> },
    /// Anything else: the answer, and why.
    Refused { answer: String, why: &'static str },
}

/// Looks at the beginning of an HTTP request. `websocket`: whether and how it is spoken here.
pub(super) fn request(bytes: &[u8], websocket: Option<&WebSocket>) -> Request {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MOST_HEAD => return Request::Partial,
        Ok(httparse::Status::Partial) => return refused(431, "the request's header is too long"),
        Err(_) => return refused(400, "not HTTP that could be understood; this port speaks MQTT"),
    };
    let Some(websocket) = websocket else {
        return refused(400, "this port speaks MQTT, not HTTP, and no WebSocket");
    };
    let field = |name: &str| {
        let mut all = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        all.next().and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let has = |name: &str, token: &str| {
        let of = |field: &httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        let values =
            request.headers.iter().filter(|field| of(field)).filter_map(|field| std::str::from_utf8(field.value).ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return refused(400, "this port speaks MQTT, and MQTT over WebSocket; this request asks for neither");
    }
    if request.method != Some("GET") || request.version != Some(1) {
        return refused(400, "a WebSocket begins with GET and HTTP/1.1");
    }
    if field("sec-websocket-version") != Some("13") {
        return refused(426, "only version 13 of WebSocket is spoken here");
    }
    let key = field("sec-websocket-key").filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    let Some(key) = key else { return refused(400, "Sec-WebSocket-Key is missing, or is not 16 bytes") };
    let path = request.path.unwrap_or("/").split(['?', '#']).next().unwrap_or("/");
    if websocket.paths.as_ref().is_some_and(|paths| !paths.iter().any(|allowed| allowed == path)) {
        return refused(404, "no WebSocket at this path");
    }
    // Only browsers send one, and only theirs can be trusted to be true.
    let origin = field("origin");
    let allowed = |origin: &str| websocket.origins.as_ref().is_none_or(|all| all.iter().any(|one| one == origin));
    if origin.is_some_and(|origin| !allowed(origin)) {
        return refused(403, "pages of this origin may not connect here");
    }
    // Who offers only names that nobody knows is let in without any: a browser closes then by itself, and other clients
    // mean MQTT whatever they call it.
    let subprotocol = SUBPROTOCOLS.into_iter().find(|name| has("sec-websocket-protocol", name));
    let mut answer = String::from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    let _ = write!(answer, "Sec-WebSocket-Accept: {}\r\n", tungstenite::handshake::derive_accept_key(key.as_bytes()));
    if let Some(subprotocol) = subprotocol {
        // [MQTT-6.0.0-4]
        let _ = write!(answer, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    answer.push_str("\r\n");
    let forwarded = field("x-forwarded-for").and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
    Request::Upgrade { answer, length, forwarded }
}

fn refused(status: u16, why: &'static str) -> Request {
    let phrase = match status {
        403 => "Forbidden",
        404 => "Not Found",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Bad Request",
    };
    let version = if status == 426 { "Sec-WebSocket-Version: 13\r\n" } else { "" };
    let answer = format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n{version}\r\n{why}\n",
        why.len() + 1
    );
    Request::Refused { answer, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: WebSocket = WebSocket { origins: None, paths: None };

    fn ask(line: &str, more: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        )
    }

    fn answer(request: &str, websocket: &WebSocket) -> String {
        match super::request(request.as_bytes(), Some(websocket)) {
            Request::Upgrade { answer, length, .. } => {
                assert_eq!(length, request.len());
                answer
            }
            Request::Refused { answer, .. } => answer,
            Request::Partial => "partial".to_owned(),
        }
    }

    #[test]
    fn the_best_subprotocol_is_chosen() {
        for (offer, chosen) in [
            ("Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n", Some("mqtt")),
            ("Sec-WebSocket-Protocol: foo\r\nSec-WebSocket-Protocol: mqttv3.1\r\n", Some("mqttv3.1")),
            ("Sec-WebSocket-Protocol: mqtt-v3.1.1\r\n", Some("mqtt-v3.1.1")),
            ("Sec-WebSocket-Protocol: foo\r\n", None),
            ("", None),
        ] {
            let answer = answer(&ask("GET /any/path?clientId=x", offer), &ANY);
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
            let line = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!(line, chosen);
        }
    }

    #[test]
    fn paths_and_origins_can_be_bounded() {
        let bounded = WebSocket { origins: Some(vec!["https://a".into()]), paths: Some(vec!["/mqtt".into()]) };
        for (line, more, status) in [
            ("GET /mqtt?x=1", "", "101"),
            ("GET /mqtt", "Origin: https://a\r\n", "101"),
            ("GET /mqtt", "Origin: https://b\r\n", "403"),
            ("GET /other", "", "404"),
            ("POST /mqtt", "", "400"),
        ] {
            let answer = answer(&ask(line, more), &bounded);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {more}: {answer}");
        }
    }

    #[test]
    fn what_is_no_upgrade_gets_a_readable_answer() {
        let plain = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(answer(plain, &ANY).contains("this port speaks MQTT"));
        let Request::Refused { answer: told, .. } = request(plain.as_bytes(), None) else { panic!("it is refused") };
        assert!(told.contains("no WebSocket"));
        assert!(answer(&ask("GET /", "").replace("Version: 13", "Version: 8"), &ANY).contains("426"));
        assert!(answer(&ask("GET /", "").replace("b25jZQ==", ""), &ANY).starts_with("HTTP/1.1 400"));
        assert_eq!(request(b"GET / HTTP/1.1\r\nHost", Some(&ANY)), Request::Partial);
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MOST_HEAD));
        assert!(answer(&endless, &ANY).contains("431"));
        assert!(answer("NICK x\r\nUSER y\r\n", &ANY).starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn a_proxy_tells_the_nearest_address_last() {
        let asked = ask("GET /", "X-Forwarded-For: 1.2.3.4, 10.0.0.9\r\n");
        let Request::Upgrade { forwarded, .. } = request(asked.as_bytes(), Some(&ANY)) else { panic!("an upgrade") };
        assert_eq!(forwarded, Some(IpAddr::from([10, 0, 0, 9])));
    }
}
