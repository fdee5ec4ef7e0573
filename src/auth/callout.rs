//! Asking a service over HTTP: each answer within a deadline, remembered for a while, so many at a time.

use super::jwt::texts;
use super::memory::Memory;
use super::pool::Pool;
use super::{Attempt, Denied, Identity, Problem, Proof, Said, fingerprint};
use crate::config::{self, access};
use nightjar_base::{Tick, Wall};
use nightjar_policy::Grants;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Questions that may wait for each that is being asked.
const WAITING: usize = 64;
/// The longest answer that is read.
const MOST: u64 = 64 * 1024;

/// The service that is asked.
pub(super) struct Callout {
    agent: Agent,
    url: Arc<str>,
    bearer: Option<Arc<str>>,
    pool: Arc<Pool>,
    holds: Duration,
    memory: Memory<Verdict>,
}

/// What the service said, with when its word ends.
#[derive(Clone)]
enum Verdict {
    Yes(Identity),
    No,
    Unknown,
}

impl Callout {
    /// The service that the settings name, if they name one.
    pub(super) fn new(settings: &config::Auth, previous: Option<&Self>) -> Result<Option<Self>, Problem> {
        let Some(url) = &settings.http_url else { return Ok(None) };
        let problem = |text: String| Problem { key: "auth.http_url", text };
        let is_https = url.starts_with("https://");
        let authority = url.split_once("://").map_or(&**url, |(_, rest)| rest).split('/').next().unwrap_or_default();
        if authority.contains('@') {
            // It would be shown wherever the address is.
            let text = "expected an address without user and password: what is secret goes into auth.http_token";
            return Err(problem(text.to_owned()));
        }
        if !is_https && !url.starts_with("http://") {
            return Err(problem(format!("expected an address that begins with http:// or https://, found {url:?}")));
        }
        let mut agent = Agent::config_builder()
            .timeout_global(Some(settings.http_timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("nightjar/", env!("CARGO_PKG_VERSION")));
        if is_https {
            agent = agent.tls_config(tls(settings.http_ca.as_deref())?);
        }
        let threads = settings.http_concurrency;
        let pool = match previous.filter(|previous| previous.pool.threads == threads) {
            Some(previous) => Arc::clone(&previous.pool),
            None => Arc::new(
                Pool::new("auth-http", threads, threads * WAITING).map_err(|error| problem(error.to_string()))?,
            ),
        };
        Ok(Some(Self {
            agent: agent.build().into(),
            url: url.as_str().into(),
            bearer: settings.http_token.as_ref().map(|token| format!("Bearer {}", token.reveal()).into()),
            pool,
            holds: settings.http_cache,
            memory: Memory::new(settings.http_cache_size),
        }))
    }

    /// What tells this service from another.
    pub(super) fn mark(&self) -> u64 {
        fingerprint(&[self.url.as_bytes()])
    }

    pub(super) async fn ask(&self, attempt: &Attempt<'_>, now: Tick, wall: Wall) -> Result<Said, Denied> {
        let address = attempt.address.map(|address| address.to_string()).unwrap_or_default();
        let digest = self.memory.digest(&[
            attempt.client_id.as_bytes(),
            attempt.user.unwrap_or_default().as_bytes(),
            attempt.password.unwrap_or_default(),
            address.as_bytes(),
            attempt.listener.as_bytes(),
        ]);
        let stands = |verdict: &Verdict| match verdict {
            Verdict::Yes(identity) => identity.expires.is_none_or(|expires| expires > wall),
            _ => true,
        };
        let verdict = match self.memory.recall(&digest, now).filter(stands) {
            Some(verdict) => verdict,
            None => {
                let verdict = self.ask_service(attempt, &address, wall).await?;
                self.memory.keep(digest, verdict.clone(), self.holds, now);
                verdict
            }
        };
        Ok(match verdict {
            Verdict::Yes(identity) => Said::Yes(Identity { proof: Proof::Service(self.mark()), ..identity }),
            Verdict::No => Said::No,
            Verdict::Unknown => Said::Unknown,
        })
    }

    async fn ask_service(&self, attempt: &Attempt<'_>, address: &str, wall: Wall) -> Result<Verdict, Denied> {
        let mut question = json!({
            "client_id": attempt.client_id,
            "user": attempt.user,
            "address": address,
            "listener": attempt.listener,
        });
        match attempt.password.map(std::str::from_utf8) {
            Some(Ok(password)) => question["password"] = password.into(),
            Some(Err(_)) => {
                use base64::Engine as _;
                let encoded = base64::engine::general_purpose::STANDARD.encode(attempt.password.unwrap_or_default());
                question["password_base64"] = encoded.into();
            }
            None => {}
        }
        let user: Option<Arc<str>> = attempt.user.map(Into::into);
        let (agent, url, bearer) = (self.agent.clone(), Arc::clone(&self.url), self.bearer.clone());
        let answer = self.pool.run(move || post(&agent, &url, bearer.as_deref(), &question)).await;
        let (status, body) = answer.map_err(|_| Denied::Busy)?.map_err(Denied::Unavailable)?;
        match status {
            200 => verdict(&body, user, wall).map_err(Denied::Unavailable),
            401 | 403 => Ok(Verdict::No),
            204 | 404 => Ok(Verdict::Unknown),
            other => Err(Denied::Unavailable(format!("its status was {other}"))),
        }
    }
}

fn post(agent: &Agent, url: &str, bearer: Option<&str>, question: &Value) -> Result<(u16, Vec<u8>), String> {
    let mut request = agent.post(url);
    if let Some(bearer) = bearer {
        request = request.header("Authorization", bearer);
    }
    // The error may name the address, never what was sent.
    let mut response = request.send_json(question).map_err(|error| error.to_string())?;
    let body = response.body_mut().with_config().limit(MOST).read_to_vec().map_err(|error| error.to_string())?;
    Ok((response.status().as_u16(), body))
}

/// `{"allow": true, "user": …, "groups": […], "publish": […], "subscribe": […], "expires_in": seconds}`.
fn verdict(body: &[u8], user: Option<Arc<str>>, wall: Wall) -> Result<Verdict, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "expected JSON".to_owned())?;
    match answer.get("allow").and_then(Value::as_bool) {
        Some(true) => {}
        Some(false) => return Ok(Verdict::No),
        None => return Err("expected \"allow\" to be true or false".to_owned()),
    }
    let list = |key: &str| match answer.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => texts(value).map(Some).ok_or_else(|| format!("expected {key:?} to be a list of texts")),
    };
    let (publish, subscribe) = (list("publish")?, list("subscribe")?);
    let grants = if publish.is_none() && subscribe.is_none() {
        None
    } else {
        Some(Arc::new(Grants::new(&publish.unwrap_or_default(), &subscribe.unwrap_or_default())?))
    };
    let expires = match answer.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(seconds) => {
            Some(wall.plus_seconds(seconds.as_u64().ok_or("expected \"expires_in\" to be a number of seconds")?))
        }
    };
    let named = answer.get("user").and_then(Value::as_str).map(Into::into);
    let groups = list("groups")?.unwrap_or_default().into_iter().map(Into::into).collect();
    Ok(Verdict::Yes(Identity { user: named.or(user), groups, grants, expires, method: "http", proof: Proof::None }))
}

fn tls(ca: Option<&Path>) -> Result<TlsConfig, Problem> {
    let path = ca.unwrap_or(Path::new("/etc/ssl/certs/ca-certificates.crt"));
    let problem = |why: String| Problem { key: "auth.http_ca", text: format!("{}: {why}", path.display()) };
    let text = access::read_text(path).map_err(problem)?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let roots: Vec<Certificate<'static>> = parse_pem(text.as_bytes()).filter_map(certificate).collect();
    if roots.is_empty() {
        return Err(problem("expected certificates in PEM, found none".to_owned()));
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::from(roots))
        .build())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::task;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A service that gives one answer, to everybody, and counts.
    fn service(answer: &'static str) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/auth", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        task::thread("service", move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.ends_with(b"}") {
                    let got = stream.read(&mut buffer).unwrap();
                    request.extend_from_slice(&buffer[..got]);
                }
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes());
            }
        })
        .unwrap();
        (url, asked)
    }

    fn callout(url: &str) -> Callout {
        let settings = config::Auth {
            http_url: Some(url.to_owned()),
            http_timeout: Duration::from_millis(500),
            ..config::Auth::default()
        };
        Callout::new(&settings, None).unwrap().unwrap()
    }

    fn attempt<'a>(password: &'a [u8]) -> Attempt<'a> {
        Attempt {
            client_id: "c1",
            user: Some("ann"),
            password: Some(password),
            address: None,
            listener: "main",
            certificate_user: None,
            anonymous: false,
            methods: None,
        }
    }

    #[tokio::test]
    async fn an_answer_holds_for_a_while() {
        let body = r#"{"allow":true,"groups":["ops"],"publish":["up/#"],"expires_in":60}"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let (url, asked) = service(answer.leak());
        let callout = callout(&url);
        for _ in 0..3 {
            let Said::Yes(identity) = callout.ask(&attempt(b"pw"), Tick(0), Wall(0)).await.unwrap() else {
                panic!("it is her")
            };
            assert_eq!((identity.user.as_deref(), identity.expires), (Some("ann"), Some(Wall(60_000))));
            assert!(identity.grants.is_some() && &*identity.groups[0] == "ops");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        callout.ask(&attempt(b"other"), Tick(0), Wall(0)).await.unwrap();
        callout.ask(&attempt(b"pw"), Tick(60_000), Wall(60_000)).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn no_answer_is_never_a_yes() {
        for (answer, yes, no, unknown) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, true, false),
            ("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", false, false, true),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, false, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", false, false, false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue", false, false, false),
            (
                "HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                false,
                false,
                false,
            ),
            ("garbage", false, false, false),
        ] {
            let (url, _) = service(answer);
            let said = callout(&url).ask(&attempt(b"canary"), Tick(0), Wall(0)).await;
            assert_eq!(matches!(said, Ok(Said::Yes(_))), yes, "{answer}");
            assert_eq!(matches!(said, Ok(Said::No)), no, "{answer}");
            assert_eq!(matches!(said, Ok(Said::Unknown)), unknown, "{answer}");
            if let Err(denied) = said {
                assert!(!denied.to_string().contains("canary"), "{denied}");
            }
        }
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said = callout(&format!("http://{gone}/")).ask(&attempt(b"pw"), Tick(0), Wall(0)).await;
        assert!(matches!(said, Err(Denied::Unavailable(_))));
    }
}
