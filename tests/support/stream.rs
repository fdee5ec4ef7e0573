//! What a scripted peer reads and writes: a TCP or Unix socket, plain, within TLS, or in WebSocket frames.

use super::PATIENCE;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// A connection of bytes.
#[derive(Debug)]
pub enum Stream {
    /// TCP as it is.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// WebSocket over any of them.
    WebSocket(Box<WebSocket>),
}

impl Stream {
    /// TCP to this port of 127.0.0.1.
    #[track_caller]
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("TCP connect");
        stream.set_nodelay(true).expect("set no delay");
        Self::Tcp(stream).patient()
    }

    /// The Unix socket at `path`.
    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        Self::Unix(UnixStream::connect(path).expect("connect to the Unix socket")).patient()
    }

    /// TLS on top of TCP, trusting `ca` (PEM) and showing `own` (certificate and key in PEM) if it is asked for.
    #[track_caller]
    pub fn tls(self, ca: &str, own: Option<(&str, &str)>) -> Self {
        let Self::Tcp(stream) = self else { panic!("TLS is spoken over TCP here") };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Self::Tls(Box::new(StreamOwned::new(connection, stream)))
    }

    /// WebSocket on top, with the subprotocol `mqtt`; the upgrade must succeed.
    #[track_caller]
    pub fn websocket(self) -> Self {
        let (stream, answer) = self.upgrade("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.to_lowercase().contains("sec-websocket-protocol: mqtt\r\n"), "[MQTT-6.0.0-4]: {answer}");
        stream
    }

    /// Asks for an upgrade at this path with these more fields; gives the head of the answer.
    #[track_caller]
    pub fn upgrade(mut self, path: &str, more: &str) -> (Self, String) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        );
        self.write_all(request.as_bytes()).expect("send the upgrade");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(self.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let socket = WebSocket { inner: self, raw: Vec::new(), ready: Vec::new(), control: Vec::new() };
        (Self::WebSocket(Box::new(socket)), String::from_utf8(head).expect("the head is text"))
    }

    /// These bytes go first, as a PROXY header does.
    #[track_caller]
    pub fn after(mut self, bytes: &[u8]) -> Self {
        self.write_all(bytes).expect("write to the broker");
        self
    }

    fn patient(self) -> Self {
        self.socket().set_read_timeout(Some(PATIENCE)).expect("set the timeout");
        self.socket().set_write_timeout(Some(PATIENCE)).expect("set the timeout");
        self
    }

    /// The socket below.
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref()),
            Self::WebSocket(websocket) => websocket.inner.socket(),
        }
    }

    /// Another handle on a plain TCP socket.
    #[track_caller]
    pub fn try_clone(&self) -> TcpStream {
        match self {
            Self::Tcp(stream) => stream.try_clone().expect("clone the socket"),
            other => panic!("no plain socket: {other:?}"),
        }
    }

    /// Whether a connection that is over ended as its layers say it should: with a close frame, or a close_notify.
    pub fn ended_cleanly(&mut self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(stream) => matches!(stream.read(&mut [0]), Ok(0)),
            Self::WebSocket(websocket) => websocket.control.last().is_some_and(|(opcode, _)| *opcode == 8),
        }
    }

    /// Its WebSocket.
    #[track_caller]
    pub fn frames(&mut self) -> &mut WebSocket {
        match self {
            Self::WebSocket(websocket) => websocket,
            other => panic!("no WebSocket: {other:?}"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::WebSocket(websocket) => websocket.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::WebSocket(websocket) => {
                websocket.inner.write_all(&frame(0x82, bytes))?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}

/// The client's side of a WebSocket: each write is one binary frame, unless the test makes its frames itself.
#[derive(Debug)]
pub struct WebSocket {
    inner: Stream,
    raw: Vec<u8>,
    ready: Vec<u8>,
    /// Control frames that came: opcode and payload.
    pub control: Vec<(u8, Vec<u8>)>,
}

impl WebSocket {
    /// Sends these bytes below the frames.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.inner.write_all(bytes).expect("write to the broker");
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if self.take_frame()? {
                continue;
            }
            let mut chunk = [0; 16 * 1024];
            match self.inner.read(&mut chunk)? {
                0 => return Ok(0),
                count => self.raw.extend_from_slice(&chunk[..count]),
            }
        }
        let count = buffer.len().min(self.ready.len());
        buffer[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }

    /// Takes one frame off what came; false if none is whole.
    fn take_frame(&mut self) -> io::Result<bool> {
        let [first, length, rest @ ..] = &self.raw[..] else { return Ok(false) };
        assert_eq!(length & 0x80, 0, "a server must not mask (RFC 6455 section 5.1)");
        let (head, length) = match (length, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize),
            (126 | 127, _) => return Ok(false),
            (short, _) => (2, usize::from(*short)),
        };
        if self.raw.len() < head + length {
            return Ok(false);
        }
        let opcode = first & 15;
        let payload = self.raw[head..head + length].to_vec();
        self.raw.drain(..head + length);
        match opcode {
            0 | 2 => self.ready.extend(payload),
            8..=10 => {
                self.control.push((opcode, payload));
                if opcode == 8 {
                    return Err(ErrorKind::ConnectionAborted.into());
                }
            }
            _ => panic!("a frame with opcode {opcode} from an MQTT server [MQTT-6.0.0-3]"),
        }
        Ok(true)
    }
}

/// A masked frame, as clients send them; `first` holds FIN and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5a, 1, 0xff, 0];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
        longer => {
            frame.push(0x80 | 127);
            frame.extend((longer as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
