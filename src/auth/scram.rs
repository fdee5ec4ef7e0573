//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as MQTT 5 carries it: the server's side, without I/O.
//!
//! ```text
//! client-first  n,,n=user,r=NONCE             ─> First
//! server-first  r=NONCE…,s=SALT,i=ITERATIONS  <─
//! client-final  c=biws,r=NONCE…,p=PROOF       ─> Final
//! server-final  v=SIGNATURE                   <─
//! ```

use super::file::PasswordFile;
use super::hash::{Hash, ScramKeys, mac, same};
use super::{Identity, Proof};
use crate::env::entropy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The method's name in CONNECT and AUTH.
pub(super) const METHOD: &str = "SCRAM-SHA-256";

/// One client's exchange.
pub struct Exchange {
    file: Arc<PasswordFile>,
    /// Hides which users there are: what an unknown one is challenged with is derived from it.
    pepper: [u8; 32],
    /// Who the client says it is.
    user: Option<String>,
    state: State,
}

enum State {
    First,
    Final { known: Option<u64>, keys: ScramKeys, nonce: String, transcript: String },
    Over,
}

/// What a step comes to.
pub enum Step {
    /// The client is to go on with this.
    Continue(Vec<u8>),
    /// It is this one; with what it is to be told at the end.
    Done(Identity, Option<Vec<u8>>),
    /// It failed.
    Failed,
}

impl Exchange {
    pub(super) fn new(file: Arc<PasswordFile>, pepper: [u8; 32]) -> Self {
        Self { file, pepper, user: None, state: State::First }
    }

    /// Who the client says it is, once it has.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Takes what the client sent.
    pub(super) fn step(&mut self, data: &[u8]) -> Step {
        let mut nonce = [0; 18];
        entropy::fill(&mut nonce);
        self.step_with(data, &STANDARD.encode(nonce))
    }

    /// As [`Self::step`], with the server's part of the nonce.
    fn step_with(&mut self, data: &[u8], nonce: &str) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        let Ok(message) = std::str::from_utf8(data) else { return Step::Failed };
        match state {
            State::First => self.first(message, nonce).unwrap_or(Step::Failed),
            State::Final { known, keys, nonce, transcript } => {
                let signature = finish(message, &keys, &nonce, &transcript);
                match (signature, known, &self.user) {
                    (Some(signature), Some(line), Some(user)) => Step::Done(identity(user, line), Some(signature)),
                    _ => Step::Failed,
                }
            }
            State::Over => Step::Failed,
        }
    }

    fn first(&mut self, message: &str, server_nonce: &str) -> Option<Step> {
        // No channel binding here: "n" (the client has none) and "y" (it has, and thinks that we have none) are true.
        let bare = message.strip_prefix("n,").or_else(|| message.strip_prefix("y,"))?;
        let (authzid, bare) = bare.split_once(',')?;
        let mut parts = bare.split(',');
        let user = unescape(parts.next()?.strip_prefix("n=")?)?;
        let client_nonce = parts.next()?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        // To act for somebody else is not possible here.
        if !authzid.is_empty() && authzid.strip_prefix("a=").and_then(unescape)? != user {
            return None;
        }
        let known = self.file.user(&user);
        let keys = known.and_then(|known| match &known.scram {
            Some(Hash::Scram(keys)) => Some(keys.clone()),
            _ => None,
        });
        let line = known.filter(|_| keys.is_some()).map(|known| known.line);
        let keys = keys.unwrap_or_else(|| self.made_up(&user));
        let nonce = format!("{client_nonce}{server_nonce}");
        let challenge = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let flag = &message[..message.len() - bare.len()];
        let transcript = format!("{bare},{challenge},c={},r={nonce}", STANDARD.encode(flag));
        self.state = State::Final { known: line, keys, nonce, transcript };
        self.user = Some(user);
        Some(Step::Continue(challenge.into_bytes()))
    }

    /// Keys for a user that there is none of: the same at each attempt, and nothing fits them.
    fn made_up(&self, user: &str) -> ScramKeys {
        let salt = mac(&self.pepper, user.as_bytes())[..16].to_vec();
        let mut stored = [0; 32];
        entropy::fill(&mut stored);
        let iterations = NonZeroU32::new(15_000).expect("it is not 0");
        ScramKeys { iterations, salt, stored, server: stored }
    }
}

fn identity(user: &str, line: u64) -> Identity {
    Identity { user: Some(user.into()), method: "scram", proof: Proof::Line(line), ..Identity::default() }
}

/// The server's signature, if the client's proof holds.
fn finish(message: &str, keys: &ScramKeys, nonce: &str, transcript: &str) -> Option<Vec<u8>> {
    let (without_proof, proof) = message.rsplit_once(",p=")?;
    // Channel binding data and nonce must be those of the beginning: the transcript ends with them.
    if !transcript.ends_with(&format!(",{without_proof}")) || !without_proof.ends_with(&format!(",r={nonce}")) {
        return None;
    }
    let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == 32)?;
    let signature = mac(&keys.stored, transcript.as_bytes());
    let client_key: Vec<u8> = proof.iter().zip(signature).map(|(one, other)| one ^ other).collect();
    let stored = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &client_key);
    if !same(stored.as_ref(), &keys.stored) {
        return None;
    }
    Some(format!("v={}", STANDARD.encode(mac(&keys.server, transcript.as_bytes()))).into_bytes())
}

/// A name: `=2C` is a comma, `=3D` an equals sign.
fn unescape(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        let (escape, later) = after.split_at_checked(2)?;
        name.push(match escape {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = later;
    }
    name.push_str(rest);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of RFC 7677 section 3: user "user", password "pencil".
    fn exchange() -> Exchange {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        let iterations = NonZeroU32::new(4096).unwrap();
        let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256;
        aws_lc_rs::pbkdf2::derive(algorithm, iterations, &salt, b"pencil", &mut salted);
        let stored = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &mac(&salted, b"Client Key"));
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let line = format!(
            "user:$scram-sha-256$i=4096${}${}${}",
            encode(&salt),
            encode(stored.as_ref()),
            encode(&mac(&salted, b"Server Key"))
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        std::fs::write(&path, line).unwrap();
        Exchange::new(Arc::new(PasswordFile::read(&path).unwrap()), [7; 32])
    }

    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FINAL: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_example_of_the_rfc() {
        let mut exchange = exchange();
        let Step::Continue(challenge) = exchange.step_with(CLIENT_FIRST, SERVER_NONCE) else { panic!("a challenge") };
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(challenge, expected.as_bytes());
        let Step::Done(identity, end) = exchange.step_with(CLIENT_FINAL.as_bytes(), "") else { panic!("it is right") };
        assert_eq!(end.unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!((identity.user.as_deref(), identity.method), (Some("user"), "scram"));
        assert!(matches!(exchange.step(CLIENT_FINAL.as_bytes()), Step::Failed), "an exchange is good for once");
    }

    #[test]
    fn what_differs_anywhere_fails() {
        for last in [
            CLIENT_FINAL.replace("p=dH", "p=eH"),
            CLIENT_FINAL.replace("c=biws", "c=eSws"),
            CLIENT_FINAL.replace("r=rO", "r=sO"),
            CLIENT_FINAL.replace(",p=", ",x=1,p="),
            "c=biws".to_owned(),
            String::new(),
        ] {
            let mut exchange = exchange();
            assert!(matches!(exchange.step_with(CLIENT_FIRST, SERVER_NONCE), Step::Continue(_)));
            assert!(matches!(exchange.step(last.as_bytes()), Step::Failed), "{last}");
        }
        for first in
            ["p=tls-unique,,n=user,r=x", "n,,n=user,r=", "n,,n=,r=x", "n,a=other,n=user,r=x", "n,,r=x", "\u{1F}"]
        {
            assert!(matches!(exchange().step(first.as_bytes()), Step::Failed), "{first}");
        }
    }

    #[test]
    fn an_unknown_user_is_challenged_like_any_other() {
        let ask = || match exchange().step_with(b"n,,n=nobody,r=abc", "def") {
            Step::Continue(challenge) => String::from_utf8(challenge).unwrap(),
            _ => panic!("a challenge"),
        };
        assert_eq!(ask(), ask());
        assert!(ask().starts_with("r=abcdef,s="));
        let mut exchange = exchange();
        let _ = exchange.step_with(b"n,,n=nobody,r=abc", "def");
        let last = b"c=biws,r=abcdef,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert!(matches!(exchange.step(last), Step::Failed));
    }

    #[test]
    fn names_may_hold_commas() {
        assert_eq!(unescape("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!((unescape("a=2"), unescape("a=41"), unescape("")), (None, None, None));
    }
}
