//! The ways one after the other, in the configured order.

use super::backoff::{self, Backoff};
use super::callout::Callout;
use super::file::PasswordFile;
use super::hash::Hash;
use super::jwt::Jwt;
use super::memory::Memory;
use super::pool::Pool;
use super::scram::{self, Exchange, Step};
use super::{Admits, Attempt, Denied, Identity, Problem, Proof, Said, fingerprint};
use crate::config;
use crate::env::clock::Clock;
use crate::env::entropy;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Passwords that are remembered as right.
const REMEMBERED: usize = 100_000;
/// The ways, in the order that holds when none is configured.
const ALL: [&str; 5] = ["certificate", "password", "jwt", "http", "scram"];

/// Whoever there is none of costs as much as whoever there is.
static NOBODY: LazyLock<Hash> = LazyLock::new(|| Hash::make(b""));

/// All ways to prove who one is. It does not change; a reload builds another.
pub struct Auth {
    chain: Vec<String>,
    configured: bool,
    file: Option<Arc<PasswordFile>>,
    jwt: Option<Jwt>,
    callout: Option<Callout>,
    pool: Arc<Pool>,
    backoff: Arc<Backoff>,
    limits: backoff::Limits,
    verified: Arc<Memory<()>>,
    verified_for: Duration,
    pepper: [u8; 32],
    clock: Clock,
}

impl Auth {
    /// The ways that `settings` name. What was learned by `previous` is kept. `certificates`: listeners take names from
    /// clients' certificates.
    ///
    /// # Errors
    /// With everything that is wrong with files and keys.
    pub fn new(
        settings: &config::Auth,
        certificates: bool,
        clock: Clock,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let file = settings.password_file.as_deref().map(PasswordFile::read).transpose();
        let file = file.unwrap_or_else(|wrong| {
            problems.extend(wrong);
            None
        });
        let jwt = Jwt::new(settings).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            None
        });
        let callout = Callout::new(settings, previous.and_then(|previous| previous.callout.as_ref()));
        let callout = callout.unwrap_or_else(|wrong| {
            problems.push(wrong);
            None
        });
        let (threads, queue) = (settings.hash_threads, settings.hash_queue);
        let same = |previous: &&Self| (previous.pool.threads, previous.pool.queue) == (threads, queue);
        let pool = match previous.filter(same) {
            Some(previous) => Ok(Arc::clone(&previous.pool)),
            None => Pool::new("auth-hash", threads, queue).map(Arc::new),
        };
        let pool = pool.map_err(|error| vec![Problem { key: "auth.hash_threads", text: error.to_string() }])?;
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut pepper = [0; 32];
        entropy::fill(&mut pepper);
        let remembered = |previous: &Self| (Arc::clone(&previous.backoff), Arc::clone(&previous.verified));
        let (backoff, verified) =
            previous.map_or_else(|| (Arc::default(), Arc::new(Memory::new(REMEMBERED))), remembered);
        Ok(Self {
            chain: settings.chain.clone().unwrap_or_else(|| ALL.map(str::to_owned).to_vec()),
            configured: settings.is_configured(certificates),
            file: file.map(Arc::new),
            jwt,
            callout,
            pool,
            backoff,
            limits: backoff::Limits {
                after: settings.backoff_after,
                first: settings.backoff_first,
                max: settings.backoff_max,
            },
            verified,
            verified_for: settings.verified_cache,
            pepper: previous.map_or(pepper, |previous| previous.pepper),
            clock,
        })
    }

    /// Whether there is no way to prove anything: only where anonymous clients may come in does anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.configured
    }

    /// Finds out who it is.
    ///
    /// # Errors
    /// When it may not come in.
    pub async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, Denied> {
        let nothing = attempt.user.is_none() && attempt.password.is_none() && attempt.certificate_user.is_none();
        if nothing || self.is_empty() {
            // Wrong credentials are never taken for none; but where nobody could judge them, they are none.
            return if attempt.anonymous { Ok(Identity::anonymous(attempt.user)) } else { Err(Denied::NoCredentials) };
        }
        let now = self.clock.tick();
        let parts = [attempt.user.unwrap_or_default().as_bytes(), attempt.password.unwrap_or_default()];
        if let Some(identity) = self.remembered(attempt) {
            return Ok(identity);
        }
        let millis = self.backoff.wait(attempt.address, attempt.user, now);
        if millis > 0 {
            return Err(Denied::Banned { millis });
        }
        match self.walk(attempt).await? {
            Said::Yes(identity) => {
                self.backoff.succeeded(attempt.address, attempt.user);
                Ok(identity)
            }
            Said::No | Said::Unknown => {
                let credentials = fingerprint(&parts);
                self.backoff.failed(attempt.address, attempt.user, credentials, &self.limits, now);
                Err(Denied::BadCredentials)
            }
        }
    }

    async fn walk(&self, attempt: &Attempt<'_>) -> Result<Said, Denied> {
        let mut hashed = false;
        for method in &self.chain {
            if !counts(attempt, method) {
                continue;
            }
            let said = match method.as_str() {
                "certificate" => attempt.certificate_user.map_or(Said::Unknown, |user| {
                    Said::Yes(Identity { user: Some(user.into()), method: "certificate", ..Identity::default() })
                }),
                "password" => {
                    let said = self.by_password(attempt).await?;
                    hashed |= matches!(said, Said::No);
                    said
                }
                "jwt" => match &self.jwt {
                    Some(jwt) => jwt.ask(attempt.user, attempt.password, attempt.client_id),
                    None => Said::Unknown,
                },
                "http" => match &self.callout {
                    Some(callout) => callout.ask(attempt, self.clock.tick(), self.clock.now()).await?,
                    None => Said::Unknown,
                },
                _ => Said::Unknown,
            };
            if !matches!(said, Said::Unknown) {
                return Ok(said);
            }
        }
        if let (Some(_), Some(password), false) = (&self.file, attempt.password, hashed) {
            // Nobody learns by the time that an answer takes whether there is such a user.
            let password = zeroize::Zeroizing::new(password.to_vec());
            self.pool.run(move || NOBODY.verify(&password)).await.map_err(|_| Denied::Busy)?;
        }
        Ok(Said::Unknown)
    }

    async fn by_password(&self, attempt: &Attempt<'_>) -> Result<Said, Denied> {
        let (Some(file), Some(name)) = (&self.file, attempt.user) else { return Ok(Said::Unknown) };
        let Some(user) = file.user(name) else { return Ok(Said::Unknown) };
        // An empty password is none, whatever hash somebody made of it.
        let Some(password) = attempt.password.filter(|it| !it.is_empty()) else { return Ok(Said::No) };
        let Some(hash) = user.password.as_ref().or(user.scram.as_ref()).cloned() else { return Ok(Said::No) };
        let digest = self.verified.digest(&[name.as_bytes(), password, &user.line.to_le_bytes()]);
        let password = zeroize::Zeroizing::new(password.to_vec());
        let right = self.pool.run(move || hash.verify(&password)).await.map_err(|_| Denied::Busy)?;
        if !right {
            return Ok(Said::No);
        }
        self.verified.keep(digest, (), self.verified_for, self.clock.tick());
        Ok(Said::Yes(by_line(name, user.line)))
    }

    /// Whether these credentials were right a moment ago, and their line is still the same.
    fn remembered(&self, attempt: &Attempt<'_>) -> Option<Identity> {
        let (file, name, password) = (self.file.as_ref()?, attempt.user?, attempt.password?);
        // Only where nothing that comes before could say something else.
        let first = self.chain.iter().find(|method| counts(attempt, method))?;
        let certificate_first = first == "certificate" && attempt.certificate_user.is_none();
        if first != "password" && !certificate_first {
            return None;
        }
        let user = file.user(name)?;
        let digest = self.verified.digest(&[name.as_bytes(), password, &user.line.to_le_bytes()]);
        self.verified.recall(&digest, self.clock.tick()).map(|()| by_line(name, user.line))
    }

    /// An exchange by MQTT 5's AUTH packets; `None` if the method is not offered.
    #[must_use]
    pub fn exchange(&self, method: &str, methods: Option<&[String]>) -> Option<Exchange> {
        let file = self.file.as_ref().filter(|file| file.has_scram())?;
        let offered = method == scram::METHOD && self.offers("scram", methods);
        offered.then(|| Exchange::new(Arc::clone(file), self.pepper))
    }

    /// Takes what the client at `address` sent in an exchange.
    ///
    /// # Errors
    /// When it has failed, or has failed too often before.
    pub fn step(&self, exchange: &mut Exchange, address: Option<IpAddr>, data: &[u8]) -> Result<Step, Denied> {
        let now = self.clock.tick();
        let step = exchange.step(data);
        let millis = self.backoff.wait(address, exchange.user(), now);
        if millis > 0 {
            return Err(Denied::Banned { millis });
        }
        match step {
            Step::Failed => {
                // No two proofs are alike: each is an attempt of its own.
                self.backoff.failed(address, exchange.user(), fingerprint(&[data]), &self.limits, now);
                return Err(Denied::BadCredentials);
            }
            Step::Done(..) => self.backoff.succeeded(address, exchange.user()),
            Step::Continue(_) => {}
        }
        Ok(step)
    }

    /// Whether credentials may say more of a client than its name: groups, and rights of its own.
    #[must_use]
    pub fn may_grant(&self) -> bool {
        self.jwt.is_some() || self.callout.is_some()
    }

    /// Whether `method` is one of the ways, here and at a listener that takes `methods`.
    fn offers(&self, method: &str, methods: Option<&[String]>) -> bool {
        self.chain.iter().any(|way| way == method)
            && methods.is_none_or(|methods| methods.iter().any(|way| way == method))
    }

    /// Whether the credentials by which `identity` came in by a listener would still do; asked after a reload.
    #[must_use]
    pub fn still_stands(&self, identity: &Identity, listener: &Admits<'_>) -> bool {
        let by_this_way = match identity.method {
            "admin" | "bridge" => true,
            // What nobody could judge was taken for none; now there is somebody.
            "anonymous" => listener.anonymous && (identity.user.is_none() || self.is_empty()),
            method => self.offers(method, listener.methods),
        };
        by_this_way && self.has_proof(identity)
    }

    fn has_proof(&self, identity: &Identity) -> bool {
        match identity.proof {
            Proof::None => true,
            Proof::Service(mark) => self.callout.as_ref().is_some_and(|callout| callout.mark() == mark),
            Proof::Line(line) => {
                let user = identity.user.as_deref().unwrap_or_default();
                self.file.as_ref().is_some_and(|file| file.has_line(user, line))
            }
            Proof::Key(mark) => self.jwt.as_ref().is_some_and(|jwt| jwt.has_key(mark)),
        }
    }
}

fn counts(attempt: &Attempt<'_>, method: &str) -> bool {
    attempt.methods.is_none_or(|methods| methods.iter().any(|counts| counts == method))
}

fn by_line(user: &str, line: u64) -> Identity {
    Identity { user: Some(user.into()), method: "password", proof: Proof::Line(line), ..Identity::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nightjar_base::Wall;
    use std::fs;

    struct Case {
        folder: tempfile::TempDir,
        clock: Clock,
        settings: config::Auth,
    }

    impl Case {
        fn new(users: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("passwords");
            fs::write(&path, users).unwrap();
            let settings = config::Auth { password_file: Some(path), backoff_after: 2, ..config::Auth::default() };
            Self { folder, clock: Clock::manual(Wall(1_000)), settings }
        }

        fn auth(&self, previous: Option<&Auth>) -> Auth {
            Auth::new(&self.settings, false, self.clock.clone(), previous).unwrap()
        }

        fn write(&self, users: &str) {
            fs::write(self.folder.path().join("passwords"), users).unwrap();
        }
    }

    fn attempt<'a>(user: Option<&'a str>, password: Option<&'a str>) -> Attempt<'a> {
        Attempt {
            client_id: "c",
            user,
            password: password.map(str::as_bytes),
            address: Some([10, 0, 0, 1].into()),
            listener: "main",
            certificate_user: None,
            anonymous: false,
            methods: None,
        }
    }

    /// A hash that costs next to nothing, as mosquitto's oldest.
    fn line(user: &str, password: &str) -> String {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA512);
        context.update(password.as_bytes());
        context.update(b"salt");
        format!("{user}:$6${}${}\n", encode(b"salt"), encode(context.finish().as_ref()))
    }

    #[tokio::test]
    async fn the_right_password_lets_in_and_no_other() {
        let case = Case::new(&line("ann", "pw"));
        let auth = case.auth(None);
        let identity = auth.authenticate(&attempt(Some("ann"), Some("pw"))).await.unwrap();
        assert_eq!((identity.owner().map(|user| &**user), identity.method), (Some("ann"), "password"));
        for (user, password, denied) in [
            (Some("ann"), Some("no"), Denied::BadCredentials),
            (Some("bob"), Some("pw"), Denied::BadCredentials),
            (Some("ann"), None, Denied::Banned { millis: 1_000 }),
            (None, None, Denied::NoCredentials),
        ] {
            // The third failure of this address is one too many.
            let found = auth.authenticate(&attempt(user, password)).await.err();
            let expected = if password.is_none() && user.is_some() { Denied::BadCredentials } else { denied };
            assert_eq!(found, Some(expected), "{user:?} {password:?}");
        }
        let found = auth.authenticate(&attempt(Some("eve"), Some("pw"))).await.err();
        assert_eq!(found, Some(Denied::Banned { millis: 1_000 }));
        assert!(auth.authenticate(&attempt(Some("ann"), Some("pw"))).await.is_ok(), "who was right is remembered");
        case.clock.advance(Duration::from_secs(1));
        let found = auth.authenticate(&attempt(Some("eve"), Some("pw"))).await.err();
        assert_eq!(found, Some(Denied::BadCredentials));
    }

    #[tokio::test]
    async fn wrong_credentials_are_never_taken_for_none() {
        let case = Case::new(&line("ann", "pw"));
        let auth = case.auth(None);
        let open = |user, password| Attempt { anonymous: true, ..attempt(user, password) };
        assert_eq!(auth.authenticate(&open(None, None)).await.unwrap().method, "anonymous");
        assert!(auth.authenticate(&open(Some("ann"), Some("no"))).await.is_err());
        assert!(auth.authenticate(&open(Some("eve"), None)).await.is_err());
        let nobody = Auth::new(&config::Auth::default(), false, case.clock.clone(), None).unwrap();
        let claimed = nobody.authenticate(&open(Some("eve"), Some("x"))).await.unwrap();
        assert!(claimed.user.is_some() && claimed.owner().is_none());
        assert_eq!(nobody.authenticate(&attempt(None, None)).await.err(), Some(Denied::NoCredentials));
    }

    #[tokio::test]
    async fn a_reload_tells_which_credentials_still_stand() {
        let case = Case::new(&(line("ann", "pw") + &line("bob", "pw")));
        let before = case.auth(None);
        let ann = before.authenticate(&attempt(Some("ann"), Some("pw"))).await.unwrap();
        let bob = before.authenticate(&attempt(Some("bob"), Some("pw"))).await.unwrap();
        case.write(&(line("ann", "pw") + &line("bob", "new") + &line("eve", "pw")));
        let after = case.auth(Some(&before));
        let here = Admits { anonymous: true, methods: None };
        assert!(after.still_stands(&ann, &here) && !after.still_stands(&bob, &here));
        let certificates = ["certificate".to_owned()];
        let elsewhere = Admits { anonymous: false, methods: Some(&certificates) };
        assert!(!after.still_stands(&ann, &elsewhere), "passwords do not count there any more");
        let (nobody, somebody) = (Identity::anonymous(None), Identity::anonymous(Some("eve")));
        assert!(after.still_stands(&nobody, &here) && !after.still_stands(&nobody, &elsewhere));
        assert!(!after.still_stands(&somebody, &here), "there is somebody now who judges names");
        assert!(after.authenticate(&attempt(Some("bob"), Some("pw"))).await.is_err(), "what is remembered is the line");
        case.write("ann:nonsense\n");
        let problems = Auth::new(&case.settings, false, case.clock.clone(), Some(&after)).err().unwrap();
        assert!(problems[0].text.contains("passwords:1: expected a hash"), "{problems:?}");
    }

    #[tokio::test]
    async fn a_certificate_is_enough_where_it_counts() {
        let case = Case::new(&line("ann", "pw"));
        let auth = case.auth(None);
        let shown = Attempt { certificate_user: Some("dev"), ..attempt(None, None) };
        assert_eq!(auth.authenticate(&shown).await.unwrap().method, "certificate");
        let only = ["password".to_owned()];
        let elsewhere = Attempt { methods: Some(&only), ..shown };
        assert_eq!(auth.authenticate(&elsewhere).await.err(), Some(Denied::BadCredentials));
    }
}
