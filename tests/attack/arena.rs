//! A broker with limits, honest clients at work on it, and what must hold when an attack is over.

use crate::crowd::{Crowd, USERS, password};
use crate::support::broker::free_port;
use crate::support::{Client, Connect, Packet, Random, Read, Stream, V311, secs, wait_until};
use nightjar::auth::hash::Hash;
use socket2::{Domain, Socket, Type};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// For how long an attack goes on.
const SECONDS: &str = "NIGHTJAR_ATTACK_SECONDS";

/// Where attackers come from; the honest clients are at 127.0.0.1.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The only one whose PROXY headers are believed.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Never to be found in a log: every attacker's password.
pub const CANARY: &str = "canary-password-of-mallory";

const RULES: &str = "\
allow user honest-*  to all                on ring/#
allow user mallory   to all                on #
deny  everyone       to all                on #
";

/// A broker under attack. The tests of this binary come one after the other: they measure.
pub struct Arena {
    child: Child,
    pub port: u16,
    pub tls_port: u16,
    pub proxy_port: u16,
    folder: tempfile::TempDir,
    crowd: Option<Crowd>,
    before_kib: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Arena {
    /// Starts a broker with these lines in `[limits]`, and measures how the honest clients fare before the attack.
    pub fn start(limits: &str) -> Self {
        Self::with(limits, "")
    }

    /// The same with more of the configuration.
    pub fn with(limits: &str, more: &str) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("nightjar-attack-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("passwords"), passwords()).unwrap();
        fs::write(path("rules"), RULES).unwrap();
        let certificates = Command::new(env!("CARGO_BIN_EXE_nightjar"))
            .args(["cert", "dev"])
            .arg(path("tls"))
            .args(["--name", "localhost"])
            .output()
            .unwrap();
        assert!(certificates.status.success(), "{certificates:?}");
        let (port, tls_port, proxy_port) = (free_port(), free_port(), free_port());
        let dir = folder.path().display();
        let config = format!(
            r#"
[listeners.main]
address = "127.0.0.1:{port}"
anonymous = false
[listeners.tls]
address = "127.0.0.1:{tls_port}"
anonymous = false
certificate = "{dir}/tls/server.crt"
key = "{dir}/tls/server.key"
[listeners.proxy]
address = "127.0.0.1:{proxy_port}"
anonymous = false
proxy_protocol = true
trusted_proxies = ["{BALANCER}"]
[auth]
password_file = "{dir}/passwords"
[access]
rules = "{dir}/rules"
[admin]
address = "off"
[store]
segment_size = "8MiB"
[log]
level = "debug"
{more}
[limits]
{limits}
"#
        );
        fs::write(path("nightjar.toml"), config).unwrap();
        let log = || File::options().create(true).append(true).open(path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
        command.args(["serve", "--config"]).arg(path("nightjar.toml")).arg("--data").arg(path("data"));
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn().unwrap();
        let mut arena = Self { child, port, tls_port, proxy_port, folder, crowd: None, before_kib: 0, _alone: alone };
        wait_until("the broker takes connections", secs(60), || {
            assert!(arena.child.try_wait().unwrap().is_none(), "the broker ended at start:\n{}", arena.log());
            [port, tls_port, proxy_port].iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok())
        });
        arena.crowd = Some(Crowd::start(port));
        arena.before_kib = arena.resident_kib();
        arena
    }

    /// What must hold in the end: nobody honest has suffered, and memory grew by at most `mib`.
    #[track_caller]
    pub fn survived(mut self, mib: u64) {
        let grown = self.resident_kib().saturating_sub(self.before_kib) / 1024;
        assert!(grown <= mib, "memory grew by {grown} MiB");
        let report = self.crowd.take().unwrap().finish();
        assert!(self.child.try_wait().unwrap().is_none(), "the process has ended");
        let log = self.log();
        assert!(!log.contains("panicked"), "a panic");
        assert!(!log.contains(CANARY), "a password in the log");
        println!("memory grew by {grown} MiB; {report}");
    }

    /// An attack goes on for at least this long, or as long as asked for.
    pub fn goes_on(&self) -> impl Fn() -> bool + use<> {
        let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let end = Instant::now() + secs(seconds);
        move || Instant::now() < end
    }

    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Waits for a line of the log that holds all of these.
    #[track_caller]
    pub fn wait_log(&self, parts: &[&str]) {
        wait_until(&format!("a log line with {parts:?}"), secs(15), || {
            self.log().lines().any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }

    /// A socket of the attacker's, on which nothing was sent yet.
    pub fn socket(&self, port: u16) -> TcpStream {
        from(ATTACKER, port).unwrap()
    }

    /// A scripted peer on a socket of the attacker's.
    pub fn peer(&self, version: u8) -> Client {
        Client::over(Stream::Tcp(self.socket(self.port)), version)
    }

    /// Somebody with a password and rights of his own who means no good.
    #[track_caller]
    pub fn mallory(&self, version: u8, id: &str) -> Client {
        self.mallory_with(&Connect::of(version, id))
    }

    #[track_caller]
    pub fn mallory_with(&self, connect: &Connect) -> Client {
        let connect = connect.clone().user("mallory", Some(CANARY.as_bytes()));
        let mut client = self.peer(connect.version());
        client.send(&connect.encode());
        match client.read_packet(secs(15)) {
            Read::Packet(Packet::Connack { code: 0, .. }) => client,
            other => panic!("CONNACK expected, got {other:?}"),
        }
    }

    /// Somebody honest comes in now; how long it took.
    #[track_caller]
    pub fn honest_login(&self, id: &str) -> Duration {
        let start = Instant::now();
        let connect = Connect::v311(id).user("honest-0", Some(password(0).as_bytes()));
        let client = connect.try_open(self.port, secs(15)).expect("an honest client is let in");
        client.disconnect();
        start.elapsed()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(crowd) = self.crowd.take() {
            crowd.abandon();
        }
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            println!("--- end of the broker's log ---");
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
    }
}

/// A connection from this address.
pub fn from(source: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), secs(10))?;
    socket.set_tcp_nodelay(true)?;
    let stream: TcpStream = socket.into();
    stream.set_write_timeout(Some(secs(10)))?;
    stream.set_read_timeout(Some(secs(10)))?;
    Ok(stream)
}

/// Whether the broker has closed the socket: looks, and does not wait.
pub fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = loop {
        match std::io::Read::read(&mut &*stream, &mut [0; 4096]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

/// Waits until the broker has closed all of them.
#[track_caller]
pub fn all_closed(what: &str, limit: Duration, streams: &mut Vec<TcpStream>) {
    wait_until(&format!("all are closed: {what}"), limit, || {
        streams.retain(|stream| !is_closed(stream));
        streams.is_empty()
    });
}

/// Writes without waiting for ever; false when the connection is gone or takes no more.
pub fn pour(stream: &TcpStream, bytes: &[u8]) -> bool {
    (&*stream).write_all(bytes).is_ok()
}

/// A ClientHello as a client sends it.
pub fn client_hello() -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// The file of all who have a password. Hashes take their time, so they are made once.
fn passwords() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut text = String::new();
        for number in 0..USERS {
            writeln!(text, "honest-{number}:{}", Hash::make(password(number).as_bytes()).to_text()).unwrap();
        }
        writeln!(text, "mallory:{}", Hash::make(CANARY.as_bytes()).to_text()).unwrap();
        text
    })
}

/// Bytes that mean nothing.
pub fn garbage(random: &mut Random, length: u64) -> Vec<u8> {
    (0..length).map(|_| random.next() as u8).collect()
}

/// The version of those who are cut without a word.
pub const WORDLESS: u8 = V311;
