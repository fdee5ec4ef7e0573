//! Who may ask what.
//!
//! A token is for everything or for looking alone. It comes with the request (`Authorization: Bearer …`), or was given
//! once at the login, and then a cookie stands for it. Over the Unix socket our own user needs none.

use super::answer::Failure;
use super::login::COOKIE;
use super::routes::State;
use super::token::Token;
use crate::env::task;
use crate::telemetry::escape;
use axum::extract::{Request, State as Of};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long whoever came with a wrong token waits for the answer.
const WRONG: Duration = Duration::from_millis(250);

/// What is answered to anybody: what a probe, a browser and a reader of the API need before they have a token.
const OPEN: &[&str] = &["/", "/livez", "/readyz", "/startupz", "/api/openapi.json", "/api/v1/login"];

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    /// An address.
    Address(SocketAddr),
    /// A process on this machine, of the user with this number.
    User(u32),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "unix (uid {uid})"),
        }
    }
}

/// What one may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Look.
    Read,
    /// Look and change.
    Full,
}

impl Scope {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Full => "full",
        }
    }
}

/// Who asks, once it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) from: From,
    pub(super) scope: Scope,
    /// `token`, `login` or `user`.
    by: &'static str,
}

impl Caller {
    /// The line of the log that says who changed what.
    pub(super) fn audit(&self, action: &'static str, what: &str) {
        let what = escape(what);
        tracing::info!(who = self.by, scope = self.scope.name(), address = %self.from, action, %what, "admin change");
    }
}

/// The tokens that are in force.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) full: Option<Token>,
    pub(super) read: Option<Token>,
}

impl Tokens {
    /// What a token is good for.
    pub(super) fn scope_of(&self, token: &str) -> Option<Scope> {
        let token = Token::new(token);
        if self.full.as_ref().is_some_and(|full| full.is(&token)) {
            return Some(Scope::Full);
        }
        self.read.as_ref().is_some_and(|read| read.is(&token)).then_some(Scope::Read)
    }
}

/// Lets a request through to its handler, or not.
pub(super) async fn guard(Of(state): Of<Arc<State>>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<From>().copied().unwrap_or(From::User(u32::MAX));
    if let Err(failure) = check_host(&state, from, request.headers()) {
        return failure.into_response();
    }
    match identify(&state, from, request.headers()) {
        Ok(Some(caller)) => {
            let looks = matches!(*request.method(), Method::GET | Method::HEAD);
            if !looks && caller.scope == Scope::Read && !is_open(&state, request.uri().path()) {
                return Failure::new(StatusCode::FORBIDDEN, "this token is for reading alone").into_response();
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) if is_open(&state, request.uri().path()) => next.run(request).await,
        Ok(None) => {
            Failure::new(StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer …").into_response()
        }
        Err(failure) => {
            task::sleep(WRONG).await;
            failure.into_response()
        }
    }
}

fn is_open(state: &State, path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with("/page/") || (path == "/metrics" && state.rules.load().open_metrics)
}

/// Who asks; `None` if nobody says so.
fn identify(state: &State, from: From, headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
    let caller = |scope, by| Some(Caller { from, scope, by });
    let wrong = || Failure::new(StatusCode::UNAUTHORIZED, "wrong token");
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().ok().and_then(|text| text.split_once(' '));
        let token = text.filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let scope = token.and_then(|token| state.tokens.load().scope_of(token)).ok_or_else(wrong)?;
        return Ok(caller(scope, "token"));
    }
    if let From::User(uid) = from
        && (uid == state.uid || uid == 0)
    {
        return Ok(caller(Scope::Full, "user"));
    }
    let Some(id) = cookie(headers) else { return Ok(None) };
    // The cookie comes by itself: only pages of our own may make use of that.
    let ours = headers.get(header::ORIGIN).is_none_or(|origin| is_own(origin.as_bytes(), headers));
    // One that has run out is no offence: the page asks for the token anew.
    Ok(state
        .logins
        .lock()
        .scope_of(id, state.handle.totals().0)
        .filter(|_| ours)
        .and_then(|scope| caller(scope, "login")))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Whether `origin` is the address that the request went to.
fn is_own(origin: &[u8], headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(header::HeaderValue::as_bytes);
    ["http://", "https://"]
        .iter()
        .any(|scheme| origin.strip_prefix(scheme.as_bytes()).is_some_and(|own| Some(own) == host))
}

/// On a loopback address only names of this machine lead here: any other was made to point here, so that a page of
/// somebody else's can ask with the user's own browser (DNS rebinding).
fn check_host(state: &State, from: From, headers: &HeaderMap) -> Result<(), Failure> {
    if !state.loopback || matches!(from, From::User(_)) {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_local(host) {
        return Ok(());
    }
    Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "the admin door is not known by this name: use localhost"))
}

fn is_local(host: &str) -> bool {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => bare(name),
        _ => bare(host),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "localhost:9883", "127.0.0.1", "127.0.0.1:9883", "[::1]:9883", "[::1]", "LOCALHOST:1"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9883", "localhost.evil.example", "127.0.0.1.evil.example:9883"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_token_opens_what_it_is_for() {
        let tokens = Tokens { full: Some(Token::new("all of it, please")), read: Some(Token::new("just looking")) };
        assert_eq!(tokens.scope_of("all of it, please"), Some(Scope::Full));
        assert_eq!(tokens.scope_of("just looking"), Some(Scope::Read));
        assert_eq!(tokens.scope_of(""), None);
        assert_eq!(Tokens { full: None, read: None }.scope_of(""), None);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; nightjar=xyz; c=d".parse().expect("it is a header"));
        assert_eq!(cookie(&headers), Some("xyz"));
        headers.insert(header::COOKIE, "nightjars=xyz".parse().expect("it is a header"));
        assert_eq!(cookie(&headers), None);
    }
}
