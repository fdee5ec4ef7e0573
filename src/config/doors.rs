//! The settings of who may come in and what each may do, and of the admin door.

use super::kinds::{Count, FilePath, Flag, Or, Plain, Size, Span, Word};
use super::more_kinds::{Hidden, IpAddress, Secret, Texts};
use super::reader::Reader;
use super::sections::{Described, Section, section};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The ways to prove who one is.
pub(super) const METHODS: Texts = Texts {
    each: |text| ["certificate", "password", "jwt", "http", "scram"].contains(&text),
    what: "certificate, password, jwt, http, scram",
};
const ALGORITHMS: Texts = Texts {
    each: |text| {
        ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
            .contains(&text)
    },
    what: "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA",
};

/// Where a client's token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenIn {
    /// In place of the password.
    Password,
    /// In place of the user name.
    Username,
}

/// What becomes of a session whose client identifier another user comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherUser {
    /// The newcomer is refused.
    Refuse,
    /// The session ends, and the newcomer gets a new one.
    End,
}

/// What a client before MQTT 5 meets that publishes what it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedPublish {
    /// The message is acknowledged and dropped.
    Drop,
    /// The connection is closed.
    Disconnect,
}

const TOKEN_IN: Word<TokenIn> = Word(&[("password", TokenIn::Password), ("username", TokenIn::Username)]);
const OTHER_USER: Word<OtherUser> = Word(&[("refuse", OtherUser::Refuse), ("end", OtherUser::End)]);
const DENIED: Word<DeniedPublish> = Word(&[("drop", DeniedPublish::Drop), ("disconnect", DeniedPublish::Disconnect)]);

section! {
    /// Who may come in. A way to prove who one is counts when its file, key or address is set; a client goes through
    /// them in the order of `chain` until one knows it.
    Auth = "auth" {
        /// The ways to prove who one is, in the order in which they are asked. "all" is every one that is set up:
        /// certificate, password, jwt, http, scram.
        chain: Option<Vec<String>> = None, Or("all", METHODS);
        /// The password file: ours (`nightjar passwd`), or mosquitto's as it is.
        password_file: Option<PathBuf> = None, Or("none", FilePath);
        /// A file of JSON Web Keys (JWKS) that tokens are signed with.
        jwt_jwks: Option<PathBuf> = None, Or("none", FilePath);
        /// The secret that tokens are signed with (HS256, HS384, HS512).
        jwt_secret: Option<Secret> = None, Or("none", Hidden(16));
        /// A public key in PEM that tokens are signed with (RS, PS, ES, EdDSA).
        jwt_public_key: Option<PathBuf> = None, Or("none", FilePath);
        /// The algorithms that are taken. "all" is every one that fits a key that is set.
        jwt_algorithms: Option<Vec<String>> = None, Or("all", ALGORITHMS);
        /// The issuer (`iss`) that a token must name.
        jwt_issuer: Option<String> = None, Or("any", Plain);
        /// The audience (`aud`) that a token must name.
        jwt_audience: Option<String> = None, Or("any", Plain);
        /// The claim that is the user name.
        jwt_user_claim: String = "sub".to_owned(), Plain;
        /// The claim that lists the user's groups.
        jwt_groups_claim: String = "groups".to_owned(), Plain;
        /// The claim that lists topic filters which the client may publish to.
        jwt_publish_claim: String = "publish".to_owned(), Plain;
        /// The claim that lists topic filters which the client may subscribe to.
        jwt_subscribe_claim: String = "subscribe".to_owned(), Plain;
        /// Where a client puts its token: "password" or "username".
        jwt_from: TokenIn = TokenIn::Password, TOKEN_IN;
        /// The address that is asked by POST: `{"client_id","user","password","address","listener"}`, and that answers
        /// `{"allow":true}` and perhaps more.
        http_url: Option<String> = None, Or("none", Plain);
        /// The authorities (PEM) that an `https` address is checked with; "system" is Debian's own list.
        http_ca: Option<PathBuf> = None, Or("system", FilePath);
        /// How long an answer may take. A client waits meanwhile; nobody else does.
        http_timeout: Duration = 5 * SECOND, Span(Duration::from_millis(10), MINUTE);
        /// How long an answer holds for the same credentials.
        http_cache: Duration = MINUTE, Span(Duration::ZERO, DAY);
        /// How many answers are remembered.
        http_cache_size: usize = 10_000, Count(0..=10_000_000);
        /// How many are asked at a time.
        http_concurrency: usize = 8, Count(1..=256);
        /// What is sent as `Authorization: Bearer`.
        http_token: Option<Secret> = None, Or("none", Hidden(1));
        /// Threads that check passwords. Each check takes some ten milliseconds and 19 MiB of memory.
        hash_threads: usize = 2, Count(1..=64);
        /// Checks that may wait for a thread; who comes when all places are taken is told that the server is busy (0x89).
        hash_queue: usize = 256, Count(1..=1_000_000);
        /// How long a password that was right need not be checked again, so that a fleet that reconnects does not wait
        /// for hashes. What is remembered is no password, and worthless outside this process.
        verified_cache: Duration = 10 * MINUTE, Span(Duration::ZERO, DAY);
        /// Failures of one address or one user after which they are refused for a while without being checked.
        backoff_after: u32 = 10, Count(1..=1_000_000);
        /// For how long at first; it doubles with each further failure.
        backoff_first: Duration = SECOND, Span(Duration::from_millis(1), HOUR);
        /// For how long at most.
        backoff_max: Duration = MINUTE, Span(SECOND, DAY);
        /// What a client meets whose identifier has a session of another user: "refuse" (nothing is touched) or "end"
        /// (that session ends, with its queue, and the newcomer gets a new one).
        session_of_other_user: OtherUser = OtherUser::Refuse, OTHER_USER;
    }
}

impl Auth {
    /// Whether there is any way to prove who one is. `certificates`: listeners take a user name from them.
    #[must_use]
    pub fn is_configured(&self, certificates: bool) -> bool {
        certificates
            || self.password_file.is_some()
            || self.jwt_jwks.is_some()
            || self.jwt_secret.is_some()
            || self.jwt_public_key.is_some()
            || self.http_url.is_some()
    }
}

section! {
    /// What clients may do. Without a file of rules, whoever came in may do everything.
    Access = "access" {
        /// The file of rules; see docs/access-rules.md.
        rules: Option<PathBuf> = None, Or("none", FilePath);
        /// An ACL file of mosquitto's, in place of `rules`, read as mosquitto reads it.
        mosquitto_acl: Option<PathBuf> = None, Or("none", FilePath);
        /// What a client before MQTT 5, which has no reason codes, meets when it publishes what it may not: "drop" (the
        /// message is acknowledged and dropped) or "disconnect".
        denied_publish: DeniedPublish = DeniedPublish::Drop, DENIED;
    }
}

section! {
    /// The admin door: health, metrics, the API that `nightjar ctl` speaks, and the page.
    Admin = "admin" {
        /// Where it listens. The default can be reached from this machine alone. Two brokers on one machine need two.
        address: Option<SocketAddr> = Some(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9883)), Or("off", IpAddress);
        /// Its Unix socket, where processes of our own user need no token. "auto" is `admin.sock` in the data folder.
        socket: Option<String> = None, Or("auto", Plain);
        /// The token for everything. "auto" is one that is made at the first start and kept in `admin.token` in the
        /// data folder, readable by our own user alone.
        token: Option<Secret> = None, Or("auto", Hidden(16));
        /// A token for looking without touching.
        read_token: Option<Secret> = None, Or("none", Hidden(16));
        /// Whether `/metrics` needs no token: it names no client and no topic.
        open_metrics: bool = true, Flag;
        /// Whether the page is served.
        page: bool = true, Flag;
        /// The largest body of a request.
        max_body: usize = 1 << 20, Size(1 << 10..=256 << 20);
    }
}
