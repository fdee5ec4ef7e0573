//! The login of the page: a token given once, and a cookie that stands for it from then on.

use super::access::{Caller, From, Scope};
use super::answer::{ErrorBody, Failure, Json};
use super::routes::State;
use super::token::{Token, random};
use crate::env::task;
use axum::Extension;
use axum::extract::State as Of;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nightjar_base::Tick;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// The cookie's name.
pub(super) const COOKIE: &str = "nightjar";
/// How long a login holds, in seconds.
const HOLDS: u64 = 12 * 3_600;
/// Logins at a time; the oldest makes room.
const LOGINS: usize = 64;
/// How long whoever came with a wrong token waits for the answer.
const WRONG: Duration = Duration::from_millis(250);

/// Those who have logged in.
#[derive(Default)]
pub(super) struct Logins(VecDeque<Login>);

struct Login {
    id: Token,
    scope: Scope,
    until: Tick,
}

impl Logins {
    fn add(&mut self, scope: Scope, now: Tick) -> String {
        let id = random();
        if self.0.len() >= LOGINS {
            self.0.pop_front();
        }
        self.0.push_back(Login { id: Token::new(&id), scope, until: now.plus_millis(HOLDS * 1000) });
        id
    }

    /// What the login with this identifier is good for.
    pub(super) fn scope_of(&mut self, id: &str, now: Tick) -> Option<Scope> {
        self.0.retain(|login| login.until > now);
        let id = Token::new(id);
        self.0.iter().find(|login| login.id.is(&id)).map(|login| login.scope)
    }

    /// Ends all of them: the tokens have changed.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a login needs.
#[derive(Deserialize, ToSchema)]
pub(super) struct LoginBody {
    /// The token.
    token: String,
}

/// What a login gives.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// `full` or `read`.
    scope: &'static str,
}

/// Logs in: gives a cookie that stands for the token.
#[utoipa::path(post, path = "/api/v1/login", tag = "login", request_body = LoginBody, security(()),
    responses((status = 200, body = LoggedIn), (status = 401, body = ErrorBody)))]
pub(super) async fn login(
    Of(state): Of<Arc<State>>,
    Extension(from): Extension<From>,
    Json(body): Json<LoginBody>,
) -> Result<Response, Failure> {
    let Some(scope) = state.tokens.load().scope_of(&body.token) else {
        task::sleep(WRONG).await;
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "wrong token"));
    };
    let id = state.logins.lock().add(scope, state.handle.totals().0);
    tracing::info!(address = %from, scope = scope.name(), "admin login");
    let cookie = format!("{COOKIE}={id}; Path=/; Max-Age={HOLDS}; HttpOnly; SameSite=Strict");
    Ok((set_cookie(&cookie), Json(LoggedIn { scope: scope.name() })).into_response())
}

/// Who one is, as far as this door knows.
#[utoipa::path(get, path = "/api/v1/login", tag = "login",
    responses((status = 200, body = LoggedIn), (status = 401, body = ErrorBody)))]
pub(super) async fn who(caller: Option<Extension<Caller>>) -> Result<Json<LoggedIn>, Failure> {
    let Some(Extension(caller)) = caller else { return Err(Failure::new(StatusCode::UNAUTHORIZED, "not logged in")) };
    Ok(Json(LoggedIn { scope: caller.scope.name() }))
}

/// Logs out: the cookie goes. (One that is kept elsewhere ends with its time.)
#[utoipa::path(delete, path = "/api/v1/login", tag = "login", security(()), responses((status = 204)))]
pub(super) async fn logout() -> Response {
    let gone = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    (StatusCode::NO_CONTENT, set_cookie(&gone)).into_response()
}

fn set_cookie(cookie: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Letters, digits, and what stands above: always a header.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.insert(header::SET_COOKIE, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_holds_for_its_time() {
        let mut logins = Logins::default();
        let id = logins.add(Scope::Read, Tick(0));
        assert_eq!(logins.scope_of(&id, Tick(HOLDS * 1000 - 1)), Some(Scope::Read));
        assert_eq!(logins.scope_of("another", Tick(0)), None);
        assert_eq!(logins.scope_of(&id, Tick(HOLDS * 1000)), None);
    }

    #[test]
    fn the_oldest_login_makes_room() {
        let mut logins = Logins::default();
        let first = logins.add(Scope::Full, Tick(0));
        let rest: Vec<_> = (0..LOGINS).map(|_| logins.add(Scope::Full, Tick(0))).collect();
        assert_eq!(logins.scope_of(&first, Tick(1)), None);
        assert!(rest.iter().all(|id| logins.scope_of(id, Tick(1)).is_some()));
    }
}
