//! The formats of password hashes: our own, and mosquitto's.
//!
//! | begins with | is | written by |
//! | --- | --- | --- |
//! | `$argon2id$v=19$m=…,t=…,p=…$salt$hash` | argon2id | `nightjar passwd`, mosquitto from 2.1 |
//! | `$7$iterations$salt$hash` | PBKDF2-HMAC-SHA512 | mosquitto 2.0 |
//! | `$6$salt$hash` | SHA-512 of password and salt | mosquitto before |
//! | `$scram-sha-256$i=…$salt$stored$server` | the keys of SCRAM-SHA-256 | `nightjar passwd --scram` |

use crate::env::entropy;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::num::NonZeroU32;

/// What `nightjar passwd` writes: OWASP's choice for argon2id, some ten milliseconds and 19 MiB.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Iterations of SCRAM-SHA-256 that `nightjar passwd` writes: RFC 7677 asks for 4096 at least; a client pays for them.
const SCRAM_ITERATIONS: u32 = 15_000;
/// More than this of any hash in a file is a mistake, or an attempt to make us busy.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_ITERATIONS: u32 = 10_000_000;

/// A hash as it stands in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// argon2id.
    Argon2id {
        /// KiB, passes, lanes.
        costs: (u32, u32, u32),
        /// The salt.
        salt: Vec<u8>,
        /// The hash.
        hash: Vec<u8>,
    },
    /// PBKDF2-HMAC-SHA512.
    Pbkdf2 {
        /// How often.
        iterations: NonZeroU32,
        /// The salt.
        salt: Vec<u8>,
        /// The hash.
        hash: Vec<u8>,
    },
    /// SHA-512 of password and salt.
    Sha512 {
        /// The salt.
        salt: Vec<u8>,
        /// The hash.
        hash: Vec<u8>,
    },
    /// The keys of SCRAM-SHA-256.
    Scram(ScramKeys),
}

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802 section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored: [u8; 32],
    pub(super) server: [u8; 32],
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(***)")
    }
}

impl Hash {
    /// The hash in `text`, or what is wrong with it.
    ///
    /// # Errors
    /// With a sentence that does not repeat the hash.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let parts: Vec<&str> = text.split('$').collect();
        match parts[..] {
            ["", "argon2id", "v=19", costs, salt, hash] => {
                let costs = argon2_costs(costs).ok_or("expected m=…,t=…,p=… within reason")?;
                // Our own parser: the usual one takes salts of 48 bytes, mosquitto writes 64.
                let (salt, hash) = (decode(&STANDARD_NO_PAD, salt)?, decode(&STANDARD_NO_PAD, hash)?);
                if salt.len() < 8 || !(16..=128).contains(&hash.len()) {
                    return Err("expected a salt of at least 8 bytes and a hash of 16 to 128");
                }
                Ok(Self::Argon2id { costs, salt, hash })
            }
            ["", "7", iterations, salt, hash] => {
                let iterations = iterations.parse().ok().filter(|n: &NonZeroU32| n.get() <= MOST_ITERATIONS);
                let iterations = iterations.ok_or("expected a number of iterations behind $7$")?;
                let (salt, hash) = (decode(&STANDARD, salt)?, sha512(hash)?);
                Ok(Self::Pbkdf2 { iterations, salt, hash })
            }
            ["", "6", salt, hash] => Ok(Self::Sha512 { salt: decode(&STANDARD, salt)?, hash: sha512(hash)? }),
            ["", "scram-sha-256", iterations, salt, stored, server] => {
                let iterations = iterations.strip_prefix("i=").and_then(|text| text.parse().ok());
                let iterations =
                    iterations.filter(|n: &NonZeroU32| n.get() <= MOST_ITERATIONS).ok_or("expected i=…")?;
                let key = |text| -> Result<[u8; 32], &'static str> {
                    decode(&STANDARD, text)?.try_into().map_err(|_| "expected keys of 32 bytes")
                };
                let (stored, server) = (key(stored)?, key(server)?);
                Ok(Self::Scram(ScramKeys { iterations, salt: decode(&STANDARD, salt)?, stored, server }))
            }
            _ => Err("expected a hash that begins with $argon2id$v=19$, $7$, $6$ or $scram-sha-256$"),
        }
    }

    /// A new argon2id hash of `password`.
    #[must_use]
    pub fn make(password: &[u8]) -> Self {
        let mut salt = vec![0; 16];
        entropy::fill(&mut salt);
        let costs = (MEMORY_KIB, PASSES, LANES);
        let hash = argon2id(password, costs, &salt, 32).expect("the costs above are within argon2's bounds");
        Self::Argon2id { costs, salt, hash }
    }

    /// New keys of SCRAM-SHA-256 for `password`.
    #[must_use]
    pub fn make_scram(password: &[u8]) -> Self {
        let mut salt = vec![0; 16];
        entropy::fill(&mut salt);
        let iterations = NonZeroU32::new(SCRAM_ITERATIONS).expect("it is not 0");
        Self::Scram(ScramKeys::of(password, salt, iterations))
    }

    /// Whether `password` is the one. Takes as long as the hash was made to take.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2id { costs, salt, hash } => {
                argon2id(password, *costs, salt, hash.len()).is_some_and(|made| same(&made, hash))
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Self::Sha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                same(context.finish().as_ref(), hash)
            }
            Self::Scram(keys) => {
                same(&ScramKeys::of(password, keys.salt.clone(), keys.iterations).stored, &keys.stored)
            }
        }
    }

    /// The hash as it stands in a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let plain = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        let padded = |bytes: &[u8]| STANDARD.encode(bytes);
        match self {
            Self::Argon2id { costs: (m, t, p), salt, hash } => {
                format!("$argon2id$v=19$m={m},t={t},p={p}${}${}", plain(salt), plain(hash))
            }
            Self::Pbkdf2 { iterations, salt, hash } => format!("$7${iterations}${}${}", padded(salt), padded(hash)),
            Self::Sha512 { salt, hash } => format!("$6${}${}", padded(salt), padded(hash)),
            Self::Scram(ScramKeys { iterations, salt, stored, server }) => {
                format!("$scram-sha-256$i={iterations}${}${}${}", padded(salt), padded(stored), padded(server))
            }
        }
    }
}

impl ScramKeys {
    fn of(password: &[u8], salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
        let client = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client);
        let stored = stored.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Self { iterations, salt, stored, server: mac(&salted, b"Server Key") }
    }
}

/// HMAC-SHA-256.
pub(super) fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

fn argon2id(password: &[u8], (m, t, p): (u32, u32, u32), salt: &[u8], length: usize) -> Option<Vec<u8>> {
    let params = Params::new(m, t, p, Some(length)).ok()?;
    let mut hash = vec![0; length];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, &mut hash).ok()?;
    Some(hash)
}

fn argon2_costs(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(',');
    let mut cost = |name: &str| parts.next()?.strip_prefix(name)?.parse().ok();
    let costs = (cost("m=")?, cost("t=")?, cost("p=")?);
    let (m, t, p) = costs;
    let sane = m <= MOST_MEMORY_KIB && (1..=1000).contains(&t) && (1..=64).contains(&p) && m >= 8 * p;
    (sane && parts.next().is_none()).then_some(costs)
}

fn decode(engine: &impl base64::Engine, text: &str) -> Result<Vec<u8>, &'static str> {
    engine.decode(text).map_err(|_| "expected base64")
}

fn sha512(text: &str) -> Result<Vec<u8>, &'static str> {
    Some(decode(&STANDARD, text)?).filter(|hash| hash.len() == 64).ok_or("expected a hash of 64 bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_made_is_read_and_verified() {
        for hash in [Hash::make(b"secret"), Hash::make_scram(b"secret")] {
            let read = Hash::parse(&hash.to_text()).unwrap();
            assert!(read == hash && read.verify(b"secret") && !read.verify(b"Secret") && !read.verify(b""));
            assert!(!format!("{hash:?}").contains("argon"));
        }
    }

    #[test]
    fn hashes_of_long_salts_are_read() {
        // As mosquitto 2.1 writes them: 64 bytes of salt, 64 of hash, its own costs.
        let (salt, costs) = ((0..64).collect::<Vec<u8>>(), (8_192, 1, 1));
        let hash = argon2id(b"pw", costs, &salt, 64).unwrap();
        let text = Hash::Argon2id { costs, salt, hash }.to_text();
        assert!(Hash::parse(&text).unwrap().verify(b"pw"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in [
            "",
            "secret",
            "$5$abc$def",
            "$6$abc",
            "$6$!!$!!",
            "$7$0$c2FsdA==$aGFzaA==",
            "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=16$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2i$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        ] {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }
}
