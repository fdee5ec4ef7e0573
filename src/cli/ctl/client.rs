//! The other end of the admin door: HTTP over its Unix socket, or over TCP with a token.

use super::super::Failure;
use crate::config::{Config, Sources};
use crate::env::net;
use crate::env::task;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Exit codes of what the broker answers.
const NOT_FOUND: u8 = 5;
const REFUSED: u8 = 6;
const UNREACHABLE: u8 = 7;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest line of an answer in lines.
const LONGEST_LINE: usize = 1 << 20;
/// Where a package keeps the data, for who names no folder.
const PACKAGED: &str = "/var/lib/nightjar/admin.sock";

/// Where the admin door is.
#[derive(Clone, Debug)]
enum Door {
    Unix(PathBuf),
    Tcp { authority: String, token: Option<String> },
}

/// A client of the admin door.
pub(crate) struct Client {
    door: Door,
    runtime: Runtime,
}

/// What the operator says of where the door is.
pub(crate) struct Whereabouts<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) url: Option<&'a str>,
    pub(crate) token: Option<String>,
}

fn failure(code: u8, text: impl Into<String>) -> Failure {
    Failure::Answered { code, text: text.into() }
}

impl Client {
    /// A client of the broker that `whereabouts` tell of. Nothing is connected yet.
    pub(crate) fn new(whereabouts: Whereabouts<'_>) -> Result<Self, Failure> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| Failure::Other(error.into()))?;
        Ok(Self { door: door(whereabouts)?, runtime })
    }

    /// Asks, and gives the answer's JSON.
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, bytes) = self.exchange(method, path, body)?;
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() { Ok(value) } else { Err(refused(status, &value)) }
    }

    /// Asks, and gives the answer's status and bytes, whatever they are.
    pub(crate) fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.runtime.block_on(async {
            let whole = async {
                let response = self.send(method, path, body).await?;
                let status = response.status();
                let bytes = response.into_body().collect().await.map_err(|error| self.unreachable(&error))?;
                Ok((status, bytes.to_bytes()))
            };
            task::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(failure(UNREACHABLE, "no answer in time")))
        })
    }

    /// Asks, and gives each line of the answer as it comes, until it ends or `each` has enough.
    pub(crate) fn lines(&self, path: &str, mut each: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let mut response = self.send(Method::GET, path, None).await?;
            if !response.status().is_success() {
                let status = response.status();
                let bytes = response.into_body().collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
                return Err(refused(status, &serde_json::from_slice(&bytes).unwrap_or(Value::Null)));
            }
            let mut pending = Vec::new();
            while let Some(frame) = response.body_mut().frame().await {
                let frame = frame.map_err(|error| self.unreachable(&error))?;
                pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if pending.len() > LONGEST_LINE {
                    return Err(failure(1, "the broker's answer has a line without an end"));
                }
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    each(String::from_utf8_lossy(&line).trim_end())?;
                }
            }
            Ok(())
        })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(path);
        match &self.door {
            Door::Unix(_) => request = request.header("Host", "localhost"),
            Door::Tcp { authority, token } => {
                request = request.header("Host", authority);
                if let Some(token) = token {
                    request = request.header("Authorization", format!("Bearer {token}"));
                }
            }
        }
        let bytes = match body {
            Some(body) => {
                request = request.header("Content-Type", "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|error| Failure::Other(error.into()))?;
        match &self.door {
            Door::Unix(path) => {
                let stream = net::connect_unix(path).await.map_err(|error| self.no_connection(&error))?;
                self.over(TokioIo::new(stream), request).await
            }
            Door::Tcp { authority, .. } => {
                let stream = net::connect(authority).await.map_err(|error| self.no_connection(&error))?;
                self.over(TokioIo::new(stream), request).await
            }
        }
    }

    async fn over<I>(&self, io: I, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(io).await.map_err(|error| self.unreachable(&error))?;
        // It ends with the exchange.
        task::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.unreachable(&error))
    }

    fn no_connection(&self, error: &io::Error) -> Failure {
        let place = match &self.door {
            Door::Unix(path) => path.display().to_string(),
            Door::Tcp { authority, .. } => authority.clone(),
        };
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "run it as the user that the broker runs as, or use --url and a token",
            _ => "is the broker running? --data or --config must name its folder, or --url its admin address",
        };
        failure(UNREACHABLE, format!("cannot reach the broker at {place}: {error}; {hint}"))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Failure {
        failure(UNREACHABLE, format!("the broker gave no whole answer: {error}"))
    }
}

/// What an answer means that is no success.
fn refused(status: StatusCode, value: &Value) -> Failure {
    let mut told = value.get("error").and_then(Value::as_str).unwrap_or_default().to_owned();
    for mistake in value.get("mistakes").and_then(Value::as_array).into_iter().flatten() {
        told += &format!("\n{}", mistake.as_str().unwrap_or_default());
    }
    if told.is_empty() {
        told = format!("the broker answered {status}");
    }
    let code = match status {
        StatusCode::NOT_FOUND => NOT_FOUND,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => REFUSED,
        _ => 1,
    };
    failure(code, told)
}

fn door(whereabouts: Whereabouts<'_>) -> Result<Door, Failure> {
    let Whereabouts { sources, url, token } = whereabouts;
    if let Some(url) = url {
        if url.starts_with("https://") {
            return Err(failure(2, "--url: the admin door speaks no TLS; put a proxy that does in front of it"));
        }
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        if authority.contains('/') || !authority.contains(':') {
            return Err(failure(2, format!("--url: expected http://HOST:PORT, found {url:?}")));
        }
        return Ok(Door::Tcp { authority: authority.to_owned(), token });
    }
    let config = Config::load(sources)?.config;
    let named = sources.data.is_some() || sources.file().is_some();
    let socket = match config.admin.socket.as_deref() {
        Some("off") => None,
        Some(path) => Some(PathBuf::from(path)),
        None => Some(config.node.data.join("admin.sock")),
    };
    match socket {
        Some(socket) if socket.exists() => return Ok(Door::Unix(socket)),
        Some(_) if !named && PathBuf::from(PACKAGED).exists() => return Ok(Door::Unix(PACKAGED.into())),
        _ => {}
    }
    if let (Some(address), Some(token)) = (config.admin.address, token) {
        return Ok(Door::Tcp { authority: address.to_string(), token: Some(token) });
    }
    Ok(Door::Unix(socket.unwrap_or_else(|| config.node.data.join("admin.sock"))))
}

/// `text` as one segment of a path, or as a value in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_segments() {
        assert_eq!(encode("a/b c+%ü"), "a%2Fb%20c%2B%25%C3%BC");
    }
}
