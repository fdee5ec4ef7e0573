//! The paths of the admin door, and the description of them that is generated with them (OpenAPI 3.1).

use super::access::{Tokens, guard};
use super::answer::{Failure, Json};
use super::login::Logins;
use super::rates::Samples;
use super::token::Token;
use super::{Operator, Rules};
use super::{
    assets, bridges, clients, cluster, console, exposition, health, login, operate, publish, retained, status,
    subscriptions, watch,
};
use crate::broker::Handle;
use crate::broker::inspect::Time;
use crate::env::task;
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State as Of};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use nightjar_base::Tick;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a request may take until its answer begins.
const DEADLINE: Duration = Duration::from_secs(30);

/// What all requests share.
pub(super) struct State {
    pub(super) handle: Handle,
    pub(super) operator: Arc<dyn Operator>,
    pub(super) rules: ArcSwap<Rules>,
    pub(super) tokens: ArcSwap<Tokens>,
    pub(super) logins: Mutex<Logins>,
    pub(super) samples: Mutex<Samples>,
    /// When the node started.
    pub(super) started: Time,
    pub(super) since: Tick,
    /// Whether the address can be reached from this machine alone.
    pub(super) loopback: bool,
    /// The user that this process runs as.
    pub(super) uid: u32,
}

impl State {
    pub(super) fn new(handle: Handle, operator: Arc<dyn Operator>, rules: Rules, loopback: bool) -> Self {
        let (since, _) = handle.totals();
        Self {
            started: handle.now(),
            since,
            tokens: ArcSwap::from_pointee(tokens(&rules)),
            rules: ArcSwap::from_pointee(rules),
            logins: Mutex::default(),
            samples: Mutex::default(),
            loopback,
            uid: crate::env::net::own_uid(),
            handle,
            operator,
        }
    }

    /// Replaces what a reload may change. Who has logged in with a token that is gone is out.
    pub(super) fn replace(&self, rules: Rules) {
        let tokens = Arc::new(tokens(&rules));
        let changed = *self.tokens.swap(Arc::clone(&tokens)) != *tokens;
        self.rules.store(Arc::new(rules));
        if changed {
            self.logins.lock().clear();
            self.handle.close_consoles();
        }
    }
}

fn tokens(rules: &Rules) -> Tokens {
    Tokens { full: rules.token.as_deref().map(Token::new), read: rules.read_token.as_deref().map(Token::new) }
}

/// Every path that is part of the description.
fn described() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(about())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::startupz))
        .routes(routes!(exposition::metrics))
        .routes(routes!(login::login, login::who, login::logout))
        .routes(routes!(status::status))
        .routes(routes!(status::listeners))
        .routes(routes!(clients::clients))
        .routes(routes!(clients::client, clients::kick))
        .routes(routes!(clients::sessions))
        .routes(routes!(clients::session, clients::end_session))
        .routes(routes!(subscriptions::subscriptions))
        .routes(routes!(retained::list))
        .routes(routes!(retained::read, retained::forget))
        .routes(routes!(publish::publish))
        .routes(routes!(bridges::bridges))
        .routes(routes!(bridges::bridge, bridges::add, bridges::set, bridges::remove))
        .routes(routes!(bridges::reset))
        .routes(routes!(bridges::reset_one))
        .routes(routes!(bridges::pause))
        .routes(routes!(bridges::resume))
        .routes(routes!(bridges::drain))
        .routes(routes!(bridges::map))
        .routes(routes!(cluster::cluster))
        .routes(routes!(cluster::join))
        .routes(routes!(cluster::form))
        .routes(routes!(cluster::drain))
        .routes(routes!(cluster::resume))
        .routes(routes!(cluster::leave))
        .routes(routes!(cluster::replace))
        .routes(routes!(operate::test_rule))
        .routes(routes!(operate::config))
        .routes(routes!(operate::reload))
        .routes(routes!(operate::level, operate::set_level))
        .routes(routes!(watch::trace))
        .routes(routes!(watch::explain))
}

fn about() -> OpenApi {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = utoipa::openapi::ComponentsBuilder::new().security_scheme("token", bearer).build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Nightjar's admin door")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Health, metrics, and what an operator sees and does. Errors are `{\"error\": \"…\"}`. Lists are \
                     `{\"items\": […], \"next\": …}`: ask with `cursor=` what came as `next` until that is `null`.",
                ))
                .build(),
        )
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build()
}

/// The description of all paths, as it is served at `/api/openapi.json`.
#[must_use]
pub fn document() -> OpenApi {
    described().into_openapi()
}

/// All paths.
pub(super) fn router(state: Arc<State>) -> Router {
    let (described, _) = described().split_for_parts();
    // Made anew for the few who ask: kept, it is a quarter of what an idle broker has in memory of its own.
    let description = || async { Json(document()).into_response() };
    described
        .route("/api/openapi.json", get(description))
        .route("/mqtt", get(console::mqtt))
        .route("/", get(assets::asset))
        .route("/page/{file}", get(assets::asset))
        .fallback(|| async { Failure::not_found("path") })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not know that method")
        })
        .layer(from_fn(in_time))
        .layer(from_fn_with_state(Arc::clone(&state), bounded))
        .layer(from_fn_with_state(Arc::clone(&state), guard))
        .with_state(state)
}

/// Bounds what is read of a body. Asked anew each time, since a reload may change it.
async fn bounded(Of(state): Of<Arc<State>>, mut request: Request, next: Next) -> Response {
    DefaultBodyLimit::max(state.rules.load().max_body).apply(&mut request);
    next.run(request).await
}

async fn in_time(request: Request, next: Next) -> Response {
    let answer = task::timeout(DEADLINE, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let late = "no answer in time: what was asked may still be done";
        Failure::new(StatusCode::GATEWAY_TIMEOUT, late).into_response()
    })
}
