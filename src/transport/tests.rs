//! The way from a socket to MQTT bytes, over loopback, with clients that block on threads of their own.
#![allow(clippy::unwrap_used)]

use super::dev::{Authority, Signed};
use super::*;
use crate::env::clock::Clock;
use crate::env::task;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tungstenite::{Message, WebSocket as Client};

const BUDGET: usize = 1 << 20;

fn options() -> Options {
    Options { mqtt: true, websocket: Some(WebSocket::default()), first_frame: BUDGET, ..Options::default() }
}

/// Lets `client` connect, and returns what arrives together with its thread.
async fn meet<T: Send + 'static>(
    options: &Options,
    client: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Result<Arrived, Refused>, std::thread::JoinHandle<T>) {
    let bound = Bound::tcp(([127, 0, 0, 1], 0).into(), 16).unwrap();
    let Bound::Tcp(socket) = &bound else { unreachable!("bound to TCP") };
    let address: SocketAddr = socket.local_addr().unwrap();
    let thread = task::thread("client", move || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client(stream)
    })
    .unwrap();
    let fresh = bound.start().unwrap().accept().await.unwrap();
    (accept(fresh, options).await, thread)
}

/// Reads until `count` bytes are there.
async fn read(socket: &Socket, count: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while all.len() < count {
        socket.readable().await?;
        match socket.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(some) => all.extend_from_slice(&buffer[..some]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

async fn write(socket: &Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() || socket.holds_back() {
        socket.writable().await.unwrap();
        match if bytes.is_empty() { socket.try_flush().map(|()| 0) } else { socket.try_write(bytes) } {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

const CONNECT: &[u8] = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02t1";

#[tokio::test]
async fn plain_mqtt_is_left_as_it_came() {
    let (arrived, thread) = meet(&options(), |mut stream| stream.write_all(CONNECT).unwrap()).await;
    let arrived = arrived.unwrap();
    assert_eq!(arrived.kind, Kind::Tcp);
    assert_eq!(read(&arrived.socket, CONNECT.len()).await.unwrap(), CONNECT);
    thread.join().unwrap();
}

/// A masked frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    frame.extend(payload.iter().zip([1, 2, 3, 4].into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn upgrade(stream: &mut TcpStream) {
    let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn f57_f58_packets_and_frames_have_nothing_to_do_with_each_other() {
    let (arrived, thread) = meet(&options(), |mut stream| {
        upgrade(&mut stream);
        let mut bytes = Vec::new();
        // The first byte in a frame of its own, an empty frame, and the rest byte by byte.
        bytes.extend(frame(0x82, &CONNECT[..1]));
        bytes.extend(frame(0x82, &[]));
        CONNECT[1..].iter().for_each(|byte| bytes.extend(frame(0x82, &[*byte])));
        // One message in fragments, with a ping, a pong that nobody asked for and an empty fragment between them.
        bytes.extend(frame(0x02, &[0x30, 5]));
        bytes.extend(frame(0x89, &[7; 125]));
        bytes.extend(frame(0x8a, b"unasked"));
        bytes.extend(frame(0x00, &[]));
        bytes.extend(frame(0x80, b"\0\x01axx"));
        // Everything in one frame, and half of it in the next.
        bytes.extend(frame(0x82, b"\xc0\0\x30\x05\0"));
        bytes.extend(frame(0x82, b"\x01axx\xc0\0"));
        for byte in bytes {
            stream.write_all(&[byte]).unwrap();
        }
        let mut pong = [0; 127];
        stream.read_exact(&mut pong).unwrap();
        assert_eq!((&pong[..2], &pong[2..]), (&[0x8a, 125][..], &[7; 125][..]));
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x82, 2, 0xd0, 0]);
    })
    .await;
    let arrived = arrived.unwrap();
    assert_eq!(arrived.kind, Kind::WebSocket);
    let expected = [CONNECT, b"\x30\x05\0\x01axx", b"\xc0\0\x30\x05\0", b"\x01axx\xc0\0"].concat();
    assert_eq!(read(&arrived.socket, expected.len()).await.unwrap(), expected);
    write(&arrived.socket, &[0xd0, 0]).await;
    thread.join().unwrap();
}

#[tokio::test]
async fn what_is_no_frame_of_mqtt_ends_the_connection() {
    let unmasked = vec![0x82, 2, 0xc0, 0];
    let huge = [&[0x82, 0xff][..], &[0x7f; 8], &[1, 2, 3, 4]].concat();
    let over_budget = [&[0x82, 0xff][..], &(BUDGET as u64 + 1).to_be_bytes(), &[1, 2, 3, 4]].concat();
    for (bytes, code) in [
        (frame(0x81, b"text"), 1003_u16),
        (unmasked, 1002),
        (huge, 1009),
        (over_budget, 1009),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x09, b"fragmented ping"), 1002),
        (frame(0xc2, b"reserved bit"), 1002),
        (frame(0x83, b"reserved opcode"), 1002),
        (frame(0x80, b"continues nothing"), 1002),
    ] {
        let told = bytes.clone();
        let (arrived, thread) = meet(&options(), move |mut stream| {
            upgrade(&mut stream);
            stream.write_all(&bytes).unwrap();
            let mut close = [0; 4];
            stream.read_exact(&mut close).unwrap();
            (close[0], u16::from_be_bytes([close[2], close[3]]))
        })
        .await;
        let arrived = arrived.unwrap();
        assert!(read(&arrived.socket, 1).await.is_err(), "{told:?}");
        assert_eq!(thread.join().unwrap(), (0x88, code), "{told:?}");
    }
}

#[tokio::test]
async fn a_client_that_says_goodbye_is_answered() {
    let (arrived, thread) = meet(&options(), |mut stream| {
        upgrade(&mut stream);
        stream.write_all(&frame(0x88, &1000_u16.to_be_bytes())).unwrap();
        let mut close = [0; 4];
        stream.read_exact(&mut close).unwrap();
        close
    })
    .await;
    let error = read(&arrived.unwrap().socket, 1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(thread.join().unwrap(), [0x88, 2, 3, 232]);
}

#[tokio::test]
async fn a_flood_of_pings_costs_a_bounded_amount() {
    let (arrived, thread) = meet(&options(), |mut stream| {
        upgrade(&mut stream);
        let ping = frame(0x89, &[0; 125]);
        let pings = ping.repeat(1000);
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        // Until the other side has enough of it: it answers nobody who does not read.
        for _ in 0..200 {
            if stream.write_all(&pings).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
    })
    .await;
    let arrived = arrived.unwrap();
    let _ = read(&arrived.socket, 1).await;
    thread.join().unwrap();
}

/// Files of a TLS listener.
struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("test", Clock::machine().now()).unwrap();
        let files = Self { folder, authority };
        files.write("ca.crt", &files.authority.certificate());
        files.pair("server", &files.authority.server(&["localhost".into()]).unwrap());
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn pair(&self, name: &str, signed: &Signed) {
        self.write(&format!("{name}.crt"), &signed.certificate);
        self.write(&format!("{name}.key"), &signed.key);
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings { pairs: vec![(self.path("server.crt"), self.path("server.key"))], ..TlsSettings::default() }
    }

    fn options(&self, settings: TlsSettings) -> Options {
        Options { tls: Some(Tls::new(settings).unwrap()), ..options() }
    }

    fn client(&self, host: &'static str, shown: Option<&Signed>) -> impl FnOnce(TcpStream) -> Stream + Send + 'static {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some(shown) => {
                let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap())
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        move |stream| {
            let name = ServerName::try_from(host).unwrap();
            StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
        }
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

#[tokio::test]
async fn tls_with_and_without_websocket_carries_a_lot_both_ways() {
    let files = Files::new();
    let options = files.options(files.settings());
    // One packet: its header, and what is in it.
    let body = 3 * BUDGET - 5;
    let length = [0, 7, 14, 21].map(|shift| u8::try_from(body >> shift & 0x7f).unwrap());
    let mut bulk = vec![0x30, length[0] | 0x80, length[1] | 0x80, length[2] | 0x80, length[3]];
    bulk.extend((0..body).map(|at| u8::try_from(at % 251).unwrap()));
    for web in [false, true] {
        let (connect, sent) = (files.client("localhost", None), bulk.clone());
        let (arrived, thread) = meet(&options, move |stream| {
            let mut stream = connect(stream);
            if web {
                let (mut client, _) = tungstenite::client("ws://localhost/", stream).unwrap();
                client.send(Message::Binary(CONNECT.to_vec().into())).unwrap();
                for part in sent.chunks(BUDGET / 2) {
                    client.send(Message::Binary(part.to_vec().into())).unwrap();
                }
                let mut got = Vec::new();
                while got.len() < sent.len() {
                    got.extend_from_slice(&message(&mut client));
                }
                got
            } else {
                stream.write_all(CONNECT).unwrap();
                stream.write_all(&sent).unwrap();
                let mut got = vec![0; sent.len()];
                stream.read_exact(&mut got).unwrap();
                got
            }
        })
        .await;
        let arrived = arrived.unwrap();
        assert_eq!(arrived.kind, if web { Kind::SecureWebSocket } else { Kind::Tls });
        assert_eq!(arrived.tls.as_ref().map(|tls| tls.version), Some("1.3"));
        let got = read(&arrived.socket, CONNECT.len() + bulk.len()).await.unwrap();
        assert!(got.starts_with(CONNECT) && got[CONNECT.len()..] == bulk);
        write(&arrived.socket, &bulk).await;
        assert!(thread.join().unwrap() == bulk);
    }
}

fn message(client: &mut Client<Stream>) -> Vec<u8> {
    match client.read().unwrap() {
        Message::Binary(payload) => payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_certificate_names_its_user_until_it_is_revoked() {
    let files = Files::new();
    let good = files.authority.client("dev-1", &["dev1.example.org".into()]).unwrap();
    let bad = files.authority.client("dev-2", &[]).unwrap();
    files.write("crl.pem", &files.authority.revocations(&[]).unwrap());
    let settings = TlsSettings {
        client_ca: Some(files.path("ca.crt")),
        client_required: true,
        crl: Some(files.path("crl.pem")),
        user: CertificateUser::CommonName,
        ..files.settings()
    };
    let options = files.options(settings.clone());
    let talk = |connect: Box<dyn FnOnce(TcpStream) -> Stream + Send>| {
        move |stream: TcpStream| {
            let mut stream = connect(stream);
            let _ = stream.write_all(CONNECT);
            // Waits for the end, or for the alert.
            let _ = stream.read(&mut [0]);
        }
    };
    let mut identity = None;
    for (shown, user) in [(Some(&good), Some("dev-1")), (Some(&bad), Some("dev-2")), (None, None)] {
        let connect = files.client("localhost", shown);
        let (arrived, thread) = meet(&options, talk(Box::new(connect))).await;
        let found = arrived.ok().and_then(|arrived| arrived.tls);
        assert_eq!(found.as_ref().and_then(|tls| tls.certificate_user.as_deref()), user);
        identity = found.and_then(|tls| tls.certificate).or(identity);
        thread.join().unwrap();
    }
    let (tls, bad_id) = (options.tls.as_ref().unwrap(), identity.unwrap());
    assert!(tls.still_takes(&bad_id) && tls.renewal().unwrap().is_none());
    files.write("crl.pem", &files.authority.revocations(&[&bad]).unwrap());
    let renewal = tls.renewal().unwrap().unwrap();
    assert!(tls.still_takes(&bad_id), "it is not in force yet");
    renewal.commit();
    assert!(!tls.still_takes(&bad_id));
    let (arrived, thread) = meet(&options, talk(Box::new(files.client("localhost", Some(&bad))))).await;
    assert!(matches!(arrived.err(), Some(Refused::Tls(_))));
    thread.join().unwrap();

    files.write("crl.pem", &files.authority.revocations(&[]).unwrap());
    let own = fs::read_to_string(files.path("ca.crt")).unwrap();
    let other = Authority::new("another", Clock::machine().now()).unwrap().certificate();
    for (authorities, takes) in [(own.clone() + &other, true), (other, false), (own, true)] {
        files.write("ca.crt", &authorities);
        tls.renewal().unwrap().unwrap().commit();
        assert_eq!(tls.still_takes(&bad_id), takes);
    }

    let by_name = TlsSettings { user: CertificateUser::AlternativeName, ..settings };
    let connect = files.client("localhost", Some(&good));
    let (arrived, thread) = meet(&files.options(by_name), talk(Box::new(connect))).await;
    let found = arrived.unwrap().tls.and_then(|tls| tls.certificate_user);
    assert_eq!(found.as_deref(), Some("dev1.example.org"));
    thread.join().unwrap();
}

#[tokio::test]
async fn each_host_has_its_certificate_and_files_are_renewed() {
    let files = Files::new();
    files.pair("other", &files.authority.server(&["*.example.org".into()]).unwrap());
    let mut settings = files.settings();
    settings.pairs.push((files.path("other.crt"), files.path("other.key")));
    let options = files.options(settings);
    let served = async |host: &'static str, options: &Options, files: &Files| {
        let connect = files.client(host, None);
        let (arrived, thread) = meet(options, move |stream| {
            let mut stream = connect(stream);
            stream.write_all(CONNECT).is_ok()
        })
        .await;
        (arrived.is_ok(), thread.join().unwrap())
    };
    assert_eq!(served("localhost", &options, &files).await, (true, true));
    assert_eq!(served("a.example.org", &options, &files).await, (true, true));
    assert!(!served("b.a.example.org", &options, &files).await.1, "a wildcard stands for one label");

    let tls = options.tls.as_ref().unwrap();
    files.pair("server", &files.authority.server(&["renamed".into()]).unwrap());
    tls.renewal().unwrap().unwrap().commit();
    assert_eq!(served("renamed", &options, &files).await, (true, true));
    files.write("server.key", "no key");
    let problem = tls.renewal().err().unwrap();
    assert!(problem.key == "key" && problem.text.contains("server.key"), "{problem:?}");
    assert_eq!(served("renamed", &options, &files).await, (true, true), "what was there stays in use");
}

#[tokio::test]
async fn the_wrong_door_says_so() {
    let files = Files::new();
    let tls = files.options(files.settings());
    let no_web = Options { websocket: None, ..options() };
    let only_web = Options { mqtt: false, ..options() };
    let http: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (options, bytes, answer, why) in [
        (&tls, http, "400", "no TLS on a listener"),
        (&tls, CONNECT, "", "no TLS on a listener"),
        (&no_web, http, "400", "no WebSocket"),
        (&no_web, b"\x16\x03\x01\x02\x00\x01", "", "TLS on a listener without TLS"),
        (&only_web, CONNECT, "", "WebSocket alone"),
        (&only_web, http, "400", "neither"),
        (&no_web, b"\xc0\0", "", "not CONNECT"),
    ] {
        let sent = bytes.to_vec();
        let (arrived, thread) = meet(options, move |mut stream| {
            stream.write_all(&sent).unwrap();
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            String::from_utf8_lossy(&got).into_owned()
        })
        .await;
        let told = arrived.err().unwrap().to_string();
        assert!(told.contains(why), "{told}");
        let got = thread.join().unwrap();
        assert!(got.contains(answer), "{got}");
    }
}

#[tokio::test]
async fn a_proxy_is_believed_only_where_it_is_trusted() {
    let trusting = |net: &str| Options { proxy_protocol: true, trusted: vec![net.parse().unwrap()], ..options() };
    let line = b"PROXY TCP4 10.9.8.7 10.0.0.2 4660 1883\r\n";
    let sent = [&line[..], CONNECT].concat();
    let copy = sent.clone();
    let (arrived, thread) = meet(&trusting("127.0.0.0/8"), move |mut stream| stream.write_all(&copy).unwrap()).await;
    let arrived = arrived.unwrap();
    assert_eq!(arrived.remote, Remote::Ip("10.9.8.7:4660".parse().unwrap()));
    assert_eq!(read(&arrived.socket, CONNECT.len()).await.unwrap(), CONNECT);
    thread.join().unwrap();

    let (arrived, thread) = meet(&trusting("10.0.0.0/8"), move |mut stream| stream.write_all(&sent).unwrap()).await;
    assert!(matches!(arrived.err(), Some(Refused::Untrusted)));
    thread.join().unwrap();

    let (arrived, thread) = meet(&trusting("127.0.0.0/8"), |mut stream| stream.write_all(CONNECT).unwrap()).await;
    assert!(matches!(arrived.err(), Some(Refused::Proxy(_))), "no header, no entry");
    thread.join().unwrap();

    // A check of a balancer: nothing for the log.
    let (arrived, thread) =
        meet(&trusting("127.0.0.0/8"), |mut stream| stream.write_all(b"PROXY UNKNOWN\r\n").unwrap()).await;
    assert!(arrived.err().unwrap().is_quiet());
    thread.join().unwrap();
}

#[test]
fn an_idle_websocket_is_small() {
    // A socket's handle of its runtime has 16 bytes since there are two kinds of them.
    assert!(size_of::<Socket>() <= 48, "{}", size_of::<Socket>());
    assert!(layers::size() <= 1024, "{}", layers::size());
}
