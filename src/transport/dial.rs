//! From the address of a remote broker to MQTT bytes: the way that `arrive` goes, from the other end.

use super::dial_tls::DialTls;
use super::socket::{Raw, Socket};
use super::wrapping::{WrapError, Wrapping};
use crate::env::entropy;
use crate::env::net;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::ServerName;
use std::io;
use tungstenite::protocol::Role;

/// The most bytes of the head of an answer, and fields in it.
const MOST_HEAD: usize = 16 * 1024;
const MOST_FIELDS: usize = 64;

/// Where to dial, and how the bytes are wrapped.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port.
    pub authority: String,
    /// The name that the remote's certificate must have.
    pub server_name: String,
    /// TLS, if it is spoken.
    pub tls: Option<DialTls>,
    /// The path of the WebSocket, if there is one.
    pub path: Option<String>,
    /// The name of MQTT as a WebSocket's subprotocol.
    pub subprotocol: &'static str,
    /// The largest WebSocket frame that is taken, in bytes.
    pub largest_frame: usize,
}

/// Why a remote was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name is not known, it refuses, or the connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It closed the connection before MQTT began.
    #[error("closed by the remote before MQTT began")]
    Closed,
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The name that its certificate must have cannot be one.
    #[error("TLS: {0:?} is no host name")]
    Name(String),
    /// The WebSocket handshake failed.
    #[error("WebSocket: {0}")]
    WebSocket(String),
}

impl From<WrapError> for DialError {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Closed => Self::Closed,
            WrapError::Io(error) => Self::Io(error),
            WrapError::Tls(error) => Self::Tls(error),
        }
    }
}

/// Connects to `target`. The caller bounds the time.
///
/// # Errors
/// When MQTT cannot begin.
pub async fn dial(target: &Target) -> Result<Socket, DialError> {
    let stream = net::connect(&target.authority).await?;
    stream.set_nodelay(true)?;
    net::keepalive(&stream)?;
    let raw = Raw::Tcp(stream);
    if target.tls.is_none() && target.path.is_none() {
        return Ok(Socket::plain(raw));
    }
    let mut wrapping = Wrapping::new(raw);
    if let Some(tls) = &target.tls {
        let name = ServerName::try_from(target.server_name.clone())
            .map_err(|_| DialError::Name(target.server_name.clone()))?;
        wrapping.handshake(tls.connection(name)?).await?;
    }
    if let Some(path) = &target.path {
        upgrade(&mut wrapping, target, path).await?;
    }
    Ok(Socket::layered(wrapping.raw, wrapping.layers))
}

async fn upgrade(wrapping: &mut Wrapping, target: &Target, path: &str) -> Result<(), DialError> {
    let mut nonce = [0; 16];
    entropy::fill(&mut nonce);
    let key = STANDARD.encode(nonce);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        target.authority, target.subprotocol
    );
    wrapping.layers.pass_down(request.as_bytes())?;
    wrapping.flush().await?;
    loop {
        if let Some(length) = answered(wrapping.layers.inbox(), &key).map_err(DialError::WebSocket)? {
            let rest = wrapping.layers.take_inbox().split_off(length);
            wrapping.layers.upgrade(Role::Client, target.largest_frame, &rest);
            return Ok(());
        }
        wrapping.more().await?;
    }
}

/// The length of an answer that takes the upgrade; `None` while it is not whole.
fn answered(bytes: &[u8], key: &str) -> Result<Option<usize>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MOST_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the answer's header is too long".to_owned()),
        Err(error) => return Err(format!("the answer is no HTTP: {error}")),
    };
    let code = answer.code.unwrap_or_default();
    if code != 101 {
        return Err(format!("the remote answered {code} {}", answer.reason.unwrap_or_default().escape_debug()));
    }
    let accept = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-accept"));
    let expected = tungstenite::handshake::derive_accept_key(key.as_bytes());
    if accept.is_none_or(|accept| accept.value != expected.as_bytes()) {
        return Err("the answer does not belong to our question".to_owned());
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::answered;

    #[test]
    fn only_an_answer_to_our_key_upgrades() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let answer = |accept: &str| {
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\nx")
        };
        let good = answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answered(good.as_bytes(), key), Ok(Some(good.len() - 1)));
        assert_eq!(answered(&good.as_bytes()[..20], key), Ok(None));
        assert!(answered(answer("other").as_bytes(), key).is_err());
        assert!(answered(b"HTTP/1.1 403 Forbidden\r\n\r\n", key).is_err_and(|why| why.contains("403 Forbidden")));
        assert!(answered(b"\x20\x02\x00\x00", key).is_err());
    }
}
