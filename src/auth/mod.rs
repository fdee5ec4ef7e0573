//! Who are you: the ways in which a client can prove it.
//!
//! ```text
//! credentials ─> remembered? ─> back-off? ─> certificate ─> password ─> jwt ─> http   (in the configured order)
//!                                            a way that does not know the user passes on; one that knows it decides
//! ```
//!
//! | file | its story |
//! | --- | --- |
//! | `chain` | the ways one after the other, and what is known of each |
//! | `file`, `hash` | the password file; the formats of its hashes |
//! | `jwt`, `callout`, `scram` | tokens; a service that is asked; MQTT 5's exchange |
//! | `pool` | threads for what takes long, with a bounded queue |
//! | `backoff`, `memory` | who failed too often; who was right a moment ago |

mod backoff;
mod callout;
mod chain;
pub mod file;
pub mod hash;
mod jwt;
mod memory;
mod pool;
mod scram;

pub use chain::Auth;
pub use scram::{Exchange, Step};

use nightjar_base::Wall;
use nightjar_policy::Grants;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

/// What a client says of itself.
pub struct Attempt<'a> {
    /// Its client identifier; empty if it leaves that to us.
    pub client_id: &'a str,
    /// The user name of CONNECT.
    pub user: Option<&'a str>,
    /// The password of CONNECT.
    pub password: Option<&'a [u8]>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The listener that it came in by.
    pub listener: &'a str,
    /// The user name in its certificate.
    pub certificate_user: Option<&'a str>,
    /// Whether it may come in without saying who it is.
    pub anonymous: bool,
    /// The ways that count at this listener, if not all.
    pub methods: Option<&'a [String]>,
}

/// Who a client is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its user name.
    pub user: Option<Arc<str>>,
    /// Groups that its credentials put it in.
    pub groups: Vec<Arc<str>>,
    /// What its credentials allow by themselves.
    pub grants: Option<Arc<Grants>>,
    /// When its credentials expire, and its connection with them.
    pub expires: Option<Wall>,
    /// How it proved who it is; `anonymous` if it did not.
    pub method: &'static str,
    proof: Proof,
}

/// By which it can be told later whether credentials still stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Proof {
    /// There is nothing that could be revoked here.
    #[default]
    None,
    /// A line of the password file.
    Line(u64),
    /// A key that tokens are signed with.
    Key(u64),
    /// A service that was asked.
    Service(u64),
}

impl Identity {
    /// Whoever need not say who it is. A name that it gives all the same is no proof, but rules may look at it.
    #[must_use]
    pub fn anonymous(claimed: Option<&str>) -> Self {
        Self { user: claimed.map(Into::into), method: "anonymous", ..Self::default() }
    }

    /// To be kept by a connection. Whoever gave no name is nobody in particular: one value does for all of them.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        static NOBODY: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::anonymous(None)));
        if self.user.is_none() && self.method == NOBODY.method { Arc::clone(&NOBODY) } else { Arc::new(self) }
    }

    /// Whoever holds the token of the admin door.
    #[must_use]
    pub fn operator() -> Self {
        Self { method: "admin", ..Self::default() }
    }

    /// A bridge of our own. As `user` it may do what that user may; without, everything.
    #[must_use]
    pub fn bridge(user: Option<&str>) -> Self {
        match user {
            Some(user) => Self { user: Some(user.into()), method: "bridge", ..Self::default() },
            None => Self::operator(),
        }
    }

    /// Whether it is whoever holds that token.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.method == "admin"
    }

    /// The user name, if it was proved: sessions belong to it.
    #[must_use]
    pub fn owner(&self) -> Option<&Arc<str>> {
        self.user.as_ref().filter(|_| self.method != "anonymous")
    }
}

/// What a listener lets in, when a reload asks again.
#[derive(Clone, Copy, Debug)]
pub struct Admits<'a> {
    /// Whether a client may come in without saying who it is.
    pub anonymous: bool,
    /// The ways that count, if not all.
    pub methods: Option<&'a [String]>,
}

/// Why a client does not come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its credentials are wrong.
    #[error("wrong user name or password")]
    BadCredentials,
    /// It brought none, and must.
    #[error("no credentials, and anonymous clients are not let in here")]
    NoCredentials,
    /// It, or its address, was wrong too often.
    #[error("wrong too often: refused for another {millis} ms")]
    Banned {
        /// For how long still.
        millis: u64,
    },
    /// Too many are being checked.
    #[error("too many credentials to check at once")]
    Busy,
    /// Whom we ask gives no answer.
    #[error("the service that is asked gave no answer: {0}")]
    Unavailable(String),
}

/// What is wrong with a file or setting of authentication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// The setting.
    pub key: &'static str,
    /// What is wrong.
    pub text: String,
}

/// What a way says to an attempt.
enum Said {
    /// It is this one.
    Yes(Identity),
    /// It knows the user, and these are not its credentials.
    No,
    /// It knows nothing of this user.
    Unknown,
}

/// A number that stands for `bytes` in this process's life alone: to compare, not to keep.
fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let first: [u8; 8] = std::array::from_fn(|at| digest.as_ref()[at]);
    u64::from_le_bytes(first)
}
