//! From a fresh socket to MQTT bytes.

use super::acceptor::Fresh;
use super::http::{self, Request};
use super::layers::Layers;
use super::proxy::{self, Proxied};
use super::socket::{Raw, Socket};
use super::tls::{Tls, TlsInfo};
use super::wrapping::{WrapError, Wrapping};
use super::{Kind, Remote};
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tungstenite::protocol::Role;

/// The first byte of a TLS handshake record, and of CONNECT.
const TLS: u8 = 0x16;
const CONNECT: u8 = 0x10;
/// What is read and dropped behind a request that was refused, and how much of it at a time.
const MOST_UNREAD: usize = 64 * 1024;
const UNREAD: usize = 2048;

/// What a listener speaks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// MQTT as it is.
    pub mqtt: bool,
    /// MQTT in WebSocket frames.
    pub websocket: Option<WebSocket>,
    /// All of it within TLS.
    pub tls: Option<Arc<Tls>>,
    /// Every connection begins with a PROXY header, and only those of `trusted` may come.
    pub proxy_protocol: bool,
    /// Proxies that are believed when they tell an address.
    pub trusted: Vec<IpNet>,
    /// Whether a certificate's common name that a balancer tells of is the user name.
    pub proxied_user: bool,
    /// The largest frame before CONNECT was read, in bytes.
    pub first_frame: usize,
}

impl Options {
    /// Whether `remote` is a balancer that is believed when it tells an address.
    #[must_use]
    pub fn believes(&self, remote: &Remote) -> bool {
        *remote != Remote::Unix && is_trusted(remote, self)
    }
}

/// Which WebSockets are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocket {
    /// The origins of pages that may connect; `None`: all.
    pub origins: Option<Vec<String>>,
    /// The paths; `None`: all.
    pub paths: Option<Vec<String>>,
}

/// A connection that speaks MQTT from here on.
pub struct Arrived {
    /// Its socket.
    pub socket: Socket,
    /// Who is at the other end.
    pub remote: Remote,
    /// What its bytes are wrapped in.
    pub kind: Kind,
    /// What TLS has found out.
    pub tls: Option<TlsInfo>,
}

/// Why a socket did not get as far as MQTT.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It was closed before.
    #[error("closed before CONNECT")]
    Closed,
    /// A balancer looked whether we are there.
    #[error("a balancer's check")]
    Checked,
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// The PROXY header is wrong.
    #[error("PROXY protocol: {0}")]
    Proxy(&'static str),
    /// The PROXY header comes from somebody who is not trusted to tell addresses.
    #[error("PROXY protocol: only trusted_proxies may connect here")]
    Untrusted,
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The WebSocket handshake failed, or HTTP came that asks for none.
    #[error("HTTP: {0}")]
    Http(&'static str),
    /// TLS came where it is not spoken.
    #[error("TLS on a listener without TLS: set certificate and key, or connect without TLS")]
    TlsOnPlain,
    /// Something else came where TLS is spoken.
    #[error("no TLS on a listener with TLS: connect with TLS (mqtts://, wss://)")]
    PlainOnTls,
    /// Neither MQTT nor anything that could be told apart.
    #[error("first packet is not CONNECT [MQTT-3.1.0-1]")]
    NotConnect,
    /// MQTT came where only WebSocket is spoken.
    #[error("MQTT without WebSocket on a listener for WebSocket alone")]
    NotWebSocket,
}

impl From<WrapError> for Refused {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Closed => Self::Closed,
            WrapError::Io(error) => Self::Io(error),
            WrapError::Tls(error) => Self::Tls(error),
        }
    }
}

impl Refused {
    /// Whether there is nothing in it for an operator to see.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(self, Self::Checked)
    }
}

/// Takes a fresh socket to the point where MQTT begins. The caller bounds the time.
///
/// # Errors
/// When it does not get there; the other end was told as far as its protocol has words.
pub async fn accept(fresh: Fresh, options: &Options) -> Result<Arrived, Refused> {
    let mut remote = fresh.remote();
    let raw = match fresh {
        Fresh::Tcp(stream, _) => Raw::Tcp(stream),
        Fresh::Unix(stream) => Raw::Unix(stream),
        Fresh::WebSocket(stream, _, rest) => {
            let mut layers = Layers::new(None);
            layers.upgrade(Role::Server, options.first_frame, &rest);
            let socket = Socket::layered(Raw::Tcp(stream), layers);
            return Ok(Arrived { socket, remote, kind: Kind::WebSocket, tls: None });
        }
    };
    let direct = remote;
    let mut common_name = None;
    let mut local = false;
    if options.proxy_protocol {
        if !is_trusted(&direct, options) {
            return Err(Refused::Untrusted);
        }
        match proxy::read(&raw).await? {
            Proxied::Client { address, common_name: name } => {
                remote = Remote::Ip(address);
                common_name = name.filter(|_| options.proxied_user);
            }
            Proxied::Local => local = true,
        }
    }
    let first = match first_byte(&raw).await {
        Err(Refused::Closed) if local => return Err(Refused::Checked),
        first => first?,
    };
    let mut arriving = Arriving { wrapping: Wrapping::new(raw), options, remote, direct, tls: None };
    if options.tls.is_some() {
        if first != TLS {
            // A client that speaks plain MQTT could not read an alert; HTTP is told in its own words.
            if first.is_ascii_alphabetic() {
                arriving.refuse_http("this port speaks TLS: use https:// or wss://").await;
            }
            return Err(Refused::PlainOnTls);
        }
        arriving.handshake().await?;
    } else if first == TLS {
        return Err(Refused::TlsOnPlain);
    }
    if let Some(tls) = &mut arriving.tls {
        tls.certificate_user = tls.certificate_user.take().or(common_name);
    } else if common_name.is_some() {
        arriving.tls = Some(TlsInfo { version: "proxied", certificate_user: common_name, certificate: None });
    }
    arriving.settle(first).await
}

fn is_trusted(remote: &Remote, options: &Options) -> bool {
    match remote.ip() {
        Some(ip) => {
            let ip = ip.to_canonical();
            options.trusted.iter().any(|net| net.contains(&ip))
        }
        // Who may open the socket's file is the file system's affair.
        None => true,
    }
}

async fn first_byte(raw: &Raw) -> Result<u8, Refused> {
    loop {
        let mut first = [0];
        raw.readable().await?;
        match raw.look(&mut first) {
            Ok(0) => return Err(Refused::Closed),
            Ok(_) => return Ok(first[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

struct Arriving<'o> {
    wrapping: Wrapping,
    options: &'o Options,
    remote: Remote,
    /// The other end of the socket itself.
    direct: Remote,
    tls: Option<TlsInfo>,
}

impl Arriving<'_> {
    async fn handshake(&mut self) -> Result<(), Refused> {
        let Some(tls) = &self.options.tls else { return Ok(()) };
        let (connection, authorities) = tls.connection()?;
        self.wrapping.handshake(connection.into()).await?;
        let Some(connection) = self.wrapping.layers.tls() else { return Ok(()) };
        self.tls = Some(tls.info(connection, authorities));
        Ok(())
    }

    /// Tells MQTT and HTTP apart.
    async fn settle(mut self, first: u8) -> Result<Arrived, Refused> {
        let first = if self.tls.as_ref().is_some_and(|_| self.wrapping.layers.tls().is_some()) {
            while self.wrapping.layers.inbox().is_empty() {
                self.wrapping.more().await?;
            }
            self.wrapping.layers.inbox()[0]
        } else {
            first
        };
        if first.is_ascii_alphabetic() {
            return self.upgrade().await;
        }
        if first & 0xf0 != CONNECT {
            return Err(Refused::NotConnect);
        }
        if !self.options.mqtt {
            return Err(Refused::NotWebSocket);
        }
        Ok(self.arrived(false))
    }

    fn arrived(self, websocket: bool) -> Arrived {
        let Wrapping { raw, mut layers } = self.wrapping;
        let encrypted = layers.tls().is_some();
        let kind = match (&raw, encrypted, websocket) {
            (_, true, true) => Kind::SecureWebSocket,
            (_, true, false) => Kind::Tls,
            (_, false, true) => Kind::WebSocket,
            (Raw::Tcp(_), false, false) => Kind::Tcp,
            (Raw::Unix(_), false, false) => Kind::Unix,
        };
        let socket = if encrypted || websocket { Socket::layered(raw, layers) } else { Socket::plain(raw) };
        Arrived { socket, remote: self.remote, kind, tls: self.tls }
    }

    async fn upgrade(mut self) -> Result<Arrived, Refused> {
        loop {
            match http::request(self.wrapping.layers.inbox(), self.options.websocket.as_ref()) {
                Request::Partial => self.wrapping.more().await?,
                Request::Refused { answer, why } => {
                    self.answer(&answer).await;
                    return Err(Refused::Http(why));
                }
                Request::Upgrade { answer, length, forwarded } => {
                    let rest = self.wrapping.layers.take_inbox().split_off(length);
                    self.wrapping.layers.pass_down(answer.as_bytes())?;
                    self.wrapping.flush().await?;
                    self.wrapping.layers.upgrade(Role::Server, self.options.first_frame, &rest);
                    self.forwarded(forwarded);
                    return Ok(self.arrived(true));
                }
            }
        }
    }

    /// A trusted proxy in front may tell the address in a header field too.
    fn forwarded(&mut self, address: Option<IpAddr>) {
        if let (Some(address), false) = (address, self.options.proxy_protocol)
            && self.options.believes(&self.direct)
        {
            self.remote = Remote::Ip(SocketAddr::new(address, 0));
        }
    }

    async fn answer(&mut self, answer: &str) {
        // Whether it arrives does not matter any more.
        if self.wrapping.layers.pass_down(answer.as_bytes()).is_ok() && self.wrapping.flush().await.is_ok() {
            self.wrapping.layers.farewell(&self.wrapping.raw);
            // What is unread when a socket is closed resets it, and may take the answer along. Not for ever: a sender may
            // be faster than we read.
            let mut rest = [0; UNREAD];
            for _ in 0..MOST_UNREAD / UNREAD {
                if !matches!(self.wrapping.raw.receive(&mut rest), Ok(count) if count > 0) {
                    break;
                }
            }
        }
    }

    async fn refuse_http(&mut self, why: &'static str) {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{why}\n",
            why.len() + 1
        );
        self.answer(&answer).await;
    }
}
